//! Read frames of an HTTP/2 connection: looked at as they come, and handed on as h2 is to have them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use hyper::rt::ReadBufCursor;
use tokio::sync::oneshot;

use super::head::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, GOAWAY, HEAD_BYTES, HEADERS,
    MAX_FRAME_BYTES, PADDED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    known_more,
};
use crate::upstream::fields::{Block, BlockReader};
use crate::upstream::streams::Streams;
use bursar_telemetry::metrics::DroppedFields;

/// What a read brings at most.
const READ_BYTES: usize = 16 * 1024;
/// Of a block as it comes, with its frames; compressed, so it holds [`MAX_LIST_BYTES`](crate::upstream::fields::MAX_LIST_BYTES).
const MAX_BLOCK_BYTES: usize = 512 * 1024;
/// Streams whose response has begun; more than there can be.
const MAX_BEGUN: usize = 1024;
/// Streams that Bursar has ended early, and whose frames may still be on their way.
pub(super) const MAX_RESET: usize = 256;

pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];

/// What comes.
#[derive(Debug)]
pub(super) struct ReadFrames {
    pub(super) streams: Arc<Streams>,
    fields: BlockReader,
    /// What was read last.
    pub(super) read: Box<[u8]>,
    /// Which part of it was not looked at yet.
    pub(super) rest: std::ops::Range<usize>,
    at: At,
    head: [u8; HEAD_BYTES],
    block: Option<Gathered>,
    /// To be handed on before anything else, from there on.
    ready: Vec<u8>,
    given: usize,
    /// The last stream that the server may have processed, as it said at last.
    last: u32,
    /// Streams whose response has begun and not ended.
    pub(super) begun: Vec<u32>,
    /// Streams that Bursar has ended early: nothing of theirs begins any more.
    pub(super) reset: VecDeque<u32>,
    /// Told as soon as the server's settings let it have a request, and dropped when it will have none.
    pub(super) usable: Option<oneshot::Sender<()>>,
}

/// Where in the frames.
#[derive(Debug)]
enum At {
    /// In a head, of which so much is there.
    Head(usize),
    /// In a payload that is handed on as it comes, with so much to come.
    Passing(usize),
    /// In one that is looked at when it is whole.
    Payload(FrameHead, Vec<u8>),
}

/// A header block, until its end comes.
#[derive(Debug)]
struct Gathered {
    head: FrameHead,
    bytes: Vec<u8>,
    /// With its frames.
    size: usize,
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl ReadFrames {
    pub(super) fn new(streams: &Arc<Streams>, dropped: Arc<DroppedFields>) -> Self {
        Self {
            streams: streams.clone(),
            fields: BlockReader::new(dropped),
            read: vec![0; READ_BYTES].into(),
            rest: 0..0,
            at: At::Head(0),
            head: [0; HEAD_BYTES],
            block: None,
            ready: Vec::new(),
            given: 0,
            last: u32::MAX,
            begun: Vec::new(),
            reset: VecDeque::new(),
            usable: None,
        }
    }

    /// Hands on what is there; false: there is nothing, and more has to be read.
    pub(super) fn give(&mut self, buffer: &mut ReadBufCursor<'_>) -> io::Result<bool> {
        loop {
            let ready = self.ready.get(self.given..).unwrap_or_default();
            if !ready.is_empty() {
                let bytes = ready.len().min(buffer.remaining());
                buffer.put_slice(ready.get(..bytes).unwrap_or_default());
                self.given += bytes;
                return Ok(true);
            }
            if self.given > 0 {
                self.ready.clear();
                // A large block is rare.
                self.ready.shrink_to(READ_BYTES);
                self.given = 0;
            }
            if self.rest.is_empty() && !matches!(self.at, At::Passing(0)) {
                return Ok(false);
            }
            if let At::Passing(left) = &mut self.at
                && *left > 0
            {
                let bytes = self.rest.len().min(*left).min(buffer.remaining());
                let from = self.rest.start;
                buffer.put_slice(self.read.get(from..from + bytes).unwrap_or_default());
                self.rest.start += bytes;
                *left -= bytes;
                return Ok(true);
            }
            self.step()?;
        }
    }

    /// Looks at what was read, up to the end of a head or of a payload.
    fn step(&mut self) -> io::Result<()> {
        let rest = self.read.get(self.rest.clone()).unwrap_or_default();
        match &mut self.at {
            At::Passing(_) => self.at = At::Head(0),
            At::Head(known) => {
                let more = known_more(&mut self.head, known, rest);
                self.rest.start += more;
                if *known == HEAD_BYTES
                    && let Some(head) = FrameHead::parse(&self.head)
                {
                    self.enter(head)?;
                }
            }
            At::Payload(head, bytes) => {
                let more = rest.len().min(head.length - bytes.len());
                bytes.extend_from_slice(rest.get(..more).unwrap_or_default());
                self.rest.start += more;
                if bytes.len() == head.length {
                    let (head, bytes) = (*head, std::mem::take(bytes));
                    self.at = At::Head(0);
                    self.look(head, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// A payload begins.
    fn enter(&mut self, head: FrameHead) -> io::Result<()> {
        if let Some(block) = &self.block
            && (head.kind != CONTINUATION || head.stream != block.head.stream)
        {
            return Err(invalid("a header block is interrupted"));
        }
        if head.kind == DATA && head.flags & END_STREAM != 0 {
            self.end(head.stream);
        }
        if head.is_looked_at() {
            self.at = At::Payload(head, Vec::with_capacity(head.length));
            if head.length == 0 {
                self.at = At::Head(0);
                return self.look(head, Vec::new());
            }
        } else {
            head.write(&mut self.ready);
            self.at = At::Passing(head.length);
        }
        Ok(())
    }

    /// A stream's response is over.
    fn end(&mut self, stream: u32) {
        self.begun.retain(|begun| *begun != stream);
    }

    /// Bursar has ended a stream.
    pub(super) fn forget(&mut self, stream: u32) {
        self.end(stream);
        if self.reset.len() == MAX_RESET {
            self.reset.pop_front();
        }
        self.reset.push_back(stream);
    }

    /// Resets the streams above that one whose response has begun, before h2 ends them with an error that hyper takes
    /// for the end of a body.
    fn cut(&mut self, above: u32) {
        let reset = FrameHead {
            length: INTERNAL_ERROR.len(),
            kind: RST_STREAM,
            flags: 0,
            stream: 0,
        };
        let ready = &mut self.ready;
        self.begun.retain(|stream| {
            if *stream > above {
                let stream = *stream;
                FrameHead { stream, ..reset }.write(ready);
                ready.extend_from_slice(&INTERNAL_ERROR);
            }
            *stream <= above
        });
    }

    /// The server has closed the connection. Whether there is more to hand on: after a GOAWAY, h2 gives its code to all
    /// that is unfinished. Inside a frame it notices by itself that something is missing.
    pub(super) fn cut_at_end(&mut self) -> bool {
        let is_between_frames = matches!(self.at, At::Head(_) | At::Payload(..));
        let is_cut = is_between_frames && self.streams.is_leaving() && !self.begun.is_empty();
        if is_cut {
            self.cut(0);
        }
        is_cut
    }

    /// A payload is whole.
    fn look(&mut self, head: FrameHead, mut payload: Vec<u8>) -> io::Result<()> {
        match head.kind {
            HEADERS => {
                let bytes =
                    unpadded(head, &payload).ok_or(invalid("a header block is padded wrongly"))?;
                let block = Gathered {
                    head,
                    bytes: bytes.to_vec(),
                    size: 0,
                };
                return self.gather(block, head);
            }
            CONTINUATION => {
                let Some(mut block) = self.block.take() else {
                    return Err(invalid("a header block has no beginning"));
                };
                block.bytes.extend_from_slice(&payload);
                return self.gather(block, head);
            }
            // It was refused in the settings; to read its fields would be to go on with it.
            PUSH_PROMISE => return Err(invalid("a push came unasked")),
            SETTINGS if head.flags & ACK == 0 => self.settings(&payload),
            GOAWAY => self.go_away(&mut payload),
            RST_STREAM => {
                // One that follows the end of a response leaves it as it is (RFC 9113 section 8.1).
                if self.begun.contains(&head.stream) && payload.len() == INTERNAL_ERROR.len() {
                    payload = INTERNAL_ERROR.to_vec();
                }
                self.end(head.stream);
            }
            WINDOW_UPDATE if head.stream == 0 => {
                if let Some(more) = payload.first_chunk() {
                    let more = u32::from_be_bytes(*more) & 0x7fff_ffff;
                    self.streams.widen(more.into());
                }
            }
            _ => {}
        }
        head.write(&mut self.ready);
        self.ready.append(&mut payload);
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        let entries = payload.chunks_exact(6);
        let limits = entries.filter_map(|entry| match *entry {
            [k1, k2, ref value @ ..] => {
                let is_limit = u16::from_be_bytes([k1, k2]) == MAX_CONCURRENT_STREAMS;
                let value = value.first_chunk().filter(|_| is_limit)?;
                Some(u32::from_be_bytes(*value))
            }
            _ => None,
        });
        // The last one counts.
        let limit = limits.fold(None, |_, limit| Some(limit));
        if limit.is_some() || !self.streams.has_settings() {
            self.streams.limit(limit);
        }
        if self.streams.takes_requests()
            && let Some(usable) = self.usable.take()
        {
            // Nobody may wait for it any more.
            let _ = usable.send(());
        }
    }

    /// No stream above the last one is processed. That may become less, and never more: what was above may have been
    /// sent again.
    fn go_away(&mut self, payload: &mut [u8]) {
        self.streams.leave();
        self.usable = None;
        if let Some(last) = payload.first_chunk_mut() {
            let said = u32::from_be_bytes(*last) & 0x7fff_ffff;
            self.last = self.last.min(said);
            *last = self.last.to_be_bytes();
            self.cut(self.last);
        }
    }

    /// Adds a frame's part to a block, and hands the block on where that was the last.
    fn gather(&mut self, mut block: Gathered, part: FrameHead) -> io::Result<()> {
        block.size += HEAD_BYTES + part.length;
        if block.size > MAX_BLOCK_BYTES {
            return Err(invalid("a header block is too large"));
        }
        if part.flags & END_HEADERS == 0 {
            self.block = Some(block);
            return Ok(());
        }
        let FrameHead { stream, flags, .. } = block.head;
        let ends = flags & END_STREAM;
        let has_head = self.begun.contains(&stream);
        let read = self.fields.read(&block.bytes, has_head);
        let bytes = match read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Block::Interim if ends == 0 => return Ok(()),
            Block::Head(bytes) => {
                if ends == 0 && !self.reset.contains(&stream) {
                    if self.begun.len() == MAX_BEGUN {
                        return Err(invalid("more responses have begun than there are requests"));
                    }
                    self.begun.push(stream);
                }
                bytes
            }
            Block::Trailers(bytes) => bytes,
            // h2 ends the stream for want of a status.
            Block::Interim | Block::Malformed => Vec::new(),
        };
        if ends != 0 {
            self.end(stream);
        }
        self.hand_on(stream, ends, &bytes);
        Ok(())
    }

    /// A block in as many frames as it needs.
    fn hand_on(&mut self, stream: u32, ends: u8, block: &[u8]) {
        let (first, mut rest) = block.split_at(block.len().min(MAX_FRAME_BYTES));
        let (mut kind, mut part, mut flags) = (HEADERS, first, ends);
        loop {
            let head = FrameHead {
                length: part.len(),
                kind,
                flags: flags | if rest.is_empty() { END_HEADERS } else { 0 },
                stream,
            };
            head.write(&mut self.ready);
            self.ready.extend_from_slice(part);
            if rest.is_empty() {
                return;
            }
            (part, rest) = rest.split_at(rest.len().min(MAX_FRAME_BYTES));
            (kind, flags) = (CONTINUATION, 0);
        }
    }
}

/// The part of a block in a HEADERS frame's payload.
fn unpadded(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    let mut block = payload;
    if head.flags & PADDED != 0 {
        let (padding, rest) = block.split_first()?;
        block = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
    }
    if head.flags & PRIORITY != 0 {
        block = block.get(5..)?;
    }
    Some(block)
}
