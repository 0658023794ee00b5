//! The other direction: answers that break rules, and what callers get of them. Whatever came whole is the
//! caller's, in a form that a strict parser takes; what is in doubt is a 502, and nothing else is.
//!
//! A provider answers each path with the vector of that number. Real callers get the same in `peers::answers`.

mod vectors;

use std::net::SocketAddr;

use crate::hostile_input::{report, strict_parser};
use crate::support::acme;
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::{Raw, RawUpstream};

use Fate::{Doubtful, Whole};
pub(crate) use vectors::all;

/// What may become of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The caller gets that status and that body.
    Whole(u16, &'static str),
    /// Nobody knows what it is: 502, `maybe`.
    Doubtful,
}

/// An answer, each char a byte, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    text: String,
    /// Whether the provider closes the connection behind it.
    closes: bool,
    pub(crate) fate: Fate,
}

/// A provider with all vectors, and the proxy in front of it.
pub(crate) struct Fixture {
    pub(crate) vectors: Vec<Vector>,
    pub(crate) proxy: Proxy,
    _api: RawUpstream,
    _idp: Idp,
    _journal: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let vectors = all();
        let api = provider(vectors.clone()).await;
        let idp = Idp::counting().await;
        let journal = tempfile::tempdir().unwrap();
        let path = journal.path().join("journal").display().to_string();
        let yaml = acme(&api.url(), &idp.url(), "");
        let proxy = Proxy::start(&format!("journal: {{path: {path}}}\n{yaml}")).await;
        Self {
            vectors,
            proxy,
            _api: api,
            _idp: idp,
            _journal: journal,
        }
    }

    /// As many requests are in doubt as there were doubtful answers, and each of so many times.
    async fn doubts(&self, times: usize) {
        let doubtful = self.vectors.iter().filter(|one| one.fate == Doubtful);
        #[expect(clippy::cast_precision_loss, reason = "there are not so many")]
        let doubts = (doubtful.count() * times) as f64;
        let unresolved = self
            .proxy
            .metric_becomes("bursar_journal_unresolved", &[], doubts);
        unresolved.await;
    }
}

async fn provider(vectors: Vec<Vector>) -> RawUpstream {
    RawUpstream::start(move |_, mut raw| {
        let vectors = vectors.clone();
        async move {
            while let Ok(request) = raw.try_read_message().await {
                let number = request.start().split(['/', ' ']).nth(2).unwrap();
                let vector = &vectors[number.parse::<usize>().unwrap()];
                let byte = |char: char| u8::try_from(u32::from(char)).unwrap();
                let bytes: Vec<u8> = vector.text.chars().map(byte).collect();
                raw.write(bytes).await;
                if vector.closes {
                    return;
                }
            }
        }
    })
    .await
}

/// What a caller got.
#[derive(Debug)]
struct Got {
    status: u16,
    body: Vec<u8>,
}

impl Got {
    fn check(&self, vector: &Vector) -> Result<(), String> {
        let body = String::from_utf8_lossy(&self.body);
        let is_right = match vector.fate {
            Whole(status, expected) => self.status == status && body == expected,
            Doubtful => self.status == 502 && body.contains("\"request_sent\":\"maybe\""),
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("{} {body}", self.status)),
        }
    }
}

/// The only answer on a connection, by a parser that takes no liberties.
fn strictly(bytes: &[u8], version: &str) -> Result<Got, String> {
    let end = strict_parser::find(bytes, b"\r\n\r\n").ok_or("there is no head")?;
    let (head, rest) = bytes.split_at(end + 4);
    let mut lines = strict_parser::lines(&head[..end])?.into_iter();
    let start = std::str::from_utf8(lines.next().unwrap()).map_err(|error| error.to_string())?;
    let words: Vec<&str> = start.splitn(3, ' ').collect();
    let ["HTTP/1.1" | "HTTP/1.0", status, reason] = words[..] else {
        return Err(format!("status line {start:?}"));
    };
    let is_status = status.len() == 3 && ('1'..='9').contains(&status.chars().next().unwrap());
    if !is_status || !reason.chars().all(|char| matches!(char, '\t' | ' '..='~')) {
        return Err(format!("status line {start:?}"));
    }
    let status = status.parse().map_err(|_not| "no status")?;
    let fields = strict_parser::fields(lines)?;
    let all = |name: &str| {
        let fields = fields.iter().filter(|(key, _)| key == name);
        let values = fields.map(|(_, value)| std::str::from_utf8(value).unwrap());
        values.collect::<Vec<&str>>()
    };
    if all("date").len() != 1 || !all("keep-alive").is_empty() {
        return Err(format!("fields {fields:?}"));
    }
    let mut body = Vec::new();
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) if matches!(status, 204 | 304) => {}
        ([], []) => body = rest.to_vec(),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let is_canonical = *length == "0" || !length.starts_with('0');
            let is_whole = status == 304 || length.parse() == Ok(rest.len());
            if !is_canonical || !is_whole || status == 204 {
                return Err(format!("length {length}"));
            }
            body = rest.to_vec();
        }
        ([], ["chunked"]) if version == "HTTP/1.1" && status != 204 => {
            let after = strict_parser::chunks(rest, &mut body)?.ok_or("it is cut off")?;
            if !after.is_empty() {
                return Err("there is more".to_owned());
            }
        }
        framing => return Err(format!("framing {framing:?}")),
    }
    Ok(Got { status, body })
}

async fn over_http1(proxy: SocketAddr, number: usize, version: &str) -> Result<Got, String> {
    let mut raw = Raw::connect(proxy).await;
    raw.write(format!(
        "POST http://api.test/{number} {version}\r\nHost: api.test\r\nContent-Length: 1\r\nTE: trailers\r\nConnection: close, TE\r\n\r\nx"
    ))
    .await;
    let bytes = raw.read_to_end().await.map_err(|error| error.to_string())?;
    strictly(&bytes, version).map_err(|error| format!("{error}: {}", bytes.escape_ascii()))
}

#[tokio::test]
async fn an_answer_that_came_whole_is_the_callers_and_its_request_is_not_in_doubt() {
    let fixture = Fixture::new().await;
    let mut failures = Vec::new();
    for (number, vector) in fixture.vectors.iter().enumerate() {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let got = over_http1(fixture.proxy.listen, number, version).await;
            if let Err(error) = got.and_then(|got| got.check(vector)) {
                failures.push(format!("{version} {vector:?}: {error}\n"));
            }
        }
    }
    report(&failures, fixture.vectors.len() * 2);
    fixture.doubts(2).await;
}

#[tokio::test]
async fn it_is_so_for_hypers_and_h2s_callers() {
    let fixture = Fixture::new().await;
    let mut failures = Vec::new();
    for (number, vector) in fixture.vectors.iter().enumerate() {
        for mut caller in [
            Caller::connect(fixture.proxy.listen).await,
            Caller::connect_http2(fixture.proxy.listen).await,
        ] {
            let reply = caller.send("POST", &format!("/{number}"), "x").await;
            let got = Got {
                status: reply.status.as_u16(),
                body: reply.body.to_vec(),
            };
            if let Err(error) = got.check(vector) {
                failures.push(format!("{vector:?}: {error} {:?}\n", reply.headers));
            }
        }
    }
    report(&failures, fixture.vectors.len() * 2);
    fixture.doubts(2).await;
}

#[tokio::test]
async fn an_answer_is_never_the_next_requests() {
    const FALSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse";
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 02\r\n\r\nok",
    ] {
        let api = RawUpstream::start(move |number, mut raw| async move {
            raw.read_message().await;
            let more = if number == 0 { FALSE } else { "" };
            raw.write(format!("{first}{more}")).await;
            if raw.try_read_message().await.is_ok() {
                raw.write(FALSE).await;
            }
        })
        .await;
        let idp = Idp::counting().await;
        let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
        let mut caller = Caller::connect(proxy.listen).await;
        for _ in 0..2 {
            let reply = caller.send("POST", "/x", "x").await;
            assert_ne!(reply.text(), "false", "{first:?}");
        }
        assert_eq!(api.connections(), 2, "{first:?}");
    }
}

#[tokio::test]
async fn a_final_answer_counts_that_comes_before_the_body_is_read() {
    for (fields, resets) in [
        ("", true),
        ("Connection: close\r\n", false),
        ("Bad Name: x\r\n", true),
    ] {
        let api = RawUpstream::start(move |_, mut raw| async move {
            raw.read_head().await;
            let head = format!("HTTP/1.1 403 Forbidden\r\n{fields}Content-Length: 2\r\n\r\n");
            raw.write(format!("{head}no")).await;
            // What is not read makes it a reset, before or behind the end.
            if !resets {
                raw.finish().await;
            }
        })
        .await;
        let idp = Idp::counting().await;
        let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.send("POST", "/x", vec![b'x'; 4 << 20]).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text()),
            (403, "no"),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn the_length_in_an_answer_to_head_is_one_number() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 02, 2\r\nTransfer-Encoding : identity\r\nX: \x01\r\n\r\n";
    let api = RawUpstream::start(move |_, mut raw| async move {
        while raw.try_read_head().await.is_ok() {
            raw.write(&answer[..]).await;
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.write("HEAD http://api.test/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    let head = raw.read_head().await.to_lowercase();
    assert!(head.contains("content-length: 2\r\n"), "{head}");
    assert!(!head.contains("x: "), "{head}");
    let mut caller = Caller::connect_http2(proxy.listen).await;
    let reply = caller.send("HEAD", "/x", "").await;
    assert_eq!(reply.all("content-length"), ["2"]);
}

#[tokio::test]
async fn a_body_after_the_response_to_head_is_not_the_next_requests_response() {
    let api = RawUpstream::start(move |_, mut raw| async move {
        let head = raw.try_read_head().await.unwrap_or_default();
        if !head.starts_with("HEAD") {
            raw.write(&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal"[..])
                .await;
            return;
        }
        raw.write(&b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n"[..])
            .await;
        // Should another request come on this connection, this would be its response.
        drop(raw.try_read_head().await);
        raw.write(&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"[..])
            .await;
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut caller = Caller::connect(proxy.listen).await;
    for _ in 0..3 {
        let reply = caller.send("HEAD", "/x", "").await;
        assert_eq!(reply.all("content-length"), ["43"]);
        let reply = caller.send("POST", "/pay", "x").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "real"));
    }
}

#[tokio::test]
async fn fields_are_counted_for_their_provider_and_named_once_without_a_value() {
    const BAD: &[u8] = b"HTTP/1.1 200 OK\r\nSet-Cookie: s3cret\x01=value\r\nBad s3cret: x\r\nContent-Length: 2\r\n\r\nok";
    const TOKEN: &[u8] = b"HTTP/1.1 200 OK\r\nX-A: s3cret\x1b\r\nTransfer-Encoding : chunked\r\n\r\n26\r\n{\"access_token\":\"t\",\"expires_in\":3600}\r\n0\r\nX-B: \x02s3cret\r\n\r\n";
    let api = RawUpstream::answering(BAD).await;
    let endpoint = RawUpstream::answering(TOKEN).await;
    let yaml = acme(&api.url(), &endpoint.url(), "");
    let program = Program::start(&yaml, "info").await;
    let count = async || {
        let scrape = crate::support::metrics::Scrape::of(program.admin).await;
        scrape.value(
            "bursar_upstream_fields_dropped_total",
            &[("provider", "acme")],
        )
    };
    let mut caller = Caller::connect(program.listen).await;
    for _ in 0..3 {
        assert_eq!(caller.send("POST", "/x", "x").await.status, 200);
    }
    // Two of the token call, and two of each answer.
    assert_eq!(count().await, 8.0);
    crate::support::eventually(|| async { program.logged().contains("grammar") }).await;
    let log = program.logged();
    assert_eq!(log.matches("grammar").count(), 1, "{log}");
    assert!(
        log.contains("\"field\":\"X-A\"") && !log.contains("s3cret"),
        "{log}"
    );
}

#[tokio::test]
async fn the_count_is_there_from_the_start() {
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme("http://127.0.0.1:9", &idp.url(), "")).await;
    let provider = [("provider", "acme")];
    let count = proxy.metric("bursar_upstream_fields_dropped_total", &provider);
    assert_eq!(count.await, 0.0);
}
