//! Send errors: why a request has no response, told apart by what the provider may have seen.

use crate::upstream::connect::lacks_close_notify;
use bursar_http::replay_body::RequestBodyError;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Certainly not one byte was written.
    #[error("the request was not sent")]
    Unsent,
    /// The provider says that it did not process it: `REFUSED_STREAM`, or a GOAWAY whose last stream is below (RFC
    /// 9113 section 8.7).
    #[error("the provider did not process the request")]
    Refused,
    /// The provider says that it has to be sent over HTTP/1.1 (`HTTP_1_1_REQUIRED`, RFC 9113 section 7), so that it did
    /// not process it over HTTP/2.
    #[error("the provider wants the request over HTTP/1.1")]
    WantsHttp1,
    /// The connection broke, by a reset perhaps, or the response is no HTTP. The provider may have acted: no retry.
    #[error("the connection broke, or the response is no HTTP")]
    Broken,
    /// The connection ended without TLS close_notify before there was an answer.
    #[error("the connection ended without TLS close_notify")]
    NoCloseNotify,
    /// The server refused the client in its late end of the TLS handshake, and took no request.
    #[error("the server refused the client certificate, or wants one")]
    ClientRefused,
    /// The provider took longer than it may.
    #[error("the provider took too long")]
    TimedOut,
    /// The same without letting the request begin, so that nothing was sent (RFC 9113 section 5.1.2).
    #[error("the provider took too long to let the request begin")]
    TimedOutUnsent,
    /// The caller sent no byte of its body for too long.
    #[error("the caller sent no byte of the body for too long")]
    CallerStalled,
    /// The caller's body broke off.
    #[error("the caller's body broke off")]
    CallerGone,
}

/// What hyper's error says about the request.
pub(super) fn classify(error: &hyper::Error) -> SendError {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(RequestBodyError::Caller(_) | RequestBodyError::CallerGone) =
            error.downcast_ref()
        {
            return SendError::CallerGone;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>()
            && error.is_remote()
            && let Some(failed) = refused(error)
        {
            return failed;
        }
        source = error.source();
    }
    match lacks_close_notify(error) {
        true => SendError::NoCloseNotify,
        false => SendError::Broken,
    }
}

/// h2 hands a GOAWAY to the streams above its last one alone.
fn refused(error: &h2::Error) -> Option<SendError> {
    match error.reason() {
        Some(h2::Reason::HTTP_1_1_REQUIRED) => Some(SendError::WantsHttp1),
        Some(h2::Reason::REFUSED_STREAM) => Some(SendError::Refused),
        _ => error.is_go_away().then_some(SendError::Refused),
    }
}

/// Whether the connection is gone, with all that was on it.
pub(super) fn is_disconnected(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_io();
        }
        source = error.source();
    }
    error.is_canceled() || error.is_closed()
}
