//! Reason phrases of refused `CONNECT` requests: the one line of the response that clients show.

use hyper::ext::ReasonPhrase;

use super::description::Description;

/// The reason, and what to do. None where that is not what a status line may hold.
pub(super) fn of(described: &Description) -> Option<ReasonPhrase> {
    let reason = described.reason.as_str();
    let advice = described.brief.unwrap_or(&described.detail);
    let is_allowed = advice.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    let phrase = format!("{reason}: {advice}");
    is_allowed.then(|| ReasonPhrase::try_from(phrase).ok())?
}
