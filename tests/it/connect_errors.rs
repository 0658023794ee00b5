//! Why a connection could not be had: one word, for API and token calls alike.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bursar_config::Names;
use rustls::ServerConfig;
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::acme;
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::{Program, Proxy};
use crate::support::tls::Authority;
use crate::support::upstream::{Upstream, answer};

/// A server at `https://127.0.0.1:PORT` that does that with each connection.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    url
}

async fn tls(config: Arc<ServerConfig>) -> String {
    server(move |stream| {
        let config = config.clone();
        async move {
            let accepted = tokio_rustls::TlsAcceptor::from(config).accept(stream).await;
            if let Ok(mut stream) = accepted {
                drop(stream.read(&mut [0; 1024]).await);
            }
        }
    })
    .await
}

/// One that reads the first bytes of a handshake and answers with these.
async fn answering(bytes: &'static [u8]) -> String {
    server(move |mut stream| async move {
        drop(stream.read(&mut [0; 4096]).await);
        drop(stream.write_all(bytes).await);
        // Closed with all read, so that it is no reset.
        drop(stream.shutdown().await);
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await
}

/// What became of a request, once where its provider is at `url`, and once where its token endpoint is.
struct Told {
    api: Value,
    token: Value,
    last_error: String,
}

async fn told(directory: &Path, url: &str, lines: &str, top: &str) -> Told {
    let names = || {
        let address = |text: &str| vec![text.parse().unwrap()];
        let table = [("known.test", address("127.0.0.1"))];
        Names::Fixed(
            table
                .map(|(name, addresses)| (name.into(), addresses))
                .into_iter()
                .collect::<HashMap<_, _>>(),
        )
    };
    let lines = format!("token.wait: 5s\n{lines}");
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let yaml = format!("{top}{}", acme(url, &idp.url(), &lines));
    let proxy = Proxy::start_naming(directory, &yaml, names()).await;
    drop(
        Caller::connect(proxy.listen)
            .await
            .send("GET", "/a", "")
            .await,
    );
    let api_line = proxy.access_lines(1).await.remove(0);
    let yaml = format!("{top}{}", acme(&api.url(), &format!("{url}/token"), &lines));
    let proxy = Proxy::start_naming(directory, &yaml, names()).await;
    drop(
        Caller::connect(proxy.listen)
            .await
            .send("GET", "/a", "")
            .await,
    );
    let token = proxy.access_lines(1).await.remove(0);
    let (_, status) = proxy.json("/status").await;
    let last_error = status["tokens"][0]["last_error"].to_string();
    Told {
        api: api_line,
        token,
        last_error,
    }
}

#[track_caller]
fn assert_told(told: &Told, cause: &str, reason: &str) {
    let Told {
        api,
        token,
        last_error,
    } = told;
    assert_eq!(
        (&api["cause"], &api["reason"]),
        (&cause.into(), &reason.into()),
        "{api}"
    );
    assert_eq!(
        (&token["cause"], &token["reason"]),
        (&cause.into(), &"token_unavailable".into()),
        "{token}"
    );
    assert!(last_error.contains(cause), "{last_error}");
}

fn directory() -> (TempDir, Authority) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(&directory.path().join("ca.pem"));
    (directory, authority)
}

const CA: &str = "tls: {ca: ca.pem}";

#[tokio::test]
async fn what_is_wrong_with_a_certificate_has_a_word_of_its_own() {
    let (directory, authority) = directory();
    let (now, day) = (OffsetDateTime::now_utc(), Duration::from_secs(86_400));
    let here = ["127.0.0.1"];
    let expired = authority.server_with(&here, |certificate| certificate.not_after = now - day);
    let early = authority.server_with(&here, |certificate| certificate.not_before = now + day);
    let elsewhere = authority.server_with(&["other.test"], |_| {});
    let unknown = Authority::new().server_with(&here, |_| {});
    for (config, cause) in [
        (expired, "tls_expired"),
        (early, "tls_not_yet_valid"),
        (elsewhere, "tls_wrong_name"),
        (unknown, "tls_unknown_issuer"),
        (authority.server_of_tls12(), "tls_client_certificate"),
    ] {
        let told = told(directory.path(), &tls(config).await, CA, "").await;
        assert_told(&told, cause, "upstream_tls");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_otherwise_says_how() {
    let (directory, _) = directory();
    let reset = server(|mut stream| async move {
        drop(stream.read(&mut [0; 16]).await);
        stream.set_zero_linger().unwrap();
    });
    for (url, cause) in [
        (answering(b"\x15\x03\x01\x00\x02\x02\x46").await, "tls_version"),
        // TLS 1.1, as an old server says hello.
        (answering(b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x0200000000000000000000000000000000\x00\x00\x2f\x00").await, "tls_version"),
        (answering(b"\x15\x03\x03\x00\x02\x02\x28").await, "tls_other"),
        (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, "tls_other"),
        (answering(b"").await, "reset"),
        (reset.await, "reset"),
    ] {
        let told = told(directory.path(), &url, CA, "").await;
        assert_told(&told, cause, "upstream_tls");
    }
}

#[tokio::test]
async fn silence_in_a_handshake_is_a_time_out() {
    let (directory, _) = directory();
    let silent = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let lines = format!("{CA}\ntimeouts: {{connect: 200ms}}");
    let told = told(directory.path(), &silent.await, &lines, "").await;
    assert_told(&told, "timed_out", "upstream_timeout");
}

#[tokio::test]
async fn what_happens_before_tls_has_words_too() {
    let (directory, _) = directory();
    // Bound, so that nobody else takes the port, but nobody listens.
    let port = TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = port.local_addr().unwrap();
    let parent =
        format!("egress: {{proxy: {{api: 'http://{nobody}', token: 'http://{nobody}'}}}}\n");
    for (url, top, cause, reason) in [
        (
            format!("https://{nobody}"),
            "",
            "refused",
            "upstream_unreachable",
        ),
        (
            "https://unknown.test".to_owned(),
            "",
            "name_not_found",
            "upstream_unreachable",
        ),
        (
            "https://10.0.0.1".to_owned(),
            "",
            "address_not_allowed",
            "address_not_allowed",
        ),
        (
            "https://unknown.test".to_owned(),
            &*parent,
            "parent_proxy",
            "upstream_unreachable",
        ),
    ] {
        let told = told(directory.path(), &url, CA, top).await;
        assert_told(&told, cause, reason);
    }
}

#[tokio::test]
async fn the_log_says_why_once_a_minute_for_each_host_and_cause() {
    let (directory, authority) = directory();
    let elsewhere = authority.server_with(&["other.test"], |_| {});
    let (api, idp) = (tls(elsewhere.clone()).await, Idp::counting().await);
    let yaml = acme(&api, &idp.url(), CA);
    let program = Program::start_in(directory, &yaml, "info").await;
    for _ in 0..3 {
        let reply = Caller::connect(program.listen)
            .await
            .send("GET", "/a", "")
            .await;
        assert_eq!(reply.problem()["reason"], "upstream_tls");
    }
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said: Vec<&Value> = lines
        .iter()
        .filter(|line| line["message"] == "no connection")
        .collect();
    let [said] = &said[..] else { panic!("{log}") };
    assert_eq!(said["level"], "WARN");
    assert_eq!(said["provider"], "acme");
    assert_eq!(said["cause"], "tls_wrong_name");
    assert_eq!(format!("https://{}", said["host"].as_str().unwrap()), api);
    let error = said["error"].as_str().unwrap();
    assert!(
        error.contains("not valid for") && error.contains("other.test"),
        "{error}"
    );
}
