//! Frame observer of an HTTP/2 connection: what its frames say that hyper does not tell, read along on their way in, and
//! counted on their way out.
//!
//! - GOAWAY, settings and windows are told to the pool at once ([`Streams`]).
//! - A response that is cut off is told to hyper as that, whatever the error code: it takes NO_ERROR for the end.
//! - The fields of responses are checked one by one ([`BlockReader`]), and go on in blocks that h2 takes.
//! - After a write has failed, what the server sent before is still read: it may say which requests it has not
//!   processed. What would be written then goes nowhere.
//!
//! At most one block and what one read brought is kept. Whatever is no HTTP/2 goes on as it is: h2 refuses it.

mod written;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::sync::oneshot;

use written::WrittenFrames;

use super::fields::{Block, BlockReader};
use super::streams::Streams;
use bursar_telemetry::metrics::DroppedFields;

/// What a read brings at most.
const READ_BYTES: usize = 16 * 1024;
const HEAD_BYTES: usize = 9;
/// No frame is larger, because Bursar asks for none.
const MAX_FRAME_BYTES: usize = 16_384;
/// Of a block as it comes, with its frames; compressed, so it holds [`MAX_LIST_BYTES`](super::fields::MAX_LIST_BYTES).
const MAX_BLOCK_BYTES: usize = 512 * 1024;
/// Streams whose response has begun; more than there can be.
const MAX_BEGUN: usize = 1024;
/// Streams that Bursar has ended early, and whose frames may still be on their way.
const MAX_RESET: usize = 256;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

const MAX_CONCURRENT_STREAMS: u16 = 3;
const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];

/// A stream that reads along.
#[derive(Debug)]
pub(super) struct Frames<S> {
    stream: S,
    incoming: ReadFrames,
    outgoing: WrittenFrames,
    /// Why nothing can be written any more.
    broken: Option<io::ErrorKind>,
}

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// What comes.
#[derive(Debug)]
struct ReadFrames {
    streams: Arc<Streams>,
    fields: BlockReader,
    /// What was read last.
    read: Box<[u8]>,
    /// Which part of it was not looked at yet.
    rest: std::ops::Range<usize>,
    at: At,
    head: [u8; HEAD_BYTES],
    block: Option<Gathered>,
    /// To be handed on before anything else, from there on.
    ready: Vec<u8>,
    given: usize,
    /// The last stream that the server may have processed, as it said at last.
    last: u32,
    /// Streams whose response has begun and not ended.
    begun: Vec<u32>,
    /// Streams that Bursar has ended early: nothing of theirs begins any more.
    reset: VecDeque<u32>,
    /// Told as soon as the server's settings let it have a request, and dropped when it will have none.
    usable: Option<oneshot::Sender<()>>,
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

impl FrameHead {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = *bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, l1, l2, l3]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff,
        })
    }

    fn write(self, to: &mut Vec<u8>) {
        let [_, .., l1, l2, l3] = (self.length as u64).to_be_bytes();
        to.extend_from_slice(&[l1, l2, l3, self.kind, self.flags]);
        to.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// Whether its payload has to be whole before it goes on.
    fn is_looked_at(self) -> bool {
        let is_kind = matches!(
            self.kind,
            HEADERS | CONTINUATION | RST_STREAM | SETTINGS | PUSH_PROMISE | GOAWAY | WINDOW_UPDATE
        );
        is_kind && self.length <= MAX_FRAME_BYTES
    }
}

impl<S> Frames<S> {
    pub(super) fn new(stream: S, streams: &Arc<Streams>, dropped: Arc<DroppedFields>) -> Self {
        Self {
            stream,
            incoming: ReadFrames {
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
            },
            outgoing: WrittenFrames::new(streams),
            broken: None,
        }
    }

    /// Resolves as soon as the server's settings have come and let it have a request; with an error where the connection
    /// ends before.
    pub(super) fn usable(&mut self) -> oneshot::Receiver<()> {
        let (usable, receiver) = oneshot::channel();
        self.incoming.usable = Some(usable);
        receiver
    }

    /// What became of a write. One that failed is taken for done from then on.
    /// Whether nothing more is written.
    fn is_broken(&mut self) -> bool {
        if self.broken.is_none() && self.incoming.streams.is_abandoned() {
            self.broken = Some(io::ErrorKind::NotConnected);
        }
        self.broken.is_some()
    }

    fn wrote<T>(
        &mut self,
        context: &Context<'_>,
        written: Poll<io::Result<T>>,
        all: T,
    ) -> Poll<io::Result<T>> {
        for stream in self.outgoing.reset.drain(..) {
            self.incoming.forget(stream);
        }
        match written {
            Poll::Ready(Err(error)) => {
                self.broken = Some(error.kind());
                // h2 has read before it wrote.
                context.waker().wake_by_ref();
                Poll::Ready(Ok(all))
            }
            written => written,
        }
    }
}

/// Adds to a frame's head, and says how much that was.
fn known_more(head: &mut [u8; HEAD_BYTES], known: &mut usize, bytes: &[u8]) -> usize {
    let more = bytes.len().min(HEAD_BYTES - *known);
    let place = head.iter_mut().skip(*known);
    place.zip(bytes).for_each(|(place, byte)| *place = *byte);
    *known += more;
    more
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl ReadFrames {
    /// Hands on what is there; false: there is nothing, and more has to be read.
    fn give(&mut self, buffer: &mut ReadBufCursor<'_>) -> io::Result<bool> {
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
    fn forget(&mut self, stream: u32) {
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
    fn cut_at_end(&mut self) -> bool {
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

impl<S: Read + Unpin> Read for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream,
            incoming,
            broken,
            ..
        } = &mut *self;
        while !incoming.give(&mut buffer)? {
            let mut read = ReadBuf::new(&mut incoming.read);
            match Pin::new(&mut *stream).poll_read(context, read.unfilled()) {
                Poll::Ready(done) => done?,
                // What had come before is read, and nothing can come after it.
                Poll::Pending => {
                    let error = broken.map(|kind| Err(kind.into()));
                    return error.map_or(Poll::Pending, Poll::Ready);
                }
            }
            incoming.rest = 0..read.filled().len();
            if incoming.rest.is_empty() && !incoming.cut_at_end() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Write + Unpin> Write for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        let sent = WrittenFrames::sent(&written, bytes.len());
        self.outgoing.wrote(bytes.get(..sent).unwrap_or_default());
        self.wrote(context, written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.is_broken() {
            return Poll::Ready(Ok(all));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        let mut left = WrittenFrames::sent(&written, all);
        for slice in slices {
            let sent = slice.get(..left.min(slice.len())).unwrap_or_default();
            self.outgoing.wrote(sent);
            left -= sent.len();
        }
        self.wrote(context, written, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(context, flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
