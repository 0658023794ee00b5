//! Servers that want a client certificate and do not get one, or not the one they want. Over TLS 1.3 they say so when
//! the client's handshake is over, perhaps after a request was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::journal::{outcomes, with_journal};
use crate::support::caller::Caller;
use crate::support::idp::{Idp, token};
use crate::support::proxy::{Program, Proxy};
use crate::support::tls::{Authority, CA, ClientCertificate, directory};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, soon};

/// When a server says what it thinks of the client, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// As soon as it can.
    AtOnce,
    /// Once something of HTTP was sent.
    AfterHttp,
    /// Once a long request was sent.
    AfterRequest,
    /// It closes the connection instead, as soon as it can.
    Nothing,
    /// It closes the connection instead, once a long request was sent.
    NothingAfterRequest,
}

/// A server that counts its connections.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(config: Arc<ServerConfig>, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, config.clone(), says));
            }
        });
        Self { url, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Shakes hands up to its own end, and looks at what the client sends only when it is time.
async fn serve(mut stream: TcpStream, config: Arc<ServerConfig>, says: Says) {
    let mut session = ServerConnection::new(config).unwrap();
    while !session.wants_write() {
        let mut hello = Vec::new();
        stream.read_buf(&mut hello).await.unwrap();
        session.read_tls(&mut &*hello).unwrap();
        session.process_new_packets().unwrap();
    }
    flush(&mut session, &mut stream).await;
    let mut sent = Vec::new();
    stream.read_buf(&mut sent).await.unwrap();
    let began = Instant::now();
    let is_enough = |sent: &[u8], waited: Duration| match says {
        Says::AtOnce | Says::Nothing => true,
        // What comes so much later is not the handshake's.
        Says::AfterHttp => waited > Duration::from_millis(150),
        Says::AfterRequest | Says::NothingAfterRequest => has_long_record(sent),
    };
    let mut waited = Duration::ZERO;
    while !is_enough(&sent, waited) {
        if stream.read_buf(&mut sent).await.unwrap_or_default() == 0 {
            return;
        }
        waited = began.elapsed();
    }
    if !matches!(says, Says::Nothing | Says::NothingAfterRequest) {
        while !refuses(&mut session, &sent) {
            sent.clear();
            if stream.read_buf(&mut sent).await.unwrap_or_default() == 0 {
                return;
            }
        }
        flush(&mut session, &mut stream).await;
    }
    drop(stream.shutdown().await);
    drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
}

/// Whether the server refuses the client, now that it has looked at what that sent.
fn refuses(session: &mut ServerConnection, mut sent: &[u8]) -> bool {
    while !sent.is_empty() {
        session.read_tls(&mut sent).unwrap();
        if session.process_new_packets().is_err() {
            return true;
        }
    }
    false
}

async fn flush(session: &mut ServerConnection, stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    drop(stream.write_all(&bytes).await);
}

/// Whether a whole record of at least that length is among the bytes: the client's handshake has none.
fn has_long_record(mut bytes: &[u8]) -> bool {
    while let [_, _, _, l1, l2, rest @ ..] = bytes {
        let length = usize::from(*l1) << 8 | usize::from(*l2);
        match rest.get(length..) {
            Some(_) if length > 500 => return true,
            Some(next) => bytes = next,
            None => return false,
        }
    }
    false
}

/// A path that makes a request's record long.
fn long_path() -> String {
    format!("/pay?x={}", "A9".repeat(500))
}

/// A request that moves money, or one that does not, to a provider at `api`: the response and the access line.
async fn asked(directory: &TempDir, api: &str, method: &str, keys: &str) -> (Value, Value) {
    let idp = Idp::counting().await;
    // Each proxy has a journal of its own.
    let journal = directory
        .path()
        .join(format!("journal-{}", fastrand::u64(..)));
    let yaml = with_journal(&acme(api, &idp.url(), keys), &journal);
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let mut caller = Caller::connect(proxy.listen).await;
    let reply = soon(caller.send(method, &long_path(), "x")).await;
    let line = proxy.access_lines(1).await.remove(0);
    assert_eq!(
        outcomes(&journal).await.len(),
        usize::from(method == "POST" && line["reason"] == "upstream_protocol"),
        "{line}"
    );
    (reply.problem(), line)
}

#[track_caller]
fn assert_refused((problem, line): &(Value, Value), server: &Server) {
    assert_eq!(
        (
            &problem["status"],
            &problem["reason"],
            &problem["request_sent"]
        ),
        (&json!(502), &json!("upstream_tls"), &json!("no")),
        "{problem}"
    );
    assert_eq!(line["cause"], "tls_client_certificate", "{line}");
    let address = server.url.strip_prefix("https://").unwrap();
    assert_eq!(line["upstream_host"], address);
    assert_eq!(line["upstream_address"], address);
    assert_eq!(server.connections(), 1, "it is tried once");
}

#[tokio::test]
async fn a_server_of_tls13_that_wants_a_certificate_has_not_seen_the_request() {
    let (directory, authority) = directory();
    for (alpn, says, method) in [
        ("http/1.1", Says::AtOnce, "POST"),
        ("http/1.1", Says::AfterRequest, "POST"),
        ("http/1.1", Says::AfterRequest, "GET"),
        ("http/1.1", Says::Nothing, "POST"),
        ("h2", Says::AtOnce, "POST"),
        // A payment waits for the server's settings.
        ("h2", Says::AfterHttp, "POST"),
        ("h2", Says::AfterRequest, "GET"),
        ("h2", Says::Nothing, "GET"),
    ] {
        let config = authority.server(&[alpn], ClientCertificate::Required);
        let server = Server::start(config, says).await;
        let told = asked(&directory, &server.url, method, CA).await;
        assert_refused(&told, &server);
    }
}

#[tokio::test]
async fn a_certificate_that_the_server_refuses_is_told_likewise() {
    let (directory, authority) = directory();
    let path = |name: &str| directory.path().join(name);
    Authority::new().write_client(&path("client.pem"), &path("client.key"));
    let keys = "tls: {ca: ca.pem, certificate: client.pem, key: client.key}";
    for (says, method) in [(Says::AtOnce, "POST"), (Says::AfterRequest, "POST")] {
        let config = authority.server(&["http/1.1"], ClientCertificate::Required);
        let server = Server::start(config, says).await;
        let told = asked(&directory, &server.url, method, keys).await;
        assert_refused(&told, &server);
    }
}

#[tokio::test]
async fn an_end_without_a_word_after_the_request_leaves_that_in_doubt() {
    let (directory, authority) = directory();
    let config = authority.server(&["http/1.1"], ClientCertificate::Required);
    let server = Server::start(config, Says::NothingAfterRequest).await;
    let (problem, line) = asked(&directory, &server.url, "POST", CA).await;
    assert_eq!(
        (&problem["reason"], &problem["request_sent"]),
        (&json!("upstream_protocol"), &json!("maybe"))
    );
    assert_eq!(line["cause"], Value::Null);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_and_does_without_is_spoken_to() {
    let (directory, authority) = directory();
    for (alpn, tickets) in [("http/1.1", 2), ("http/1.1", 0), ("h2", 0)] {
        let mut config = authority.server(&[alpn], ClientCertificate::Optional);
        Arc::get_mut(&mut config).unwrap().send_tls13_tickets = tickets;
        let api = Upstream::with_tls(config, |_| async { answer(200, "paid") }).await;
        let idp = Idp::counting().await;
        let yaml = acme(&api.url(), &idp.url(), CA);
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        for _ in 0..2 {
            let mut caller = Caller::connect(proxy.listen).await;
            let reply = soon(caller.send("POST", "/pay", "x")).await;
            assert_eq!((reply.status.as_u16(), reply.text()), (200, "paid"));
        }
        let (_, status) = proxy.json("/status").await;
        let servers = status["upstreams"].as_array().unwrap();
        assert!(servers.iter().all(|server| server["healthy"] == true));
    }
}

#[tokio::test]
async fn a_token_endpoint_that_wants_a_certificate_has_not_used_up_what_it_was_sent() {
    let (directory, authority) = directory();
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    for says in [Says::AtOnce, Says::AfterRequest, Says::Nothing] {
        let config = authority.server(&["http/1.1"], ClientCertificate::Required);
        let server = Server::start(config, says).await;
        let url = format!("{}/token", server.url);
        // So that its record is long.
        let long = format!(
            "token.wait: 5s\ntoken.params: {{x: {}}}\n{CA}",
            "y".repeat(600)
        );
        let proxy = Proxy::start_in(directory.path(), &acme(&api.url(), &url, &long)).await;
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = soon(caller.send("GET", "/a", "")).await;
        assert_eq!(reply.problem()["reason"], "token_unavailable");
        let line = proxy.access_lines(1).await.remove(0);
        assert_eq!(line["cause"], "tls_client_certificate", "{says:?} {line}");
        let (_, status) = proxy.json("/status").await;
        let error = status["tokens"][0]["last_error"].as_str().unwrap();
        assert!(error.contains("tls_client_certificate"), "{error}");
    }
    // With one, there is a token.
    let path = |name: &str| directory.path().join(name);
    authority.write_client(&path("client.pem"), &path("client.key"));
    let config = authority.server(&["http/1.1"], ClientCertificate::Required);
    let idp = Idp::with_tls(config, |_| async { token("t") }).await;
    let keys = "tls: {ca: ca.pem, certificate: client.pem, key: client.key}";
    let proxy = Proxy::start_in(directory.path(), &acme(&api.url(), &idp.url(), keys)).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/a", "").await.status, 200);
}

#[tokio::test]
async fn the_log_is_told_once_that_a_server_wants_a_certificate() {
    for says in [Says::AtOnce, Says::AfterRequest] {
        let (directory, authority) = directory();
        let config = authority.server(&["http/1.1"], ClientCertificate::Required);
        let server = Server::start(config, says).await;
        let idp = Idp::counting().await;
        let yaml = acme(&server.url, &idp.url(), CA);
        let program = Program::start_in(directory, &yaml, "info").await;
        for _ in 0..3 {
            let mut caller = Caller::connect(program.listen).await;
            let reply = caller.send("POST", &long_path(), "x").await;
            assert_eq!(reply.problem()["reason"], "upstream_tls");
        }
        let status = program.json("/status").await;
        let servers = status["upstreams"].as_array().unwrap();
        let mut servers = servers.iter();
        let api = servers.find(|server| server["cause"] != Value::Null);
        assert_eq!(api.unwrap()["cause"], "tls_client_certificate");
        program.signal("TERM").await;
        let (_, log) = program.ended().await;
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        let said: Vec<Value> = lines
            .filter(|line: &Value| line["message"] == "no connection")
            .collect();
        let [said] = &said[..] else { panic!("{log}") };
        assert_eq!(said["cause"], "tls_client_certificate");
    }
}
