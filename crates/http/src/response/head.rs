//! Response heads: the status, the fields one by one, and how the body is framed.

use std::io::Write as _;

use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::error::ResponseError;
use super::fields::{self, SectionFields, is_blank, without_end};
use crate::numbers::{self, MAX_LENGTH, trim};
use bursar_telemetry::metrics::{DroppedFields, Section};

/// What a head is.
#[derive(Debug)]
pub(super) enum ResponseHead {
    /// An interim answer; the next head is on its way.
    Interim {
        /// Whether the connection must not be used for another request.
        is_last: bool,
        /// Whether it says that another protocol follows, which nobody asked for.
        is_switch: bool,
    },
    /// The answer's.
    Final {
        /// What hyper gets.
        head: Vec<u8>,
        /// What it does not get.
        fields: HeaderMap,
        /// Whether chunks follow.
        is_chunked: bool,
    },
}

/// A status line.
#[derive(Debug, PartialEq, Eq)]
struct Status<'a> {
    is_http_1_0: bool,
    code: u16,
    reason: &'a [u8],
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
    /// Whether the connection must not be used for another request.
    is_last: bool,
}

/// Codings that leave an answer's body readable for whoever knows them, as a content coding (RFC 9110 section 8.4.1).
const CODINGS: [&str; 5] = ["gzip", "x-gzip", "deflate", "compress", "x-compress"];
/// A longer reason phrase is left out.
const MAX_REASON_BYTES: usize = 1024;

/// Whether no status line begins like that, as soon as that is certain.
pub(super) fn is_hopeless(bytes: &[u8]) -> bool {
    ["HTTP", "ICY "].iter().all(|start| {
        let both = start.as_bytes().iter().zip(bytes);
        both.into_iter()
            .any(|(one, other)| !one.eq_ignore_ascii_case(other))
    })
}

/// Reads a whole head, its empty line included. Whether it answers a `HEAD`, and whether the connection must not be
/// used for another request, is known.
pub(super) fn read(
    bytes: &[u8],
    is_to_head: bool,
    is_last: bool,
    dropped: &DroppedFields,
) -> Result<ResponseHead, ResponseError> {
    let (line, section) = match memchr::memchr(b'\n', bytes) {
        Some(end) => bytes.split_at(end + 1),
        None => (bytes, &[][..]),
    };
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let status = Status::read(without_end(line)).ok_or(ResponseError::StatusLine)?;
    if (100..200).contains(&status.code) {
        let fields = fields::read(section, Section::Interim, dropped);
        // It has no body, whatever it says (RFC 9112 section 6.3). After a 101 that nobody has asked for another
        // protocol may follow: then there is no final answer.
        let announces = [CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|name| fields.all.contains_key(name));
        return Ok(ResponseHead::Interim {
            is_last: announces || fields.is_garbled || status.code == 101,
            is_switch: status.code == 101,
        });
    }
    let mut fields = fields::read(section, Section::Head, dropped);
    let is_bodiless = is_to_head || matches!(status.code, 204 | 304);
    let mut framing = match is_bodiless {
        true => bodiless(&mut fields, status.code, dropped),
        false => framing(&mut fields, &status)?,
    };
    framing.is_last |= is_last;
    Ok(ResponseHead::Final {
        head: status.write(framing, &fields),
        is_chunked: framing.is_chunked,
        fields: fields.all,
    })
}

impl<'a> Status<'a> {
    /// A version, blanks, three digits, and whatever follows. Another version than 1.1 and 1.0 says no more than that
    /// its sender is odd; the form is HTTP/1's.
    fn read(line: &'a [u8]) -> Option<Self> {
        let (version, rest) = match line.split_first_chunk::<4>()? {
            (http, rest) if http.eq_ignore_ascii_case(b"HTTP") => {
                let end = rest.iter().position(|byte| is_blank(*byte))?;
                rest.split_at(end)
            }
            (icy, rest) if icy.eq_ignore_ascii_case(b"ICY ") => (&[][..], rest),
            _ => return None,
        };
        let digits = match version {
            [] | [b'/'] => &[],
            [b'/', digits @ ..] => digits,
            _ => return None,
        };
        let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        if !digits.iter().all(is_digit) {
            return None;
        }
        let (code, reason) = trim(rest).split_first_chunk::<3>()?;
        if reason.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let code = numbers::status(code)?;
        Some(Self {
            is_http_1_0: matches!(digits, b"" | b"1" | b"1.0") || digits.starts_with(b"0"),
            code,
            reason: trim(reason),
        })
    }

    /// What hyper gets, which sees nothing else of the answer's head.
    fn write(&self, framing: Framing, fields: &SectionFields) -> Vec<u8> {
        let is_reason = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
        let may_go_on = self.reason.len() <= MAX_REASON_BYTES && self.reason.iter().all(is_reason);
        let reason = if may_go_on { self.reason } else { &[] };
        let is_last = framing.is_last || fields.have(CONNECTION, "close");
        // hyper takes no chunks from HTTP/1.0.
        let minor = u8::from(!self.is_http_1_0 || framing.is_chunked);
        let mut head = format!("HTTP/1.{minor} {} ", self.code).into_bytes();
        head.extend_from_slice(reason);
        if let Some(length) = framing.length {
            // Writing to a vector does not fail.
            drop(write!(head, "\r\ncontent-length: {length}"));
        }
        if framing.is_chunked {
            head.extend_from_slice(b"\r\ntransfer-encoding: chunked");
        }
        if is_last {
            head.extend_from_slice(b"\r\nconnection: close");
        } else if fields.have(CONNECTION, "keep-alive") {
            head.extend_from_slice(b"\r\nconnection: keep-alive");
        }
        head.extend_from_slice(b"\r\n\r\n");
        head
    }
}

/// Of an answer that has no body, whatever it says; what it says is still for the caller.
fn bodiless(fields: &mut SectionFields, code: u16, dropped: &DroppedFields) -> Framing {
    let has_encoding = encoding(&fields.all) != Ok((false, None));
    fields.all.remove(TRANSFER_ENCODING);
    let has_length = fields.all.contains_key(CONTENT_LENGTH);
    let length = length(&fields.all);
    fields.all.remove(CONTENT_LENGTH);
    let stated = length.ok().flatten();
    if has_length && stated.is_none() {
        dropped.count(CONTENT_LENGTH.as_str().as_bytes(), Section::Head, 0);
    }
    let announces = has_encoding || has_length && stated != Some(0);
    Framing {
        // Beside an encoding it means nothing (RFC 9112 section 6.2), and a 204 has none (RFC 9110 section 8.6).
        length: stated.filter(|_| code != 204 && !has_encoding),
        is_chunked: false,
        // A body may follow although there is none; after a HEAD, too, where announcing it is no mistake.
        is_last: announces || fields.is_garbled,
    }
}

/// Of any other answer (RFC 9112 section 6.3).
fn framing(fields: &mut SectionFields, status: &Status<'_>) -> Result<Framing, ResponseError> {
    fields.are_clear()?;
    let has_encoding = fields.all.contains_key(TRANSFER_ENCODING);
    let (is_chunked, other) = encoding(&fields.all)?;
    fields.all.remove(TRANSFER_ENCODING);
    if let Some(other) = &other {
        let coding = HeaderValue::from_str(other).map_err(|_invalid| ResponseError::Encoding)?;
        fields.all.append(CONTENT_ENCODING, coding);
    }
    let is_encoded = is_chunked || other.is_some();
    let has_length = fields.all.contains_key(CONTENT_LENGTH);
    let length = match is_encoded {
        true => None,
        false => length(&fields.all)?,
    };
    fields.all.remove(CONTENT_LENGTH);
    Ok(Framing {
        length,
        is_chunked,
        is_last: is_encoded && has_length || has_encoding && (status.is_http_1_0 || !is_chunked),
    })
}

/// Whether the last transfer coding is `chunked`, and what the others are.
fn encoding(fields: &HeaderMap) -> Result<(bool, Option<String>), ResponseError> {
    let mut codings: Vec<String> = Vec::new();
    for value in fields.get_all(TRANSFER_ENCODING) {
        let text = value
            .to_str()
            .map_err(|_not_ascii| ResponseError::Encoding)?;
        let elements = text.split(',').map(|one| one.trim().to_ascii_lowercase());
        // There once was a name for none.
        codings.extend(elements.filter(|one| !matches!(&**one, "" | "identity")));
    }
    let is_chunked = codings.last().is_some_and(|last| last == "chunked");
    if is_chunked {
        codings.pop();
    }
    let are_known = codings.iter().all(|one| CODINGS.contains(&&**one));
    match are_known {
        true => Ok((
            is_chunked,
            (!codings.is_empty()).then(|| codings.join(", ")),
        )),
        false => Err(ResponseError::Encoding),
    }
}

/// The one number that all say.
fn length(fields: &HeaderMap) -> Result<Option<u64>, ResponseError> {
    let mut length = None;
    for value in fields.get_all(CONTENT_LENGTH) {
        let same = numbers::same_length(length, value.as_bytes(), MAX_LENGTH);
        length = Some(same.ok_or(ResponseError::Length)?);
    }
    Ok(length)
}
