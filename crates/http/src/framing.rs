//! Request framing of an HTTP/1 connection, read strictly: where each request begins and ends. Looks at the bytes before
//! hyper gets them, because hyper repairs what has to be refused: it drops a Content-Length beside a
//! Transfer-Encoding, cuts a fragment off the target, and takes a bare LF after the last chunk.
//!
//! It parses no more than frames a request (RFC 9112 sections 6 and 7) and knows nothing of what hyper
//! makes of it. Whatever hyper refuses by itself need not be refused here. The result does not depend on
//! how the bytes are split into reads, nothing is allocated, and no bytes make it panic.

use http::{HeaderMap, HeaderName};

use crate::numbers::{MAX_LENGTH, digits};

/// A line that frames the body is no longer than that; a longer one is refused.
const MAX_FIELD_BYTES: usize = 64;
const CONTENT_LENGTH: &[u8] = b"content-length";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";

/// Why nobody can be sure what a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Both of two fields say where the body ends (RFC 9112 section 6.1).
    #[error("a length stands beside an encoding")]
    LengthBesideEncoding,
    /// Another encoding than `chunked`, or `chunked` twice.
    #[error("the transfer coding is not `chunked`, or is repeated")]
    Encoding,
    /// No number, or two different ones.
    #[error("the length is no number, or there are two")]
    Length,
    /// A field that some gateway takes for one of those two.
    #[error("a field's name is that of a framing field but for its punctuation")]
    Disguise,
    /// A line of the head ends without CR (RFC 9112 section 2.2).
    #[error("a line of the head ends without CR")]
    BareLf,
    /// The target has a fragment (RFC 9112 section 3.2).
    #[error("the target has a fragment")]
    Fragment,
    /// The chunks of its body are broken.
    #[error("the chunks of the body are broken")]
    Chunks,
    /// hyper sees a request where none begins here.
    #[error("no request begins here")]
    OutOfStep,
}

impl FramingError {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LengthBesideEncoding,
        Self::Encoding,
        Self::Length,
        Self::Disguise,
        Self::BareLf,
        Self::Fragment,
        Self::Chunks,
        Self::OutOfStep,
    ];

    /// What is wrong, for the caller.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LengthBesideEncoding => {
                "Content-Length and Transfer-Encoding exclude each other; send one of them"
            }
            Self::Encoding => "the only transfer encoding that is understood is chunked",
            Self::Length => "Content-Length is not one number below 2^63",
            Self::Disguise => {
                "a field's name is Content-Length or Transfer-Encoding but for its punctuation"
            }
            Self::BareLf => "a line of the head ends with LF alone",
            Self::Fragment => "the request target has a fragment",
            Self::Chunks => "the body's chunks are malformed",
            Self::OutOfStep => "it is not clear where the request begins",
        }
    }
}

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
    /// So many bytes of a body are left.
    Length(u64),
    Chunked(Chunked),
    /// A tunnel begins, or nothing more will be served.
    Over,
    /// In the middle of a body.
    Broken,
}

/// What the next byte of a chunked body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunked {
    FirstDigit,
    Size(u64),
    AfterSize(u64),
    Extension(u64),
    SizeLf(u64),
    /// More than none.
    Data(u64),
    DataCr,
    DataLf,
    /// The first byte of a trailer, or of the empty line.
    Line,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
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
                        self.state = next;
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

    fn field(&mut self, first: &[u8], len: usize) {
        let name = match first.first() {
            Some(b'c' | b'C') => CONTENT_LENGTH,
            Some(b't' | b'T') => TRANSFER_ENCODING,
            Some(byte) if frames_nothing(*byte) => return,
            _ => return self.look_for_disguise(first),
        };
        // What follows the name is a colon, or hyper refuses the field, or it is another one: most are.
        let split = first.split_at_checked(name.len());
        let Some((_, [b':', value @ ..])) = split.filter(|(found, rest)| {
            rest.first() == Some(&b':') && found.eq_ignore_ascii_case(name)
        }) else {
            return self.look_for_disguise(first);
        };
        let value = value.strip_suffix(b"\r").unwrap_or(value).trim_ascii();
        let value = (len <= MAX_FIELD_BYTES).then_some(value);
        if name == CONTENT_LENGTH {
            self.take_length(value);
        } else {
            self.take_encoding(value);
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

/// A line without its LF, and what follows that.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, after) = bytes.split_at_checked(memchr::memchr(b'\n', bytes)?)?;
    Some((line, after.get(1..)?))
}

/// Whether no name that begins like that is a framing field's, nor one's but for its punctuation.
const fn frames_nothing(first: u8) -> bool {
    first.is_ascii_alphanumeric() && !matches!(first, b'c' | b'C' | b't' | b'T')
}

/// Whether the name at the beginning of a line is that of a framing field but for its punctuation. One that does not
/// end there is long for nothing else.
fn is_like_framing_field(line: &[u8]) -> bool {
    let mut bytes = line.iter();
    // The letters that are still to come.
    let mut letters: &[u8] = loop {
        match bytes.next() {
            Some(b'c' | b'C') => break b"ontentlength",
            Some(b't' | b'T') => break b"ransferencoding",
            Some(byte) if *byte == b':' || byte.is_ascii_alphanumeric() => return false,
            Some(_) => {}
            None => return line.len() == MAX_FIELD_BYTES,
        }
    };
    for byte in bytes {
        match letters {
            [letter, rest @ ..] if byte | 0x20 == *letter => letters = rest,
            _ if *byte == b':' => return letters.is_empty(),
            _ if byte.is_ascii_alphanumeric() => return false,
            _ => {}
        }
    }
    line.len() == MAX_FIELD_BYTES || letters.is_empty()
}

/// What a head is refused for over HTTP/2 as well; all else of framing is clear there.
///
/// # Errors
/// Where a field's name is that of a framing one but for its punctuation.
pub fn refuse_disguise(fields: &HeaderMap) -> Result<(), FramingError> {
    let poses = |name: &HeaderName| {
        *name != http::header::CONTENT_LENGTH && is_like_framing_field(name.as_str().as_bytes())
    };
    match fields.keys().any(poses) {
        true => Err(FramingError::Disguise),
        false => Ok(()),
    }
}

impl Chunked {
    /// What follows a byte; None: that byte may not be here (RFC 9112 section 7.1, without its bare LF).
    fn after(self, byte: u8) -> Option<State> {
        Some(State::Chunked(match (self, byte) {
            (Self::FirstDigit, _) => Self::Size(digit(byte)?),
            (Self::Size(size) | Self::AfterSize(size) | Self::Extension(size), b'\r') => {
                Self::SizeLf(size)
            }
            (Self::Size(size) | Self::AfterSize(size), b' ' | b'\t') => Self::AfterSize(size),
            (Self::Size(size) | Self::AfterSize(size), b';') => Self::Extension(size),
            (Self::Size(size), _) => {
                let size = size.checked_mul(16)?.checked_add(digit(byte)?);
                Self::Size(size.filter(|size| *size <= MAX_LENGTH)?)
            }
            (Self::Extension(size), _) if is_text(byte) => Self::Extension(size),
            (Self::SizeLf(0) | Self::TrailerLf, b'\n') => Self::Line,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::FirstDigit,
            (Self::Line, b'\r') => Self::EndLf,
            (Self::Line | Self::TrailerName, _) if is_in_token(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::TrailerValue,
            (Self::TrailerValue, b'\r') => Self::TrailerLf,
            (Self::TrailerValue, _) if is_text(byte) => Self::TrailerValue,
            (Self::EndLf, b'\n') => return Some(State::Head),
            _ => return None,
        }))
    }
}

/// Whether a byte may be in a field's value or a chunk's extension.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// Whether a byte may be in a name (RFC 9110 section 5.6.2).
fn is_in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests;
