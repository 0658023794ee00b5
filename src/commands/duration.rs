//! Durations as arguments, within what is allowed.

use std::ops::RangeInclusive;
use std::time::Duration;

use bursar_base::duration;

/// A duration in that range, which `shown` names.
///
/// # Errors
/// In words, for whoever wrote it.
pub(super) fn within(
    text: &str,
    range: &RangeInclusive<Duration>,
    shown: &str,
) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    match range.contains(&time) {
        true => Ok(time),
        false => Err(format!("it has to be {shown}")),
    }
}
