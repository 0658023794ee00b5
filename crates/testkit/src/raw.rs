//! Both sides byte by byte: for framing, letter case, and everything that no HTTP library would send.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::{listen, soon};

/// Everything that a connection has brought.
type Captured = Arc<Mutex<Vec<u8>>>;

/// A connection, either side.
pub struct Raw<S = TcpStream> {
    stream: S,
    /// Read, but not asked for.
    ahead: Vec<u8>,
    /// Everything that was read.
    captured: Captured,
}

/// A message as it stood on the wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Start line and fields, without the empty line.
    pub head: String,
    /// As it was framed: chunks are still chunks.
    pub body: Vec<u8>,
}

impl Message {
    pub fn start(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub fn status(&self) -> u16 {
        let status = self.start().split(' ').nth(1).unwrap();
        status.parse().unwrap()
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Raw {
    /// A caller.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::tcp(TcpStream::connect(address).await.unwrap())
    }

    fn tcp(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Closes with a reset instead of an end.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Over a stream, e.g. inside of a tunnel.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
            captured: Arc::default(),
        }
    }

    /// What is left of it, e.g. after a tunnel was opened.
    pub fn into_stream(self) -> S {
        assert!(self.ahead.is_empty());
        self.stream
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Writes as much as the peer takes until it takes nothing for a moment, or `limit` is reached; says
    /// how much that was.
    pub async fn write_until_blocked(&mut self, limit: usize) -> usize {
        let block = vec![b'x'; 16 * 1024];
        let mut written = 0;
        while written < limit {
            let write = tokio::time::timeout(BLOCKED, self.stream.write(&block));
            match write.await {
                Ok(Ok(more)) => written += more,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        written
    }

    /// No more will be written.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Start line and fields. An error where the peer closes before.
    pub async fn try_read_head(&mut self) -> io::Result<String> {
        loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.ahead.drain(..end + 4).take(end).collect();
                // Bytes above ASCII are legal in values, and stand for themselves.
                let latin = |bytes: Vec<u8>| bytes.into_iter().map(char::from).collect();
                return Ok(
                    String::from_utf8(head).unwrap_or_else(|error| latin(error.into_bytes()))
                );
            }
            self.read_more().await?;
        }
    }

    pub async fn read_head(&mut self) -> String {
        self.try_read_head().await.unwrap()
    }

    /// A whole message: by `Content-Length`, by chunks, or without a body.
    pub async fn try_read_message(&mut self) -> io::Result<Message> {
        let head = self.try_read_head().await?;
        let mut message = Message {
            head,
            body: Vec::new(),
        };
        let chunked = message.field("transfer-encoding") == Some("chunked");
        let length = message.field("content-length");
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        loop {
            let end = if chunked {
                end_of_chunks(&self.ahead)
            } else {
                Some(length).filter(|length| self.ahead.len() >= *length)
            };
            if let Some(end) = end {
                message.body = self.ahead.drain(..end).collect();
                return Ok(message);
            }
            self.read_more().await?;
        }
    }

    pub async fn read_message(&mut self) -> Message {
        self.try_read_message().await.unwrap()
    }

    /// The next `count` bytes.
    pub async fn read_exact(&mut self, count: usize) -> Vec<u8> {
        self.try_read_exact(count).await.unwrap()
    }

    /// The same; an error where the peer closes before.
    pub async fn try_read_exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            self.read_more().await?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// Everything until the peer closes; an error where it resets.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.read_more().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.ahead));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the peer has closed or reset; what it sent before is dropped.
    pub async fn closed(&mut self) {
        drop(self.read_to_end().await);
    }

    /// One write and one answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.write(request).await;
        self.read_message().await
    }

    async fn read_more(&mut self) -> io::Result<()> {
        let before = self.ahead.len();
        if soon(self.stream.read_buf(&mut self.ahead)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.captured
            .lock()
            .unwrap()
            .extend_from_slice(&self.ahead[before..]);
        Ok(())
    }
}

/// A peer that takes nothing for this long is blocked. It decides nothing but when to stop trying.
const BLOCKED: Duration = Duration::from_millis(300);

fn end_of_chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        if size == 0 {
            let trailers = &rest[line..];
            let end = trailers.windows(4).position(|four| four == b"\r\n\r\n")?;
            return Some(at + line + end + 4);
        }
        at += line + 2 + size + 2;
        if at >= bytes.len() {
            return None;
        }
    }
}

/// A server that is given each connection raw, with its number from 0.
pub struct RawUpstream {
    pub address: SocketAddr,
    captured: Arc<Mutex<Vec<Captured>>>,
    panics: Arc<Mutex<Vec<String>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl RawUpstream {
    pub async fn start<F>(script: impl Fn(usize, Raw) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = listen().await;
        let captured: Arc<Mutex<Vec<Captured>>> = Arc::default();
        let panics: Arc<Mutex<Vec<String>>> = Arc::default();
        let (all, failures) = (captured.clone(), panics.clone());
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let raw = Raw::tcp(stream);
                all.lock().unwrap().push(raw.captured.clone());
                let running = AbortOnDropHandle::new(tokio::spawn(script(number, raw)));
                let failures = failures.clone();
                connections.spawn(async move {
                    if let Err(error) = running.await {
                        failures.lock().unwrap().push(error.to_string());
                    }
                });
            }
        });
        Self {
            address,
            captured,
            panics,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Reads requests and answers each with the same bytes.
    pub async fn answering(bytes: &'static [u8]) -> Self {
        Self::start(move |_, mut raw| async move {
            while raw.try_read_message().await.is_ok() {
                raw.write(bytes).await;
            }
        })
        .await
    }

    /// Reads one request of each connection, and resets it without an answer.
    pub async fn resetting() -> Self {
        Self::start(|_, mut raw| async move {
            raw.read_message().await;
            raw.reset();
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.captured.lock().unwrap().len()
    }

    /// What each connection has brought so far.
    pub fn captured(&self) -> Vec<Vec<u8>> {
        let captured = self.captured.lock().unwrap();
        captured
            .iter()
            .map(|bytes| bytes.lock().unwrap().clone())
            .collect()
    }

    /// How many requests with that start came, over all connections.
    pub fn count(&self, start: &str) -> usize {
        let all = self.captured();
        all.iter()
            .map(|bytes| String::from_utf8_lossy(bytes).matches(start).count())
            .sum()
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        let panics = self.panics.lock().unwrap();
        if !std::thread::panicking() {
            assert!(panics.is_empty(), "a script panicked: {panics:?}");
        }
    }
}
