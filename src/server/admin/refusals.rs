//! Refusals at the boundary of the admin port: counted, and logged once a minute for each address. Where tokens were
//! wrong, those that come from there next are looked at late.
//!
//! The right token of another address never waits for wrong ones, and the right one of the same address no longer than
//! [`bursar_limits::failed_attempts`] says.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;

use super::boundary::HostError;
use super::connections::Connection;
use super::response::text;
use crate::exchange::Proxy;
use bursar_base::log_throttle::LogThrottles;
use bursar_limits::failed_attempts::{FailedAttempts, Turn};
use bursar_limits::network::owner;
use bursar_telemetry::metrics::AdminRefusal;

/// What is known of all refusals, for as long as the port is served.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    wrong_tokens: Arc<FailedAttempts>,
    logged: LogThrottles<(AdminRefusal, IpAddr)>,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor<'a> {
    pub(super) address: IpAddr,
    pub(super) connection: &'a Connection,
    pub(super) refusals: &'a Refusals,
}

impl Visitor<'_> {
    /// The request is for a host that the port does not have.
    pub(super) fn refuse_host(self, proxy: &Proxy, error: &HostError) -> Response<Full<Bytes>> {
        if self.count(proxy, AdminRefusal::Host) {
            let client = self.address;
            tracing::warn!(%client, %error, "the admin port refuses a request; `admin_hosts` lists the names it may be asked by");
        }
        match error {
            HostError::Malformed => text(
                StatusCode::BAD_REQUEST,
                "a request has one `Host`, which is a host and may have a port\n",
            ),
            HostError::Foreign(_) => text(
                StatusCode::MISDIRECTED_REQUEST,
                "`Host` is no address, not `localhost` and none of `admin_hosts` in the configuration\n",
            ),
        }
    }

    /// A page of another origin asks for a change.
    pub(super) fn refuse_origin(self, proxy: &Proxy) -> Response<Full<Bytes>> {
        if self.count(proxy, AdminRefusal::Origin) {
            let client = self.address;
            tracing::warn!(%client, "the admin port refuses a change that a page of another origin asks for");
        }
        text(
            StatusCode::FORBIDDEN,
            "a page of another origin asks for this (`Sec-Fetch-Site`, `Origin`); a proxy in front of this port has to leave `Host` as it is\n",
        )
    }

    /// Waits until a token from that address may be looked at, or refuses the request.
    pub(super) async fn await_turn(self, proxy: &Proxy) -> Result<(), Response<Full<Bytes>>> {
        let wrong_tokens = &self.refusals.wrong_tokens;
        match wrong_tokens.attempt(self.address, Instant::now()) {
            Turn::Now => return Ok(()),
            Turn::At(opens, _waiting) => {
                tokio::time::sleep_until(opens).await;
                return Ok(());
            }
            Turn::Never => {}
        }
        if self.count(proxy, AdminRefusal::Token) {
            let client = self.address;
            tracing::warn!(%client, "the admin port looks at no token from there for some seconds, because many were wrong");
        }
        let mut response = text(
            StatusCode::TOO_MANY_REQUESTS,
            "tokens from this address were wrong, and too many wait to be looked at; try again at once, for some seconds\n",
        );
        // No `Retry-After`, which counts in seconds: a window is shorter, and whoever comes after it finds others waiting.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        Err(response)
    }

    /// The request does not show the `admin_token`.
    pub(super) fn refuse_token(self, proxy: &Proxy) -> Response<Full<Bytes>> {
        let wrong_tokens = &self.refusals.wrong_tokens;
        let attempts = wrong_tokens.fail(self.address, Instant::now());
        if self.count(proxy, AdminRefusal::Token) {
            let client = self.address;
            tracing::warn!(%client, attempts, "the admin port refuses a change without the `admin_token`");
        }
        let mut response = text(
            StatusCode::UNAUTHORIZED,
            "this takes the `admin_token`, as Authorization: Bearer\n",
        );
        let challenge = HeaderValue::from_static("Bearer realm=\"bursar admin\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        response
    }

    /// Whether it is time to log one.
    fn count(self, proxy: &Proxy, reason: AdminRefusal) -> bool {
        proxy.metrics().admin_refused(reason);
        let logged = &self.refusals.logged;
        logged.is_due((reason, owner(self.address)), Instant::now())
    }
}
