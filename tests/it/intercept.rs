//! `intercept`: TLS of callers in tunnels to providers. What is the same in every form of a request is in
//! [`crate::request_forms`].

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bursar_http::tunnel::FIRST_BYTES_TIMEOUT;
use http::Request;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::caller::{Caller, Reply, Stream, basic};
use crate::support::idp::Idp;
use crate::support::metrics::admin;
use crate::support::proxy::{Program, Proxy};
use crate::support::tls::{Authority, client};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::write_intercepting;
use crate::support::{acme, closed_in, soon};

const INTERCEPT: &str = "intercept: {ca: {certificate: ca.pem, key: ca.key}}\n";

/// `bursar ca new` for a configuration, in its directory.
async fn ca_new(directory: &Path, yaml: &str) -> std::process::Output {
    std::fs::write(directory.join("proxy.yaml"), yaml).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.args(["ca", "new", "--config", "proxy.yaml", "--dir", "."]);
    soon(command.current_dir(directory).output()).await.unwrap()
}

/// A proxy that intercepts; its directory holds the authority.
pub(crate) struct Intercepting {
    pub(crate) api: Upstream,
    _idp: Idp,
    pub(crate) proxy: Proxy,
    pub(crate) directory: TempDir,
}

impl Intercepting {
    /// An API that is open below `/api` only.
    pub(crate) async fn start(top: &str) -> Self {
        Self::of(Upstream::start(|_| async { answer(200, "") }).await, top).await
    }

    /// The same with some API; `top` is YAML of the whole configuration.
    pub(crate) async fn of(api: Upstream, top: &str) -> Self {
        let (proxy, idp, directory) = intercepting(&api.url(), top).await;
        Self {
            api,
            _idp: idp,
            proxy,
            directory,
        }
    }

    /// TLS over a stream, with nothing trusted but the authority.
    pub(crate) async fn tls<S: Stream>(
        &self,
        stream: S,
        name: &str,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<S>> {
        let config = client(&self.directory.path().join("ca.pem"), None, alpn);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        soon(TlsConnector::from(config).connect(name, stream)).await
    }

    pub(crate) async fn tunnel(&self, target: &str) -> TcpStream {
        tunnel(self.proxy.listen, target).await
    }
}

/// A proxy that intercepts calls to an API at that URL, its token endpoint, and the directory of its authority.
pub(crate) async fn intercepting(url: &str, top: &str) -> (Proxy, Idp, TempDir) {
    let idp = Idp::counting().await;
    let lines = "paths: [\"/api/**\"]\nhosts: [api.test, other.test, \"*.wild.test\"]";
    let yaml = acme(url, &idp.url(), lines).replace("    hosts: [api.test]\n", "");
    let yaml = format!("{top}{INTERCEPT}{yaml}");
    let directory = tempfile::tempdir().unwrap();
    let made = ca_new(directory.path(), &yaml).await;
    assert!(made.status.success(), "{made:?}");
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    (proxy, idp, directory)
}

/// What is left of a connection after a tunnel was opened. Nagle's algorithm is on.
pub(crate) async fn tunnel(proxy: SocketAddr, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(connect.as_bytes()).await.unwrap();
    let expected = "HTTP/1.1 200 OK\r\nBursar-Request-Id: ";
    let mut head = vec![0; expected.len() + 32 + 4];
    soon(stream.read_exact(&mut head)).await.unwrap();
    assert!(head.starts_with(expected.as_bytes()) && head.ends_with(b"\r\n\r\n"));
    stream
}

/// A request in such a tunnel.
async fn send(caller: &mut Caller, host: &str, path: &str) -> Reply {
    let request = Request::get(path).header("host", host);
    caller.request(request.body(full("")).unwrap()).await
}

#[tokio::test]
async fn the_caller_of_an_intercepted_request_is_who_opened_the_tunnel() {
    let callers = "callers: {shop: {password: p, allow: [acme]}, b: {password: q, allow: []}}\n";
    let rig = Intercepting::start(callers).await;
    for (name, password, status) in [("shop", "p", 200), ("b", "q", 403)] {
        let mut outer = Caller::connect_http2(rig.proxy.listen).await;
        assert_eq!(outer.tunnel("api.test:443").await.unwrap_err().status, 407);
        outer.authorize(&basic(name, password));
        let stream = outer.tunnel("api.test:443").await.unwrap();
        let stream = rig
            .tls(TokioIo::new(stream), "api.test", &[])
            .await
            .unwrap();
        let mut inner = Caller::over(stream).await;
        let reply = send(&mut inner, "api.test", "/api").await;
        assert_eq!(reply.status, status);
    }
    let lines = rig.proxy.access_lines(6).await;
    let of = |caller: &str| lines.iter().filter(|line| line["caller"] == caller).count();
    assert_eq!(
        (of("anonymous"), of("shop"), of("b")),
        (2, 2, 2),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn another_server_name_than_the_tunnels_is_misdirected() {
    let rig = Intercepting::start("").await;
    // What such a client verifies is the tunnel's name, not the one that it sends.
    let stream = rig.tunnel("api.test:443").await;
    let refused = rig.tls(stream, "other.test", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    // Below a wildcard every name has a certificate of its own.
    let stream = rig.tunnel("a.b.wild.test:443").await;
    let stream = rig.tls(stream, "a.b.wild.test", &[]).await.unwrap();
    let mut caller = Caller::over(stream).await;
    let reply = send(&mut caller, "a.b.wild.test", "/api").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn first_connections_share_one_certificate() {
    let rig = Intercepting::start("").await;
    let connect = async || {
        let stream = rig.tunnel("api.test:443").await;
        let stream = rig.tls(stream, "api.test", &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let (one, two, three) = tokio::join!(connect(), connect(), connect());
    assert!(one == two && two == three);
    assert_eq!(connect().await, one);
}

#[tokio::test]
async fn the_authority_is_shown_to_operators_without_its_key() {
    let rig = Intercepting::start("").await;
    let shown = admin(rig.proxy.admin, "/ca.pem").await;
    let file = std::fs::read_to_string(rig.directory.path().join("ca.pem")).unwrap();
    assert_eq!(
        (shown.status.as_u16(), shown.text().trim()),
        (200, file.trim())
    );
    let expiry = rig
        .proxy
        .metric("bursar_intercept_ca_expiry_timestamp_seconds", &[])
        .await;
    let now = std::fs::metadata(rig.directory.path().join("ca.pem")).unwrap();
    let now = now
        .modified()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let days = (expiry - now.as_secs_f64()) / 86_400.0;
    assert!((729.0..731.0).contains(&days), "{days}");
}

#[tokio::test]
async fn ca_new_makes_a_private_key_and_overwrites_nothing() {
    let yaml = acme("http://127.0.0.1:1", "http://127.0.0.1:1/t", "");
    let directory = tempfile::tempdir().unwrap();
    assert!(ca_new(directory.path(), &yaml).await.status.success());
    let (key, certificate) = (
        directory.path().join("ca.key"),
        directory.path().join("ca.pem"),
    );
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = (
        std::fs::read(&key).unwrap(),
        std::fs::read(&certificate).unwrap(),
    );
    for gone in [None, Some(&certificate)] {
        if let Some(gone) = gone {
            std::fs::remove_file(gone).unwrap();
        }
        let again = ca_new(directory.path(), &yaml).await;
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        assert_eq!(std::fs::read(&key).unwrap(), before.0);
        assert_eq!(certificate.exists(), gone.is_none());
    }
}

#[tokio::test]
async fn an_authority_that_is_unfit_is_refused_at_start() {
    let yaml = |hosts: &str| {
        let yaml = acme("http://127.0.0.1:1", "http://127.0.0.1:1/t", "");
        format!("{INTERCEPT}{}", yaml.replace("[api.test]", hosts))
    };
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (
        directory.path().join("ca.key"),
        directory.path().join("ca.pem"),
    );
    let problems = |hosts: &str| {
        let config = bursar_config::Config::parse(&yaml(hosts), directory.path());
        let problems = config.err().unwrap_or_default();
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(problems("[api.test]").contains("intercept.ca.key: cannot be read"));
    let made = ca_new(
        directory.path(),
        &yaml("[api.test, 192.0.2.1, '*.eu.test']"),
    )
    .await;
    assert!(made.status.success());
    assert_eq!(
        problems("[api.test, 'x.api.test:8443', 192.0.2.1, '*.eu.test']"),
        ""
    );
    for host in ["other.test", "192.0.2.2", "'[2001:db8::1]'", "'*.test'"] {
        let expected = "intercept.ca.certificate: may not sign for the provider host";
        let found = problems(&format!("[api.test, {host}]"));
        assert!(found.contains(expected), "{host}: {found}");
    }
    // The one that remains is for three.
    let found = problems("[api.test, '*.eu.test']");
    let expected = "may sign for 192.0.2.1/255.255.255.255, which is none of the configured hosts";
    assert!(found.contains(expected), "{found}");
    let found = problems("[api.test, 192.0.2.1]");
    let expected = "may sign for eu.test, which is none of the configured hosts";
    assert!(found.contains(expected), "{found}");
    for mode in [0o640, 0o604] {
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        assert!(problems("[api.test]").contains("intercept.ca.key: can be read by its group"));
    }
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let right = std::fs::read(&certificate).unwrap();
    let unconstrained = Authority::new();
    unconstrained.write(&certificate);
    assert!(
        problems("[api.test]").contains("intercept.ca.certificate: does not belong to the key")
    );
    std::fs::write(&key, unconstrained.key_pem()).unwrap();
    let found = problems("[api.test]");
    let expected = "intercept.ca.certificate: has no critical name constraints";
    assert!(found.contains(expected), "{found}");
    unconstrained.write_client(&certificate, &key);
    assert!(
        problems("[api.test]").contains("intercept.ca.certificate: is not the certificate of an")
    );
    std::fs::write(&key, "hunter2").unwrap();
    std::fs::write(&certificate, right).unwrap();
    let found = problems("[api.test]");
    assert!(
        found.contains("intercept.ca.key: is not a private key"),
        "{found}"
    );
    assert!(!found.contains("hunter2"));
}

#[tokio::test]
async fn a_caller_that_does_not_trust_the_authority_costs_nobody_else_anything() {
    let rig = Intercepting::start("").await;
    let mut stream = rig.tunnel("api.test:443").await;
    stream.write_all(b"\x16\x03\x01\x00\x04nope").await.unwrap();
    let mut rest = Vec::new();
    // An alert, or nothing.
    drop(soon(stream.read_to_end(&mut rest)).await);
    let lines = rig.proxy.access_lines(1).await;
    assert_eq!(
        (&lines[0]["status"], &lines[0]["reason"]),
        (&json!(200), &json!(null))
    );
    assert_eq!(rig.api.count(), 0);
}

#[tokio::test]
async fn a_caller_that_does_not_trust_the_authority_is_logged_once_a_minute() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = ["api.test", "other.test"];
    write_intercepting(directory.path(), &hosts);
    let ca = directory.path().join("ca");
    let (ca, nowhere) = (ca.display(), "http://127.0.0.1:1");
    let acme = acme(nowhere, &format!("{nowhere}/token"), "");
    let acme = acme.replace("hosts: [api.test]", "hosts: [api.test, other.test]");
    let yaml = format!("intercept: {{ca: {{certificate: {ca}.pem, key: {ca}.key}}}}\n{acme}");
    let program = Program::start(&yaml, "info").await;
    for _ in 0..3 {
        let mut stream = tunnel(program.listen, "api.test:443").await;
        stream.write_all(b"\x16\x03\x01\x00\x04nope").await.unwrap();
        drop(soon(stream.read_to_end(&mut Vec::new())).await);
    }
    let stranger = directory.path().join("stranger.pem");
    Authority::new().write(&stranger);
    let stream = tunnel(program.listen, "other.test:443").await;
    let name = ServerName::try_from("other.test").unwrap();
    let trusting_it = TlsConnector::from(client(&stranger, None, &[]));
    soon(trusting_it.connect(name, stream)).await.unwrap_err();
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    let lines = log
        .lines()
        .filter(|line| line.contains("TLS in a tunnel failed"));
    let lines: Vec<Json> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    for (line, host, why) in [
        (&lines[0], "api.test", "what the caller sent is no TLS"),
        (
            &lines[1],
            "other.test",
            "the caller does not trust the authority: give it /ca.pem",
        ),
    ] {
        assert_eq!(line["message"], format!("TLS in a tunnel failed: {why}"));
        assert_eq!(
            (&line["level"], &line["host"]),
            (&json!("WARN"), &json!(host))
        );
        assert_eq!(line["caller"], "anonymous");
    }
}

#[tokio::test]
async fn tls_in_a_tunnel_that_stalls_is_closed() {
    let rig = Intercepting::start("").await;
    let mut stream = rig.tunnel("api.test:443").await;
    stream.write_all(b"\x16\x03\x01").await.unwrap();
    let waited = closed_in(&mut stream).await;
    assert!(waited < FIRST_BYTES_TIMEOUT, "{waited:?}");
}
