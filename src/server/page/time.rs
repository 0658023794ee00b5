//! Times as people read them on the page: how long ago, how long still, and when.

use std::time::{Duration, SystemTime};

/// So near, a time of the day says which day is meant.
const UNMISTAKABLE: Duration = Duration::from_secs(12 * 60 * 60);

/// As the page's status was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now(SystemTime);

impl Now {
    /// RFC 3339.
    pub(super) fn of(at: &str) -> Self {
        Self(parse(at).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// `3 min ago`.
    pub(super) fn ago(self, at: &str) -> String {
        let Some(at) = parse(at) else {
            return String::new();
        };
        match self.0.duration_since(at) {
            Ok(age) if age >= Duration::from_secs(1) => format!("{} ago", long(age)),
            _ => "just now".to_owned(),
        }
    }

    /// Whether that was no longer ago than this.
    pub(super) fn is_within(self, span: Duration, at: &str) -> bool {
        // What is ahead of this clock was just now.
        parse(at).is_some_and(|at| self.0.duration_since(at).unwrap_or_default() <= span)
    }

    /// Until then; None: it is over.
    pub(super) fn left(self, at: &str) -> Option<Duration> {
        parse(at)?.duration_since(self.0).ok()
    }

    /// The time of the day, with the day where it could be taken for another one.
    pub(super) fn when(self, at: &str) -> String {
        let time = at.get(11..19).unwrap_or_default();
        let day = at.get(..10).unwrap_or_default();
        let is_near = parse(at).is_some_and(|at| {
            let away = at.duration_since(self.0);
            away.unwrap_or_else(|earlier| earlier.duration()) < UNMISTAKABLE
        });
        match is_near {
            true => format!("{time} UTC"),
            false => format!("{day} {time} UTC"),
        }
    }

    /// The minute of the day.
    pub(super) fn minute(at: &str) -> &str {
        at.get(11..16).unwrap_or_default()
    }
}

fn parse(at: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(at).ok()
}

/// The two largest units.
pub(super) fn long(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        let count = left / size;
        left %= size;
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
        // After the first one, the next is the last.
        if parts.len() == 2 || (parts.len() == 1 && count == 0) {
            break;
        }
    }
    match parts.is_empty() {
        true => "0 s".to_owned(),
        false => parts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_say_no_more_than_they_know() {
        let shown = [0, 59, 60, 61, 3600, 3661, 86_400, 90_000, 90_061]
            .map(|seconds| long(Duration::from_secs(seconds)));
        let expected = [
            "0 s",
            "59 s",
            "1 min",
            "1 min 1 s",
            "1 h",
            "1 h 1 min",
            "1 d",
            "1 d 1 h",
            "1 d 1 h",
        ];
        assert_eq!(shown, expected);
        let now = Now::of("2026-11-29T23:00:00.000Z");
        assert_eq!(now.ago("2026-11-29T22:58:59.000Z"), "1 min 1 s ago");
        assert_eq!(now.ago("2026-11-29T23:00:09.000Z"), "just now");
        assert_eq!(now.when("2026-11-29T22:58:59.123Z"), "22:58:59 UTC");
        assert_eq!(now.when("2026-11-30T01:58:59.123Z"), "01:58:59 UTC");
        assert_eq!(
            now.when("2026-11-28T22:58:59.123Z"),
            "2026-11-28 22:58:59 UTC"
        );
        assert_eq!(Now::minute("2026-11-28T22:58:59.123Z"), "22:58");
        let left = now.left("2026-11-29T23:00:30.000Z");
        assert_eq!(left, Some(Duration::from_secs(30)));
        assert_eq!(now.left("2026-11-29T22:00:30.000Z"), None);
    }
}
