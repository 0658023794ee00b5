//! Durations as arguments, within what is allowed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A duration in that range, which `shown` names.
///
/// # Errors
/// In words, for whoever wrote it.
pub(super) fn within(
    text: &str,
    range: &RangeInclusive<Duration>,
    shown: &str,
) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match range.contains(&time) {
        true => Ok(time),
        false => Err(format!("it has to be {shown}")),
    }
}
