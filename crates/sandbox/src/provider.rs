//! Server of an emulated provider: TLS, HTTP/1.1 and HTTP/2 on a port of its own.
//!
//! What it answers is its [`Emulation`]'s; there is one file for each provider beside this one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::call::{Call, EmulatedResponse};
use crate::issuing::Issuing;

/// Larger bodies are cut off.
const MAX_BODY_BYTES: usize = 512 << 20;
/// So much of a body is looked at.
const READ_BODY_BYTES: usize = 1 << 20;
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How one provider behaves.
pub(crate) trait Emulation: Send {
    /// What it answers, at its token endpoints and its API alike.
    fn respond(&mut self, call: &Call) -> EmulatedResponse;
    /// Its tokens.
    fn issuing(&mut self) -> &mut Issuing;
}

/// How one provider is set up.
#[derive(Debug)]
pub struct Dialect {
    /// The name of its preset.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What its token endpoint takes.
    pub client_id: &'static str,
    /// The same.
    pub client_secret: &'static str,
    /// Where its token endpoint is.
    pub token_path: &'static str,
    /// Where refresh tokens are taken, if elsewhere.
    pub refresh_path: Option<&'static str>,
    /// Further keys of the provider in the sandbox's configuration.
    pub extra_configuration: &'static [(&'static str, &'static str)],
    /// What its most used operations are, and the ends of `curl` lines that try them.
    pub examples: [(&'static str, &'static str); 2],
    pub(crate) emulation: fn(Duration) -> Box<dyn Emulation>,
}

/// A running emulation.
#[derive(Debug)]
pub struct Provider {
    /// How it behaves.
    pub dialect: &'static Dialect,
    /// Where it listens.
    pub address: SocketAddr,
}

type Shared = Arc<Mutex<Box<dyn Emulation>>>;

impl Provider {
    pub(crate) async fn start(
        dialect: &'static Dialect,
        tls: Arc<ServerConfig>,
        lifetime: Duration,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let emulation: Shared = Arc::new(Mutex::new((dialect.emulation)(lifetime)));
        tokio::spawn(async move {
            let tls = TlsAcceptor::from(tls);
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        drop(tokio::spawn(serve(emulation.clone(), tls.clone(), stream)));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self { dialect, address })
    }
}

async fn serve(emulation: Shared, tls: TlsAcceptor, stream: TcpStream) {
    drop(stream.set_nodelay(true));
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let service = service_fn(move |request| {
        let emulation = emulation.clone();
        async move { Ok::<_, Infallible>(respond(&emulation, request).await) }
    });
    // A caller that leaves is no news.
    if is_http2 {
        drop(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .await,
        );
    } else {
        drop(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .await,
        );
    }
}

async fn respond(emulation: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let mut body = Limited::new(body, MAX_BODY_BYTES);
    let (mut begin, mut received) = (Vec::new(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.data_ref().map_or(&[][..], |data| data);
        received += data.len();
        let room = READ_BODY_BYTES.saturating_sub(begin.len());
        begin.extend_from_slice(data.get(..room).unwrap_or(data));
    }
    let call = Call::new(head, &begin, received);
    let mut emulation = emulation.lock().unwrap_or_else(PoisonError::into_inner);
    let response = match (call.method(), call.path()) {
        // The sandbox's own, not the provider's.
        ("POST", "/sandbox/revoke") => {
            EmulatedResponse::ok(json!({ "revoked": emulation.issuing().revoke_all() }))
        }
        _ => emulation.respond(&call),
    };
    response.into_http()
}
