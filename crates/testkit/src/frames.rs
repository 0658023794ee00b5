//! A server of HTTP/2, frame by frame: for what no HTTP library would send.

use std::future::Future;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use crate::soon;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// `:status: 200`.
pub const OK: &[u8] = b"\x88";

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// SETTINGS, which may say how many requests are taken at a time.
pub fn settings(limit: Option<u32>) -> Vec<u8> {
    let limit = limit.map(|limit| [&[0, 3], &limit.to_be_bytes()[..]].concat());
    frame(SETTINGS, 0, 0, &limit.unwrap_or_default())
}

/// GOAWAY with a last stream and an error.
pub fn goaway(last: u32, error: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), error.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// A field that neither side adds to its table.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    // A longer length has two bytes.
    let short = |bytes: &[u8]| {
        u8::try_from(bytes.len())
            .ok()
            .filter(|length| *length < 127)
    };
    let short = |bytes| short(bytes).unwrap();
    [&[0, short(name)], name, &[short(value)], value].concat()
}

/// A connection, after the proxy's preface, and as a rule the server's.
pub struct Frames {
    stream: TlsStream<TcpStream>,
}

impl Frames {
    /// The next frame that is no acknowledgement, ping or window; None at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let [l1, l2, l3, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes(stream);
            match (kind, flags & 1) {
                (SETTINGS, 0) => self.write(frame(SETTINGS, 1, 0, b"")).await,
                (6, 0) => self.write(frame(6, 1, 0, &payload)).await,
                (SETTINGS | 6 | 8, _) => {}
                _ => {
                    return Some(Frame {
                        kind,
                        flags,
                        stream,
                        payload,
                    });
                }
            }
        }
    }

    /// The stream of the next request, once its head and body have come; None at the end.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may be gone already.
        drop(self.stream.write_all(bytes.as_ref()).await);
        drop(self.stream.flush().await);
    }

    /// An answer without a body.
    pub async fn answer(&mut self, stream: u32) {
        self.write(frame(HEADERS, END_HEADERS | END_STREAM, stream, OK))
            .await;
    }

    /// Ends TLS and TCP.
    pub async fn close(mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Closes with a reset instead of an end.
    pub fn reset(self) {
        self.stream.get_ref().0.set_zero_linger().unwrap();
    }
}

/// The server; each connection is served by a closure that gets its number, from 0.
pub struct FrameServer {
    pub url: String,
    _accepting: AbortOnDropHandle<()>,
}

impl FrameServer {
    pub async fn start<F>(
        tls: Arc<ServerConfig>,
        serve: impl Fn(usize, Frames) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serve = Arc::new(serve);
        Self::start_silent(tls, move |number, mut frames| {
            let serve = serve.clone();
            async move {
                frames.write(settings(None)).await;
                serve(number, frames).await;
            }
        })
        .await
    }

    /// One that leaves its settings to the closure.
    pub async fn start_silent<F>(
        tls: Arc<ServerConfig>,
        serve: impl Fn(usize, Frames) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let Ok(mut stream) = TlsAcceptor::from(tls.clone()).accept(tcp).await else {
                    continue;
                };
                let mut preface = [0; 24];
                if soon(stream.read_exact(&mut preface)).await.is_err() {
                    continue;
                }
                connections.spawn(serve(number, Frames { stream }));
            }
        });
        Self {
            url,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }
}
