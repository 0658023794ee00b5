//! Errors of connecting to a provider: nothing was sent.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::connect;
use super::peer::Peer;
use bursar_telemetry::metrics::Cause;

/// Why there is no connection: nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It could not be had.
    #[error("no connection could be had")]
    Failed {
        /// In one word, for who asked.
        cause: Cause,
        /// Whose it would be, where that is known.
        peer: Option<Arc<Peer>>,
        /// What went wrong underneath, where something did: a time limit has no other reason.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The server closed each one before it took a request.
    #[error("the server closes its connections")]
    Closed {
        /// Whose they were.
        peer: Arc<Peer>,
        /// How it closed the last one.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server does not agree to HTTP/2, and nothing else is wanted.
    #[error("the server does not agree to HTTP/2")]
    NoHttp2(Arc<Peer>),
    /// There was no file descriptor for it.
    #[error("there is no file descriptor for a connection")]
    NoDescriptors(Arc<Peer>),
    /// Too many failed lately: none was tried.
    #[error("too many connections failed lately")]
    Held {
        /// None will be tried for so long.
        wait: Duration,
        /// Why the last connection could not be had, if it could not.
        last: Option<Cause>,
        /// Whose it would be.
        peer: Option<Arc<Peer>>,
    },
}

impl From<Cause> for ConnectError {
    fn from(cause: Cause) -> Self {
        Self::Failed {
            cause,
            peer: None,
            source: None,
        }
    }
}

impl ConnectError {
    pub(super) fn of(cause: Cause, peer: &Arc<Peer>) -> Self {
        Self::Failed {
            cause,
            peer: Some(peer.clone()),
            source: None,
        }
    }

    /// Why, in one word.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Failed { cause, .. } => Some(*cause),
            Self::Closed { .. } => Some(Cause::Reset),
            Self::NoHttp2(_) => Some(Cause::TlsOther),
            Self::NoDescriptors(_) => Some(Cause::Unreachable),
            Self::Held { last, .. } => *last,
        }
    }

    /// The same for who is told of a time-out: that of a parent proxy is one.
    #[must_use]
    pub fn cause_or_time_out(&self) -> Option<Cause> {
        match self {
            Self::Failed {
                source: Some(source),
                ..
            } if is_slow_parent(&**source) => Some(Cause::TimedOut),
            _ => self.cause(),
        }
    }

    /// Whose connection it would be.
    #[must_use]
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            Self::Failed { peer, .. } | Self::Held { peer, .. } => peer.as_ref(),
            Self::Closed { peer, .. } | Self::NoHttp2(peer) | Self::NoDescriptors(peer) => {
                Some(peer)
            }
        }
    }

    /// Whether that is Bursar's own word, not the provider's.
    pub(super) fn is_own(&self) -> bool {
        let is_not_allowed =
            matches!(self, Self::Failed { cause, .. } if *cause == Cause::AddressNotAllowed);
        is_not_allowed || matches!(self, Self::NoDescriptors(_))
    }
}

fn is_slow_parent(error: &(dyn Error + 'static)) -> bool {
    let error: Option<&connect::Error> = error.downcast_ref();
    error.is_some_and(connect::Error::is_slow_parent)
}
