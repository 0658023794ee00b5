//! Refusals: everything for which Bursar itself responds, with what each stage knows of it.

#![warn(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;
use std::sync::Arc;

use crate::exchange::caller;
use crate::exchange::passthrough;
use crate::exchange::route;
use crate::exchange::tunnel_target;
use crate::token::Missing;
use crate::upstream::{ConnectError, Peer, SendError};
use bursar_http::framing;
use bursar_http::target::{self, Form};
use bursar_journal as journal;
use bursar_limits::caller_limits::TooMany;
use bursar_telemetry::metrics::{Cause, Limit};

/// Why Bursar itself responds.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is not clear where the request begins or ends, so nothing can follow it on its connection.
    #[error("the request's framing is in doubt")]
    Framing(#[from] framing::FramingError),
    /// No usable target.
    #[error("the request has no usable target")]
    Target(#[from] target::Error),
    /// Our own `Via` came back.
    #[error("the request has passed through before")]
    Loop,
    /// No caller.
    #[error("the caller is not known")]
    Caller(#[source] caller::Error, Form),
    /// Too many requests of one caller.
    #[error("the caller sends too many requests")]
    CallerLimit(#[source] TooMany),
    /// No tunnel, or the wrong one.
    #[error("there is no tunnel")]
    Tunnel(#[source] tunnel_target::Error),
    /// Nowhere to go; with what to say about it.
    #[error("the request goes nowhere")]
    Route(#[source] route::Error, Cow<'static, str>),
    /// The route takes the caller's own token.
    #[error("the caller's own token is not usable")]
    CallerToken(#[source] CallerToken),
    /// No token.
    #[error("there is no token")]
    Token(#[source] Missing),
    /// No connection.
    #[error("there is no connection")]
    Connect(#[from] ConnectError),
    /// Sent, perhaps, and not answered.
    #[error("the request was not answered")]
    Send(#[from] SendError),
    /// Too much is kept in memory.
    #[error("too much is kept in memory")]
    Overloaded,
    /// A limit of the proxy, or of a caller's connections.
    #[error("a limit was reached")]
    Limit(Limit),
    /// It moves money, and cannot be written down before.
    #[error("the request cannot be written down")]
    Journal(#[source] journal::Unavailable),
    /// It moves money, and Bursar is about to end.
    #[error("Bursar is about to end")]
    Draining,
    /// Its caller left before it was sent.
    #[error("the caller has left")]
    CallerLeft,
    /// It was under way for too long when Bursar ended.
    #[error("the request was cut off")]
    CutOff {
        /// Whether the provider may have acted on it.
        was_sent: bool,
    },
    /// It moves money, and an operator has frozen the provider.
    #[error("the provider is frozen")]
    Frozen,
    /// It moves money, and what the fleet has frozen is not known yet.
    #[error("what the fleet has frozen is not known yet")]
    FreezesUnknown,
}

impl From<passthrough::Error> for Refusal {
    fn from(error: passthrough::Error) -> Self {
        match error {
            passthrough::Error::TooMany => Self::Limit(Limit::Tunnels),
            passthrough::Error::Connect(error) => Self::Connect(error),
            passthrough::Error::Send(failed) => Self::Send(failed),
        }
    }
}

/// What is wrong with the token that a caller brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallerToken {
    /// It brings none.
    #[error("the caller brings no token")]
    Missing,
    /// It is not clear which it is.
    #[error("the caller's token is not clear")]
    Unusable,
}

impl Refusal {
    /// The limit that was reached, if that is why.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Limit(limit) => Some(*limit),
            Self::CallerLimit(_) => Some(Limit::CallerRequests),
            Self::Send(SendError::CallerStalled) => Some(Limit::BodyTimeout),
            Self::Framing(_)
            | Self::Target(_)
            | Self::Loop
            | Self::Caller(..)
            | Self::Tunnel(_)
            | Self::Route(..)
            | Self::CallerToken(_)
            | Self::Token(_)
            | Self::Connect(_)
            | Self::Send(_)
            | Self::Overloaded
            | Self::Journal(_)
            | Self::Draining
            | Self::CutOff { .. }
            | Self::CallerLeft
            | Self::Frozen
            | Self::FreezesUnknown => None,
        }
    }

    /// Why there is no connection, to the provider or to its token endpoint, if that is why.
    pub(super) fn cause(&self) -> Option<Cause> {
        if let Self::Token(missing) = self {
            return missing.cause;
        }
        if let Self::Connect(error) = self {
            return error.cause();
        }
        let Self::Send(error) = self else {
            return None;
        };
        match error {
            SendError::Unsent => Some(Cause::Reset),
            SendError::ClientRefused => Some(Cause::TlsClientCertificate),
            SendError::Refused
            | SendError::WantsHttp1
            | SendError::Broken
            | SendError::NoCloseNotify
            | SendError::TimedOut
            | SendError::TimedOutUnsent
            | SendError::CallerStalled
            | SendError::CallerGone => None,
        }
    }

    /// The server that no connection, or no token, could be had from.
    pub(super) fn peer(&self) -> Option<Arc<Peer>> {
        if let Self::Token(missing) = self {
            return Some(missing.peer.clone());
        }
        let Self::Connect(error) = self else {
            return None;
        };
        error.peer().cloned()
    }
}
