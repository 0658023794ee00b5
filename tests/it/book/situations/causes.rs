//! One situation for each cause for which a connection cannot be had.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::net::TcpSocket;

use super::places::{Situation, authority};
use crate::support::acme;
use crate::support::idp::Idp;
use crate::support::parent::{Action, Parent};
use crate::support::raw::{Raw, RawUpstream};
use crate::support::tls::Authority;
use crate::support::upstream::{Upstream, answer};

const CA: &str = "tls: {ca: ca.pem}";

/// An API at that URL, whose tokens can be had.
async fn at(name: &'static str, url: &str, lines: &str) -> Situation {
    let idp = Idp::counting().await;
    let yaml = acme(url, &idp.url(), lines);
    Situation::new(name, yaml).with(idp)
}

pub(super) async fn all() -> Vec<Situation> {
    let mut all = before_tls().await;
    all.extend(certificates().await);
    all.extend(handshakes().await);
    all
}

async fn before_tls() -> Vec<Situation> {
    let mut not_found = at("name_not_found", "https://api.acme.invalid", "").await;
    // A resolver that cannot be asked says so with other words.
    let found = tokio::net::lookup_host(("api.acme.invalid", 0)).await;
    let words = found.err().map(|error| error.to_string());
    not_found.is_possible = words.is_some_and(|words| words.contains("not known"));
    // Bound, so that nobody else takes the port, but nobody listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = socket.local_addr().unwrap();
    let parent = Parent::start(|_| Action::Say("HTTP/1.1 403 Forbidden\r\n\r\n".to_owned())).await;
    let mut through = at("parent_proxy", "https://api.acme.invalid", "").await;
    through.yaml = format!(
        "egress: {{proxy: {{api: 'http://{}'}}}}\n{}",
        parent.address, through.yaml
    );
    let mut unreachable = at("unreachable", "https://224.0.0.1", "").await;
    unreachable.yaml = format!(
        "egress: {{allow_addresses: [224.0.0.1/32]}}\n{}",
        unreachable.yaml
    );
    vec![
        not_found,
        name_failed().await,
        at("address_not_allowed", "https://10.0.0.1", "").await,
        at("refused", &format!("https://{nobody}"), "")
            .await
            .with(socket),
        unreachable,
        through.with(parent),
    ]
}

/// With a resolver of its own that nobody runs, where this machine lets one have namespaces of one's own.
async fn name_failed() -> Situation {
    let mut situation = at("name_failed", "https://api.acme.invalid", "").await;
    let file = situation.directory.path().join("resolv.conf");
    std::fs::write(
        &file,
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )
    .unwrap();
    let mount = format!("mount --bind {} /etc/resolv.conf", file.display());
    let tried = tokio::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &mount])
        .output();
    situation.is_possible = tried.await.is_ok_and(|output| output.status.success());
    situation.shell = Some(format!(
        "exec unshare -rm sh -c '{mount} && exec \"$@\"' sh \"$@\""
    ));
    situation
}

/// A server with that certificate.
async fn serving(
    name: &'static str,
    config: impl FnOnce(&Authority) -> Arc<ServerConfig>,
) -> Situation {
    let mut situation = Situation::new(name, String::new());
    let config = config(&authority(&situation));
    let api = Upstream::with_tls(config, |_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    situation.yaml = acme(&api.url(), &idp.url(), CA);
    situation.with(idp).with(api)
}

async fn certificates() -> Vec<Situation> {
    const HERE: [&str; 1] = ["127.0.0.1"];
    let (now, day) = (OffsetDateTime::now_utc(), Duration::from_hours(24));
    vec![
        serving("tls_expired", |authority| {
            authority.server_with(&HERE, |certificate| certificate.not_after = now - day)
        })
        .await,
        serving("tls_not_yet_valid", |authority| {
            authority.server_with(&HERE, |certificate| certificate.not_before = now + day)
        })
        .await,
        serving("tls_unknown_issuer", |_| {
            Authority::new().server_with(&HERE, |_| {})
        })
        .await,
        serving("tls_wrong_name", |authority| {
            authority.server_with(&["api.other.example"], |_| {})
        })
        .await,
        serving("tls_client_certificate", Authority::server_of_tls12).await,
    ]
}

/// Servers that read the first bytes of a handshake and answer with these.
async fn handshakes() -> Vec<Situation> {
    let mut all = Vec::new();
    for (name, bytes) in [
        ("tls_version", &b"\x15\x03\x01\x00\x02\x02\x46"[..]),
        ("tls_other", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("reset", b""),
        ("timed_out", b""),
    ] {
        let is_silent = name == "timed_out";
        let server = RawUpstream::start(move |_, raw: Raw| async move {
            let mut stream = raw.into_stream();
            let mut hello = [0; 4096];
            drop(tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await);
            if is_silent {
                std::future::pending::<()>().await;
            }
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await);
            drop(tokio::io::AsyncWriteExt::shutdown(&mut stream).await);
            // Closed with all read, so that it is no reset of the system's.
            drop(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await);
        });
        let server = server.await;
        let url = format!("https://{}", server.address);
        all.push(
            at(name, &url, "timeouts: {connect: 500ms}")
                .await
                .with(server),
        );
    }
    all
}
