//! RESP framing: what a server sends is checked against limits before it is parsed, so that no server, broken or
//! hostile, makes a parser keep more than those allow.
//!
//! It knows where a value ends, and nothing of what values mean.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A response, with all that it consists of, is no longer.
const MAX_BYTES: usize = 8 << 20;
/// It has no more parts.
const MAX_PARTS: usize = 1 << 17;
/// Parts in parts are no deeper. What is used has three.
const MAX_DEPTH: usize = 8;
/// A line that says how long something is has no more digits.
const MAX_LENGTH_LINE: usize = 21;

/// More than the limits allow, or no RESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the store sent is no RESP, or more than the limits allow")]
pub(super) struct Violation;

/// What is noticed of a connection's bytes: the connection writes, whoever waits for a response reads.
#[derive(Debug)]
pub(super) struct Traffic {
    since: Instant,
    /// When something came last, in milliseconds since then.
    last: AtomicU64,
    is_violated: AtomicBool,
}

/// A connection whose bytes are checked while they are read.
#[derive(Debug)]
pub(super) struct Checked<S> {
    stream: S,
    framing: Framing,
    traffic: Arc<Traffic>,
}

/// How far the value has come that is under way.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Of a value's beginning, up to its line feed: as much of it as a length needs.
    line: Vec<u8>,
    /// As many bytes belong to a string, with the line's end behind it.
    string: usize,
    /// How many parts are missing, from the outside in.
    missing: Vec<usize>,
    bytes: usize,
    parts: usize,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
            is_violated: AtomicBool::new(false),
        }
    }

    /// Whether nothing has come since then.
    pub(super) fn is_silent_since(&self, then: Instant) -> bool {
        self.last.load(Ordering::Relaxed) <= self.millis(then)
    }

    pub(super) fn is_violated(&self) -> bool {
        self.is_violated.load(Ordering::Relaxed)
    }

    fn has_come(&self) {
        self.last
            .store(self.millis(Instant::now()), Ordering::Relaxed);
    }

    fn millis(&self, then: Instant) -> u64 {
        let since = then.saturating_duration_since(self.since);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl<S> Checked<S> {
    pub(super) fn new(stream: S, traffic: Arc<Traffic>) -> Self {
        Self {
            stream,
            framing: Framing::default(),
            traffic,
        }
    }
}

impl Framing {
    /// Reads on.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while let Some(first) = bytes.first() {
            let taken = match self.string {
                0 if self.line.is_empty() => {
                    self.count(1)?;
                    self.line.push(*first);
                    1
                }
                0 => self.read_line(bytes)?,
                left => {
                    let taken = left.min(bytes.len());
                    self.count(taken)?;
                    self.string -= taken;
                    if self.string == 0 {
                        self.ended();
                    }
                    taken
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.bytes += bytes;
        match self.bytes > MAX_BYTES {
            true => Err(Violation),
            false => Ok(()),
        }
    }

    /// Reads up to the line's end, if it is there; says how many bytes that was.
    fn read_line(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.count(taken)?;
        let has_length = matches!(
            self.line.first(),
            Some(b'$' | b'=' | b'!' | b'*' | b'%' | b'~' | b'>' | b'|')
        );
        if has_length {
            self.line
                .extend(bytes.iter().take(taken).take(MAX_LENGTH_LINE + 2));
            if self.line.len() > MAX_LENGTH_LINE + 2 {
                return Err(Violation);
            }
        }
        if end.is_some() {
            self.line_ended()?;
        }
        Ok(taken)
    }

    fn line_ended(&mut self) -> Result<(), Violation> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(Violation);
        }
        let line = std::mem::take(&mut self.line);
        let (first, rest) = line.split_first().ok_or(Violation)?;
        match first {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => self.ended(),
            // Nothing, as RESP2 writes it.
            b'$' | b'*' if rest == b"-1\r\n" => self.ended(),
            b'$' | b'=' | b'!' => self.string = number(rest, MAX_BYTES)? + 2,
            b'*' | b'~' | b'>' => self.begin(number(rest, MAX_PARTS)?)?,
            b'%' => self.begin(2 * number(rest, MAX_PARTS)?)?,
            // And what the attributes are of.
            b'|' => self.begin(2 * number(rest, MAX_PARTS)? + 1)?,
            _ => return Err(Violation),
        }
        Ok(())
    }

    fn begin(&mut self, parts: usize) -> Result<(), Violation> {
        if parts == 0 {
            self.ended();
            return Ok(());
        }
        if self.missing.len() >= MAX_DEPTH || parts > MAX_PARTS {
            return Err(Violation);
        }
        self.missing.push(parts);
        Ok(())
    }

    /// A value has ended, and perhaps the one that it is part of.
    fn ended(&mut self) {
        while let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return;
            }
            self.missing.pop();
        }
        (self.bytes, self.parts) = (0, 0);
    }
}

fn number(line: &[u8], most: usize) -> Result<usize, Violation> {
    let digits = line.strip_suffix(b"\r\n").ok_or(Violation)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Violation);
    }
    let digits = std::str::from_utf8(digits).ok();
    let number = digits.and_then(|digits| digits.parse().ok());
    number.filter(|number| *number <= most).ok_or(Violation)
}

impl<S: AsyncRead + Unpin> AsyncRead for Checked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        if !new.is_empty() {
            self.traffic.has_come();
            if let Err(violation) = self.framing.read(new) {
                self.traffic.is_violated.store(true, Ordering::Relaxed);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Checked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
