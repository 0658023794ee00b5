//! A scripted parent proxy: it answers `CONNECT` and nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::listen;

/// What the proxy does with a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// Connects there, whatever was asked for.
    To(SocketAddr),
    /// Writes this and closes.
    Say(String),
    /// Says nothing, for ever.
    Hang,
}

/// The proxy. Dropping it ends it.
pub struct Parent {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Parent {
    /// Decides with `script`, which gets the host that was asked for, with its port.
    pub async fn start(script: impl Fn(&str) -> Action + Send + Sync + 'static) -> Self {
        let (listener, address) = listen().await;
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = heads.clone();
        let accepting = tokio::spawn(async move {
            // Dropping the set with the proxy ends its connections.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                all.lock().unwrap().push(head);
                let action = script(&target);
                connections.spawn(serve(stream, action));
            }
        });
        Self {
            address,
            heads,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

async fn serve(mut stream: TcpStream, action: Action) {
    match action {
        Action::To(address) => {
            let mut server = TcpStream::connect(address).await.unwrap();
            let yes = "HTTP/1.1 200 Connection established\r\n\r\n";
            if stream.write_all(yes.as_bytes()).await.is_ok() {
                drop(copy_bidirectional(&mut stream, &mut server).await);
            }
        }
        Action::Say(text) => {
            drop(stream.write_all(text.as_bytes()).await);
            drop(stream.shutdown().await);
            // Closing with unread bytes would reset the connection before the answer is read.
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
        }
        Action::Hang => std::future::pending().await,
    }
}
