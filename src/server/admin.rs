//! What do operators see? `/metrics`, `/healthz`, `/readyz` and `/status`, on their own port. Whoever shows the
//! `admin_token` may freeze a provider and thaw it.
//!
//! It shows what others know: tokens, counters, phases. No secret and no token comes through here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::exchange::{AdminControl, Proxy, Reloaded};
use crate::server::reload::Live;
use crate::token::{CONTENTION, EndpointSnapshot, RefusedRoute, Snapshot, Source, TokenSnapshot};
use bursar_base::clock;
use bursar_config::Provider;
use bursar_journal as journal;
use bursar_telemetry::metrics::Reload;

/// Connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole connection; a scraper that reads slowly does not hold one for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// What `/readyz` says of a provider whose breaker is open.
const HELD: &str =
    "the provider cannot be reached; requests are refused until one that is tried succeeds";

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
            drop(tokio::time::timeout(CONNECTION_TIMEOUT, connection).await);
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
        "/status" => json(StatusCode::OK, &status(proxy)),
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
        Some(true) => match admin_control.freeze(provider, is_frozen).await {
            Ok(true) => json(
                StatusCode::OK,
                &json!({ "provider": provider, "frozen": is_frozen }),
            ),
            Ok(false) => text(StatusCode::NOT_FOUND, "there is no such provider\n"),
            Err(journal::Unavailable) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the provider is frozen, but the journal cannot be written: a restart may tell otherwise\n",
            ),
        },
    }
}

fn readiness(proxy: &Proxy) -> Response<Full<Bytes>> {
    let why = if proxy.admin_control.is_draining() {
        Some("draining")
    } else if !proxy.tokens.are_ready() {
        Some("no account has had a token yet")
    } else {
        None
    };
    let mut providers = serde_json::Map::new();
    for source in proxy.tokens.all() {
        let trouble = trouble(source).map(|why| match source.key.provider.accounts.len() {
            1 => why,
            _ => format!("account {}: {why}", source.key.account().name),
        });
        let entry = providers
            .entry(&*source.key.provider.name)
            .or_insert_with(|| json!({ "well": true }));
        if let Some(why) = trouble {
            *entry = json!({ "well": false, "why": why });
        }
    }
    for name in proxy.held_providers() {
        providers.insert(name.to_string(), json!({ "well": false, "why": HELD }));
    }
    let frozen = proxy.admin_control.providers();
    for (name, _) in frozen.filter(|(_, is_frozen)| *is_frozen) {
        let entry = providers
            .entry(name)
            .or_insert_with(|| json!({ "well": true }));
        entry["frozen"] = true.into();
    }
    let status = if why.is_none() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(
        status,
        &json!({ "ready": why.is_none(), "why": why, "providers": providers }),
    )
}

/// Why requests that need this token would fail now, or may.
fn trouble(source: &Source) -> Option<String> {
    let snapshot = source.snapshot(Instant::now());
    if snapshot.is_contended {
        return Some(CONTENTION.to_owned());
    }
    if snapshot.token.is_some_and(|token| token.is_valid) {
        return None;
    }
    match (
        snapshot.failing,
        source.at_startup && !source.ever_had_a_token(),
    ) {
        (Some(failure), _) => Some(failure),
        (None, true) => Some("no token yet".to_owned()),
        (None, false) => None,
    }
}

fn status(proxy: &Proxy) -> Value {
    let now = Instant::now();
    let frozen = proxy.admin_control.providers();
    let frozen: Vec<&str> = frozen.filter_map(|(name, is)| is.then_some(name)).collect();
    let tokens: Vec<Value> = proxy
        .tokens
        .all()
        .map(|source| token(source, &source.snapshot(now)))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "draining": proxy.admin_control.is_draining(),
        "frozen": frozen,
        "last_reload": proxy.admin_control.last_reload().map(|reloaded| reload(&reloaded)),
        "replay_memory_used_bytes": proxy.replay_memory_used(),
        "held_providers": proxy.held_providers().map(|name| &**name).collect::<Vec<_>>(),
        "token_endpoints": proxy.tokens.endpoints().map(endpoint).collect::<Vec<_>>(),
        "tokens": tokens,
    })
}

fn endpoint(snapshot: EndpointSnapshot) -> Value {
    json!({
        "provider": &*snapshot.provider,
        "calls_per_minute": snapshot.calls_per_minute,
        "calls_that_waited": snapshot.exhausted,
        "calls_are_held": snapshot.is_open,
    })
}

/// Problems hold no values, and so no secrets.
fn reload(reloaded: &Reloaded) -> Value {
    let problems = reloaded.problems.iter().map(ToString::to_string);
    let problems: Vec<String> = problems.collect();
    let outcome = match problems.is_empty() {
        true => Reload::Ok,
        false => Reload::Rejected,
    };
    json!({ "at": date(reloaded.at), "outcome": outcome.as_str(), "problems": problems })
}

fn date(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn token(source: &Source, snapshot: &Snapshot) -> Value {
    let seconds = |time: Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
    let token = snapshot.token.as_ref();
    let remaining = token.and_then(TokenSnapshot::remaining);
    let (last_outcome, last_outcome_at) = snapshot.last.unzip();
    let (last_error, last_error_at) = snapshot.last_error.clone().unzip();
    let routes = snapshot.refused_routes.iter();
    let routes: Vec<Value> = routes
        .map(|route| refused(&source.key.provider, route))
        .collect();
    json!({
        "provider": &*source.key.provider.name,
        "environment": source.key.provider.environment.map(bursar_config::Environment::as_str),
        "account": &*source.key.account().name,
        "scopes": &*source.key.scopes,
        "generation": token.map_or(0, |token| token.generation),
        "fingerprint": token.map(|token| token.fingerprint.to_string()),
        "age_seconds": token.map(|token| seconds(token.age)),
        "expires_in_seconds": remaining.map(seconds),
        "expires_at": remaining.map(|remaining| date(clock::wall() + remaining)),
        "missing_scopes": token.map(|token| token.missing_scopes.clone()).filter(|missing| !missing.is_empty()),
        "contention": snapshot.is_contended.then_some(CONTENTION),
        "secret_in_use": snapshot.secret_in_use.as_str(),
        "last_outcome": last_outcome,
        "last_outcome_at": last_outcome_at.map(date),
        "last_error": last_error,
        "last_error_at": last_error_at.map(date),
        "refused_routes": routes,
    })
}

/// A route that the provider refuses; a 403 may be about the very thing that was asked for.
fn refused(provider: &Provider, route: &RefusedRoute) -> Value {
    let title = &provider.title;
    let why = match route.unauthorized {
        0 => format!("{title} answers 403 on this route with these scopes"),
        _ => format!("{title} refuses this route with these scopes"),
    };
    json!({
        "route": &*route.route,
        "why": why,
        "unauthorized": route.unauthorized,
        "forbidden": route.forbidden,
        "since": date(route.since),
        "last": date(route.last),
    })
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    with_type(status, "application/json", format!("{value:#}\n").into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
