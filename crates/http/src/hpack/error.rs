//! HPACK error: a block that cannot be decoded.

/// A block is no HPACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header block is malformed")]
pub struct Malformed;
