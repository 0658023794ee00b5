//! The provider: an API behind TLS that wants a token, and the token endpoint that has it.
//!
//! One thread. TLS 1.3 and one cipher, so that every proxy speaks the same.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::wire::{Head, Wire};

/// As TLS names it.
const HTTP2: &[u8] = b"h2";
/// How long a request in the storm is held, so that all of them are under way when the token is revoked.
const HOLD: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    api: SocketAddr,
    #[arg(long)]
    token: SocketAddr,
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
    /// Of each token
    #[arg(long)]
    lifetime_seconds: u64,
    /// How far away the token endpoint is
    #[arg(long)]
    delay_milliseconds: u64,
    /// The API speaks HTTP/2, to whom offers that
    #[arg(long)]
    http2: bool,
}

/// Tokens are numbered; those before `valid_from` are revoked.
struct Tokens {
    calls: Cell<u64>,
    /// Calls under way, and the most that ever were.
    open: Cell<u64>,
    peak: Cell<u64>,
    valid_from: Cell<u64>,
    lifetime_seconds: u64,
    delay: Duration,
    /// How long requests of a day's mixture that were refused had taken here, by their numbers.
    refused: RefCell<HashMap<u64, Duration>>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let tokens = Rc::new(Tokens {
        calls: Cell::new(0),
        open: Cell::new(0),
        peak: Cell::new(0),
        valid_from: Cell::new(0),
        lifetime_seconds: options.lifetime_seconds,
        delay: Duration::from_millis(options.delay_milliseconds),
        refused: RefCell::default(),
    });
    let tls = acceptor(&options)?;
    let api = TcpListener::bind(options.api).await?;
    let endpoint = TcpListener::bind(options.token).await?;
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            loop {
                tokio::select! {
                    connection = api.accept() => {
                        let (stream, _) = connection?;
                        let (tls, tokens) = (tls.clone(), tokens.clone());
                        // A proxy that goes away in the middle is no news.
                        tokio::task::spawn_local(async move { drop(serve_api(stream, &tls, &tokens).await) });
                    }
                    connection = endpoint.accept() => {
                        let (stream, _) = connection?;
                        let tokens = tokens.clone();
                        tokio::task::spawn_local(async move { drop(serve_tokens(stream, &tokens).await) });
                    }
                }
            }
        })
        .await
}

fn acceptor(options: &Options) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&options.certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&options.key)?;
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if options.http2 {
        config.alpn_protocols.insert(0, HTTP2.to_vec());
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve_api(stream: TcpStream, tls: &TlsAcceptor, tokens: &Rc<Tokens>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
        return serve_http2(stream, tokens).await;
    }
    let mut wire = Wire::new(stream);
    let ordinary = answer("200 OK", &"x".repeat(512));
    let unauthorized = answer("401 Unauthorized", "");
    while let Some(head) = wire.head().await? {
        wire.skip(head.length()?).await?;
        let Some(token) = token(&head) else {
            wire.send(&unauthorized).await?;
            continue;
        };
        let path = head.first_line().split(|byte| *byte == b' ').nth(1);
        let path = std::str::from_utf8(path.unwrap_or(&[])).unwrap_or("");
        if let Some(length) = path.strip_prefix("/bytes/") {
            let length = length.parse().map_err(io::Error::other)?;
            wire.send(head_of("200 OK", length).as_bytes()).await?;
            wire.send_zeros(length).await?;
        } else if path.starts_with("/storm") {
            tokio::time::sleep(HOLD).await;
            wire.send(if tokens.takes(token) {
                &ordinary
            } else {
                &unauthorized
            })
            .await?;
        } else if let Some(day_request) = DayRequest::parse(path) {
            let answer = match tokens.hold(day_request, token).await {
                Some(took) => {
                    let field = format!("{TOOK}: {}\r\nCache-Control", took.as_micros());
                    let ordinary = std::str::from_utf8(&ordinary).map_err(io::Error::other)?;
                    ordinary.replace("Cache-Control", &field).into_bytes()
                }
                None => unauthorized.clone(),
            };
            wire.send(&answer).await?;
        } else {
            wire.send(&ordinary).await?;
        }
    }
    Ok(())
}

/// The usual answer, to whom has a token.
async fn serve_http2(stream: TlsStream<TcpStream>, tokens: &Rc<Tokens>) -> io::Result<()> {
    let body = Bytes::from("x".repeat(512));
    let tokens = tokens.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (body, tokens) = (body.clone(), tokens.clone());
        async move {
            let (head, mut body_sent) = request.into_parts();
            while let Some(Ok(_)) = body_sent.frame().await {}
            let token = head.headers.get(AUTHORIZATION);
            let token = token.and_then(|field| field.to_str().ok()?.strip_prefix("Bearer "));
            let target = head.uri.path_and_query();
            let day_request = target.and_then(|target| DayRequest::parse(target.as_str()));
            let took = match (token, day_request) {
                (None, _) => None,
                (Some(_), None) => Some(Duration::ZERO),
                (Some(token), Some(day_request)) => tokens.hold(day_request, token).await,
            };
            let status = if took.is_some() { 200 } else { 401 };
            let mut response = Response::builder().status(status);
            if let (Some(_), Some(took)) = (day_request, took) {
                response = response.header(TOOK, took.as_micros().to_string());
            }
            response
                .header("server", "provider")
                .header("content-type", "application/json")
                .header("x-request-id", "0123456789abcdef")
                .header("cache-control", "no-store")
                .body(Full::new(body))
        }
    });
    let connection = http2::Builder::new(Local).serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

/// Microseconds that a request of a day's mixture spent here, those of its first attempt included.
pub(crate) const TOOK: &str = "x-took";

/// What a request of a day's mixture asks for: `?wait=MILLISECONDS&number=N`.
#[derive(Clone, Copy, Debug)]
struct DayRequest {
    wait: Duration,
    number: u64,
}

impl DayRequest {
    fn parse(path: &str) -> Option<Self> {
        let (_, query) = path.split_once("?wait=")?;
        let (wait, number) = query.split_once("&number=")?;
        Some(Self {
            wait: Duration::from_millis(wait.parse().ok()?),
            number: number.parse().ok()?,
        })
    }
}

impl Tokens {
    /// Whether a token was not revoked; a proxy whose token is fixed has none that could be.
    fn takes(&self, token: &str) -> bool {
        let number = token.trim_start_matches("token-").parse::<u64>();
        number.map_or(token.starts_with("fixed"), |number| {
            number >= self.valid_from.get()
        })
    }

    /// Lets a request wait, and says how long it was here; None: its token is not valid any more.
    async fn hold(&self, day_request: DayRequest, token: &str) -> Option<Duration> {
        let since = Instant::now();
        tokio::time::sleep(day_request.wait).await;
        let before = self.refused.borrow_mut().remove(&day_request.number);
        let took = since.elapsed() + before.unwrap_or_default();
        if self.takes(token) {
            return Some(took);
        }
        self.refused.borrow_mut().insert(day_request.number, took);
        None
    }
}

/// Where the tasks of a connection run.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

fn token(head: &Head) -> Option<&str> {
    head.field("authorization")?.strip_prefix("Bearer ")
}

async fn serve_tokens(stream: TcpStream, tokens: &Tokens) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await? {
        wire.skip(head.length()?).await?;
        let line = head.first_line();
        if line.starts_with(b"POST /token ") {
            let number = tokens.calls.get() + 1;
            tokens.calls.set(number);
            tokens.open.set(tokens.open.get() + 1);
            tokens.peak.set(tokens.peak.get().max(tokens.open.get()));
            tokio::time::sleep(tokens.delay).await;
            tokens.open.set(tokens.open.get() - 1);
            let body = format!(
                r#"{{"access_token":"token-{number:060}","token_type":"Bearer","expires_in":{}}}"#,
                tokens.lifetime_seconds
            );
            wire.send(&answer("200 OK", &body)).await?;
        } else if line.starts_with(b"POST /revoke ") {
            tokens.valid_from.set(tokens.calls.get() + 1);
            wire.send(&answer("200 OK", "")).await?;
        } else {
            let calls = format!("{} {}", tokens.calls.get(), tokens.peak.get());
            wire.send(&answer("200 OK", &calls)).await?;
        }
    }
    Ok(())
}

fn head_of(status: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nDate: Fri, 20 Nov 2026 16:00:00 GMT\r\nServer: provider\r\nContent-Type: application/json\r\n\
         X-Request-Id: 0123456789abcdef\r\nCache-Control: no-store\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    (head_of(status, body.len()) + body).into_bytes()
}
