//! What must hold for any input at all, of everything that Bursar parses itself. Both cargo-fuzz (here)
//! and `cargo test` (`tests/it/fuzz_targets.rs`) run these functions.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path as Directory;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bursar::exchange::route::Routes;
use bursar::token::{Body, Failure, RawResponse, read_response};
use bursar_base::address::{Rule, Spelling, rules};
use bursar_base::path::Path;
use bursar_base::socket::ResetOnClose;
use bursar_config::Config;
use bursar_http::framing::{Broken, Framing};
use bursar_http::response::{Outstanding, Reader};
use bursar_http::target::Target;
use bursar_telemetry::metrics::{DroppedFields, Metrics};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What no message may repeat.
const MARKER: &str = "hunter2-s3cret";

const PROVIDER: &str = "callers:
  shop:
    password: hunter2-s3cret
    allow: [acme]
providers:
  acme:
    hosts: [api.test, \"*.wild.test\"]
    client_id: id
    client_secret: hunter2-s3cret-2
    token:
      url: https://api.test/oauth/token
    timeouts: {connect: 1s}
    paths: [\"/**\"]
    accounts:
      other:
        client_id: id2
        client_secret: hunter2-s3cret-3
";

/// Lines: method, request target, values of `Host`.
pub(super) fn target(data: &[u8]) {
    static ROUTES: OnceLock<Routes> = OnceLock::new();
    let routes = ROUTES.get_or_init(|| {
        let config = Config::parse(
            &format!("listen: 127.0.0.1:0\n{PROVIDER}"),
            Directory::new(""),
        );
        Routes::new(&config.unwrap())
    });
    let mut lines = data.split(|byte| *byte == b'\n');
    let (method, uri) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let mut request = Request::builder().method(method).uri(uri);
    for host in lines {
        request = request.header("host", host);
    }
    let Ok(request) = request.body(()) else {
        return;
    };
    let (head, ()) = request.into_parts();
    let Ok(target) = Target::read(&head, None) else {
        return;
    };
    assert!(!target.host.is_empty() && target.host.is_ascii());
    assert!(
        !target
            .host
            .contains(['@', '/', '?', '#', '\\', ' ', '[', ']']),
        "{target:?}"
    );
    assert!(target.path.starts_with('/'), "{target:?}");
    let path = Path::new(target.path);
    judge_path(&path);
    let lenient = lenient(target.path);
    let host = target.host.to_ascii_lowercase();
    match routes.match_host(&target, &path) {
        Ok(_) => {
            assert!(
                host == "api.test" || host.ends_with(".wild.test"),
                "{target:?}"
            );
            assert!([80, 443].contains(&target.port), "{target:?}");
            assert!(
                host != "api.test" || lenient != "/oauth/token",
                "{target:?}"
            );
        }
        Err(error) => assert!(!format!("{error:?}").is_empty()),
    }
}

/// Its normalised reading is absolute and has nothing left that could be read in two ways.
fn judge_path(path: &Path<'_>) {
    let normalised = path.normalised();
    let mut segments = normalised.strip_prefix('/').unwrap().split('/');
    let odd = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains([';', '\\']);
    assert!(normalised == "/" || !segments.any(odd), "{path:?}");
    assert!(!path.is_plain() || path.raw() == normalised, "{path:?}");
}

/// A path as a lenient server has it, written down once more: byte by byte, and with a stack.
fn lenient(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let pair = pair.filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let code = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        let code = code.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        at += if code.is_some() { 3 } else { 1 };
        decoded.push(code.unwrap_or(*byte).to_ascii_lowercase());
    }
    let mut stack: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| *byte == b'/' || *byte == b'\\') {
        let name = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        match name {
            b"" | b"." => {}
            b".." => drop(stack.pop()),
            name => stack.push(name),
        }
    }
    format!("/{}", String::from_utf8_lossy(&stack.join(&b'/')))
}

/// Edits of a good file, three bytes each, and what is written where they say so.
pub(super) fn config(data: &[u8]) {
    let (edits, junk) = data.split_at(data.len() / 2);
    let junk = String::from_utf8_lossy(junk);
    let mut lines: Vec<String> = PROVIDER.lines().map(str::to_owned).collect();
    for edit in edits.chunks_exact(2).take(8) {
        let at = usize::from(edit[0]) % lines.len().max(1);
        let Some(line) = lines.get(at).cloned() else {
            break;
        };
        let is_secret = line.contains(MARKER);
        match edit[1] % 8 {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, line),
            2 => lines[at] = format!("  {line}"),
            3 => lines[at] = line.trim_start().to_owned(),
            4 => lines[at] = line.replacen(": ", ": [", 1) + "]",
            5 => lines[at] = line + "${",
            6 if !is_secret => {
                lines[at] = line
                    .split_once(':')
                    .map_or(line.clone(), |(key, _)| format!("{key}: {junk}"))
            }
            7 if !is_secret => lines.insert(at, junk.to_string()),
            _ => lines[at] = line + ": : \u{1}",
        }
    }
    let edited = lines.join("\n");
    let text = String::from_utf8_lossy(data);
    // Files that never end are not to be read.
    if text.contains("file:") || edited.contains("file:") {
        return;
    }
    drop(Config::parse(&text, Directory::new("")));
    let Err(problems) = Config::parse(&edited, Directory::new("")) else {
        return;
    };
    assert!(!problems.is_empty());
    for problem in problems {
        // Keys are no secrets.
        let is_key = junk.contains(MARKER);
        assert!(
            is_key || !problem.to_string().contains(MARKER),
            "{problem}\n{edited}"
        );
    }
}

/// A byte that chooses the status, where the token is and the content coding, and the body.
pub(super) fn reply(data: &[u8]) {
    const STATUSES: [u16; 8] = [200, 201, 400, 401, 403, 429, 500, 503];
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let status = StatusCode::from_u16(STATUSES[usize::from(first % 8)]).unwrap();
    let pointer = if first & 8 == 0 { "" } else { "/data" };
    let codings = ["", "gzip", "deflate", "br, identity"][usize::from(first >> 4 & 3)];
    let response = RawResponse {
        status,
        retry_after: (first & 64 != 0).then_some(Duration::from_secs(1 << 20)),
        codings: codings.to_owned(),
        body: Body::Whole(body.to_vec().into()),
    };
    match read_response(&response, pointer, MARKER) {
        Ok(token) => {
            assert!(status.is_success());
            assert!(!token.expose().is_empty());
            assert!(HeaderValue::from_str(token.expose()).is_ok());
            assert!(!format!("{token:?}").contains(token.expose()) || token.expose().len() < 8);
        }
        Err(Failure::RateLimited(wait)) => {
            assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(900)));
        }
        Err(Failure::RetryLater(status, wait)) => {
            assert!(status >= 500 && wait <= Duration::from_secs(900));
        }
        Err(failure) => {
            let said = failure.to_string();
            assert!(!said.contains(MARKER) && said.len() < 200, "{said}");
            assert!(!said.contains(char::is_control), "{said}");
        }
    }
}

/// A host's text, and as bytes an address of either kind.
pub(super) fn address(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        judge_spelling(text);
    }
    if let Some(bytes) = data.first_chunk::<4>() {
        judge_v4(Ipv4Addr::from(*bytes));
    }
    if let Some(bytes) = data.first_chunk::<16>() {
        let address = Ipv6Addr::from(*bytes);
        let is_global_unicast = bytes[0] >> 5 == 1;
        assert!(
            is_global_unicast || rules(address.into()).next().is_some(),
            "{address}"
        );
    }
}

fn judge_spelling(text: &str) {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let last = text
        .strip_suffix('.')
        .unwrap_or(text)
        .rsplit('.')
        .next()
        .unwrap_or_default();
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    match Spelling::of(text) {
        Spelling::Address(address) => assert_eq!(bare.parse(), Ok(address)),
        Spelling::Odd(_) => assert!(bare.parse::<IpAddr>().is_err(), "{text:?}"),
        Spelling::Name => assert!(!is_number && bare.parse::<IpAddr>().is_err(), "{text:?}"),
    }
}

/// However it is spelled, and whatever carries it, the rule is the same.
fn judge_v4(address: Ipv4Addr) {
    let bits = address.to_bits();
    let [a, b, c, d] = address.octets();
    let odd = [
        format!("{bits}"),
        format!("0x{bits:X}"),
        format!("0{bits:o}"),
        format!("{a}.{}", bits & 0x00ff_ffff),
        format!("0{a:o}.{b}.{}.", bits & 0xffff),
        format!("{a}.0x{b:x}.0{c:o}.{d}"),
    ];
    for spelling in odd {
        // A shortened spelling of a small number may be the plain one.
        let read = match Spelling::of(&spelling) {
            Spelling::Odd(read) => read,
            Spelling::Address(IpAddr::V4(read)) => Some(read),
            other => panic!("{spelling}: {other:?}"),
        };
        assert_eq!(read, Some(address), "{spelling}");
    }
    let Some((_, rule)) = rules(address.into()).next() else {
        return;
    };
    let [high, low] = [bits >> 16, bits & 0xffff].map(|half| u16::try_from(half).unwrap());
    let inverted = [!high, !low];
    for carrier in [
        address.to_ipv6_mapped(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x801, 0x101, 0, 0, inverted[0], inverted[1]),
        Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0x5efe, high, low),
    ] {
        let found: Vec<(IpAddr, Rule)> = rules(carrier.into()).collect();
        assert!(
            found.contains(&(address.into(), rule)),
            "{carrier}: {found:?}"
        );
        assert!(
            found.iter().any(|(_, rule)| *rule == Rule::EmbeddedIpv4),
            "{carrier}"
        );
    }
}

/// A byte for the reads, and what is read: however that is split, the result is the same.
pub(super) fn framing(data: &[u8]) {
    let Some((split, bytes)) = data.split_first() else {
        return;
    };
    let whole = frame(&[bytes]);
    let (first, second) = bytes.split_at(usize::from(*split).min(bytes.len()));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let few: Vec<&[u8]> = bytes.chunks(usize::from(split % 16) + 2).collect();
    for reads in [&[first, second][..], &single, &few] {
        assert_eq!(frame(reads), whole);
    }
    let (heads, doubt, intact) = whole;
    assert!(intact <= bytes.len());
    assert!(doubt.is_none_or(|(number, _)| number + 1 == heads));
}

type Framed = (
    u64,
    Option<(u64, bursar_http::framing::FramingError)>,
    usize,
);

fn frame(reads: &[&[u8]]) -> Framed {
    let mut framing = Framing::new();
    let mut intact = 0;
    for read in reads {
        match framing.read(read) {
            Ok(()) => intact += read.len(),
            Err(Broken { intact: more }) => {
                intact += more;
                break;
            }
        }
    }
    (framing.heads(), framing.doubt(), intact)
}

/// A byte for the reads and the framing, and a response: whatever it is, it is read the same however it is split, and
/// what is read has one meaning. The same bytes as fields of a response that is whole do not cost that.
pub(super) fn response(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let whole = exchange(bytes, bytes.len().max(1));
    for piece in [1, usize::from(how % 16) + 2] {
        match (&whole, exchange(bytes, piece)) {
            (Some(whole), Some(split)) => assert_eq!(*whole, split),
            (None, None) => {}
            both => panic!("{piece}: {both:?}"),
        }
    }
    if let Some((status, headers, body)) = &whole {
        check_response(*status, headers, body);
    }
    let response = around(bytes, how % 3);
    let (status, headers, body) = exchange(&response, usize::from(how / 3) + 1)
        .unwrap_or_else(|| panic!("lost: {}", response.escape_ascii()));
    check_response(status, &headers, &body);
    assert_eq!((status.as_u16(), &*body), (201, &b"done"[..]));
    assert!(
        headers
            .get_all("x-last")
            .iter()
            .any(|value| value == "kept")
    );
}

/// A response that is whole, with those lines among its fields, apart from what might frame it.
fn around(bytes: &[u8], framing: u8) -> Vec<u8> {
    let may_stay = |line: &&[u8]| {
        let letters = line.iter().filter(|byte| byte.is_ascii_alphabetic());
        let letters: Vec<u8> = letters.map(u8::to_ascii_lowercase).collect();
        let frames = letters.starts_with(b"contentl") || letters.starts_with(b"transfere");
        !frames && line.iter().any(|byte| *byte != b'\r')
    };
    let mut response = b"HTTP/1.1 201 Created\r\n".to_vec();
    for line in bytes.split(|byte| *byte == b'\n').filter(may_stay) {
        response.extend_from_slice(line);
        response.extend_from_slice(b"\r\n");
    }
    response.extend_from_slice(b"X-Last: kept\r\n");
    response.extend_from_slice(match framing {
        0 => b"Content-Length: 04, 4\r\n\r\ndone",
        1 => b"Transfer-Encoding : chunked\r\n\r\n4 ;x\r\ndone\r\n0\r\n\r\n",
        _ => b"\r\ndone",
    });
    response
}

/// One length at most, which is the body's, and nothing else that frames.
fn check_response(status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    assert!(!status.is_informational());
    match lengths[..] {
        [] => {}
        [length] => {
            let number: u64 = length.to_str().unwrap().parse().unwrap();
            assert_eq!(number.to_string().as_bytes(), length.as_bytes());
            let is_bodiless = matches!(status.as_u16(), 304);
            assert!(is_bodiless || number == body.len() as u64, "{headers:?}");
            assert!(
                !is_chunked && status != StatusCode::NO_CONTENT,
                "{headers:?}"
            );
        }
        _ => panic!("{headers:?}"),
    }
}

type Exchanged = (StatusCode, HeaderMap, Bytes);

/// What hyper's client reads of a response that comes in pieces of that length, and then ends; None where it is none.
fn exchange(bytes: &[u8], piece: usize) -> Option<Exchanged> {
    static DROPPED: OnceLock<Arc<DroppedFields>> = OnceLock::new();
    let dropped = DROPPED.get_or_init(|| {
        let text = format!("listen: 127.0.0.1:0\n{PROVIDER}");
        let config = Config::parse(&text, Directory::new("")).unwrap();
        Metrics::new(&config).unwrap().dropped_fields("acme")
    });
    let outstanding = Outstanding::new();
    let stream = Script {
        response: bytes.chunks(piece).map(<[u8]>::to_vec).rev().collect(),
        is_asked: false,
        waiting: None,
    };
    let reader = Reader::new(stream, outstanding.clone(), dropped.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(reader));
        let (mut sender, connection) = handshake.await.unwrap();
        outstanding.begin(&Method::GET);
        let response = async {
            let request = Request::new(Empty::<Bytes>::new());
            let mut response = sender.send_request(request).await.ok()?;
            outstanding.complete(&mut response);
            let (head, body) = response.into_parts();
            #[expect(clippy::disallowed_methods, reason = "it is limited")]
            let body = Limited::new(body, 1 << 20).collect().await.ok()?;
            Some((head.status, head.headers, body.to_bytes()))
        };
        let (response, _ended) = tokio::join!(response, async { drop(connection.await) });
        response
    })
}

impl ResetOnClose for Script {
    fn reset_on_close(&self) {}
}

/// A server that answers once it is asked, in pieces of which the last is first.
struct Script {
    response: Vec<Vec<u8>>,
    is_asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_asked {
            self.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        if let Some(mut piece) = self.response.pop() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.response.push(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_asked = true;
        self.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
