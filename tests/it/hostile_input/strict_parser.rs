//! What may arrive at a provider: a parser that takes no liberties, so that whatever it takes has one
//! meaning to every server.

use http_desync_guardian::ClassificationReason::{
    UndefinedContentLengthSemantics, UndefinedTransferEncodingSemantics,
};
use http_desync_guardian::RequestSafetyTier::{Acceptable, Ambiguous, Compliant};
use http_desync_guardian::request_analyzer::HttpRequestData;

use crate::support::raw::Raw;
use crate::support::upstream;

/// What the callers of these tests must never be seen with.
pub(super) const PASSWORD: &str = "c2hvcDpwdw==";

/// One request as it arrived.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) target: String,
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// Without the chunks' framing.
    pub(super) body: Vec<u8>,
    /// Start line and fields, with the empty line.
    pub(super) head: Vec<u8>,
}

impl Seen {
    pub(super) fn all(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields.iter().filter(|(key, _)| key == name);
        fields.map(|(_, value)| &**value).collect()
    }
}

/// What a provider has received.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) complete: Vec<Seen>,
    pub(super) cut: usize,
}

impl Arrived {
    pub(super) fn is_nothing(&self) -> bool {
        self.complete.is_empty() && self.cut == 0
    }

    /// From the bytes of each connection.
    pub(super) fn over_http1(connections: &[Vec<u8>]) -> Result<Self, String> {
        let mut all = Self::default();
        for bytes in connections {
            let text = bytes.escape_ascii();
            let (complete, cut) = parse(bytes).map_err(|error| format!("{error}: {text}"))?;
            for seen in &complete {
                second_opinion(&seen.head)?;
            }
            all.complete.extend(complete);
            all.cut += usize::from(cut);
        }
        Ok(all)
    }

    /// From what an HTTP/2 server made of the streams.
    pub(super) fn over_http2(requests: &[upstream::Seen]) -> Result<Self, String> {
        let mut all = Self::default();
        for request in requests {
            match over_http2(request).map_err(|error| format!("{error}: {request:?}"))? {
                Some(seen) => all.complete.push(seen),
                None => all.cut += 1,
            }
        }
        Ok(all)
    }
}

/// The same by AWS's analyser: no server takes the head for another one.
fn second_opinion(head: &[u8]) -> Result<(), String> {
    let analysis = HttpRequestData::analyze_raw_request(head);
    // A body of a GET or HEAD, which it finds ambiguous by itself, goes on as any body does.
    let has_body = matches!(
        analysis.reason,
        UndefinedContentLengthSemantics | UndefinedTransferEncodingSemantics
    );
    let is_get = head.starts_with(b"GET ") || head.starts_with(b"HEAD ");
    match analysis.tier {
        Compliant | Acceptable => Ok(()),
        Ambiguous if is_get && has_body => Ok(()),
        tier => Err(format!("{tier:?}: {}", head.escape_ascii())),
    }
}

/// A request of HTTP/2; None where its body broke off.
fn over_http2(request: &upstream::Seen) -> Result<Option<Seen>, String> {
    let fields = request.headers.iter();
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    // Whoever hands it on takes it for `Host`.
    let authority = request.authority.iter();
    fields.extend(authority.map(|host| ("host".to_owned(), host.clone().into_bytes())));
    let lines = fields.iter().map(|(_, value)| [&value[..], b"\n"].concat());
    let seen = Seen {
        target: request.target.clone(),
        head: lines.collect::<Vec<_>>().concat(),
        fields,
        body: request.body.clone().unwrap_or_default().to_vec(),
    };
    check_head(&seen)?;
    if !seen.all("transfer-encoding").is_empty() {
        return Err("transfer-encoding".to_owned());
    }
    if request.body.is_none() {
        return Ok(None);
    }
    if let [length] = seen.all("content-length")[..] {
        let length = std::str::from_utf8(length).unwrap().parse::<usize>();
        if length.ok() != Some(seen.body.len()) {
            return Err("content-length".to_owned());
        }
    }
    let trailers = request.trailers.iter().flat_map(|trailers| trailers.keys());
    check_trailers(trailers.map(http::HeaderName::as_str))?;
    Ok(Some(seen))
}

/// Every request on a connection, and whether an incomplete one was cut off after them.
fn parse(mut bytes: &[u8]) -> Result<(Vec<Seen>, bool), String> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let Some((request, rest)) = one(bytes)? else {
            return Ok((seen, true));
        };
        seen.push(request);
        bytes = rest;
    }
    Ok((seen, false))
}

fn one(bytes: &[u8]) -> Result<Option<(Seen, &[u8])>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, mut rest) = bytes.split_at(end + 4);
    let mut lines = lines(&head[..end])?.into_iter();
    let start = String::from_utf8(lines.next().unwrap().to_vec()).map_err(|e| e.to_string())?;
    let [method, target, "HTTP/1.1"] = start.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("start line {start:?}"));
    };
    let is_path = target.starts_with('/') || (method, target) == ("OPTIONS", "*");
    if !is_token(method.as_bytes()) || !is_path {
        return Err(format!("start line {start:?}"));
    }
    if !target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Err(format!("target {target:?}"));
    }
    let mut seen = Seen {
        target: target.to_owned(),
        fields: fields(lines)?,
        body: Vec::new(),
        head: head.to_vec(),
    };
    check_head(&seen)?;
    if let Some(length) = seen.all("content-length").first() {
        let length = std::str::from_utf8(length).unwrap().parse::<usize>();
        let length = length.map_err(|error| error.to_string())?;
        let Some((body, after)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        (seen.body, rest) = (body.to_vec(), after);
    } else if !seen.all("transfer-encoding").is_empty() {
        let Some(after) = chunks(rest, &mut seen.body)? else {
            return Ok(None);
        };
        rest = after;
    }
    Ok(Some((seen, rest)))
}

/// Exactly one `Host` and one token, one framing at most, and nothing that was for the proxy.
fn check_head(seen: &Seen) -> Result<(), String> {
    let lengths = seen.all("content-length");
    let encodings = seen.all("transfer-encoding");
    let one_framing = match (&lengths[..], &encodings[..]) {
        ([], []) => true,
        ([length], []) => !length.is_empty() && length.iter().all(u8::is_ascii_digit),
        ([], [encoding]) => *encoding == b"chunked",
        _ => false,
    };
    let gone = |name: &str| {
        name.starts_with("proxy-") || ["te", "connection", "upgrade", "keep-alive"].contains(&name)
    };
    let disguised = |name: &str| {
        let name = name.replace('_', "-");
        [
            "transfer-encoding",
            "content-length",
            "authorization",
            "host",
        ]
        .contains(&&*name)
    };
    let disguised = |name: &str| name.contains('_') && disguised(name);
    match seen
        .fields
        .iter()
        .find(|(name, _)| gone(name) || disguised(name))
    {
        Some((name, _)) => Err(format!("{name} was forwarded")),
        None if find(&seen.head, PASSWORD.as_bytes()).is_some() => Err("the password".to_owned()),
        None if !one_framing => Err(format!("framing {lengths:?} {encodings:?}")),
        None if seen.all("authorization") != [b"Bearer token"] => Err("authorization".to_owned()),
        None if seen.all("host").len() != 1 => Err("host".to_owned()),
        None => Ok(()),
    }
}

/// Chunks without extensions up to the last one, and trailers that frame and authorise nothing.
pub(super) fn chunks<'a>(
    mut rest: &'a [u8],
    body: &mut Vec<u8>,
) -> Result<Option<&'a [u8]>, String> {
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..end]).map_err(|error| error.to_string())?;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("chunk size {size:?}"));
        }
        let size = usize::from_str_radix(size, 16).map_err(|error| error.to_string())?;
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err("a chunk does not end where it says".to_owned());
        }
        rest = &rest[size + 2..];
    }
    let (trailers, after) = match (rest.strip_prefix(b"\r\n"), find(rest, b"\r\n\r\n")) {
        (Some(after), _) => return Ok(Some(after)),
        (None, Some(end)) => (lines(&rest[..end])?, &rest[end + 4..]),
        (None, None) => return Ok(None),
    };
    let trailers = fields(trailers.into_iter())?;
    check_trailers(trailers.iter().map(|(name, _)| &**name))?;
    Ok(Some(after))
}

/// None that frames, authorises, or was for the proxy.
fn check_trailers<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let forbidden = [
        "authorization",
        "host",
        "content-length",
        "transfer-encoding",
        "via",
    ];
    match names.find(|name| forbidden.contains(name) || name.starts_with("proxy-")) {
        Some(name) => Err(format!("trailer {name}")),
        None => Ok(()),
    }
}

/// Lines that end in CRLF, without a CR, LF or NUL anywhere else.
pub(super) fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut rest = bytes;
    let mut lines = Vec::new();
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    let bare = |line: &&&[u8]| line.iter().any(|byte| b"\r\n\0".contains(byte));
    match lines.iter().find(bare) {
        Some(line) => Err(format!(
            "bare byte in {:?}",
            line.escape_ascii().to_string()
        )),
        None => Ok(lines),
    }
}

pub(super) fn fields<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let field = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let fine = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| is_token(name.as_bytes()))?;
        (value.iter().all(fine)).then(|| (name.to_ascii_lowercase(), value.to_vec()))
    };
    lines
        .map(|line| {
            field(line).ok_or_else(|| format!("field {:?}", line.escape_ascii().to_string()))
        })
        .collect()
}

fn is_token(bytes: &[u8]) -> bool {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(fine)
}

pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Reads requests and answers each; more than one at a time may come.
pub(super) async fn serve(mut raw: Raw) {
    while raw.try_read_message().await.is_ok() {
        raw.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    }
}

/// The statuses of all answers that a caller got, in order.
pub(super) fn statuses(mut bytes: &[u8]) -> Result<Vec<u16>, String> {
    let mut statuses = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("answer {head:?}"))?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        if status >= 200 {
            statuses.push(status);
        }
        bytes = bytes
            .get(end + 4 + length..)
            .ok_or("an answer was cut off")?;
    }
    if bytes.is_empty() {
        Ok(statuses)
    } else {
        Err("not an answer".to_owned())
    }
}
