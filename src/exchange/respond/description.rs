//! Descriptions of refusals: status, reason and fixed words for what connections, tokens and tunnels come to.

#![warn(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::exchange::tunnel_target;
use crate::token::{Failure, Missing};
use crate::upstream::{ConnectError, SendError};
use bursar_telemetry::metrics::{Cause, Reason};

/// What is over in a moment.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Whether the provider may have seen the request.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RequestSent {
    No,
    Maybe,
}

/// What a refusal says.
pub(super) struct Description {
    pub(super) status: StatusCode,
    pub(super) reason: Reason,
    /// The error type of `Proxy-Status` (RFC 9209 section 2.3).
    pub(super) proxy_error: &'static str,
    pub(super) detail: Cow<'static, str>,
    /// The same in a few words, where a status line has to do. None: as it is.
    pub(super) brief: Option<&'static str>,
    pub(super) sent: RequestSent,
    pub(super) retry_after: Option<Duration>,
    /// The field that RFC 9110 demands with 401, 405 and 407: a challenge, or the methods that there are.
    pub(super) field: Option<(HeaderName, HeaderValue)>,
}

/// A refusal that is over in a moment.
pub(super) fn soon(reason: Reason, detail: &'static str) -> Description {
    Description {
        retry_after: Some(SOON),
        ..describe(503, reason, "connection_limit_reached", detail)
    }
}

pub(super) fn describe(
    status: u16,
    reason: Reason,
    proxy_error: &'static str,
    detail: impl Into<Cow<'static, str>>,
) -> Description {
    Description {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
        reason,
        proxy_error,
        detail: detail.into(),
        brief: None,
        sent: RequestSent::No,
        retry_after: None,
        field: None,
    }
}

pub(super) fn no_tunnel(error: tunnel_target::Error) -> Description {
    let denied = |reason, detail| describe(403, reason, "http_request_denied", detail);
    match error {
        tunnel_target::Error::NotIntercepted => Description {
            brief: Some("use an http:// URL, or set intercept"),
            ..denied(
                Reason::ConnectNotAllowed,
                "CONNECT to a provider needs `intercept`, except for plain HTTP on port 80; give the service http:// URLs of the provider (Bursar sends them over TLS), or https:// URLs in absolute form",
            )
        },
        tunnel_target::Error::TokenHost => denied(
            Reason::ConnectNotAllowed,
            "a provider's tokens come from this host, and Bursar obtains them itself: leave the token call out",
        ),
        tunnel_target::Error::Nested => denied(
            Reason::ConnectNotAllowed,
            "there are no tunnels inside of a tunnel",
        ),
        tunnel_target::Error::Misdirected => describe(
            421,
            Reason::Misdirected,
            "http_request_error",
            "the request's host, or the server name of its TLS, is not the one that CONNECT named",
        ),
    }
}

pub(super) fn token(missing: &Missing) -> Description {
    let unavailable = |detail| Description {
        retry_after: Some(missing.retry_after),
        ..describe(
            503,
            Reason::TokenUnavailable,
            "destination_unavailable",
            detail,
        )
    };
    match missing.failure {
        Failure::Rejected(..) => Description {
            retry_after: Some(missing.retry_after),
            ..describe(
                502,
                Reason::CredentialsRejected,
                "destination_unavailable",
                "the provider's token endpoint refuses the configured account; check client_id, client_secret, scopes and token.client_auth",
            )
        },
        Failure::RateLimited(_) | Failure::LimitedOrRefused(_) => {
            unavailable("the provider's token endpoint limits the rate of calls")
        }
        Failure::QuotaExhausted => unavailable(
            "too many token calls for the provider in a minute; see token.calls_per_minute",
        ),
        Failure::CircuitOpen => {
            unavailable("the provider's token endpoint fails, and is probed until it works again")
        }
        Failure::LeaseLost => {
            unavailable("another instance of the fleet asks the provider's token endpoint")
        }
        Failure::FleetHold => unavailable(
            "the fleet's store cannot be used, and this instance has not obtained the provider's last token since its start; see fleet.on_outage",
        ),
        Failure::TimedOut => unavailable("the provider's token endpoint did not answer in time"),
        Failure::NotAllowed(_) => unavailable(
            "the address of the provider's token endpoint is not allowed; see egress.allow_addresses",
        ),
        Failure::NoConnection(Cause::ParentProxy) => unavailable(
            "the parent proxy (egress.proxy) does not connect to the provider's token endpoint",
        ),
        Failure::NoConnection(_) => unavailable("the provider's token endpoint cannot be reached"),
        Failure::ErrorStatus(..) if missing.failure.is_about_request() => unavailable(
            "the provider's token endpoint refuses the request itself; check token.url, token.encoding, token.client_auth and token.params",
        ),
        Failure::ErrorStatus(..)
        | Failure::RetryLater(..)
        | Failure::ServerError(_)
        | Failure::Broken => unavailable("the provider's token endpoint fails"),
        Failure::NoCloseNotify => unavailable(
            "the connection to the provider's token endpoint ended without TLS close_notify",
        ),
        Failure::Malformed(_) | Failure::AlreadyExpired => {
            unavailable("the provider's token endpoint answered without a usable token")
        }
    }
}

pub(super) fn no_connection(error: &ConnectError) -> Description {
    let cause = match error {
        ConnectError::Failed { cause, .. } => error.cause_or_time_out().unwrap_or(*cause),
        ConnectError::NoDescriptors(_) | ConnectError::Closed { .. } => Cause::Unreachable,
        ConnectError::NoHttp2(_) => {
            return describe(
                502,
                Reason::UpstreamTls,
                "tls_protocol_error",
                "the provider does not agree to HTTP/2, and `http` of the provider allows nothing else; nothing was sent",
            );
        }
        ConnectError::Held { wait, .. } => {
            return Description {
                retry_after: Some(*wait),
                ..describe(
                    503,
                    Reason::UpstreamUnavailable,
                    "destination_unavailable",
                    "the provider could not be reached lately; nothing was tried (see `breaker` of the provider)",
                )
            };
        }
    };
    match cause {
        Cause::AddressNotAllowed => describe(
            403,
            Reason::AddressNotAllowed,
            "destination_ip_prohibited",
            "no address of the provider's host (or of the parent proxy) is allowed; see egress.allow_addresses",
        ),
        Cause::ParentProxy => describe(
            502,
            Reason::UpstreamUnreachable,
            "destination_unavailable",
            "the parent proxy (egress.proxy) does not connect to the provider; nothing was sent",
        ),
        Cause::NameNotFound | Cause::NameFailed | Cause::Refused | Cause::Unreachable => {
            Description {
                brief: Some("no connection; check host and port, Bursar's log has the cause"),
                ..describe(
                    502,
                    Reason::UpstreamUnreachable,
                    "destination_unavailable",
                    "no connection to the provider; nothing was sent",
                )
            }
        }
        Cause::Reset
        | Cause::TlsExpired
        | Cause::TlsNotYetValid
        | Cause::TlsUnknownIssuer
        | Cause::TlsWrongName
        | Cause::TlsRevoked
        | Cause::TlsClientCertificate
        | Cause::TlsVersion
        | Cause::TlsOther => no_tls(),
        Cause::TimedOut => Description {
            brief: Some("connecting took too long; check host, port and firewalls"),
            ..describe(
                504,
                Reason::UpstreamTimeout,
                "connection_timeout",
                "connecting to the provider took longer than timeouts.connect; nothing was sent",
            )
        },
    }
}

fn no_tls() -> Description {
    describe(
        502,
        Reason::UpstreamTls,
        "tls_protocol_error",
        "TLS to the provider failed; nothing was sent. Is its certificate signed by a trusted authority (tls.ca)?",
    )
}

pub(super) fn failed(error: &SendError) -> Description {
    let maybe = |described| Description {
        sent: RequestSent::Maybe,
        ..described
    };
    match error {
        SendError::Unsent => describe(
            502,
            Reason::UpstreamUnreachable,
            "connection_terminated",
            "the provider closed the connection before anything was sent",
        ),
        SendError::Refused => describe(
            502,
            Reason::UpstreamProtocol,
            "http_protocol_error",
            "the provider refused the request without processing it",
        ),
        SendError::WantsHttp1 => describe(
            502,
            Reason::UpstreamProtocol,
            "http_protocol_error",
            "the provider wants the request over HTTP/1.1, which `http` of the provider does not allow; it was not processed",
        ),
        SendError::Broken => maybe(describe(
            502,
            Reason::UpstreamProtocol,
            "http_protocol_error",
            "the connection to the provider broke, or its response was no HTTP; the request may have been processed",
        )),
        SendError::NoCloseNotify => maybe(describe(
            502,
            Reason::UpstreamProtocol,
            "connection_terminated",
            "the connection to the provider ended without TLS close_notify before it had answered; the request may have been processed",
        )),
        SendError::ClientRefused => no_tls(),
        SendError::TimedOut => maybe(describe(
            504,
            Reason::UpstreamTimeout,
            "http_response_timeout",
            "the provider took too long; the request may have been processed",
        )),
        SendError::TimedOutUnsent => describe(
            504,
            Reason::UpstreamTimeout,
            "http_response_timeout",
            "the provider let no request begin on its connection for too long; nothing was sent",
        ),
        SendError::CallerStalled => maybe(describe(
            408,
            Reason::RequestTimeout,
            "http_request_error",
            "the request's body did not come in time",
        )),
        SendError::CallerGone => maybe(describe(
            400,
            Reason::BadRequest,
            "http_request_error",
            "the request's body broke off or is malformed",
        )),
    }
}
