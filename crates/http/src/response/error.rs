//! Response error: why it is not clear what a response is, or where it ends.

use std::error::Error;
use std::io;

/// A head, or the trailers of a response, are no larger than that.
pub const MAX_SECTION_BYTES: usize = 256 * 1024;

/// Why nobody can be sure what a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It does not begin with a version and a status.
    #[error("the response has no status line")]
    StatusLine,
    /// `Content-Length` is no number, or there are two.
    #[error("the response's Content-Length is not one number")]
    Length,
    /// The last transfer coding is not `chunked`, or there is one that nobody knows.
    #[error("the response's Transfer-Encoding is not understood")]
    Encoding,
    /// A line that may have been meant to frame the response, and cannot be read.
    #[error("a field that frames the response is garbled")]
    Garbled,
    /// A chunk is not framed as one.
    #[error("a chunk of the response is not framed as one")]
    Chunk,
    /// There was a 101 in its place, which nobody asked for.
    #[error("the server switches to another protocol, which nobody asked for")]
    Switched,
    /// It has more than [`MAX_SECTION_BYTES`].
    #[error("the response's head is too large")]
    TooLarge,
}

impl ResponseError {
    /// What a connection broke for, where it is that.
    #[must_use]
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut chain = std::iter::successors(Some(error), |error| (*error).source());
        // What an error of I/O is made of is not its source.
        chain.find_map(|error| {
            let error = error.downcast_ref::<io::Error>()?.get_ref()?;
            error.downcast_ref().copied()
        })
    }
}
