//! What becomes of an answer whose TLS connection ends without close_notify, and what is said of it.

use std::sync::Arc;

use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::frames::{DATA, END_HEADERS, HEADERS, OK, SETTINGS, frame};
use crate::support::idp::Idp;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::Raw;
use crate::support::tls::{ClientCertificate, directory};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

const REQUEST: &str =
    "GET http://api.test/a HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
const CUT: &str = "the connection ended without TLS close_notify";

/// How a server ends its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In TLS, too.
    Proper,
    /// In TCP alone.
    OfTcp,
    /// By a reset.
    Reset,
}

/// A server at `https://127.0.0.1:PORT` that answers the first request of each connection with these bytes, and ends
/// the connection. Nothing is left unread, so that it is no reset unless it is to be one.
async fn server(config: Arc<ServerConfig>, bytes: Vec<u8>, end: End) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, bytes) = (TlsAcceptor::from(config.clone()), bytes.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut read = Vec::new();
                let is_read =
                    |read: &[u8]| is_request(read) || end == End::Reset && has_begun(read);
                while !is_read(&read) {
                    if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                        return;
                    }
                }
                stream.write_all(&bytes).await.unwrap();
                stream.flush().await.unwrap();
                match end {
                    End::Proper => stream.shutdown().await.unwrap(),
                    End::OfTcp => stream.get_mut().0.shutdown().await.unwrap(),
                    End::Reset => return stream.get_ref().0.set_zero_linger().unwrap(),
                }
                drop(stream.read_to_end(&mut read).await);
            });
        }
    });
    url
}

/// Whether a request's body has begun to come.
fn has_begun(read: &[u8]) -> bool {
    String::from_utf8_lossy(read).contains("xxxx")
}

/// Whether that holds a whole request: a call for a token has a body, and HTTP/2 a preface and frames.
fn is_request(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read);
    if let Some(frames) = read.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
        return has_head(frames);
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse::<usize>().unwrap())
    });
    body.len() >= length.unwrap_or(0)
}

fn has_head(mut frames: &[u8]) -> bool {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((_, after)) = rest.split_at_checked(length) else {
            return false;
        };
        if *kind == HEADERS {
            return true;
        }
        frames = after;
    }
    false
}

/// What a caller reads, and the log.
async fn asked(alpn: &str, bytes: &[u8], end: End, requests: usize) -> (String, String) {
    asked_for(&vec![(REQUEST, 0); requests], alpn, bytes, end).await
}

/// The same for heads of requests with as much of their bodies as is taken, up to so many bytes.
async fn asked_for(
    requests: &[(&str, usize)],
    alpn: &str,
    bytes: &[u8],
    end: End,
) -> (String, String) {
    let (directory, authority) = directory();
    let config = authority.server(&[alpn], ClientCertificate::Ignored);
    let api = server(config, bytes.to_vec(), end).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api, &idp.url(), "tls: {ca: ca.pem}");
    let program = Program::start_in(directory, &yaml, "info").await;
    let mut read = String::new();
    for (head, body) in requests {
        let mut caller = Raw::connect(program.listen).await;
        caller.write(head).await;
        caller.write_until_blocked(*body).await;
        let answer = caller.read_to_end().await;
        read = String::from_utf8(answer.unwrap_or_default()).unwrap();
    }
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    (read, log)
}

/// The lines of a log whose message ends so.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let all = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["message"].as_str().unwrap().ends_with(message))
        .collect()
}

#[tokio::test]
async fn what_a_length_or_a_last_chunk_completes_needs_no_close_notify() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npaid\r\n0\r\n\r\n";
    for (bytes, end) in [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npaid".as_slice(),
            End::OfTcp,
        ),
        (chunked, End::OfTcp),
        (b"HTTP/1.1 200 OK\r\n\r\npaid", End::Proper),
    ] {
        let (read, log) = asked("http/1.1", bytes, end, 1).await;
        assert!(read.starts_with("HTTP/1.1 200 "), "{read}");
        assert!(read.contains("paid"), "{read}");
        let [line] = &lines(&log, "request")[..] else {
            panic!("{log}")
        };
        assert_eq!(line["reason"], Value::Null);
        assert!(!log.contains("close_notify"), "{log}");
    }
}

#[tokio::test]
async fn a_body_that_ends_without_it_is_cut_off_and_the_log_says_why_once_a_minute() {
    let http2 = [
        frame(SETTINGS, 0, 0, b""),
        frame(HEADERS, END_HEADERS, 1, OK),
        frame(DATA, 0, 1, b"paid"),
    ]
    .concat();
    for (alpn, bytes) in [
        ("http/1.1", b"HTTP/1.1 200 OK\r\n\r\npaid".as_slice()),
        (
            "http/1.1",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npaid",
        ),
        (
            "http/1.1",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npaid\r\n",
        ),
        ("h2", &*http2),
    ] {
        let (read, log) = asked(alpn, bytes, End::OfTcp, 2).await;
        assert!(!read.ends_with("\r\n0\r\n\r\n"), "{read}");
        let requests = lines(&log, "request");
        assert_eq!(requests.len(), 2, "{log}");
        for line in requests {
            assert_eq!(
                (&line["status"], &line["reason"]),
                (&200.into(), &"upstream_protocol".into())
            );
        }
        let [said] = &lines(&log, CUT)[..] else {
            panic!("{alpn} {log}")
        };
        assert_eq!(
            (&said["level"], &said["provider"]),
            (&"WARN".into(), &"acme".into())
        );
    }
}

#[tokio::test]
async fn where_no_head_came_the_caller_is_told_too() {
    for (alpn, bytes) in [
        ("http/1.1", Vec::new()),
        ("http/1.1", b"HTTP/1.1 200 OK\r\nContent-Len".to_vec()),
        ("h2", frame(SETTINGS, 0, 0, b"")),
    ] {
        let (read, log) = asked(alpn, &bytes, End::OfTcp, 1).await;
        assert!(read.starts_with("HTTP/1.1 502 "), "{read}");
        for part in [
            "ended without TLS close_notify",
            "\"reason\":\"upstream_protocol\"",
            "\"request_sent\":\"maybe\"",
        ] {
            assert!(read.contains(part), "{read}");
        }
        assert_eq!(lines(&log, CUT).len(), 1, "{alpn} {log}");
    }
}

#[tokio::test]
async fn a_reset_is_told_as_one() {
    const POST: &str = "POST http://api.test/a HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\nContent-Length: 16777216\r\n\r\n";
    // The longer body is being written when the reset comes.
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npaid";
    let settings = frame(SETTINGS, 0, 0, b"");
    for (alpn, bytes, request) in [
        ("http/1.1", b"".as_slice(), (REQUEST, 0)),
        ("http/1.1", b"", (POST, 4096)),
        ("http/1.1", b"", (POST, 16 << 20)),
        ("http/1.1", half, (REQUEST, 0)),
        ("http/1.1", half, (POST, 16 << 20)),
        ("h2", &settings, (REQUEST, 0)),
    ] {
        let (_, log) = asked_for(&[request], alpn, bytes, End::Reset).await;
        let [line] = &lines(&log, "request")[..] else {
            panic!("{log}")
        };
        assert_eq!(line["reason"], "upstream_protocol", "{line}");
        assert!(!log.contains("close_notify"), "{log}");
    }
}

#[tokio::test]
async fn a_token_that_comes_without_it_is_none_unless_it_came_whole() {
    const TOKEN: &str = r#"{"access_token":"t","expires_in":3600}"#;
    let (directory, authority) = directory();
    let api = Upstream::start(|_| async { answer(200, "paid") }).await;
    let start = async |bytes: String, end| {
        let config = authority.server(&["http/1.1"], ClientCertificate::Ignored);
        let idp = server(config, bytes.into_bytes(), end).await;
        let yaml = acme(
            &api.url(),
            &format!("{idp}/token"),
            "tls: {ca: ca.pem}\ntoken.wait: 5s",
        );
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        let mut caller = Raw::connect(proxy.listen).await;
        caller.write(REQUEST).await;
        let read = String::from_utf8(caller.read_to_end().await.unwrap()).unwrap();
        (read, proxy)
    };
    let whole = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{TOKEN}",
        TOKEN.len()
    );
    let open = format!("HTTP/1.1 200 OK\r\n\r\n{TOKEN}");
    for (bytes, end) in [(whole, End::OfTcp), (open.clone(), End::Proper)] {
        let (read, _proxy) = start(bytes, end).await;
        assert!(read.ends_with("paid"), "{read}");
    }
    let refused = "HTTP/1.1 500 Oops\r\n\r\n{}".to_owned();
    for bytes in [open, String::new(), refused] {
        let (read, proxy) = start(bytes.clone(), End::OfTcp).await;
        assert!(read.starts_with("HTTP/1.1 503 "), "{read}");
        eventually(|| async {
            let (_, status) = proxy.json("/status").await;
            status["tokens"][0]["last_error"].to_string().contains(CUT)
        })
        .await;
    }
}
