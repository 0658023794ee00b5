//! The floor: the least that a proxy made of hyper, tokio and rustls can do.
//!
//! It sets a fixed `Authorization` and another authority, relays both bodies as they come, and keeps
//! connections to the provider. No caller, no route, no token, no log, no metric, no time limit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bursar::server::worker::{Chosen, Threads};
use http::header::{AUTHORIZATION, HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::certificates;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
    #[arg(long)]
    ca: PathBuf,
}

type Sender = client::SendRequest<Incoming>;

struct Floor {
    upstream: SocketAddr,
    host: HeaderValue,
    tls: TlsConnector,
    idle: Mutex<Vec<Sender>>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let threads = Threads::start(std::thread::available_parallelism()?.get())?;
    let workers = threads.workers();
    // Each with connections of its own, as Bursar has them.
    let floors = (0..workers.count()).map(|_| Floor::new(&options).map(Arc::new));
    let floors: Vec<_> = floors.collect::<anyhow::Result<_>>()?;
    let listener = TcpListener::bind(options.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let chosen = workers.choose().context("a thread has ended")?;
        let Chosen {
            number,
            runtime,
            permit,
        } = chosen;
        let floor = floors[number].clone();
        runtime.spawn(async move {
            let _load = permit;
            let stream = TokioIo::new(TcpStream::from_std(stream)?);
            let service = service_fn(move |request| {
                let floor = floor.clone();
                async move { floor.forward(request).await }
            });
            server::Builder::new()
                .serve_connection(stream, service)
                .await?;
            // A caller that goes away is no news.
            anyhow::Ok(())
        });
    }
}

impl Floor {
    fn new(options: &Options) -> anyhow::Result<Self> {
        Ok(Self {
            upstream: options.upstream,
            host: HeaderValue::from_str(&options.upstream.to_string())?,
            tls: certificates::connector(&options.ca, true)?,
            idle: Mutex::default(),
        })
    }

    async fn forward(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let headers = request.headers_mut();
        headers.remove(PROXY_AUTHORIZATION);
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer fixed"));
        let mut sender = self.sender().await?;
        let answer = sender.send_request(request).await?;
        // It is ready again when the answer has been read; who takes it waits for that.
        self.idle().push(sender);
        Ok(answer)
    }

    async fn sender(&self) -> anyhow::Result<Sender> {
        let ready = {
            let mut idle = self.idle();
            let at = idle.iter().rposition(Sender::is_ready);
            if at.is_none() {
                idle.retain(|sender| !sender.is_closed());
            }
            at.map(|at| idle.swap_remove(at))
        };
        match ready {
            Some(sender) => Ok(sender),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.upstream.ip());
        let stream = self.tls.connect(name, stream).await.context("TLS")?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
