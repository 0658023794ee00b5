//! Changes by the admin port, for whoever shows the `admin_token`: freeze and thaw, reloads, the log's filter.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;

use super::log_level;
use super::response::{TEXT, json, text, with_type};
use crate::exchange::{AdminControl, Proxy, Wish};
use crate::server::controls::Controls;
use crate::server::reload::{NoOutcome, Reloads};
use crate::server::status::{Frozen, ReloadOutcome};
use bursar_base::decision::Text;
use bursar_http::read_body::read_limited;
use bursar_journal as journal;
use bursar_telemetry::metrics::AdminRefusal;

/// What is read of a request.
const MAX_BODY_BYTES: usize = 4096;
/// How long that may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked for.
enum Change<'a> {
    /// Of a provider; who and why are in the body.
    Freeze(&'a str, bool),
    Reload,
    /// By this query.
    LogLevel(&'a str),
    UsualLogLevel,
}

impl<'a> Change<'a> {
    fn of(request: &'a Parts) -> Option<Self> {
        let path = request.uri.path();
        if request.method != Method::POST {
            return None;
        }
        match path {
            "/reload" => return Some(Self::Reload),
            "/log-level" => return Some(Self::LogLevel(request.uri.query().unwrap_or_default())),
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
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Some(change) = Change::of(&head) else {
        return not_allowed(
            "only POST /freeze/PROVIDER, /thaw/PROVIDER, /reload, /log-level and /log-level/restore change anything\n",
        );
    };
    let shown = head.headers.get(AUTHORIZATION);
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
            let read = tokio::time::timeout(BODY_TIMEOUT, read_limited(body, MAX_BODY_BYTES)).await;
            let Ok(Ok(body)) = read else {
                return text(
                    StatusCode::BAD_REQUEST,
                    "the body does not end, or is too long\n",
                );
            };
            match wish(is_frozen, &body) {
                Ok(wish) => freeze(&proxy.admin_control, provider, wish).await,
                Err(said) => with_type(StatusCode::BAD_REQUEST, TEXT, said.into()),
            }
        }
        Change::Reload => reload(controls.reloads.as_ref()).await,
        Change::LogLevel(query) => log_level::put(controls.log_level.as_ref(), query),
        Change::UsualLogLevel => log_level::restore(controls.log_level.as_ref()),
    }
}

/// What the body of a freeze or a thaw says. Nothing has to be said.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    by: Option<String>,
    reason: Option<String>,
}

/// What is asked for, or what is wrong with it.
fn wish(is_frozen: bool, body: &[u8]) -> Result<Wish, String> {
    let said = match body.trim_ascii() {
        [] => Said::default(),
        body => serde_json::from_slice(body).map_err(|_other| {
            "the body is JSON with `by` and `reason`, both texts, or empty\n".to_owned()
        })?,
    };
    let check = |kind: Text, name: &str, text: Option<String>| {
        let text = text.map(|text| kind.check(&text)).transpose();
        let text = text.map_err(|unfit| format!("`{name}` is {unfit}\n"));
        text.map(Option::flatten)
    };
    Ok(Wish {
        is_frozen,
        by: check(Text::By, "by", said.by)?,
        reason: check(Text::Reason, "reason", said.reason)?,
    })
}

async fn freeze(admin_control: &AdminControl, provider: &str, wish: Wish) -> Response<Full<Bytes>> {
    match admin_control.freeze(provider, wish).await {
        Ok(Some(decided)) => json(
            StatusCode::OK,
            &Frozen::of(admin_control, provider, decided),
        ),
        Ok(None) => {
            let names: Vec<&str> = admin_control.providers().collect();
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
