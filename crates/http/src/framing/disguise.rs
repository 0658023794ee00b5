//! Field names that are those of framing fields but for their punctuation: some gateways take one for the other.

use http::{HeaderMap, HeaderName};

use super::error::FramingError;

/// A line that frames the body is no longer than that; a longer one is refused.
pub(super) const MAX_FIELD_BYTES: usize = 64;

/// Whether no name that begins like that is a framing field's, nor one's but for its punctuation.
pub(super) const fn frames_nothing(first: u8) -> bool {
    first.is_ascii_alphanumeric() && !matches!(first, b'c' | b'C' | b't' | b'T')
}

/// Whether the name at the beginning of a line is that of a framing field but for its punctuation. One that does not
/// end there is long for nothing else.
pub(super) fn is_like_framing_field(line: &[u8]) -> bool {
    let mut bytes = line.iter();
    // The letters that are still to come.
    let mut letters: &[u8] = loop {
        match bytes.next() {
            Some(b'c' | b'C') => break b"ontentlength",
            Some(b't' | b'T') => break b"ransferencoding",
            Some(byte) if *byte == b':' || byte.is_ascii_alphanumeric() => return false,
            Some(_) => {}
            None => return line.len() == MAX_FIELD_BYTES,
        }
    };
    for byte in bytes {
        match letters {
            [letter, rest @ ..] if byte | 0x20 == *letter => letters = rest,
            _ if *byte == b':' => return letters.is_empty(),
            _ if byte.is_ascii_alphanumeric() => return false,
            _ => {}
        }
    }
    line.len() == MAX_FIELD_BYTES || letters.is_empty()
}

/// What a head is refused for over HTTP/2 as well; all else of framing is clear there.
///
/// # Errors
/// Where a field's name is that of a framing one but for its punctuation.
pub fn refuse_disguise(fields: &HeaderMap) -> Result<(), FramingError> {
    let poses = |name: &HeaderName| {
        *name != http::header::CONTENT_LENGTH && is_like_framing_field(name.as_str().as_bytes())
    };
    match fields.keys().any(poses) {
        true => Err(FramingError::Disguise),
        false => Ok(()),
    }
}
