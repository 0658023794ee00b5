//! Details of refusals: the word of the access line that tells the meanings of one reason apart.

#![warn(clippy::wildcard_enum_match_arm)]

use super::refusal::{CallerToken, Refusal};
use crate::exchange::{caller, route, tunnel_target};
use crate::token::Failure;
use crate::upstream::{ConnectError, SendError};
use bursar_http::target;
use bursar_limits::caller_limits::TooMany;
use bursar_telemetry::metrics::{Cause, Limit, RefusalDetail as Detail};

/// Which of its reason's meanings a refusal has. None: the reason has one, or who refused has said more already.
pub(super) fn of(refusal: &Refusal) -> Option<Detail> {
    Some(match refusal {
        Refusal::Framing(doubt) => doubt.detail(),
        Refusal::Target(target::Error::Method(detail) | target::Error::Malformed(detail, _)) => {
            *detail
        }
        Refusal::Caller(caller::Error::Busy, _) => Detail::Passwords,
        Refusal::CallerLimit(TooMany::InFlight) => Detail::InFlight,
        Refusal::CallerLimit(TooMany::PerSecond(_)) => Detail::PerSecond,
        Refusal::Tunnel(error) => no_tunnel(*error),
        Refusal::Route(error, _) => return no_route(*error),
        Refusal::CallerToken(CallerToken::Unusable) => Detail::CallerTokenUnusable,
        Refusal::Token(missing) => return no_token(missing.failure),
        Refusal::Connect(error) => return no_connection(error),
        Refusal::Send(error) => failed(error),
        Refusal::Limit(limit) => return limited(*limit),
        Refusal::Overloaded => Detail::ReplayMemory,
        Refusal::CutOff { .. } => Detail::DrainTimeout,
        Refusal::FreezesUnknown => Detail::NotKnownYet,
        Refusal::Caller(caller::Error::Unauthenticated, _)
        | Refusal::CallerToken(CallerToken::Missing)
        | Refusal::Loop
        | Refusal::Journal(_)
        | Refusal::Draining
        | Refusal::CallerLeft
        | Refusal::Frozen => return None,
    })
}

fn no_tunnel(error: tunnel_target::Error) -> Detail {
    match error {
        tunnel_target::Error::NotIntercepted => Detail::NotIntercepted,
        tunnel_target::Error::Nested => Detail::NestedTunnel,
        tunnel_target::Error::TokenHost => Detail::TokenHost,
        tunnel_target::Error::Misdirected => Detail::OtherHost,
    }
}

fn no_route(error: route::Error) -> Option<Detail> {
    Some(match error {
        route::Error::UnknownHost => Detail::HostUnknown,
        route::Error::TokenEndpoint => return None,
        route::Error::OutsidePaths => Detail::OutsidePaths,
        route::Error::NotAllowed => Detail::NotInAllow,
        route::Error::AccountNotAllowed => Detail::AccountNotAllowed,
        route::Error::AccountMissing => Detail::AccountMissing,
        route::Error::NoScopes => Detail::ScopesUnknown,
        route::Error::Ambiguous => Detail::PathAmbiguous,
    })
}

fn no_token(failure: Failure) -> Option<Detail> {
    Some(match failure {
        Failure::Rejected(..) => return None,
        Failure::RateLimited(_) | Failure::LimitedOrRefused(_) => Detail::RateLimited,
        Failure::QuotaExhausted => Detail::QuotaExhausted,
        Failure::CircuitOpen => Detail::CircuitOpen,
        Failure::LeaseLost => Detail::FleetLease,
        Failure::FleetHold => Detail::FleetHold,
        Failure::TimedOut => Detail::TimedOut,
        Failure::NotAllowed(_) => Detail::AddressNotAllowed,
        Failure::NoConnection(Cause::ParentProxy) => Detail::ParentProxy,
        Failure::NoConnection(_) => Detail::NoConnection,
        Failure::ErrorStatus(..) if failure.is_about_request() => Detail::RequestRefused,
        Failure::ErrorStatus(..) | Failure::RetryLater(..) | Failure::ServerError(_) => {
            Detail::ErrorStatus
        }
        Failure::Broken => Detail::Broken,
        Failure::NoCloseNotify => Detail::NoCloseNotify,
        Failure::Malformed(_) | Failure::AlreadyExpired => Detail::NoToken,
    })
}

fn no_connection(error: &ConnectError) -> Option<Detail> {
    let cause = match error {
        ConnectError::Failed { cause, .. } => error.cause_or_time_out().unwrap_or(*cause),
        ConnectError::NoDescriptors(_) => Cause::Unreachable,
        ConnectError::Closed { .. } => return Some(Detail::ClosedUnsent),
        ConnectError::NoHttp2(_) => return Some(Detail::Http2Refused),
        ConnectError::Held { .. } => return None,
    };
    Some(match cause {
        Cause::AddressNotAllowed => return None,
        Cause::ParentProxy => Detail::ParentProxy,
        Cause::NameNotFound | Cause::NameFailed | Cause::Refused | Cause::Unreachable => {
            Detail::NoConnection
        }
        Cause::Reset
        | Cause::TlsExpired
        | Cause::TlsNotYetValid
        | Cause::TlsUnknownIssuer
        | Cause::TlsWrongName
        | Cause::TlsRevoked
        | Cause::TlsClientCertificate
        | Cause::TlsVersion
        | Cause::TlsOther => Detail::Handshake,
        Cause::TimedOut => Detail::Connecting,
    })
}

/// Why a request that was sent has no response.
pub(in crate::exchange) fn failed(error: &SendError) -> Detail {
    match error {
        SendError::Unsent => Detail::ClosedUnsent,
        SendError::Refused => Detail::NotProcessed,
        SendError::WantsHttp1 => Detail::Http1Wanted,
        SendError::Broken => Detail::Broken,
        SendError::NoCloseNotify => Detail::NoCloseNotify,
        SendError::ClientRefused => Detail::Handshake,
        SendError::TimedOut => Detail::Waiting,
        SendError::TimedOutUnsent => Detail::NotBegun,
        SendError::CallerStalled => Detail::BodyTimeout,
        SendError::CallerGone => Detail::BodyBroken,
    }
}

fn limited(limit: Limit) -> Option<Detail> {
    match limit {
        Limit::CallerConnections => Some(Detail::Connections),
        Limit::Tunnels => Some(Detail::Tunnels),
        Limit::Requests => Some(Detail::Requests),
        Limit::Headers
        | Limit::TargetSize
        | Limit::Connections
        | Limit::UnknownConnections
        | Limit::Accept
        | Limit::AdminConnections
        | Limit::CallerRequests
        | Limit::Resets
        | Limit::HeadTimeout
        | Limit::IdleTimeout
        | Limit::BodyTimeout
        | Limit::WriteTimeout => None,
    }
}
