//! Rewriting of responses: how far one was read, and what of it hyper gets. What is in order passes as it is; from the
//! first byte on that is not, what comes is taken out of hyper's buffer, and written anew.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::HeaderMap;
use tokio::time::{Sleep, sleep};

use super::chunks::{self, Chunked};
use super::error::{MAX_SECTION_BYTES, ResponseError};
use super::fields;
use super::head::{self, ResponseHead};
use super::plain;
use bursar_telemetry::metrics::{DroppedFields, Section};

/// hyper takes 100 trailers, and 16 KiB of them.
const MAX_TRAILERS: usize = 96;
const MAX_TRAILER_BYTES: usize = 15 * 1024;
/// How long a final response may keep away after a 101. Servers that send one nevertheless send both at once.
const MAX_SWITCH: Duration = Duration::from_secs(1);

/// What the next byte from the server belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// To a head, of the answer to a `HEAD` or to another request.
    Head {
        is_to_head: bool,
    },
    /// To a body that hyper measures by itself, or to nothing: then hyper closes the connection.
    Body,
    Chunked(Chunked),
    /// To nothing that hyper may see.
    Over,
}

/// Bytes on their way through here.
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    /// Not understood yet.
    pub(super) input: BytesMut,
    /// For hyper.
    pub(super) output: BytesMut,
    /// No section's empty line ends before that place of the input.
    searched: usize,
    /// Of interim answers to this request.
    interim_bytes: usize,
    /// Whether the connection must not be used for another request, as an interim answer has it.
    is_last: bool,
    /// Whether a 101 was the last that came.
    has_switched: bool,
    /// How long more is waited for then, once that is waited for.
    patience: Option<Pin<Box<Sleep>>>,
    /// What is wrong with the input, told once the output is gone.
    doubt: Option<ResponseError>,
}

impl State {
    /// How many bytes pass as they are; where those are not all, the rest has to be looked at.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            passed += match *self {
                Self::Body => rest.len(),
                _ if rest.is_empty() => return passed,
                Self::Over => return passed,
                Self::Head { is_to_head } => {
                    let Some(plain) = Self::look(rest, is_to_head) else {
                        return passed;
                    };
                    *self = Self::after_plain(plain, is_to_head);
                    plain.len
                }
                Self::Chunked(chunked) => {
                    let Some((next, len)) = chunked.pass(rest) else {
                        return passed;
                    };
                    *self = next;
                    len
                }
            };
            if *self == Self::Body && passed == bytes.len() {
                return passed;
            }
        }
    }

    /// A head that passes as it is. One that announces a body in response to a `HEAD` does not: somebody has to see to it
    /// that the connection is not used again.
    fn look(bytes: &[u8], is_to_head: bool) -> Option<plain::Plain> {
        plain::look(bytes).filter(|plain| !(is_to_head && plain.is_framed))
    }

    fn after_plain(plain: plain::Plain, is_to_head: bool) -> Self {
        match plain.is_chunked && !is_to_head {
            true => Self::Chunked(Chunked::Size),
            false => Self::Body,
        }
    }
}

impl Chunked {
    /// What follows the next piece, and its length; None where that is not in order, or not whole.
    fn pass(self, bytes: &[u8]) -> Option<(State, usize)> {
        match self {
            Self::Size => {
                let (size, len) = chunks::plain_size(bytes)?;
                Some((State::Chunked(Self::after_size(size)), len))
            }
            Self::Data(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                Some((State::Chunked(Self::after_data(left - len as u64)), len))
            }
            Self::DataEnd => {
                let is_end = bytes.starts_with(b"\r\n");
                is_end.then_some((State::Chunked(Self::Size), 2))
            }
            Self::Trailers => bytes.starts_with(b"\r\n").then_some((State::Body, 2)),
        }
    }
}

impl Rewriting {
    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty() && self.output.is_empty() && !self.is_last
    }

    /// Whether the server has gone over to another protocol, as it said: no final response followed.
    pub(super) fn poll_switched(&mut self, context: &mut Context<'_>) -> Poll<ResponseError> {
        if !self.has_switched {
            return Poll::Pending;
        }
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep(MAX_SWITCH)));
        patience
            .as_mut()
            .poll(context)
            .map(|()| ResponseError::Switched)
    }

    /// Understands as much of the input as is there; returns the fields of a head that hyper gets no more than the
    /// framing of.
    pub(super) fn advance(
        &mut self,
        state: &mut State,
        dropped: &DroppedFields,
    ) -> Result<Option<HeaderMap>, ResponseError> {
        if let Some(doubt) = self.doubt {
            return Err(doubt);
        }
        let mut fields = None;
        loop {
            let before = (self.input.len(), *state);
            match self.step(state, dropped) {
                Ok(None) => {}
                Ok(read) => fields = read,
                // hyper still gets what came before it.
                Err(doubt) if !self.output.is_empty() => {
                    self.doubt = Some(doubt);
                    return Ok(fields);
                }
                Err(doubt) => return Err(doubt),
            }
            if self.input.is_empty() || (self.input.len(), *state) == before {
                return Ok(fields);
            }
        }
    }

    fn step(
        &mut self,
        state: &mut State,
        dropped: &DroppedFields,
    ) -> Result<Option<HeaderMap>, ResponseError> {
        match *state {
            State::Head { is_to_head } => return self.head(state, is_to_head, dropped),
            State::Body => self.output.unsplit(self.input.split()),
            State::Chunked(Chunked::Size) => self.size(state)?,
            State::Chunked(Chunked::Data(left)) => self.data(state, left),
            State::Chunked(Chunked::DataEnd) => self.data_end(state)?,
            State::Chunked(Chunked::Trailers) => self.trailers(state, dropped),
            State::Over => self.input.clear(),
        }
        Ok(None)
    }

    /// A whole head.
    fn head(
        &mut self,
        state: &mut State,
        is_to_head: bool,
        dropped: &DroppedFields,
    ) -> Result<Option<HeaderMap>, ResponseError> {
        if self.searched == 0 {
            // Empty lines before a status line are skipped, as they are before a request line.
            let is_line_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let skipped = self.input.iter().take_while(is_line_end).count();
            self.input.advance(skipped);
            self.interim_bytes += skipped;
        }
        if head::is_hopeless(&self.input) {
            return Err(ResponseError::StatusLine);
        }
        let end = fields::end(&self.input, &mut self.searched);
        let taken = end.unwrap_or(self.input.len());
        if taken > MAX_SECTION_BYTES || self.interim_bytes > MAX_SECTION_BYTES {
            return Err(ResponseError::TooLarge);
        }
        let Some(end) = end else {
            return Ok(None);
        };
        self.searched = 0;
        let bytes = self.input.split_to(end);
        if !self.is_last
            && let Some(plain) = State::look(&bytes, is_to_head)
        {
            *state = State::after_plain(plain, is_to_head);
            self.output.extend_from_slice(&bytes);
            return Ok(None);
        }
        match head::read(&bytes, is_to_head, self.is_last, dropped)? {
            ResponseHead::Interim { is_last, is_switch } => {
                self.is_last |= is_last;
                self.has_switched = is_switch;
                self.interim_bytes += end;
                Ok(None)
            }
            ResponseHead::Final {
                head,
                fields,
                is_chunked,
            } => {
                self.is_last = false;
                self.has_switched = false;
                *state = match is_chunked {
                    true => State::Chunked(Chunked::Size),
                    false => State::Body,
                };
                self.output.extend_from_slice(&head);
                Ok(Some(fields))
            }
        }
    }

    fn size(&mut self, state: &mut State) -> Result<(), ResponseError> {
        let end = memchr::memchr(b'\n', &self.input);
        if end.unwrap_or(self.input.len()) > chunks::MAX_LINE_BYTES {
            return Err(ResponseError::Chunk);
        }
        if let Some(end) = end {
            let size = chunks::size(self.input.get(..end).unwrap_or_default())?;
            self.input.advance(end + 1);
            self.output
                .extend_from_slice(format!("{size:x}\r\n").as_bytes());
            *state = State::Chunked(Chunked::after_size(size));
        }
        Ok(())
    }

    fn data(&mut self, state: &mut State, left: u64) {
        let len = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.input.len());
        self.output.extend_from_slice(&self.input.split_to(len));
        *state = State::Chunked(Chunked::after_data(left - len as u64));
    }

    fn data_end(&mut self, state: &mut State) -> Result<(), ResponseError> {
        let len = match &*self.input {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            [] | [b'\r'] => return Ok(()),
            _ => return Err(ResponseError::Chunk),
        };
        self.input.advance(len);
        self.output.extend_from_slice(b"\r\n");
        *state = State::Chunked(Chunked::Size);
        Ok(())
    }

    /// All trailers, once they are there. The body is complete: whatever they are, it stays so.
    fn trailers(&mut self, state: &mut State, dropped: &DroppedFields) {
        let end = fields::end(&self.input, &mut self.searched);
        if let Some(end) = end.filter(|end| *end <= MAX_SECTION_BYTES) {
            self.searched = 0;
            let section = self.input.split_to(end);
            self.end_chunks(&section, dropped);
            *state = State::Body;
        } else if self.input.len() > MAX_SECTION_BYTES {
            self.input.clear();
            self.end_chunks(b"", dropped);
            *state = State::Over;
        }
    }

    /// Nothing more will come. Whether the answer is complete: with its last chunk its body is.
    pub(super) fn end(&mut self, state: &mut State, dropped: &DroppedFields) -> bool {
        let is_complete = *state == State::Chunked(Chunked::Trailers);
        if is_complete {
            let whole = memchr::memrchr(b'\n', &self.input).map_or(0, |last| last + 1);
            let section = self.input.split_to(whole);
            self.input.clear();
            self.end_chunks(&section, dropped);
            *state = State::Over;
        }
        is_complete
    }

    /// Trailers that may go on, and the empty line.
    fn end_chunks(&mut self, section: &[u8], dropped: &DroppedFields) {
        let fields = fields::read(section, Section::Trailers, dropped);
        let start = self.output.len();
        for (name, value) in fields.all.iter().take(MAX_TRAILERS) {
            let len = name.as_str().len() + value.len() + 4;
            if self.output.len() - start + len <= MAX_TRAILER_BYTES {
                self.output.extend_from_slice(name.as_str().as_bytes());
                self.output.extend_from_slice(b": ");
                self.output.extend_from_slice(value.as_bytes());
                self.output.extend_from_slice(b"\r\n");
            }
        }
        self.output.extend_from_slice(b"\r\n");
    }
}

impl From<ResponseError> for io::Error {
    fn from(doubt: ResponseError) -> Self {
        Self::new(io::ErrorKind::InvalidData, doubt)
    }
}
