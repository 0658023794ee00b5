//! Answers as they come, in one piece, byte by byte, and cut off, and what hyper's client makes of them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::yield_now;

use super::*;
use bursar_telemetry::metrics::DroppedFields;

/// An answer, read to its end.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    version: Version,
    fields: Vec<(String, Vec<u8>)>,
    body: String,
    trailers: Vec<(String, Vec<u8>)>,
    dropped: u64,
    /// Whether the connection could be used again.
    is_reusable: bool,
}

impl Got {
    fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(key, _)| key == name)?;
        Some(std::str::from_utf8(&found.1).unwrap())
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.as_bytes().to_vec())
    };
    headers.iter().map(pair).collect()
}

/// Whether the server closes after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Open,
    Close,
}

async fn serve(mut stream: DuplexStream, answer: &[u8], piece: usize, then: Then) -> DuplexStream {
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    for piece in answer.chunks(piece) {
        if stream.write_all(piece).await.is_err() {
            return stream;
        }
        yield_now().await;
    }
    if then == Then::Close {
        drop(stream.shutdown().await);
    }
    stream
}

#[expect(clippy::disallowed_methods, reason = "the body is limited")]
async fn exchange(
    method: &Method,
    answer: &[u8],
    (piece, then): (usize, Then),
) -> Result<Got, String> {
    let dropped = DroppedFields::unregistered().unwrap();
    // An answer fits, whether or not somebody reads it.
    let (ours, theirs) = duplex(1 << 20);
    let outstanding = Outstanding::new();
    let reader = Reader::new(ours, outstanding.clone(), dropped.clone());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(128 * 1024)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(reader))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri("/");
    outstanding.begin(method);
    let sending = sender.send_request(request.body(Empty::new()).unwrap());
    let serving = serve(theirs, answer, piece, then);
    let both = async { tokio::join!(sending, serving) };
    let limit = Duration::from_secs(5);
    let both = tokio::time::timeout(limit, both).await;
    let (answered, _server) = both.map_err(|_elapsed| "it is waited for".to_owned())?;
    let mut answered = answered.map_err(|error| format!("{error:?}"))?;
    outstanding.complete(&mut answered);
    let (head, body) = answered.into_parts();
    let body = tokio::time::timeout(limit, Limited::new(body, 1 << 20).collect()).await;
    let body = body.map_err(|_elapsed| "its body is waited for".to_owned())?;
    let body = body.map_err(|error| format!("body: {error:?}"))?;
    let trailers = body.trailers().map(pairs).unwrap_or_default();
    let body = body.to_bytes();
    yield_now().await;
    let is_reusable = tokio::time::timeout(limit, sender.ready()).await;
    driver.abort();
    Ok(Got {
        status: head.status.as_u16(),
        version: head.version,
        fields: pairs(&head.headers),
        body: String::from_utf8_lossy(&body).into_owned(),
        trailers,
        dropped: dropped.total(),
        is_reusable: matches!(is_reusable, Ok(Ok(()))),
    })
}

/// The answer, which must not depend on how it is split.
async fn to(method: Method, answer: &str, then: Then) -> Result<Got, String> {
    // Latin-1, so that any byte can be written.
    let byte = |char: char| u8::try_from(u32::from(char)).unwrap();
    let answer: Vec<u8> = answer.chars().map(byte).collect();
    let whole = exchange(&method, &answer, (answer.len().max(1), then)).await;
    for piece in [1, 2, 7, 64] {
        let split = exchange(&method, &answer, (piece, then)).await;
        match (&whole, &split) {
            (Ok(whole), Ok(split)) => assert_eq!(whole, split, "{piece}"),
            (Err(_), Err(_)) => {}
            both => panic!("{piece}: {both:?}"),
        }
    }
    whole
}

async fn get(answer: &str) -> Result<Got, String> {
    to(Method::GET, answer, Then::Open).await
}

/// Status and body of the answer to a GET, and whether the connection is used again.
async fn says(answer: &str) -> (u16, String, bool) {
    let got = get(answer).await;
    let got = got.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
    (got.status, got.body, got.is_reusable)
}

fn ok(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")
}

fn fine() -> (u16, String, bool) {
    (200, "ok".to_owned(), true)
}

#[tokio::test]
async fn a_field_that_breaks_the_grammar_is_dropped_and_the_answer_stays() {
    for bad in [
        "Set-Cookie: a=\x01b; Path=/",
        "X-A: a\x7fb",
        "X-A: a\x1bb",
        "X-A: a\0b",
        "X-A: a\rb",
        "X-A: \x0cb",
        "No colon",
        "Bad Name: x",
        "Bad\x01Name: x",
        "N\u{e4}me: x",
        ": x",
        " : x",
        "X-A: folded\r\n over \x02",
        "X@Y: z",
    ] {
        let answer = ok(&format!("X-Before: 1\r\n{bad}\r\nX-After: 2\r\n"));
        let got = get(&answer).await.unwrap();
        assert_eq!((got.status, &*got.body), (200, "ok"), "{bad:?}");
        assert!(got.is_reusable, "{bad:?}");
        // The one that is no field but a continuation makes the one before it end in a colon.
        let folded = usize::from(bad == " : x");
        assert_eq!(got.dropped, 1 - folded as u64, "{bad:?}");
        assert_eq!(got.fields.len(), 3, "{bad:?}: {got:?}");
        assert_eq!(got.field("x-after"), Some("2"));
    }
    let first = "HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2\r\n\r\nok";
    let got = get(first).await.unwrap();
    assert_eq!((got.fields.len(), got.dropped), (1, 1), "{got:?}");
}

#[tokio::test]
async fn what_can_be_repaired_is() {
    for (line, value) in [
        ("X-A : b", "b"),
        ("X-A \t: b", "b"),
        ("X-A:b", "b"),
        ("X-A: \t b\t ", "b"),
        ("X-A: b\r\n c", "b c"),
        ("X-A: b\r\n\t  c\r\n d ", "b c d"),
        ("X-A: b\n", "b"),
        ("X-A:\r\n b", " b"),
        ("X-A: b\r\r", "b"),
        ("x-a: b\tc", "b\tc"),
    ] {
        let line = line.trim_end_matches('\n');
        let got = get(&ok(&format!("{line}\r\n"))).await.unwrap();
        assert_eq!(got.field("x-a"), Some(value.trim()), "{line:?}");
        assert_eq!((got.dropped, got.is_reusable), (0, true), "{line:?}");
    }
    let lf = "HTTP/1.1 200 OK\nX-A: b\nContent-Length: 2\n\nok";
    assert_eq!(get(lf).await.unwrap().field("x-a"), Some("b"));
}

#[tokio::test]
async fn a_length_that_is_said_in_other_ways_is_one_number() {
    for length in [
        "Content-Length: 02",
        "Content-Length: 2, 2",
        "Content-Length: 2,02,\t002",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length : 2",
        "Content-Length:\r\n 2",
        "Transfer-Encoding: identity\r\nContent-Length: 2",
        "Transfer-Encoding:\r\nContent-Length: 2",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\nok");
        let got = get(&answer).await.unwrap();
        assert_eq!((got.status, &*got.body), (200, "ok"), "{length:?}");
        let lengths = got
            .fields
            .iter()
            .filter(|(name, _)| name == "content-length");
        let lengths: Vec<_> = lengths.map(|(_, value)| &**value).collect();
        assert_eq!(lengths, [b"2"], "{length:?}");
    }
}

#[tokio::test]
async fn framing_in_doubt_is_no_answer() {
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 3",
        "Content-Length: +2",
        "Content-Length: -1",
        "Content-Length: 2.0",
        "Content-Length: 0x2",
        "Content-Length: 2 2",
        "Content-Length: 2,",
        "Content-Length: ",
        "Content-Length: 18446744073709551617",
        "Content-Length: 9223372036854775808",
        "Content-Length\x01: 2",
        "Content Length: 2",
        "Content-Length: 2\x01",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding\0: chunked\r\nContent-Length: 2",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;a=b",
        "Transfer-Encoding: sdch, chunked",
        "Transfer-Encoding: \"chunked\"",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        let got = to(Method::GET, &answer, Then::Close).await;
        assert!(got.is_err(), "{fields:?}: {got:?}");
    }
}

#[tokio::test]
async fn without_a_body_a_length_is_not_in_doubt() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 02, 2\r\n\r\n";
    let got = to(Method::HEAD, answer, Then::Open).await.unwrap();
    assert_eq!(got.field("content-length"), Some("2"));
    for (length, dropped) in [("1\r\nContent-Length: 2", 1), ("x", 1), ("7", 0)] {
        let answer = format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {length}\r\n\r\n");
        let got = get(&answer).await.unwrap();
        let stated = (dropped == 0).then_some(length);
        assert_eq!((got.status, got.field("content-length")), (304, stated));
        assert_eq!((got.dropped, got.is_reusable), (dropped, false));
    }
}

#[tokio::test]
async fn after_a_head_that_announces_a_body_the_connection_is_not_used_again() {
    for (fields, is_reusable) in [
        ("Content-Length: 5", false),
        ("Content-Length: 05", false),
        ("Transfer-Encoding: chunked", false),
        ("Content-Length: 0", true),
        ("Content-Length: x", false),
        ("ETag: x", true),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        let got = to(Method::HEAD, &answer, Then::Open).await.unwrap();
        assert_eq!(got.is_reusable, is_reusable, "{fields}");
        let length = fields.strip_prefix("Content-Length: ");
        let length = length.filter(|length| *length != "x");
        let length = length.map(|length| length.parse::<u64>().unwrap().to_string());
        assert_eq!(got.field("content-length"), length.as_deref(), "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_101_without_a_final_response_is_not_waited_for() {
    let began = tokio::time::Instant::now();
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
    let error = get(answer).await.unwrap_err();
    assert!(error.contains("Switched"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_connection_is_not_used_after_an_answer_that_broke_a_rule_of_framing() {
    for (answer, body) in [
        ("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", ""),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\nok", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", "ok"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx",
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
    ] {
        let got = get(answer).await.unwrap();
        assert_eq!((&*got.body, got.is_reusable), (body, false), "{answer:?}");
        let length = got.field("content-length");
        assert!(got.status != 204 || length.is_none(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_status_is_understood_wherever_it_is_clear() {
    for line in [
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1  200  OK",
        "HTTP/1.1\t200 OK",
        "http/1.1 200 ok",
        "HTTP/2.0 200 OK",
        "HTTP/2 200",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200 O\x01K",
        "HTTP/1.1 200 \u{e4}",
        "\r\nHTTP/1.1 200 OK",
    ] {
        let answer = format!("{line}\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(says(&answer).await, fine(), "{line:?}");
    }
    for line in ["HTTP/1.0 200 OK", "HTTP/1 200", "HTTP 200 OK", "ICY 200 OK"] {
        let answer = format!("{line}\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(
            says(&answer).await,
            (200, "ok".to_owned(), false),
            "{line:?}"
        );
    }
    for (code, status) in [("099", 500), ("000", 500), ("600", 600), ("999", 999)] {
        let answer = format!("HTTP/1.1 {code} X\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(says(&answer).await.0, status);
    }
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 OK",
        "HTTP/1.1200 OK",
        "SSH-2.0-x",
        "<html>",
        "\x15\x03\x01",
    ] {
        let got = get(&format!("{line}\r\nContent-Length: 2\r\n\r\nok")).await;
        assert!(got.is_err(), "{line:?}: {got:?}");
    }
}

#[tokio::test]
async fn an_interim_answer_never_costs_the_final_one() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100\r\n\r\n",
        "HTTP/1.0 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nBad Name: x\r\nNo colon\r\nX: a\x01\r\n\r\n",
        "HTTP/1.1 103 Early \x01 Hints\nLink: </a>\n\n",
        "HTTP/1.1 199 ?\r\n folded\r\n\r\n",
    ] {
        assert_eq!(
            says(&format!("{interim}{}", ok(""))).await,
            fine(),
            "{interim:?}"
        );
        let many = format!("{}{}", interim.repeat(50), ok("Bad Name: x\r\n"));
        assert_eq!(says(&many).await, fine(), "{interim:?}");
    }
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000);
    let got = exchange(&Method::GET, endless.as_bytes(), (8192, Then::Open)).await;
    assert!(got.unwrap_err().contains("TooLarge"));
}

#[tokio::test]
async fn chunks_and_trailers_are_understood_wherever_they_are_clear() {
    for chunks in [
        "2\r\nok\r\n0\r\n\r\n",
        "1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        "02\r\nok\r\n000\r\n\r\n",
        "00000000000000000000000002\r\nok\r\n0\r\n\r\n",
        " 2\r\nok\r\n0\r\n\r\n",
        "2 \t\r\nok\r\n 0 \r\n\r\n",
        "2;a=\"b\"\r\nok\r\n0;x\r\n\r\n",
        "2 ; a\x01\r\nok\r\n0\r\n\r\n",
        "2\nok\n0\n\n",
        "2\r\r\nok\r\n0\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(says(&answer).await, fine(), "{chunks:?}");
    }
    for (trailers, dropped) in [
        ("X-A: b", 0),
        ("X-A : b\r\nNo colon\r\nX-B: \x01", 2),
        ("X-A:\r\n b\nBad Name: x", 1),
    ] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n\r\n"
        );
        let got = get(&answer).await.unwrap();
        assert_eq!(
            got.trailers,
            [("x-a".to_owned(), b"b".to_vec())],
            "{trailers:?}"
        );
        assert_eq!(
            (&*got.body, got.dropped, got.is_reusable),
            ("ok", dropped, true)
        );
    }
    let many: String = (0..500)
        .map(|n| format!("X-{n}: {}\r\n", "a".repeat(200)))
        .collect();
    let answer =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{many}\r\n");
    let got = exchange(&Method::GET, answer.as_bytes(), (9000, Then::Open))
        .await
        .unwrap();
    assert_eq!((&*got.body, got.is_reusable), ("ok", true));
    assert!(got.trailers.len() > 50);
}

#[tokio::test]
async fn a_chunk_in_doubt_cuts_the_body_off_there() {
    for chunks in [
        "2\r\nokX",
        "2\r\no",
        "x\r\n",
        "-2\r\nok\r\n0\r\n\r\n",
        "\r\n2\r\nok\r\n0\r\n\r\n",
        "2;a\rb\r\nok\r\n0\r\n\r\n",
        "2 2\r\nok\r\n0\r\n\r\n",
        "8000000000000000\r\nok",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let got = to(Method::GET, &answer, Then::Close).await;
        assert!(
            got.as_ref().is_err_and(|error| error.starts_with("body: ")),
            "{chunks:?}: {got:?}"
        );
    }
}

#[tokio::test]
async fn after_its_last_chunk_an_answer_is_complete_however_the_connection_ends() {
    for end in ["0\r\n", "0\r\nX-A: b\r\n", "0\r\nX-A: b\r\nX-", "0\r\n\r"] {
        let answer =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n{end}");
        let got = to(Method::GET, &answer, Then::Close).await.unwrap();
        assert_eq!((&*got.body, got.is_reusable), ("ok", false), "{end:?}");
        assert_eq!(
            got.trailers.len(),
            usize::from(end.contains("b\r\n")),
            "{end:?}"
        );
    }
    for fields in [
        "",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Bad Name: x\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\nok");
        let got = to(Method::GET, &answer, Then::Close).await.unwrap();
        assert_eq!(&*got.body, "ok");
        let coding = fields.contains("gzip").then_some("gzip");
        assert_eq!(got.field("content-encoding"), coding);
    }
}

#[tokio::test]
async fn a_head_of_256_kib_is_read_and_a_larger_one_is_not() {
    let head = |count: usize, len: usize| {
        let fields: String = (0..count)
            .map(|number| format!("Set-Cookie: c{number}={}\r\n", "x".repeat(len)))
            .collect();
        ok(&fields)
    };
    for (count, len) in [(120, 10), (250, 1000), (1, 250_000), (4000, 10)] {
        let answer = head(count, len);
        for piece in [8192, 1000, answer.len()] {
            let got = exchange(&Method::GET, answer.as_bytes(), (piece, Then::Open)).await;
            let got = got.unwrap();
            let cookies = got.fields.iter().filter(|(name, _)| name == "set-cookie");
            assert_eq!((cookies.count(), &*got.body), (count, "ok"));
        }
    }
    let many = ok(&"a:b\r\n".repeat(20_000));
    let got = exchange(&Method::GET, many.as_bytes(), (8192, Then::Open)).await;
    assert_eq!(got.unwrap().body, "ok");
    let got = exchange(
        &Method::GET,
        head(1, 300_000).as_bytes(),
        (8192, Then::Open),
    )
    .await;
    assert!(got.unwrap_err().contains("TooLarge"));
}

#[tokio::test]
async fn bytes_that_come_before_a_request_are_not_its_answer() {
    let dropped = DroppedFields::unregistered().unwrap();
    let (ours, mut theirs) = duplex(4096);
    let outstanding = Outstanding::new();
    let reader = Reader::new(ours, outstanding.clone(), dropped);
    let handshake = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(reader));
    let (mut sender, connection) = handshake.await.unwrap();
    theirs.write_all(ok("").as_bytes()).await.unwrap();
    outstanding.begin(&Method::GET);
    let sending = sender.try_send_request(Request::new(Empty::new()));
    let driver = tokio::spawn(connection);
    let mut error = sending.await.unwrap_err();
    assert!(error.take_message().is_some(), "it is certainly unsent");
    drop(driver.await.unwrap());
}
