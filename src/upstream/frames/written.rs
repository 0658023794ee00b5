//! Written frames of an HTTP/2 connection, counted as they go out.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Poll;

use super::head::{DATA, END_STREAM, FrameHead, HEAD_BYTES, HEADERS, RST_STREAM, known_more};
use crate::upstream::streams::Streams;

/// `PRI * HTTP/2.0` and so on, before the first frame.
pub(super) const PREFACE_BYTES: usize = 24;
/// What one TLS record holds at most (RFC 8446 section 5.1). Nobody can read a part of one.
const MAX_RECORD_BYTES: usize = 16_384;

/// What is written.
#[derive(Debug)]
pub(super) struct WrittenFrames {
    streams: Arc<Streams>,
    /// Of the preface or a payload, still to be written.
    pub(super) passing: usize,
    head: [u8; HEAD_BYTES],
    known: usize,
    /// Streams that Bursar has ended early.
    pub(super) reset: Vec<u32>,
    /// Whether the last write was held back: the next one is not.
    is_held: bool,
}

impl WrittenFrames {
    pub(super) fn new(streams: &Arc<Streams>) -> Self {
        Self {
            streams: streams.clone(),
            passing: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            known: 0,
            reset: Vec::new(),
            is_held: false,
        }
    }

    /// Whether a write is to wait for one turn, because it ends with the head of a request whose body is still to come, and
    /// the turn before was not waited for. h2 hands a body over one turn after its head: together they are one write.
    pub(super) fn hold_back(&mut self, slices: &[IoSlice<'_>]) -> bool {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        // A body of some length stands in a slice of its own, behind its frame's head.
        let only = filled.next().filter(|_| filled.next().is_none());
        self.is_held = !self.is_held && only.is_some_and(|bytes| self.ends_with_head(bytes));
        self.is_held
    }

    fn ends_with_head(&self, mut bytes: &[u8]) -> bool {
        if self.passing > 0 || self.known > 0 {
            return false;
        }
        while let Some(head) = FrameHead::parse(bytes) {
            bytes = bytes.get(HEAD_BYTES + head.length..).unwrap_or_default();
            if bytes.is_empty() {
                return head.kind == HEADERS && head.flags & END_STREAM == 0;
            }
        }
        false
    }

    /// A write of these bytes came to that: how many of them the server may have. One that failed may have sent all
    /// records but the last.
    pub(super) fn sent(written: &Poll<io::Result<usize>>, all: usize) -> usize {
        match written {
            Poll::Ready(Ok(written)) => *written,
            Poll::Ready(Err(_)) if all > MAX_RECORD_BYTES => all,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    /// So much was written.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let passed = self.passing.min(bytes.len());
                self.passing -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            let more = known_more(&mut self.head, &mut self.known, bytes);
            bytes = bytes.get(more..).unwrap_or_default();
            if self.known < HEAD_BYTES {
                return;
            }
            self.known = 0;
            let Some(head) = FrameHead::parse(&self.head) else {
                return;
            };
            self.passing = head.length;
            match head.kind {
                HEADERS => self.streams.head_written(),
                RST_STREAM => self.reset.push(head.stream),
                DATA => self
                    .streams
                    .widen(-i64::try_from(head.length).unwrap_or_default()),
                _ => {}
            }
        }
    }
}
