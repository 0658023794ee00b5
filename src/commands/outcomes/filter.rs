//! Filter of the requests in doubt: by provider, caller and time.

use std::time::{Duration, SystemTime};

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use bursar_base::{clock, duration};
use bursar_journal::InDoubt;

/// Which requests are meant; all that is given must hold.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Those for this provider
    #[arg(long, value_name = "NAME")]
    pub(super) provider: Option<String>,
    /// Those of this caller
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Those that came then or later: a time such as 2026-11-29T17:30:00+05:30, or 24h for that long ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<SystemTime>,
    /// Those that came before then
    #[arg(long, value_name = "TIME", value_parser = past)]
    pub(super) before: Option<SystemTime>,
}

impl Filter {
    pub(super) fn is_empty(&self) -> bool {
        self.provider.is_none()
            && self.caller.is_none()
            && self.since.is_none()
            && self.before.is_none()
    }

    /// Whether no request can be meant.
    pub(super) fn is_void(&self) -> bool {
        matches!((self.since, self.before), (Some(since), Some(before)) if since >= before)
    }

    pub(super) fn has(&self, request: &InDoubt) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.provider, &request.provider)
            && is(&self.caller, &request.caller)
            && self.since.is_none_or(|since| request.time >= since)
            && self.before.is_none_or(|before| request.time < before)
    }
}

/// A time that is not in the future.
fn past(text: &str) -> Result<SystemTime, String> {
    past_at(text, clock::wall())
}

fn past_at(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    match duration::parse(text) {
        Ok(ago) => {
            let time = now.checked_sub(ago);
            return Ok(time
                .unwrap_or(SystemTime::UNIX_EPOCH)
                .max(SystemTime::UNIX_EPOCH));
        }
        Err(error @ duration::Error::Calendar) => return Err(error.to_string()),
        Err(duration::Error::Form(_)) => {}
    }
    let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) else {
        return Err(
            "is neither a time such as 2026-11-29T12:00:00Z or 2026-11-29T17:30:00+05:30, nor how long ago, such as 24h"
                .to_owned(),
        );
    };
    let since = (time - OffsetDateTime::UNIX_EPOCH).whole_microseconds();
    let since = u64::try_from(since).map(Duration::from_micros);
    let time = SystemTime::UNIX_EPOCH + since.unwrap_or_default();
    match time.duration_since(now) {
        Ok(ahead) if !ahead.is_zero() => {
            let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs().max(1)));
            Err(format!("is {ahead} in the future"))
        }
        _ => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use bursar_journal::Phase;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_time_is_absolute_with_its_offset_or_that_long_ago() {
        for (text, expected) in [
            ("24h", NOW - 86_400),
            ("1h 30m", NOW - 5_400),
            ("0s", NOW),
            ("36500d", 0),
            ("2023-11-14T22:13:20Z", NOW),
            ("2023-11-14T22:13:19.5Z", NOW - 1),
            ("2023-11-15T03:43:20+05:30", NOW),
            ("2023-11-14T17:13:20-05:00", NOW),
            ("1969-01-01T00:00:00Z", 0),
        ] {
            let read = past_at(text, at(NOW)).unwrap_or_else(|error| panic!("{text}: {error}"));
            let read = read.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(read.as_secs(), expected, "{text}");
        }
        assert!(
            past_at("2023-11-14T22:13:21Z", at(NOW))
                .unwrap_err()
                .contains("1s in the future")
        );
        for text in [
            "",
            "24",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "yesterday",
            "-24h",
        ] {
            assert!(
                past_at(text, at(NOW)).unwrap_err().contains("is neither"),
                "{text}"
            );
        }
    }

    #[test]
    fn all_that_is_given_must_hold_and_the_end_is_not_meant() {
        let request = InDoubt {
            time: at(NOW),
            request_id: "1".to_owned(),
            caller: "shop".to_owned(),
            provider: "payu".to_owned(),
            account: "default".to_owned(),
            method: "POST".to_owned(),
            path: "/".to_owned(),
            idempotency_key: None,
            body_sha256: None,
            phase: Phase::HeadSent,
            reference: None,
            caller_request_id: None,
            trace_id: None,
        };
        let name = |name: &str| Some(name.to_owned());
        let filter = |provider: &str, caller: &str, since, before| Filter {
            provider: name(provider),
            caller: name(caller),
            since: Some(at(since)),
            before: Some(at(before)),
        };
        assert!(Filter::default().has(&request));
        assert!(filter("payu", "shop", NOW, NOW + 1).has(&request));
        for filter in [
            filter("pay", "shop", NOW, NOW + 1),
            filter("payu", "till", NOW, NOW + 1),
            filter("payu", "shop", NOW + 1, NOW + 2),
            filter("payu", "shop", NOW - 1, NOW),
        ] {
            assert!(!filter.has(&request) && !filter.is_void(), "{filter:?}");
        }
        assert!(filter("payu", "shop", NOW, NOW).is_void());
    }
}
