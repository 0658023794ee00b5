//! HTTP/1.1 as the load generator and the provider need it: heads, and bodies with a length.
//!
//! Written by hand, because what these two cost comes out of the core that the proxies' work waits for.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const PIECE: usize = 64 * 1024;
static ZEROS: [u8; PIECE] = [b'0'; PIECE];

/// A connection, and what was read from it too early.
pub(crate) struct Wire<S> {
    stream: S,
    buffer: BytesMut,
}

/// First line and fields.
pub(crate) struct Head(Bytes);

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The stream; nothing must have been read ahead.
    pub(crate) fn into_stream(self) -> S {
        assert!(self.buffer.is_empty(), "bytes after the head");
        self.stream
    }

    /// The next head. None: the connection is over.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(Some(Head(self.buffer.split_to(at + 4).freeze())));
            }
            self.buffer.reserve(PIECE / 8);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads a body and forgets it.
    pub(crate) async fn skip(&mut self, length: usize) -> io::Result<()> {
        let mut left = length;
        loop {
            let here = left.min(self.buffer.len());
            self.buffer.advance(here);
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.buffer.reserve(PIECE);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads a short body.
    pub(crate) async fn text(&mut self, length: usize) -> io::Result<String> {
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8_lossy(&self.buffer.split_to(length)).into_owned())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends a body of zeros.
    pub(crate) async fn send_zeros(&mut self, length: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let piece = left.min(PIECE);
            self.stream.write_all(&ZEROS[..piece]).await?;
            left -= piece;
        }
        self.stream.flush().await
    }
}

impl Head {
    pub(crate) fn first_line(&self) -> &[u8] {
        self.0.split(|byte| *byte == b'\r').next().unwrap_or(&[])
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0.split(|byte| *byte == b'\n').find_map(|line| {
            let (start, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            let value = start
                .eq_ignore_ascii_case(name.as_bytes())
                .then_some(value)?;
            std::str::from_utf8(value).ok().map(str::trim)
        })
    }

    /// The length of the body.
    pub(crate) fn length(&self) -> io::Result<usize> {
        if self.field("transfer-encoding").is_some() {
            return Err(io::Error::other("a body without a length"));
        }
        let length = self.field("content-length").map_or(Ok(0), str::parse);
        length.map_err(io::Error::other)
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.first_line().starts_with(b"HTTP/1.1 200")
    }
}
