//! What became of a request that was not answered? Told apart by what the provider may have seen.

use crate::body::UploadError;

/// Why a request was not answered.
#[derive(Debug)]
pub enum Failed {
    /// Certainly not one byte was written.
    Unsent,
    /// The provider says that it did not process it (`REFUSED_STREAM`, RFC 9113 section 8.7).
    Refused,
    /// The connection broke, or the answer is no HTTP.
    Broken,
    /// The provider took longer than it may.
    TimedOut,
    /// The caller sent no byte of its body for too long.
    CallerStalled,
    /// The caller's body broke off.
    CallerGone,
}

/// What hyper's error says about the request.
pub(super) fn classify(error: &hyper::Error) -> Failed {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(UploadError::Caller(_) | UploadError::CallerGone) = error.downcast_ref() {
            return Failed::CallerGone;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>()
            && error.is_remote()
            && error.reason() == Some(h2::Reason::REFUSED_STREAM)
        {
            return Failed::Refused;
        }
        source = error.source();
    }
    Failed::Broken
}

/// An error and what is behind it, for the log. Connection errors hold addresses and names, no secrets.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
