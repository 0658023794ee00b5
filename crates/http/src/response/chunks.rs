//! Chunk size lines (RFC 9112 section 7.1), as hyper takes them and as others write them.

use super::error::ResponseError;
use super::fields::without_end;
use crate::numbers::trim;

/// A size line is no longer than that, its extensions included.
pub(super) const MAX_LINE_BYTES: usize = 4096;

/// What comes next in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    /// A size line.
    Size,
    /// The number of bytes, at least one.
    Data(u64),
    /// The end of their line.
    DataEnd,
    /// Trailers, or the empty line.
    Trailers,
}

impl Chunked {
    /// After a size line.
    pub(super) fn after_size(size: u64) -> Self {
        match size {
            0 => Self::Trailers,
            size => Self::Data(size),
        }
    }

    /// After that many bytes of data.
    pub(super) fn after_data(left: u64) -> Self {
        match left {
            0 => Self::DataEnd,
            left => Self::Data(left),
        }
    }
}

/// A size line that is digits and CRLF and nothing else: its size and its length. None where it is not, or is not
/// whole.
pub(super) fn plain_size(bytes: &[u8]) -> Option<(u64, usize)> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let digits = digits.count();
    let (text, rest) = bytes.split_at_checked(digits)?;
    let is_plain = (1..=15).contains(&digits) && rest.starts_with(b"\r\n");
    let size = is_plain.then(|| hexadecimal(text))??;
    Some((size, digits + 2))
}

/// The size that a line says, without its LF.
pub(super) fn size(line: &[u8]) -> Result<u64, ResponseError> {
    let line = without_end(line);
    // For some a line would end there.
    if line.contains(&b'\r') {
        return Err(ResponseError::Chunk);
    }
    let (size, _extensions) = match memchr::memchr(b';', line) {
        Some(end) => line.split_at(end),
        None => (line, &[][..]),
    };
    hexadecimal(trim(size)).ok_or(ResponseError::Chunk)
}

/// Digits, at least one, and nothing else.
fn hexadecimal(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    let number = u64::from_str_radix(text, 16).ok()?;
    (number <= i64::MAX as u64).then_some(number)
}
