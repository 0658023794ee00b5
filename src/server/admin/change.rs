//! Changes by the admin port, for whoever shows the `admin_token`: freeze and thaw, reloads, the log's filter.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;

use super::boundary::is_of_this_origin;
use super::log_level;
use super::paths;
use super::refusals::Visitor;
use super::response::{TEXT, json, text, with_type};
use crate::exchange::{AdminControl, Proxy, Wish};
use crate::server::controls::Controls;
use crate::server::reload::{NoOutcome, Reloads};
use crate::server::status::{Frozen, ReloadOutcome};
use bursar_base::decision::{FREEZE_TIMES, Text};
use bursar_base::duration;
use bursar_http::headers::only;
use bursar_http::read_body::read_limited;
use bursar_journal as journal;

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
    visitor: Visitor<'_>,
    head: Parts,
    body: Incoming,
) -> Response<Full<Bytes>> {
    if !is_of_this_origin(&head) {
        return visitor.refuse_origin(proxy);
    }
    let Some(change) = Change::of(&head) else {
        return paths::refuse(head.uri.path());
    };
    if !proxy.admin_control.has_admin_token() {
        let said = "nothing can be changed here, because there is no `admin_token`\n";
        return paths::refuse_change(head.uri.path(), said);
    }
    if let Err(refused) = visitor.await_turn(proxy).await {
        return refused;
    }
    let shown = bearer(&head.headers).unwrap_or_default();
    if !proxy.admin_control.is_admin_token(shown) {
        return visitor.refuse_token(proxy);
    }
    visitor.connection.trust();
    let query = head.uri.query().unwrap_or_default();
    if !query.is_empty() && !matches!(change, Change::LogLevel(_)) {
        let said = "there is no query here; `by`, `reason` and `for` of a freeze are in its body\n";
        return text(StatusCode::BAD_REQUEST, said);
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
            match wish(is_frozen, &body, visitor.address) {
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
    /// For how long to freeze.
    r#for: Option<String>,
}

/// What is asked for, or what is wrong with it.
fn wish(is_frozen: bool, body: &[u8], address: IpAddr) -> Result<Wish, String> {
    let said = match body.trim_ascii() {
        [] => Said::default(),
        body => serde_json::from_slice(body).map_err(|_other| {
            "the body is JSON with `by`, `reason` and `for`, all texts, or empty\n".to_owned()
        })?,
    };
    let check = |kind: Text, name: &str, text: Option<String>| {
        let text = text.map(|text| kind.check(&text)).transpose();
        let text = text.map_err(|unfit| format!("`{name}` is {unfit}\n"));
        text.map(Option::flatten)
    };
    let time = match said.r#for.as_deref().map(duration::parse) {
        None => None,
        Some(_) if !is_frozen => return Err("a thaw has no `for`\n".to_owned()),
        Some(Ok(time)) if FREEZE_TIMES.contains(&time) => Some(time),
        Some(_) => return Err("`for` is a duration from 1s to 365d, such as 30m\n".to_owned()),
    };
    Ok(Wish {
        is_frozen,
        time,
        by: check(Text::By, "by", said.by)?
            .or_else(|| Text::By.fit(&format!("somebody at {address}"))),
        reason: check(Text::Reason, "reason", said.reason)?,
    })
}

async fn freeze(admin_control: &AdminControl, provider: &str, wish: Wish) -> Response<Full<Bytes>> {
    match admin_control.freeze(provider, wish).await {
        Ok(Some(decided)) => {
            let is_against_file = decided.in_file.is_some() && !decided.decision.is_frozen;
            let status = match is_against_file {
                true => StatusCode::CONFLICT,
                false => StatusCode::OK,
            };
            json(status, &Frozen::of(admin_control, provider, decided))
        }
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

/// The token that is shown, whatever the letter case of its scheme (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let shown = only(headers, &AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = shown.split_at_checked(b"bearer".len())?;
    let token = rest.trim_ascii_start();
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && token.len() < rest.len();
    is_bearer.then_some(token)
}
