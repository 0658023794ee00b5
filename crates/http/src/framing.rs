//! Request framing of an HTTP/1 connection, read strictly: where each request begins and ends. Looks at the bytes before
//! hyper gets them, because hyper repairs what has to be refused: it drops a Content-Length beside a
//! Transfer-Encoding, cuts a fragment off the target, and takes a bare LF after the last chunk.
//!
//! It parses no more than frames a request (RFC 9112 sections 6 and 7) and knows nothing of what hyper
//! makes of it. Whatever hyper refuses by itself need not be refused here. The result does not depend on
//! how the bytes are split into reads, nothing is allocated, and no bytes make it panic.

mod chunked;
mod disguise;
mod error;

pub use disguise::refuse_disguise;
pub use error::FramingError;

use crate::numbers::{MAX_LENGTH, digits};
use chunked::Chunked;
use disguise::{MAX_FIELD_BYTES, frames_nothing, is_like_framing_field};

const CONTENT_LENGTH: &[u8; 14] = b"content-length";
const TRANSFER_ENCODING: &[u8; 17] = b"transfer-encoding";

/// Bytes of a chunked body that no sender writes. What comes before them, of the bytes given, is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// How many bytes are.
    pub intact: usize,
}

/// What the next byte should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// The first of a request.
    Request,
    /// A further one of its head.
    Head,
    /// A further one of its body.
    Body,
    /// None of a request.
    Nothing,
}

/// How far a request's start line has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartLine {
    /// Whether none of it has come.
    pub is_new: bool,
    /// Whether its target has begun.
    pub in_target: bool,
    /// Whether a query has begun in it.
    pub has_query: bool,
}

/// How far a connection's bytes were read.
#[derive(Debug)]
pub struct Framing {
    state: State,
    head: RequestHead,
    heads: u64,
    doubt: Option<(u64, FramingError)>,
    /// A bit for each of the latest heads, the last one's lowest: whether it is an `OPTIONS` without a path.
    pathless: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// The number of bytes of a body that are left.
    Length(u64),
    Chunked(Chunked),
    /// A tunnel begins, or nothing more will be served.
    Over,
    /// In the middle of a body.
    Broken,
}

/// A head that is being read.
#[derive(Debug, Default)]
struct RequestHead {
    /// The line that the last read ended in.
    line: Partial,
    facts: Facts,
}

/// What is known of a head.
#[derive(Debug, Default)]
struct Facts {
    /// Whether the request line is complete.
    has_start: bool,
    /// Whether the target has begun.
    in_target: bool,
    is_connect: bool,
    has_bare_lf: bool,
    has_fragment: bool,
    is_pathless_options: bool,
    /// In the request line, and only where it came in pieces or is that of an `OPTIONS`.
    slashes: usize,
    has_query: bool,
    length: Option<u64>,
    has_length: bool,
    has_encoding: bool,
    doubt: Option<FramingError>,
}

/// The beginning of a line, and the length of all of it.
#[derive(Debug)]
struct Partial {
    first: [u8; MAX_FIELD_BYTES],
    len: usize,
    last: u8,
}

impl Default for Partial {
    fn default() -> Self {
        Self {
            first: [0; MAX_FIELD_BYTES],
            len: 0,
            last: 0,
        }
    }
}

impl Partial {
    fn push(&mut self, bytes: &[u8]) {
        let free = self.first.get_mut(self.len..).unwrap_or_default();
        for (free, byte) in free.iter_mut().zip(bytes) {
            *free = *byte;
        }
        self.len = self.len.saturating_add(bytes.len());
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn first(&self) -> &[u8] {
        self.first.get(..self.len).unwrap_or(&self.first)
    }
}

impl Default for Framing {
    fn default() -> Self {
        Self::new()
    }
}

impl Framing {
    /// For a connection's first byte.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Head,
            head: RequestHead::default(),
            heads: 0,
            doubt: None,
            pathless: 0,
        }
    }

    /// How many heads are complete.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// The first request, counted from 0, that must not be served, and why; nor must any after it.
    #[must_use]
    pub fn doubt(&self) -> Option<(u64, FramingError)> {
        self.doubt
    }

    /// A bit for each of the latest 64 heads, the last one's lowest: whether it is an `OPTIONS` in absolute form whose
    /// target has no path, which hyper takes for `/`.
    #[must_use]
    pub fn pathless(&self) -> u64 {
        self.pathless
    }

    /// Whether a chunked body was broken, so that nothing can follow.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// What comes next.
    #[must_use]
    pub fn awaits(&self) -> Awaits {
        match self.state {
            // Empty lines begin no request, however slowly they come.
            State::Head if self.head.facts.has_start => Awaits::Head,
            State::Head if matches!(self.head.line.first(), b"" | b"\r") => Awaits::Request,
            State::Head => Awaits::Head,
            State::Length(_) | State::Chunked(_) => Awaits::Body,
            State::Over | State::Broken => Awaits::Nothing,
        }
    }

    /// How far a start line has come. None: what comes next is something else.
    #[must_use]
    pub fn start_line(&self) -> Option<StartLine> {
        let RequestHead { line, facts } = &self.head;
        let is_one = self.state == State::Head && !facts.has_start;
        is_one.then_some(StartLine {
            is_new: matches!(line.first(), b"" | b"\r"),
            in_target: facts.in_target,
            has_query: facts.has_query,
        })
    }

    /// Whether what comes next is a request's first byte, and nothing at all has come since the last one's end
    /// but whole empty lines.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Head) && !self.head.facts.has_start && self.head.line.len == 0
    }

    /// Reads on.
    ///
    /// # Errors
    /// Where the framing of a chunked body is broken: then nothing can follow.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            rest = match self.state {
                State::Head => self.read_head(rest),
                State::Length(left) | State::Chunked(Chunked::Data(left)) => self.skip(rest, left),
                State::Chunked(chunked) => match chunked.after(*first) {
                    Some(next) => {
                        self.state = match next {
                            Chunked::End => State::Head,
                            next => State::Chunked(next),
                        };
                        after
                    }
                    None => {
                        self.state = State::Broken;
                        // Its head was the last one.
                        self.doubt = Some((self.heads.saturating_sub(1), FramingError::Chunks));
                        rest
                    }
                },
                State::Over => return Ok(()),
                State::Broken => {
                    return Err(Broken {
                        intact: bytes.len() - rest.len(),
                    });
                }
            };
        }
        Ok(())
    }

    /// Skips bytes of a body; returns what is after them.
    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - skipped as u64;
        self.state = match self.state {
            State::Chunked(_) if left == 0 => State::Chunked(Chunked::DataCr),
            State::Chunked(_) => State::Chunked(Chunked::Data(left)),
            _ if left == 0 => State::Head,
            _ => State::Length(left),
        };
        bytes.get(skipped..).unwrap_or_default()
    }

    /// Reads lines up to the end of the head; returns what is after it.
    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while let Some((line, after)) = split_line(rest) {
            rest = after;
            if self.head.passes(line) {
                continue;
            }
            if self.head.end_line(line) {
                self.end_head();
                return rest;
            }
        }
        self.head.keep(rest);
        &[]
    }

    fn end_head(&mut self) {
        self.state = match self.head.state_after_head() {
            Ok(state) => state,
            Err(doubt) => {
                self.doubt = Some((self.heads, doubt));
                State::Over
            }
        };
        self.heads += 1;
        self.pathless = self.pathless << 1 | u64::from(self.head.facts.is_pathless_options);
        self.head.facts = Facts::default();
    }
}

impl RequestHead {
    /// Keeps the beginning of a line that the next read will end.
    fn keep(&mut self, line: &[u8]) {
        if !line.is_empty() {
            if !self.facts.has_start {
                self.facts.look_for_fragment(line);
                self.facts.look_for_path(line);
            }
            self.line.push(line);
        }
    }

    /// Whether a line, without its LF, is a whole field that changes nothing: most are, so this comes first.
    #[inline]
    fn passes(&self, line: &[u8]) -> bool {
        let is_field = self.facts.has_start && self.line.len == 0;
        is_field && matches!(line, [first, .., b'\r'] if frames_nothing(*first))
    }

    /// Takes the end of a line, without its LF. Whether the head ends with it.
    fn end_line(&mut self, line: &[u8]) -> bool {
        if self.line.len == 0 {
            self.facts.note_ending(line.last(), line.len());
            return self.facts.take_line(line, line.len(), line);
        }
        self.line.push(line);
        self.facts.note_ending(Some(&self.line.last), self.line.len);
        let is_end = self.facts.take_line(self.line.first(), self.line.len, line);
        self.line.len = 0;
        is_end
    }

    fn state_after_head(&self) -> Result<State, FramingError> {
        self.facts.state_after_head()
    }
}

impl Facts {
    /// Before the request line an empty one may end as it likes.
    fn note_ending(&mut self, last: Option<&u8>, len: usize) {
        self.has_bare_lf |= last != Some(&b'\r') && (self.has_start || len > 0);
    }

    /// Takes a line by its first bytes and its length, with what of it is new.
    fn take_line(&mut self, first: &[u8], len: usize, new: &[u8]) -> bool {
        if matches!(first, b"" | b"\r") {
            // Empty lines before a request line are skipped (RFC 9112 section 2.2).
            return self.has_start;
        }
        if self.has_start {
            self.field(first, len);
        } else {
            self.look_for_fragment(new);
            self.is_connect = first.starts_with(b"CONNECT ");
            if let Some([first, ..]) = first.strip_prefix(b"OPTIONS ") {
                self.look_for_path(new);
                // `http://host`, and another slash in `HTTP/1.1`.
                let is_pathless = *first != b'/' && self.slashes == 3 && !self.has_query;
                self.is_pathless_options = is_pathless;
            }
            self.has_start = true;
        }
        false
    }

    /// Before its first space a request line may have any token.
    fn look_for_fragment(&mut self, line: &[u8]) {
        let is_before = |byte: &u8| *byte != b' ';
        if memchr::memchr(b'#', line).is_some() {
            let target = if self.in_target {
                line
            } else {
                let start = line.iter().take_while(|byte| is_before(byte)).count();
                line.get(start..).unwrap_or_default()
            };
            self.has_fragment |= target.contains(&b'#');
        }
        self.in_target = self.in_target || memchr::memchr(b' ', line).is_some();
    }

    fn look_for_path(&mut self, line: &[u8]) {
        self.slashes += memchr::memchr_iter(b'/', line).count();
        self.has_query |= line.contains(&b'?');
    }

    fn field<'f>(&mut self, first: &'f [u8], len: usize) {
        let trimmed = |value: &'f [u8]| {
            let value = value.strip_suffix(b"\r").unwrap_or(value).trim_ascii();
            (len <= MAX_FIELD_BYTES).then_some(value)
        };
        match first.first() {
            Some(b'c' | b'C') if let Some(value) = value_of(first, CONTENT_LENGTH) => {
                self.take_length(trimmed(value));
            }
            Some(b't' | b'T') if let Some(value) = value_of(first, TRANSFER_ENCODING) => {
                self.take_encoding(trimmed(value));
            }
            Some(byte) if frames_nothing(*byte) => {}
            _ => self.look_for_disguise(first),
        }
    }

    /// Gateways take `_` for `-`, as CGI has it, and some take less for more; what is behind them would then frame
    /// the body by a field that framed nothing here.
    fn look_for_disguise(&mut self, first: &[u8]) {
        if is_like_framing_field(first.get(..MAX_FIELD_BYTES).unwrap_or(first)) {
            self.doubt = self.doubt.or(Some(FramingError::Disguise));
        }
    }

    fn take_length(&mut self, value: Option<&[u8]>) {
        let length = value
            .and_then(digits)
            .filter(|length| *length <= MAX_LENGTH);
        if length.is_none() || (self.has_length && self.length != length) {
            self.doubt = Some(FramingError::Length);
        }
        (self.has_length, self.length) = (true, length);
    }

    fn take_encoding(&mut self, value: Option<&[u8]>) {
        let is_chunked = value.is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        if self.has_encoding || !is_chunked {
            self.doubt = Some(FramingError::Encoding);
        }
        self.has_encoding = true;
    }

    /// What follows the head (RFC 9112 section 6.3).
    fn state_after_head(&self) -> Result<State, FramingError> {
        if self.has_length && self.has_encoding {
            return Err(FramingError::LengthBesideEncoding);
        }
        if let Some(doubt) = self.doubt {
            return Err(doubt);
        }
        if self.has_bare_lf {
            return Err(FramingError::BareLf);
        }
        if self.has_fragment {
            return Err(FramingError::Fragment);
        }
        Ok(match self.length {
            // Its end is the end of the connection, or its answer opens a tunnel.
            _ if self.is_connect => State::Over,
            _ if self.has_encoding => State::Chunked(Chunked::FirstDigit),
            None | Some(0) => State::Head,
            Some(length) => State::Length(length),
        })
    }
}

/// What follows that name in a line, in whatever case. What follows the name itself is a colon, or hyper refuses the
/// field, or it is another one: most are.
fn value_of<'l, const N: usize>(line: &'l [u8], name: &[u8; N]) -> Option<&'l [u8]> {
    let (found, rest) = line.split_first_chunk::<N>()?;
    let value = rest.strip_prefix(b":")?;
    let is_it = found.map(|byte| byte.to_ascii_lowercase()) == *name;
    is_it.then_some(value)
}

/// A line without its LF, and what follows that.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, after) = bytes.split_at_checked(memchr::memchr(b'\n', bytes)?)?;
    Some((line, after.get(1..)?))
}

#[cfg(test)]
mod tests;
