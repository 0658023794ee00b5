//! Responses of Bursar's own when something fails: the one place where a status is chosen.
//!
//! Every failure of every stage is matched here, so that a new one does not compile until it has a
//! status, a reason and words. The words are fixed: no internal error text, no secret, nothing that came
//! over the wire gets into an answer.

#![warn(clippy::wildcard_enum_match_arm)]

mod advice;
mod description;
mod detail;
mod reason_phrase;
mod refusal;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, DATE, PROXY_AUTHENTICATE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::exchange::caller;
use crate::exchange::route;
use crate::upstream::Peer;
use bursar_base::clock;
use bursar_http::headers::PSEUDONYM;
use bursar_http::target::{self, Form};
use bursar_journal as journal;
use bursar_telemetry::metrics::{Cause, Limit, Reason, RefusalDetail};
use description::{
    Description, RequestSent, SOON, describe, failed, no_connection, no_tunnel, soon, token,
};

pub use advice::advice;
pub(super) use detail::failed as send_failure;
pub use refusal::{CallerToken, Refusal};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"bursar\", charset=\"UTF-8\"");

const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// A disk is not emptied in a second.
const JOURNAL_RETRY: Duration = Duration::from_secs(5);

/// A refusal as the caller gets it, and why, for metrics and log.
#[derive(Debug)]
pub struct Refused {
    /// With its whole body.
    pub response: Response<Bytes>,
    /// Why.
    pub reason: Reason,
    /// Which of its meanings it has; None where it has one.
    pub detail: Option<RefusalDetail>,
    /// Where the status line says why, because a client shows nothing else of it.
    pub phrase: Option<ReasonPhrase>,
    /// Why there was no connection, if that is why.
    pub cause: Option<Cause>,
    /// The server that is behind it, where a refusal knows it better than the attempts do.
    pub peer: Option<Arc<Peer>>,
}

/// RFC 9457.
#[derive(Serialize)]
struct ProblemDetails<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'static str,
    request_sent: RequestSent,
    request_id: String,
}

impl Refusal {
    fn describe(&self) -> Description {
        match self {
            Self::Target(target::Error::Method(detail)) => not_a_method(*detail),
            Self::Framing(doubt) => describe(
                400,
                Reason::BadRequest,
                "http_request_error",
                doubt.as_str(),
            ),
            Self::Target(target::Error::Malformed(_, what)) => {
                describe(400, Reason::BadRequest, "http_request_error", *what)
            }
            Self::Loop => describe(
                508,
                Reason::Loop,
                "proxy_loop_detected",
                "the request has already passed through Bursar; check the provider's upstream",
            ),
            Self::Caller(caller::Error::Busy, _) => soon(
                Reason::Overloaded,
                "too many callers' passwords wait to be verified",
            ),
            Self::CallerLimit(exceeded) => Description {
                retry_after: Some(exceeded.retry_after()),
                ..describe(
                    429,
                    Reason::CallerLimitExceeded,
                    "http_request_denied",
                    "too many requests of this caller at once or in a second; see `limits` of the caller",
                )
            },
            Self::Caller(caller::Error::Unauthenticated, form) => unauthenticated(*form),
            Self::Tunnel(error) => no_tunnel(*error),
            Self::Route(error, detail) => {
                let reason = match error {
                    route::Error::UnknownHost => Reason::DestinationNotAllowed,
                    route::Error::TokenEndpoint => Reason::TokenEndpointProtected,
                    route::Error::OutsidePaths
                    | route::Error::NotAllowed
                    | route::Error::AccountNotAllowed
                    | route::Error::AccountMissing
                    | route::Error::NoScopes
                    | route::Error::Ambiguous => Reason::RouteNotAllowed,
                };
                describe(403, reason, "http_request_denied", detail.clone())
            }
            Self::CallerToken(error) => no_caller_token(*error),
            Self::Token(missing) => token(missing),
            Self::Connect(error) => no_connection(error),
            Self::Send(error) => failed(error),
            Self::Limit(limit) => limited(*limit),
            Self::Overloaded => soon(Reason::Overloaded, "too many requests at once"),
            Self::Draining => soon(
                Reason::Draining,
                "Bursar is about to end and begins no request that moves money; nothing was sent, so send it again on a new connection",
            ),
            Self::CutOff { was_sent } => cut_off(*was_sent),
            Self::CallerLeft => describe(
                499,
                Reason::CallerLeft,
                "connection_terminated",
                "the caller closed its connection before the request was sent to the provider; nothing was sent",
            ),
            Self::Journal(journal::Unavailable) => unwritten(),
            Self::Frozen => frozen(),
            Self::FreezesUnknown => soon(
                Reason::Frozen,
                "this instance has just started, and has not read yet which providers the fleet has frozen; nothing was sent, so send it again in a moment",
            ),
        }
    }

    /// The response to the request with that id.
    #[must_use]
    pub fn respond(self, request_id: String) -> Refused {
        let described = self.describe();
        let reason = described.reason.as_str();
        let problem = ProblemDetails {
            title: described.status.canonical_reason().unwrap_or("Error"),
            status: described.status.as_u16(),
            detail: &described.detail,
            reason,
            request_sent: described.sent,
            request_id,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = described.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        insert(
            headers,
            PROXY_STATUS,
            &format!(
                "{PSEUDONYM}; error={}; details=\"{reason}\"",
                described.proxy_error
            ),
        );
        insert(headers, DATE, &httpdate::fmt_http_date(clock::wall()));
        if let Some(wait) = described.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some((name, value)) = described.field.clone() {
            headers.insert(name, value);
        }
        Refused {
            response,
            reason: described.reason,
            detail: detail::of(&self),
            phrase: reason_phrase::of(&described),
            cause: self.cause(),
            peer: self.peer(),
        }
    }
}

/// Says what Bursar can do. It is asked before anybody says who they are, as servers and proxies have it: there is
/// nothing in the answer that is not in every other one.
#[must_use]
pub fn capabilities() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, METHODS);
    insert(headers, DATE, &httpdate::fmt_http_date(clock::wall()));
    response
}

fn limited(limit: Limit) -> Description {
    let overloaded = |detail| soon(Reason::Overloaded, detail);
    match limit {
        Limit::CallerConnections => Description {
            retry_after: Some(SOON),
            ..describe(
                429,
                Reason::CallerLimitExceeded,
                "http_request_denied",
                "too many connections of this caller at once; see `limits.connections` of the caller",
            )
        },
        Limit::Headers => describe(
            431,
            Reason::HeadersTooLarge,
            "http_request_error",
            "the request has too many header fields; see `limits.headers`",
        ),
        Limit::TargetSize => describe(
            414,
            Reason::TargetTooLong,
            "http_request_error",
            "the request target is too long; see `limits.target_size`",
        ),
        Limit::Tunnels => overloaded("too many tunnels at once; see `limits.tunnels`"),
        Limit::Requests => overloaded("too many requests at once; see `limits.requests`"),
        // Those end connections, or are refused by other names.
        Limit::Connections
        | Limit::UnknownConnections
        | Limit::Accept
        | Limit::AdminConnections
        | Limit::CallerRequests
        | Limit::Resets
        | Limit::HeadTimeout
        | Limit::IdleTimeout
        | Limit::BodyTimeout
        | Limit::WriteTimeout => overloaded("too much at once"),
    }
}

fn not_a_method(detail: RefusalDetail) -> Description {
    let detail = match detail == RefusalDetail::ConnectTarget {
        true => "CONNECT is written in capitals and takes host:port only",
        false => "TRACE is never forwarded, because its response would repeat the token",
    };
    Description {
        field: Some((ALLOW, METHODS)),
        ..describe(405, Reason::MethodNotAllowed, "http_request_error", detail)
    }
}

/// Without `Retry-After` where that would have a payment made twice.
fn cut_off(was_sent: bool) -> Description {
    match was_sent {
        true => Description {
            sent: RequestSent::Maybe,
            ..describe(
                503,
                Reason::Draining,
                "connection_terminated",
                "Bursar ends, and could not wait any longer for the provider to respond (`drain_timeout`); the request may have been processed",
            )
        },
        false => soon(
            Reason::Draining,
            "Bursar ends, and could not wait any longer (`drain_timeout`); the provider has processed nothing, so send it again on a new connection",
        ),
    }
}

fn unwritten() -> Description {
    Description {
        retry_after: Some(JOURNAL_RETRY),
        ..describe(
            503,
            Reason::JournalUnavailable,
            "proxy_internal_error",
            "the request moves money, and the journal cannot be written; is its disk full, or `journal.max_size` reached?",
        )
    }
}

/// Thawing is up to people, so nobody knows when.
fn frozen() -> Description {
    Description {
        retry_after: Some(Duration::from_secs(60)),
        ..describe(
            503,
            Reason::Frozen,
            "http_request_denied",
            "an operator has frozen the provider: requests that move money are refused, and others are not; `bursar thaw` ends it",
        )
    }
}

fn unauthenticated(form: Form) -> Description {
    let (status, challenge, detail) = match form {
        Form::Absolute | Form::Authority => (
            407,
            PROXY_AUTHENTICATE,
            "caller name and password are missing or wrong; put them into the proxy's URL: http://NAME:PASSWORD@HOST:PORT",
        ),
        Form::Origin => (
            401,
            WWW_AUTHENTICATE,
            "caller name and password are missing or wrong; send them as Proxy-Authorization or Authorization: Basic",
        ),
    };
    let reason = Reason::CallerUnauthenticated;
    Description {
        brief: Some("put NAME:PASSWORD@ into the proxy's URL"),
        field: Some((challenge, BASIC)),
        ..describe(status, reason, "http_request_denied", detail)
    }
}

fn no_caller_token(error: CallerToken) -> Description {
    match error {
        CallerToken::Missing => describe(
            403,
            Reason::CallerTokenMissing,
            "http_request_denied",
            "this route goes on with the caller's own token (`authorization: caller`), and the request has none; send it as Authorization: Bearer, and the caller's name and password as Proxy-Authorization",
        ),
        CallerToken::Unusable => describe(
            400,
            Reason::BadRequest,
            "http_request_error",
            "this route goes on with the caller's own token; it needs exactly one Authorization field, with the scheme Bearer and one token",
        ),
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// What to say about a request that goes nowhere.
#[must_use]
pub fn route_detail(error: route::Error, provider: Option<&str>) -> Cow<'static, str> {
    match (error, provider) {
        (route::Error::UnknownHost, _) => "no provider has this host; see `hosts` of the providers, and `passthrough`".into(),
        (route::Error::TokenEndpoint, _) => {
            "token endpoints are not reachable through Bursar; it obtains the tokens itself".into()
        }
        (route::Error::OutsidePaths, _) => {
            "the path is not one of the API's; see `paths` of the provider".into()
        }
        (route::Error::NotAllowed, _) => {
            "the caller may not use this provider, method or path; see `allow` of the caller".into()
        }
        (route::Error::AccountNotAllowed, _) => {
            "Bursar-Account names no account that the caller may use here; see `allow` of the caller and `accounts` of the provider".into()
        }
        (route::Error::AccountMissing, _) => {
            "the provider has several accounts; send the name of one that the caller may use in the request header Bursar-Account".into()
        }
        (route::Error::NoScopes, Some(provider)) => format!(
            "no route matches, so the token's scopes are unknown; add {{methods, path, scopes}} to providers.{provider}.routes, or set providers.{provider}.token.scopes"
        )
        .into(),
        (route::Error::NoScopes, None) => "no route matches".into(),
        (route::Error::Ambiguous, _) => {
            "servers read the path in different ways, e.g. decoded once or twice, and it must mean one thing to all; write it plainly".into()
        }
    }
}

#[cfg(test)]
mod tests;
