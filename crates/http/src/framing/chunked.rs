//! Chunked bodies of requests, byte by byte and strictly (RFC 9112 section 7.1).

use crate::numbers::MAX_LENGTH;

/// What the next byte of a chunked body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    FirstDigit,
    Size(u64),
    AfterSize(u64),
    Extension(u64),
    SizeLf(u64),
    /// More than none.
    Data(u64),
    DataCr,
    DataLf,
    /// The first byte of a trailer, or of the empty line.
    Line,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    /// None: the body is over.
    End,
}

impl Chunked {
    /// What follows a byte; None: that byte may not be here (RFC 9112 section 7.1, without its bare LF).
    pub(super) fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::FirstDigit, _) => Self::Size(digit(byte)?),
            (Self::Size(size) | Self::AfterSize(size) | Self::Extension(size), b'\r') => {
                Self::SizeLf(size)
            }
            (Self::Size(size) | Self::AfterSize(size), b' ' | b'\t') => Self::AfterSize(size),
            (Self::Size(size) | Self::AfterSize(size), b';') => Self::Extension(size),
            (Self::Size(size), _) => {
                let size = size.checked_mul(16)?.checked_add(digit(byte)?);
                Self::Size(size.filter(|size| *size <= MAX_LENGTH)?)
            }
            (Self::Extension(size), _) if is_text(byte) => Self::Extension(size),
            (Self::SizeLf(0) | Self::TrailerLf, b'\n') => Self::Line,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::FirstDigit,
            (Self::Line, b'\r') => Self::EndLf,
            (Self::Line | Self::TrailerName, _) if is_in_token(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::TrailerValue,
            (Self::TrailerValue, b'\r') => Self::TrailerLf,
            (Self::TrailerValue, _) if is_text(byte) => Self::TrailerValue,
            (Self::EndLf, b'\n') => Self::End,
            _ => return None,
        })
    }
}

/// Whether a byte may be in a field's value or a chunk's extension.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// Whether a byte may be in a name (RFC 9110 section 5.6.2).
fn is_in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
