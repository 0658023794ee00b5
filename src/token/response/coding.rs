//! Content codings (RFC 9110 section 8.4.1) of a token response, undone within a limit.
//!
//! Nobody asked for one, so what a label says is a hint: a body that says itself what it is, is taken at its
//! word, and one that is not compressed at all is left as it is.

use std::borrow::Cow;
use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

/// The most that a body may be before any of its codings, and after each.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Codings of one body, those that no label named included.
const MAX_CODINGS: usize = 4;
/// What brotli reads at a time.
const BROTLI_BUFFER: usize = 4096;

/// A body without its codings, as far as they could be undone.
pub(super) struct Decoded<'a> {
    pub(super) body: Cow<'a, [u8]>,
    /// Why they could not.
    pub(super) trouble: Option<Undecoded>,
}

/// What is wrong with a coding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Undecoded {
    /// One of that name is not known.
    Unknown(String),
    /// What these words say.
    Is(&'static str),
}

const TOO_LARGE: &str = "it is larger than 1 MiB";
const DAMAGED: &str = "its compressed body is damaged";
const CUT_OFF: &str = "its compressed body breaks off";

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zlib,
    Deflate,
    Brotli,
}

/// Undoes the codings that `labels`, a list as in `Content-Encoding`, names in the order of their making, and
/// such as were not named.
pub(super) fn decode<'a>(labels: &str, body: &'a [u8]) -> Decoded<'a> {
    let mut body = Cow::Borrowed(body);
    let mut trouble = None;
    let labels = labels.split(',').map(str::trim).rev();
    let mut labels = labels.filter(|label| !is_none(label));
    for undone in 0.. {
        let label = labels.next();
        let codings = candidates(label, &body);
        if codings.is_empty() {
            match label.map(str::to_owned).or_else(|| unknown(&body)) {
                Some(name) if !body.is_empty() => trouble = Some(Undecoded::Unknown(name)),
                _ => {}
            }
            break;
        }
        if undone == MAX_CODINGS {
            trouble = Some(Undecoded::Is("it has too many content codings"));
            break;
        }
        let mut outcome = Err(DAMAGED);
        for coding in codings {
            outcome = undo(coding, &body);
            if !matches!(outcome, Err(DAMAGED)) {
                break;
            }
        }
        match outcome {
            Ok((decoded, is_whole)) => {
                body = decoded.into();
                if !is_whole {
                    trouble = Some(Undecoded::Is(CUT_OFF));
                }
            }
            Err(what) => {
                trouble = Some(Undecoded::Is(what));
                break;
            }
        }
    }
    Decoded { body, trouble }
}

fn is_none(label: &str) -> bool {
    label.is_empty() || label.eq_ignore_ascii_case("identity")
}

/// What a body with that label may be, the likeliest first; nothing where it is not compressed as far as one
/// can tell.
fn candidates(label: Option<&str>, body: &[u8]) -> Vec<Coding> {
    let signed = match body {
        [0x1f, 0x8b, ..] => Some(Coding::Gzip),
        // RFC 1950 section 2.2: a method, and a check of the two bytes.
        [method, flags, ..]
            if method & 0x8f == 0x08
                && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31) =>
        {
            Some(Coding::Zlib)
        }
        _ => None,
    };
    let label = label.map(str::to_ascii_lowercase);
    let named: &[Coding] = match label.as_deref() {
        Some("gzip" | "x-gzip") => &[Coding::Gzip],
        // The name is zlib's (RFC 9110 section 8.4.1.2), and many send the bare stream.
        Some("deflate" | "x-deflate" | "zlib") => &[Coding::Zlib, Coding::Deflate],
        Some("br" | "brotli") => &[Coding::Brotli],
        _ => &[],
    };
    // Brotli has no signature, so that it may begin as something else does.
    let first = named.contains(&Coding::Brotli).then_some(Coding::Brotli);
    let rest = named.iter().copied();
    let mut codings: Vec<Coding> = Vec::new();
    for coding in first.into_iter().chain(signed).chain(rest) {
        if !codings.contains(&coding) {
            codings.push(coding);
        }
    }
    codings
}

/// The coding of a body that has the signature of one that is not known here.
fn unknown(body: &[u8]) -> Option<String> {
    match body {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd".to_owned()),
        [0x1f, 0x9d, ..] => Some("compress".to_owned()),
        _ => None,
    }
}

/// The body before one coding, and whether it is whole.
fn undo(coding: Coding, body: &[u8]) -> Result<(Vec<u8>, bool), &'static str> {
    let mut decoded = Vec::new();
    let mut is_whole = true;
    match coding {
        Coding::Gzip => {
            // A file may be several (RFC 1952 section 2.2); what comes behind them does not count.
            let mut rest = body;
            while is_whole
                && (decoded.is_empty() || rest.starts_with(&[0x1f, 0x8b]))
                && !rest.is_empty()
            {
                is_whole = read(&mut GzDecoder::new(&mut rest), &mut decoded)?;
            }
        }
        Coding::Zlib => is_whole = read(&mut ZlibDecoder::new(body), &mut decoded)?,
        Coding::Deflate => is_whole = read(&mut DeflateDecoder::new(body), &mut decoded)?,
        Coding::Brotli => {
            is_whole = read(&mut Decompressor::new(body, BROTLI_BUFFER), &mut decoded)?;
        }
    }
    Ok((decoded, is_whole))
}

/// Appends what a decoder yields; whether it came to its end.
fn read(decoder: &mut impl Read, decoded: &mut Vec<u8>) -> Result<bool, &'static str> {
    let room = MAX_BYTES + 1 - decoded.len().min(MAX_BYTES);
    let outcome = decoder.take(room as u64).read_to_end(decoded);
    match outcome {
        _ if decoded.len() > MAX_BYTES => Err(TOO_LARGE),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(_) => Err(DAMAGED),
    }
}
