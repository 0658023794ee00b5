//! The admin port: a page, `/metrics`, `/healthz`, `/readyz` and `/status` for operators. Whoever shows the `admin_token` may
//! make changes. Both only where the request is for a host that the port has.
//!
//! It shows what others know: tokens, counters, phases. No secret and no token comes through here.

mod boundary;
mod change;
mod log_level;
mod refusals;
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
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::controls::Controls;
use super::page::{Page, Shown};
use super::status::{Fleet, Readiness, Status};
use crate::exchange::{Live, Proxy};
use boundary::check_host;
use refusals::{Refusals, Visitor};
use response::{json, protect, text, with_type};

/// Connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole connection; a scraper that reads slowly does not hold one for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// What all connections share.
struct Shared {
    refusals: Refusals,
    page: Page,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, live: Arc<Live>, controls: Controls) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shared = Arc::new(Shared {
        refusals: Refusals::default(),
        page: Page::new(),
    });
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection at the admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (live, controls, shared) = (live.clone(), controls.clone(), shared.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (proxy, controls, shared) = (live.current(), &controls, &shared);
                let address = peer.ip().to_canonical();
                async move {
                    let response = respond(proxy, controls, shared, address, request).await;
                    Ok::<_, Infallible>(protect(response))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // Whatever ends it, there is nobody to tell.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(permit);
        });
    }
}

async fn respond(
    proxy: Arc<Proxy>,
    controls: &Controls,
    shared: &Arc<Shared>,
    address: IpAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let visitor = Visitor {
        address,
        refusals: &shared.refusals,
    };
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
    let fleet = match proxy
        .fleet()
        .filter(|_| ["/", "/status"].contains(&target.path()))
    {
        Some(tokens) => Some(Fleet::of(tokens.fleet()).await),
        None => None,
    };
    // With thousands of accounts some of it takes longer than whoever is accepted meanwhile should wait.
    let (process, shared) = (controls.shown.clone(), shared.clone());
    let shown = tokio::task::spawn_blocking(move || match target.path() {
        "/" => page(
            &shared.page,
            &proxy,
            &Status::of(&proxy, &process, fleet),
            &target,
        ),
        "/status" => json(StatusCode::OK, &Status::of(&proxy, &process, fleet)),
        path => show(&proxy, path),
    });
    shown.await.unwrap_or_else(|_panic| {
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
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /, /metrics, /healthz, /readyz, /status, /log-level and /ca.pem\n",
        ),
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
