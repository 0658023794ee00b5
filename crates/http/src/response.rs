//! Response reader for HTTP/1: what a server sends is read on its way to hyper, so that one field that breaks a rule does
//! not cost the whole response.
//!
//! A head that hyper takes as it is passes untouched, after one cheap look. Any other is read here, as far as it has
//! one meaning: hyper gets no more than its status and its framing, and [`Outstanding`] the fields. Interim answers
//! end here. Size lines of chunks and trailers are written anew where they have to be. What stays in doubt is
//! where an answer ends; that breaks the connection (RFC 9112 section 6.3).
//!
//! It knows neither providers nor tokens, and of a request only whether it is a `HEAD`. What is read does not depend
//! on how the bytes are split into reads, and no bytes make it panic.

mod chunks;
mod error;
mod fields;
mod head;
mod outstanding;
mod plain;
mod reader;
mod rewrite;

pub use error::{MAX_SECTION_BYTES, ResponseError};
pub use outstanding::Outstanding;
pub use reader::Reader;

#[cfg(test)]
mod tests;
