//! A scripted server: what real ones seldom say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream,
};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::super::link::Task;

/// What comes back for a command.
pub(super) enum Response {
    Bytes(Vec<u8>),
    /// As from far away.
    Late(Vec<u8>, Duration),
    Silence,
    /// The connection ends.
    Close,
}

/// It responds as its script says.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _task: Task,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Scripted {
    pub(super) async fn start(
        tls: Option<Arc<ServerConfig>>,
        respond: impl Fn(&[String]) -> Response + Send + Sync + 'static,
    ) -> Self {
        let (listener, address) = bursar_testkit::listen().await;
        let accepted = Arc::<AtomicUsize>::default();
        let (respond, count) = (Arc::new(respond), accepted.clone());
        let task = Task::spawn(async move {
            let mut all = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (tls, respond) = (tls.clone(), respond.clone());
                all.push(Task::spawn(async move {
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    drop(serve(BufStream::new(stream), &*respond).await);
                }));
            }
        });
        Self {
            address,
            accepted,
            _task: task,
        }
    }

    /// How many connections there have been.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn serve(
    mut stream: BufStream<Box<dyn Stream>>,
    respond: &(dyn Fn(&[String]) -> Response + Send + Sync),
) -> std::io::Result<()> {
    loop {
        let count = number(&mut stream).await?;
        let mut command = Vec::new();
        for _ in 0..count {
            let mut word = vec![0; number(&mut stream).await? + 2];
            stream.read_exact(&mut word).await?;
            word.truncate(word.len() - 2);
            command.push(String::from_utf8(word).unwrap());
        }
        match respond(&command) {
            Response::Bytes(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Response::Late(bytes, by) => {
                sleep(by).await;
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Response::Silence => {}
            Response::Close => return Ok(()),
        }
    }
}

async fn number(stream: &mut BufStream<Box<dyn Stream>>) -> std::io::Result<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let number = line.get(1..).and_then(|rest| rest.trim_end().parse().ok());
    number.ok_or(std::io::ErrorKind::UnexpectedEof.into())
}

/// As a server does that is fine.
pub(super) fn fine(command: &[String]) -> Response {
    let bytes = match &*command[0] {
        "HELLO" => "%1\r\n$5\r\nproto\r\n:3\r\n".to_owned(),
        "SUBSCRIBE" => {
            let confirm = |(at, channel): (usize, &String)| {
                let length = channel.len();
                format!(
                    ">3\r\n$9\r\nsubscribe\r\n${length}\r\n{channel}\r\n:{}\r\n",
                    at + 1
                )
            };
            command[1..].iter().enumerate().map(confirm).collect()
        }
        "EVAL" | "EVALSHA" => ":1\r\n".to_owned(),
        _ => "-ERR unknown command\r\n".to_owned(),
    };
    Response::Bytes(bytes.into_bytes())
}
