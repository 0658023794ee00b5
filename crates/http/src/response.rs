//! What does a server's HTTP/1 answer say? Read on its way to hyper, so that one field that breaks a rule does not
//! cost the whole answer.
//!
//! A head that hyper takes as it is passes untouched, after one cheap look. Any other is read here, as far as it has
//! one meaning: hyper gets no more than its status and its framing, and [`Outstanding`] the fields. Interim answers
//! end here. Size lines of chunks and trailers are written anew where they have to be. What stays in doubt is
//! where an answer ends; that breaks the connection (RFC 9112 section 6.3).
//!
//! It knows neither providers nor tokens, and of a request only whether it is a `HEAD`. What is read does not depend
//! on how the bytes are split into reads, and no bytes make it panic.

mod chunks;
mod fields;
mod head;
mod plain;
mod reader;
mod rewrite;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, Response};

pub use reader::Reader;

/// A head, or the trailers of an answer, are no larger than that.
pub const MAX_SECTION_BYTES: usize = 256 * 1024;

/// Why nobody can be sure what an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It does not begin with a version and a status.
    #[error("the answer has no status line")]
    StatusLine,
    /// `Content-Length` is no number, or there are two.
    #[error("the answer's Content-Length is not one number")]
    Length,
    /// The last transfer coding is not `chunked`, or there is one that nobody knows.
    #[error("the answer's Transfer-Encoding is not understood")]
    Encoding,
    /// A line that may have been meant to frame the answer, and cannot be read.
    #[error("a field that frames the answer is garbled")]
    Garbled,
    /// A chunk is not framed as one.
    #[error("a chunk of the answer is not framed as one")]
    Chunk,
    /// There was a 101 in its place, which nobody asked for.
    #[error("the server switches to another protocol, which nobody asked for")]
    Switched,
    /// It has more than [`MAX_SECTION_BYTES`].
    #[error("the answer's head is too large")]
    TooLarge,
}

/// The request that a connection is to answer next, and what was read of the answer here. The one who sends requests
/// and the [`Reader`] that reads answers share it: there is no more than one request at a time, so what either writes
/// is written before the other looks, because a request and its answer pass between them.
#[derive(Debug, Default)]
pub struct Outstanding {
    request: AtomicU8,
    has_fields: AtomicBool,
    fields: Mutex<HeaderMap>,
}

/// No request since the last one that the reader knows of.
const NONE: u8 = 0;
const HEAD: u8 = 1;
const OTHER: u8 = 2;

impl Outstanding {
    /// For a connection.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A request is about to be sent.
    pub fn begin(&self, method: &Method) {
        let request = if *method == Method::HEAD { HEAD } else { OTHER };
        self.request.store(request, Ordering::Relaxed);
    }

    /// Adds the fields that hyper did not see to its answer.
    pub fn complete<B>(&self, answer: &mut Response<B>) {
        if self.has_fields.load(Ordering::Relaxed) {
            self.has_fields.store(false, Ordering::Relaxed);
            let fields = std::mem::take(&mut *self.lock());
            let all = answer.headers_mut();
            // There are no more than a map holds: hyper has seen three at most.
            all.extend(fields);
        }
    }

    /// Whether the request that has just begun to be written is a `HEAD`; None where none has.
    fn take_request(&self) -> Option<bool> {
        match self.request.load(Ordering::Relaxed) {
            NONE => None,
            request => {
                self.request.store(NONE, Ordering::Relaxed);
                Some(request == HEAD)
            }
        }
    }

    fn put(&self, fields: HeaderMap) {
        *self.lock() = fields;
        self.has_fields.store(true, Ordering::Relaxed);
    }

    /// Whoever panicked with it left a whole map.
    fn lock(&self) -> std::sync::MutexGuard<'_, HeaderMap> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
