//! Header blocks of HTTP/2 responses: their fields are checked one by one, as they were decoded. One that breaks a rule
//! costs neither the response nor the connection, on which there are others.
//!
//! What goes on is written without the table of either side, so that it can be anything. Only where the status or the
//! length is in doubt is the response malformed, and it alone (RFC 9113 section 8.1.1).

use std::sync::Arc;

use http::HeaderName;

use bursar_http::hpack::{self, Decoder};
use bursar_http::numbers;
use bursar_telemetry::metrics::{DroppedFields, Section};

/// Of names and values together.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// What h2 counts, with 32 for each field (RFC 9113 section 10.5.1).
pub(super) const MAX_LIST_BYTES: u32 = 512 * 1024;

/// What a header block of a response is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The head of an interim response: nobody waits for it.
    Interim,
    /// The head, as it goes on.
    Head(Vec<u8>),
    /// The trailers, as they go on.
    Trailers(Vec<u8>),
    /// Nobody can say what it means.
    Malformed,
}

/// Reads the header blocks of a connection.
#[derive(Debug)]
pub(super) struct BlockReader {
    decoder: Decoder,
    dropped: Arc<DroppedFields>,
}

/// What has been read of a block.
#[derive(Debug, Default)]
struct BlockFields {
    status: Option<u16>,
    /// Whether there is no telling what the status is, or the length.
    is_doubtful: bool,
    length: Option<u64>,
    /// As they go on.
    fields: Vec<u8>,
    bytes: usize,
    count: usize,
    /// Names and numbers.
    dropped: Vec<(Box<[u8]>, usize)>,
}

impl BlockReader {
    pub(super) fn new(dropped: Arc<DroppedFields>) -> Self {
        Self {
            decoder: Decoder::default(),
            dropped,
        }
    }

    /// Reads a block of a stream whose head has come, or has not.
    pub(super) fn read(&mut self, block: &[u8], has_head: bool) -> Result<Block, hpack::Malformed> {
        let mut read = BlockFields::default();
        self.decoder
            .decode(block, |name, value| read.field(name, value))?;
        let section = match read.status {
            _ if has_head => Section::Trailers,
            Some(100..200) => Section::Interim,
            _ => Section::Head,
        };
        for (name, number) in &read.dropped {
            self.dropped.count(name, section, *number);
        }
        Ok(read.finish(section))
    }
}

impl BlockFields {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.count += 1;
        self.bytes += name.len() + value.len();
        if self.is_too_large() {
            // The rest is decoded for its table alone.
            self.is_doubtful = true;
            return;
        }
        let value = numbers::trim(value);
        match name {
            b":status" => self.status(value),
            b"content-length" => self.length(value),
            _ if !is_value(value) || is_of_a_connection(name) => self.drop(name),
            _ if is_name(name) => hpack::encode(name, value, &mut self.fields),
            // Upper case is an error in HTTP/2 alone.
            _ => match HeaderName::from_bytes(name) {
                Ok(lower) if lower == http::header::CONTENT_LENGTH => self.length(value),
                Ok(lower) if !is_of_a_connection(lower.as_str().as_bytes()) => {
                    hpack::encode(lower.as_str().as_bytes(), value, &mut self.fields);
                }
                _ => self.drop(name),
            },
        }
    }

    fn is_too_large(&self) -> bool {
        let list = self.bytes + 32 * self.count;
        self.bytes > MAX_HEAD_BYTES || list > MAX_LIST_BYTES as usize
    }

    fn drop(&mut self, name: &[u8]) {
        self.dropped.push((name.into(), self.count));
    }

    /// The same wherever it is repeated.
    fn status(&mut self, value: &[u8]) {
        let status = numbers::status(value);
        self.is_doubtful |=
            status.is_none() || self.status.is_some_and(|known| status != Some(known));
        self.status = self.status.or(status);
    }

    /// Of any size: h2 compares it with what comes.
    fn length(&mut self, value: &[u8]) {
        let length = numbers::same_length(self.length, value, u64::MAX);
        self.is_doubtful |= length.is_none();
        self.length = length.or(self.length);
    }

    fn finish(self, section: Section) -> Block {
        match (section, self.status) {
            (Section::Interim, _) => Block::Interim,
            // They say nothing that anybody goes by.
            (Section::Trailers, _) if self.is_too_large() => Block::Trailers(Vec::new()),
            (Section::Trailers, _) => Block::Trailers(self.fields),
            (Section::Head, Some(status)) if !self.is_doubtful => {
                let mut head = Vec::with_capacity(self.fields.len() + 64);
                hpack::encode(b":status", status.to_string().as_bytes(), &mut head);
                // A 204 has none (RFC 9110 section 8.6).
                if let Some(length) = self.length.filter(|_| status != 204) {
                    let length = length.to_string();
                    hpack::encode(b"content-length", length.as_bytes(), &mut head);
                }
                head.extend_from_slice(&self.fields);
                Block::Head(head)
            }
            (Section::Head, _) => Block::Malformed,
        }
    }
}

/// RFC 9110 section 5.5.
fn is_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// A token in lower case.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(byte)
        })
}

/// Fields of a connection of HTTP/1.1, which HTTP/2 forbids (RFC 9113 section 8.2.2).
fn is_of_a_connection(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"te"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

#[cfg(test)]
mod tests;
