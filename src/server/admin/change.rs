//! Changes by the admin port, for whoever shows the `admin_token`: freeze and thaw, reloads, the log's filter.

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::log_level;
use super::response::{TEXT, json, text, with_type};
use crate::exchange::{AdminControl, Proxy};
use crate::server::controls::Controls;
use crate::server::reload::{NoOutcome, Reloads};
use crate::server::status::{Frozen, ReloadOutcome};
use bursar_journal as journal;
use bursar_telemetry::metrics::AdminRefusal;

/// What is asked for.
enum Change<'a> {
    /// Of a provider.
    Freeze(&'a str, bool),
    Reload,
    /// By this query.
    LogLevel(&'a str),
    UsualLogLevel,
}

impl<'a> Change<'a> {
    fn of(request: &'a Request<Incoming>) -> Option<Self> {
        let path = request.uri().path();
        if *request.method() != Method::POST {
            return None;
        }
        match path {
            "/reload" => return Some(Self::Reload),
            "/log-level" => return Some(Self::LogLevel(request.uri().query().unwrap_or_default())),
            "/log-level/restore" => return Some(Self::UsualLogLevel),
            _ => {}
        }
        let freeze = path.strip_prefix("/freeze/").map(|name| (name, true));
        let thaw = || path.strip_prefix("/thaw/").map(|name| (name, false));
        let (provider, is_frozen) = freeze.or_else(thaw)?;
        Some(Self::Freeze(provider, is_frozen))
    }
}

/// Makes a change, if the request may.
pub(super) async fn respond(
    proxy: &Proxy,
    controls: &Controls,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let Some(change) = Change::of(request) else {
        return not_allowed(
            "only POST /freeze/PROVIDER, /thaw/PROVIDER, /reload, /log-level and /log-level/restore change anything\n",
        );
    };
    let shown = request.headers().get(AUTHORIZATION);
    let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match proxy
        .admin_control
        .is_admin_token(shown.unwrap_or_default())
    {
        None => {
            return not_allowed("nothing can be changed here, because there is no `admin_token`\n");
        }
        Some(false) => {
            proxy.metrics().admin_refused(AdminRefusal::Token);
            return refuse(
                StatusCode::UNAUTHORIZED,
                "this takes the `admin_token`, as Authorization: Bearer\n",
                WWW_AUTHENTICATE,
                "Bearer realm=\"bursar admin\"",
            );
        }
        Some(true) => {}
    }
    match change {
        Change::Freeze(provider, is_frozen) => {
            freeze(&proxy.admin_control, provider, is_frozen).await
        }
        Change::Reload => reload(controls.reloads.as_ref()).await,
        Change::LogLevel(query) => log_level::put(controls.log_level.as_ref(), query),
        Change::UsualLogLevel => log_level::restore(controls.log_level.as_ref()),
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

/// Waits for the outcome, which is 422 where the configuration was rejected.
async fn reload(reloads: Option<&Reloads>) -> Response<Full<Bytes>> {
    let Some(reloads) = reloads else {
        let said = "this Bursar has no file that could be read again\n";
        return text(StatusCode::NOT_FOUND, said);
    };
    match reloads.reload().await {
        Ok(reloaded) => {
            let outcome = ReloadOutcome::of(&reloaded);
            let status = match reloaded.problems.is_empty() {
                true => StatusCode::OK,
                false => StatusCode::UNPROCESSABLE_ENTITY,
            };
            json(status, &outcome)
        }
        Err(NoOutcome::Busy) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many wait for reloads already\n",
        ),
        Err(NoOutcome::Ended) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "Bursar is draining, and reads nothing again\n",
        ),
        Err(NoOutcome::Late) => text(
            StatusCode::GATEWAY_TIMEOUT,
            "the reload has not ended yet; does a file system hang? /status will have its outcome\n",
        ),
    }
}

fn not_allowed(said: &'static str) -> Response<Full<Bytes>> {
    refuse(StatusCode::METHOD_NOT_ALLOWED, said, ALLOW, "GET, HEAD")
}

fn refuse(
    status: StatusCode,
    said: &'static str,
    header: HeaderName,
    value: &'static str,
) -> Response<Full<Bytes>> {
    let mut response = text(status, said);
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(header, value);
    response
}
