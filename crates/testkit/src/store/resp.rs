//! A client of the protocol of Redis (RESP2 and RESP3) that shows what stands on the wire, errors included.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::{eventually, soon};

/// What a store says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Nil,
    Text(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    /// Names and values in turn.
    Map(Vec<Self>),
    Push(Vec<Self>),
}

impl Value {
    /// As text, whatever kind of text it is; empty for what is none.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Error(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Nil | Self::Array(_) | Self::Map(_) | Self::Push(_) => String::new(),
        }
    }

    /// Its parts; none where it has no parts.
    #[must_use]
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Array(parts) | Self::Map(parts) | Self::Push(parts) => parts,
            _ => &[],
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection.
pub struct Connection {
    stream: BufStream<Box<dyn Stream>>,
    /// Pushes that came before what was waited for.
    pushes: VecDeque<Value>,
}

impl Connection {
    /// None: nobody is there.
    pub async fn open(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Option<Self> {
        let stream = soon(TcpStream::connect(address)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::from(address.ip());
                let connected = TlsConnector::from(tls).connect(name, stream);
                Box::new(soon(connected).await.ok()?)
            }
        };
        Some(Self {
            stream: BufStream::new(stream),
            pushes: VecDeque::new(),
        })
    }

    /// What comes back for a command, which may be an error.
    ///
    /// # Panics
    /// Where the connection breaks.
    pub async fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Value {
        self.try_call(command).await.unwrap()
    }

    /// The same. None: the connection broke.
    pub async fn try_call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Option<Value> {
        self.send(command).await?;
        loop {
            match soon(self.read()).await? {
                push @ Value::Push(_) => self.pushes.push_back(push),
                value => return Some(value),
            }
        }
    }

    /// Sends a command without waiting.
    pub async fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Option<()> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            let word = word.as_ref();
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
        self.stream.write_all(&bytes).await.ok()?;
        self.stream.flush().await.ok()
    }

    /// The next push.
    ///
    /// # Panics
    /// Where none comes, or something else.
    pub async fn push(&mut self) -> Vec<Value> {
        let push = match self.pushes.pop_front() {
            Some(push) => push,
            None => soon(self.read()).await.unwrap(),
        };
        match push {
            Value::Push(parts) => parts,
            other => panic!("no push but {other:?}"),
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await.ok()?;
        (read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Whatever comes next. None: the connection is closed.
    pub async fn read(&mut self) -> Option<Value> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1)?;
        let count = rest.parse::<i64>();
        Some(match kind {
            "+" | "," | "(" => Value::Text(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Number(count.ok()?),
            "#" => Value::Number(i64::from(rest == "t")),
            "_" => Value::Nil,
            "$" | "=" | "!" => match usize::try_from(count.ok()?) {
                Ok(length) => Value::Bytes(self.bytes(length).await?),
                Err(_negative) => Value::Nil,
            },
            "*" | "~" | ">" | "%" => {
                let Ok(count) = usize::try_from(count.ok()?) else {
                    return Some(Value::Nil);
                };
                let count = if kind == "%" { 2 * count } else { count };
                let mut parts = Vec::new();
                for _ in 0..count {
                    parts.push(Box::pin(self.read()).await?);
                }
                match kind {
                    ">" => Value::Push(parts),
                    "%" => Value::Map(parts),
                    _ => Value::Array(parts),
                }
            }
            other => panic!("{other:?} begins no value"),
        })
    }

    async fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await.ok()?;
        bytes.truncate(length);
        Some(bytes)
    }
}

/// Every command that a store is given, scripts' own included, from the start on.
pub struct Monitor {
    lines: Arc<Mutex<Vec<u8>>>,
    _reading: AbortOnDropHandle<()>,
}

impl Monitor {
    pub(super) async fn start(mut connection: Connection) -> Self {
        let said = connection.call(&["MONITOR"]).await;
        assert_eq!(said, Value::Text("OK".to_owned()));
        let lines: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = lines.clone();
        let reading = tokio::spawn(async move {
            loop {
                let mut line = Vec::new();
                match connection.stream.read_until(b'\n', &mut line).await {
                    Ok(read) if read > 0 => all.lock().unwrap().extend(line),
                    _ => return,
                }
            }
        });
        Self {
            lines,
            _reading: AbortOnDropHandle::new(reading),
        }
    }

    /// As they stand on the wire: what is not text is `\x00`.
    #[must_use]
    pub fn lines(&self) -> Vec<u8> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until that text is in them.
    pub async fn shows(&self, text: &str) {
        let shows = || async {
            let lines = self.lines();
            String::from_utf8_lossy(&lines).contains(text)
        };
        eventually(shows).await;
    }
}
