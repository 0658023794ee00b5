//! HTTP/1.1 as it stands on the wire, piece by piece, for both emulated sides: no library repairs or hides anything.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A head beyond this is a mistake.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes of a connection, read ahead.
pub struct Reader<R> {
    source: R,
    /// How long it waits for more.
    patience: Duration,
    /// What was read, and not asked for.
    pub ahead: Vec<u8>,
}

/// A start line and the fields below it.
#[derive(Debug, Clone)]
pub struct Head {
    /// The start line.
    pub start: String,
    /// Names as they came, values without white space around them.
    pub fields: Vec<(String, String)>,
}

/// How much of a body is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// That many bytes.
    Length(usize),
    /// The size of a chunk is next.
    Chunk,
    /// That many bytes of a chunk.
    InChunk(usize),
    /// Nothing more.
    Ended,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Head {
    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let field = fields.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&field.1)
    }

    /// The second word of the start line: a target, or a status.
    pub fn second(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// How the body is framed.
    pub fn framing(&self) -> Framing {
        if self.get("transfer-encoding").is_some() {
            return Framing::Chunk;
        }
        let length = self.get("content-length");
        match length.and_then(|length| length.parse().ok()) {
            Some(0) | None => Framing::Ended,
            Some(length) => Framing::Length(length),
        }
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// One that fails where nothing comes for that time.
    pub fn new(source: R, patience: Duration) -> Self {
        Self {
            source,
            patience,
            ahead: Vec::new(),
        }
    }

    /// Reads more of what is ahead.
    ///
    /// # Errors
    /// At the end, or where nothing comes.
    pub async fn more(&mut self) -> io::Result<()> {
        let read = self.source.read_buf(&mut self.ahead);
        let read = tokio::time::timeout(self.patience, read).await;
        match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Whether at least one byte came before the end.
    pub async fn begins(&mut self) -> bool {
        !self.ahead.is_empty() || self.more().await.is_ok()
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut looked = 0;
        loop {
            if let Some(at) = self.ahead[looked..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=looked + at).collect();
                let line = line.strip_suffix(b"\r\n").ok_or(broken("a bare LF"))?;
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            looked = self.ahead.len();
            if looked > MAX_HEAD {
                return Err(broken("a line without end"));
            }
            self.more().await?;
        }
    }

    /// The next head.
    ///
    /// # Errors
    /// Where it ends before, or is none.
    pub async fn head(&mut self) -> io::Result<Head> {
        let start = self.line().await?;
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Head { start, fields });
            }
            let (key, value) = line.split_once(':').ok_or(broken("no field"))?;
            fields.push((key.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next bytes of a body; None at its end.
    ///
    /// # Errors
    /// Where it is cut off or misframed.
    pub async fn piece(&mut self, framing: &mut Framing) -> io::Result<Option<Vec<u8>>> {
        loop {
            let (left, next): (usize, fn(usize) -> Framing) = match *framing {
                Framing::Ended => return Ok(None),
                Framing::Chunk => {
                    let line = self.line().await?;
                    let size = usize::from_str_radix(line.trim(), 16);
                    *framing = match size.or(Err(broken("no chunk")))? {
                        0 => {
                            while !self.line().await?.is_empty() {}
                            Framing::Ended
                        }
                        size => Framing::InChunk(size),
                    };
                    continue;
                }
                Framing::Length(0) => {
                    *framing = Framing::Ended;
                    continue;
                }
                Framing::InChunk(0) => {
                    if !self.line().await?.is_empty() {
                        return Err(broken("a chunk is longer than it says"));
                    }
                    *framing = Framing::Chunk;
                    continue;
                }
                Framing::Length(left) => (left, Framing::Length),
                Framing::InChunk(left) => (left, Framing::InChunk),
            };
            if self.ahead.is_empty() {
                self.more().await?;
            }
            let taken = left.min(self.ahead.len());
            *framing = next(left - taken);
            return Ok(Some(self.ahead.drain(..taken).collect()));
        }
    }

    /// A body that is small.
    ///
    /// # Errors
    /// Where it is cut off or misframed.
    pub async fn whole(&mut self, mut framing: Framing) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece(&mut framing).await? {
            whole.extend(piece);
        }
        Ok(whole)
    }
}

/// A body as it is framed, cut into pieces of that size.
pub fn framed(body: &[u8], is_chunked: bool, piece: usize) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        pieces.push(match is_chunked {
            true => {
                let size = format!("{:x}\r\n", piece.len());
                [size.as_bytes(), piece, b"\r\n"].concat()
            }
            false => piece.to_vec(),
        });
    }
    if is_chunked {
        pieces.push(b"0\r\n\r\n".to_vec());
    }
    pieces
}

/// What says how a body is framed.
pub fn framing_field(size: usize, is_chunked: bool) -> String {
    match is_chunked {
        true => "Transfer-Encoding: chunked\r\n".to_owned(),
        false => format!("Content-Length: {size}\r\n"),
    }
}
