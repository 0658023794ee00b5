//! The admin port: `/metrics`, `/healthz`, `/readyz` and `/status` for operators. Whoever shows the `admin_token` may
//! freeze a provider and thaw it.
//!
//! It shows what others know: tokens, counters, phases. No secret and no token comes through here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::exchange::{AdminControl, Live, Proxy};
use crate::server::status::{Frozen, Readiness, Status};
use bursar_journal as journal;

/// Connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole connection; a scraper that reads slowly does not hold one for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, live: Arc<Live>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection at the admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let live = live.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let proxy = live.current();
                async move { Ok::<_, Infallible>(respond(proxy, &request).await) }
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

async fn respond(proxy: Arc<Proxy>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return change(&proxy.admin_control, request).await;
    }
    let path = request.uri().path().to_owned();
    if path == "/healthz" {
        return text(StatusCode::OK, "ok\n");
    }
    // With thousands of accounts some of it takes longer than whoever is accepted meanwhile should wait.
    let shown = tokio::task::spawn_blocking(move || show(&proxy, &path)).await;
    shown.unwrap_or_else(|_panic| {
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this cannot be shown; see the log\n",
        )
    })
}

fn show(proxy: &Proxy, path: &str) -> Response<Full<Bytes>> {
    match path {
        "/readyz" => readiness(proxy),
        "/status" => json(StatusCode::OK, &Status::of(proxy)),
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
            "there are /metrics, /healthz, /readyz, /status and /ca.pem\n",
        ),
    }
}

/// Freezes and thaws.
async fn change(
    admin_control: &AdminControl,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let wish = [("/freeze/", true), ("/thaw/", false)]
        .into_iter()
        .find_map(|(prefix, is_frozen)| Some((path.strip_prefix(prefix)?, is_frozen)))
        .filter(|_| *request.method() == Method::POST);
    let refuse = |status, said, header, value| {
        let mut response = text(status, said);
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(header, value);
        response
    };
    let not_allowed = |said| refuse(StatusCode::METHOD_NOT_ALLOWED, said, ALLOW, "GET, HEAD");
    let Some((provider, is_frozen)) = wish else {
        return not_allowed("only POST /freeze/PROVIDER and POST /thaw/PROVIDER change anything\n");
    };
    let shown = request.headers().get(AUTHORIZATION);
    let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match admin_control.is_admin_token(shown.unwrap_or_default()) {
        None => not_allowed("nothing can be changed here, because there is no `admin_token`\n"),
        Some(false) => refuse(
            StatusCode::UNAUTHORIZED,
            "this takes the `admin_token`, as Authorization: Bearer\n",
            WWW_AUTHENTICATE,
            "Bearer realm=\"bursar admin\"",
        ),
        Some(true) => freeze(admin_control, provider, is_frozen).await,
    }
}

async fn freeze(
    admin_control: &AdminControl,
    provider: &str,
    is_frozen: bool,
) -> Response<Full<Bytes>> {
    let frozen = || {
        let providers = admin_control.providers();
        let frozen = providers.filter(|(_, is_frozen)| *is_frozen);
        frozen.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let was_frozen = frozen().contains(&provider);
    match admin_control.freeze(provider, is_frozen).await {
        Ok(true) => json(
            StatusCode::OK,
            &Frozen {
                all_frozen: frozen(),
                frozen: is_frozen,
                outlasts_restart: admin_control.has_journal(),
                provider,
                was_frozen,
            },
        ),
        Ok(false) => {
            let names: Vec<&str> = admin_control.providers().map(|(name, _)| name).collect();
            let said = format!(
                "there is no such provider; there are: {}\n",
                names.join(", ")
            );
            with_type(StatusCode::NOT_FOUND, TEXT, said.into())
        }
        Err(journal::Unavailable) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the provider is frozen, but the journal cannot be written: a restart may tell otherwise\n",
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

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(status, TEXT, Bytes::from_static(text.as_bytes()))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    // It cannot fail: no key of a map is anything but text.
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    with_type(status, "application/json", text.into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
