//! Errors of request framing: why nobody can be sure where a request begins or ends.

use bursar_telemetry::metrics::RefusalDetail;

/// Why nobody can be sure what a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Both of two fields say where the body ends (RFC 9112 section 6.1).
    #[error("a length stands beside an encoding")]
    LengthBesideEncoding,
    /// Another encoding than `chunked`, or `chunked` twice.
    #[error("the transfer coding is not `chunked`, or is repeated")]
    Encoding,
    /// No number, or two different ones.
    #[error("the length is no number, or there are two")]
    Length,
    /// A field that some gateway takes for one of those two.
    #[error("a field's name is that of a framing field but for its punctuation")]
    Disguise,
    /// A line of the head ends without CR (RFC 9112 section 2.2).
    #[error("a line of the head ends without CR")]
    BareLf,
    /// The target has a fragment (RFC 9112 section 3.2).
    #[error("the target has a fragment")]
    Fragment,
    /// The chunks of its body are broken.
    #[error("the chunks of the body are broken")]
    Chunks,
    /// hyper sees a request where none begins here.
    #[error("no request begins here")]
    OutOfStep,
}

impl FramingError {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LengthBesideEncoding,
        Self::Encoding,
        Self::Length,
        Self::Disguise,
        Self::BareLf,
        Self::Fragment,
        Self::Chunks,
        Self::OutOfStep,
    ];

    /// What is wrong, for the caller.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LengthBesideEncoding => {
                "Content-Length and Transfer-Encoding exclude each other; send one of them"
            }
            Self::Encoding => "the only transfer encoding that is understood is chunked",
            Self::Length => "Content-Length is not one number below 2^63",
            Self::Disguise => {
                "a field's name is Content-Length or Transfer-Encoding but for its punctuation"
            }
            Self::BareLf => "a line of the head ends with LF alone",
            Self::Fragment => "the request target has a fragment",
            Self::Chunks => "the body's chunks are malformed",
            Self::OutOfStep => "it is not clear where the request begins",
        }
    }

    /// Which of the meanings of a malformed request it is.
    #[must_use]
    pub const fn detail(self) -> RefusalDetail {
        match self {
            Self::LengthBesideEncoding => RefusalDetail::LengthBesideEncoding,
            Self::Encoding => RefusalDetail::TransferEncoding,
            Self::Length => RefusalDetail::ContentLength,
            Self::Disguise => RefusalDetail::DisguisedField,
            Self::BareLf => RefusalDetail::BareLf,
            Self::Fragment => RefusalDetail::Fragment,
            Self::Chunks => RefusalDetail::Chunks,
            Self::OutOfStep => RefusalDetail::OutOfStep,
        }
    }
}
