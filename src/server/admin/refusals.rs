//! Refusals at the boundary of the admin port: counted, logged once a minute for each address, and where a token was
//! wrong told of late.
//!
//! The right token never waits for wrong ones. A response that is held back keeps one of the port's connections, and
//! far fewer may be held back than there are connections.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;

use super::boundary::HostError;
use super::response::text;
use crate::exchange::Proxy;
use bursar_base::log_throttle::LogThrottles;
use bursar_limits::failed_attempts::{Delay, FailedAttempts};
use bursar_limits::network::network;
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
            "a page of another origin asks for this (`Sec-Fetch-Site`, `Origin`)\n",
        )
    }

    /// The request does not show the `admin_token`.
    pub(super) async fn refuse_token(self, proxy: &Proxy) -> Response<Full<Bytes>> {
        let wrong_tokens = &self.refusals.wrong_tokens;
        let failure = wrong_tokens.fail(self.address, Instant::now());
        if self.count(proxy, AdminRefusal::Token) {
            let client = self.address;
            let attempts = failure.count;
            tracing::warn!(%client, attempts, "the admin port refuses a change without the `admin_token`");
        }
        let mut response = text(
            StatusCode::UNAUTHORIZED,
            "this takes the `admin_token`, as Authorization: Bearer\n",
        );
        let headers = response.headers_mut();
        let challenge = HeaderValue::from_static("Bearer realm=\"bursar admin\"");
        headers.insert(WWW_AUTHENTICATE, challenge);
        match failure.delay {
            Delay::For(time, _waiting) => tokio::time::sleep(time).await,
            Delay::TooMany => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }

    /// Whether it is time to log one.
    fn count(self, proxy: &Proxy, reason: AdminRefusal) -> bool {
        proxy.metrics().admin_refused(reason);
        let logged = &self.refusals.logged;
        logged.is_due((reason, network(self.address)), Instant::now())
    }
}
