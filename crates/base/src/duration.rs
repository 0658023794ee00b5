//! Durations as people write them: a number with a unit, or several; no unit without a fixed length is one.

use std::time::Duration;

/// Units that are a month or a year on average elsewhere. `M` is one letter case away from a minute.
const CALENDAR_UNITS: [&str; 7] = ["M", "month", "months", "y", "yr", "year", "years"];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// It has a unit of the calendar.
    #[error(
        "has months or years (`M`, `y`), which are no units here; write 1m for a minute, or 30d"
    )]
    Calendar,
    /// It is none at all.
    #[error("{0}")]
    Form(humantime::DurationError),
}

/// Reads one, such as `250ms`, `1h 30m` or `30d`.
///
/// # Errors
/// In words, for whoever wrote it.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let time = humantime::parse_duration(text).map_err(Error::Form)?;
    let mut units = text.split(|char: char| !char.is_ascii_alphabetic());
    match units.any(|unit| CALENDAR_UNITS.contains(&unit)) {
        true => Err(Error::Calendar),
        false => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unit_but_one_of_a_fixed_length_is_taken() {
        for (text, seconds) in [
            ("1m", 60),
            ("1min", 60),
            ("90s", 90),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2d", 172_800),
            ("1w", 604_800),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "1M", "1month", "2months", "1y", "1yr", "1year", "2years", "1h 1M", "1M1s",
        ] {
            assert_eq!(parse(text), Err(Error::Calendar), "{text}");
        }
        assert!(matches!(parse("90x"), Err(Error::Form(_))));
    }
}
