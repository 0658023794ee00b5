//! The admin port: a page, `/metrics`, `/healthz`, `/readyz` and `/status` for operators. Whoever shows the `admin_token` may
//! make changes. Both only where the request is for a host that the port has.
//!
//! It shows what others know: tokens, counters, phases. No secret and no token comes through here.

mod boundary;
mod change;
mod connections;
mod log_level;
mod paths;
mod refusals;
mod rendering;
mod response;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::controls::Controls;
use super::page::{Page, Shown};
use super::status::{Fleet, Readiness, Status};
use crate::exchange::{Live, Proxy};
use boundary::check_host;
use bursar_base::log_throttle::LogThrottles;
use bursar_telemetry::metrics::Limit;
use connections::{Connection, Connections, Opened};
use refusals::{Refusals, Visitor};
use rendering::{Kind, Rendering};
use response::{json, protect, text, with_type};

/// For a request's head, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole connection; a scraper that reads slowly does not hold one for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// What all connections share.
struct Shared {
    live: Arc<Live>,
    controls: Controls,
    connections: Arc<Connections>,
    /// From where connections were that were closed for others.
    closed: LogThrottles<IpAddr>,
    refusals: Refusals,
    rendering: Rendering,
    page: Page,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, live: Arc<Live>, controls: Controls) {
    let shared = Arc::new(Shared {
        live,
        controls,
        connections: Arc::default(),
        closed: LogThrottles::default(),
        refusals: Refusals::default(),
        rendering: Rendering::default(),
        page: Page::new(),
    });
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                let connection = shared.admit(address);
                tokio::spawn(serve_connection(
                    stream,
                    address,
                    connection,
                    shared.clone(),
                ));
                // What was closed for it is dropped before the next one is accepted: there are file descriptors for so many.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection at the admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Shared {
    fn admit(&self, address: IpAddr) -> Connection {
        let now = Instant::now();
        let Opened { connection, closed } = self.connections.open(address, now);
        if let Some(client) = closed {
            let proxy = self.live.current();
            proxy.metrics().limits.reached(Limit::AdminConnections);
            if self.closed.is_due(client, now) {
                tracing::warn!(%client, "the admin port has too many connections; of the address that has most, the one that has waited longest is closed for each new one");
            }
        }
        connection
    }
}

async fn serve_connection(
    stream: TcpStream,
    address: IpAddr,
    connection: Connection,
    shared: Arc<Shared>,
) {
    let connection = &connection;
    let service = service_fn(|request| {
        connection.touch(Instant::now());
        let (proxy, shared) = (shared.live.current(), &shared);
        let visitor = Visitor {
            address,
            connection,
            refusals: &shared.refusals,
        };
        async move {
            let response = respond(proxy, shared, visitor, request).await;
            connection.touch(Instant::now());
            Ok::<_, Infallible>(protect(response))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever ends it, there is nobody to tell.
    tokio::select! {
        () = connection.closing() => {}
        _ = tokio::time::timeout(CONNECTION_TIMEOUT, served) => {}
    }
}

async fn respond(
    proxy: Arc<Proxy>,
    shared: &Arc<Shared>,
    visitor: Visitor<'_>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let controls = &shared.controls;
    let (head, body) = request.into_parts();
    if let Err(error) = check_host(&head, proxy.admin_control.admin_hosts()) {
        return visitor.refuse_host(&proxy, &error);
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return change::respond(&proxy, controls, visitor, head, body).await;
    }
    let target = head.uri;
    match target.path() {
        "/healthz" => return text(StatusCode::OK, "ok\n"),
        "/log-level" => return log_level::show(controls.log_level.as_ref()),
        _ => {}
    }
    let kind = Kind::of(target.path());
    let fleet = match proxy.fleet().filter(|_| kind == Kind::Status) {
        Some(tokens) => Some(Fleet::of(tokens.fleet()).await),
        None => None,
    };
    // With thousands of accounts some of it takes longer than whoever is accepted meanwhile should wait.
    let (process, own) = (controls.shown.clone(), shared.clone());
    let rendered = shared.rendering.run(kind, move || match target.path() {
        "/" => page(
            &own.page,
            &proxy,
            &Status::of(&proxy, &process, fleet),
            &target,
        ),
        "/status" => json(StatusCode::OK, &Status::of(&proxy, &process, fleet)),
        path => show(&proxy, path),
    });
    rendered.await.unwrap_or_else(|| {
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this cannot be shown; see the log\n",
        )
    })
}

fn page(page: &Page, proxy: &Proxy, status: &Status, target: &Uri) -> Response<Full<Bytes>> {
    let names: Vec<&str> = proxy.admin_control.providers().collect();
    let html = page.render(Shown {
        status,
        readiness: &Readiness::of(proxy),
        providers: &names,
        can_change: proxy.admin_control.has_admin_token(),
        query: target.query().unwrap_or_default(),
    });
    response::page(html, page.policy())
}

fn show(proxy: &Proxy, path: &str) -> Response<Full<Bytes>> {
    match path {
        "/readyz" => readiness(proxy),
        "/metrics" => match proxy.metrics().scrape() {
            Ok(metrics) => with_type(StatusCode::OK, prometheus::TEXT_FORMAT, metrics.into()),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the metrics cannot be written; see the log\n",
                )
            }
        },
        "/ca.pem" => match proxy.authority() {
            Some(authority) => with_type(
                StatusCode::OK,
                "application/x-pem-file",
                authority.pem().to_owned().into(),
            ),
            None => text(StatusCode::NOT_FOUND, "there is no `intercept`\n"),
        },
        _ => paths::refuse(path),
    }
}

fn readiness(proxy: &Proxy) -> Response<Full<Bytes>> {
    let readiness = Readiness::of(proxy);
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &readiness)
}
