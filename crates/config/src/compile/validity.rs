//! Warnings of certificates in the operator's files that are not valid, or will soon not be. They are no errors: a new
//! file may be on its way, and a proxy that does not start helps nobody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;

use crate::diagnostic::Diagnostics;
use bursar_base::clock;
use bursar_tls::client::{self, ENDS_SOON, Validity};

/// Of a chain that is shown to others, who look at each certificate of it.
pub(super) fn warn_of_chain(chain: &[CertificateDer<'_>], path: &str, problems: &mut Diagnostics) {
    let all = chain.iter().filter_map(client::validity);
    let whole = all.reduce(|one, other| Validity {
        begin: one.begin.max(other.begin),
        end: one.end.min(other.end),
    });
    if let Some(concern) = whole.and_then(|whole| Concern::of(whole, seconds(clock::wall()))) {
        let message = match concern {
            Concern::NotYet(begin) => format!(
                "is valid from {} on only, and refused until then; is the clock right?",
                date(begin)
            ),
            Concern::Ended(end) => {
                format!(
                    "has ended, on {}, and is refused where it is shown",
                    date(end)
                )
            }
            Concern::Soon(end) => format!("ends soon, on {}", date(end)),
        };
        problems.warn(path, message);
    }
}

/// Of those that are trusted: one that is valid is enough, because old ones are kept beside new ones.
pub(super) fn warn_of_trusted(
    trusted: &[CertificateDer<'_>],
    path: &str,
    problems: &mut Diagnostics,
) {
    let all = trusted.iter().filter_map(client::validity);
    let last = all.max_by_key(|validity| validity.end);
    let last = last.and_then(|last| Concern::of(last, seconds(clock::wall())));
    let message = match last {
        None | Some(Concern::NotYet(_)) => return,
        Some(Concern::Ended(end)) => format!(
            "has no certificate that is still valid: the last one ended on {}",
            date(end)
        ),
        Some(Concern::Soon(end)) => {
            format!(
                "will soon have no valid certificate: the last one ends on {}",
                date(end)
            )
        }
    };
    problems.warn(path, message);
}

/// Of the authority of interception; one that has ended is an error.
pub(super) fn warn_of_authority(end: i64, path: &str, problems: &mut Diagnostics) {
    let validity = Validity {
        begin: i64::MIN,
        end,
    };
    if Concern::of(validity, seconds(clock::wall())).is_some() {
        let message = format!(
            "ends soon, on {}; `bursar ca new` makes another one, which callers have to trust before",
            date(end)
        );
        problems.warn(path, message);
    }
}

/// What there is to say of a validity; instants are in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concern {
    NotYet(i64),
    Ended(i64),
    Soon(i64),
}

impl Concern {
    fn of(Validity { begin, end }: Validity, now: i64) -> Option<Self> {
        let soon = i64::try_from(ENDS_SOON.as_secs()).unwrap_or(i64::MAX);
        if now >= end {
            Some(Self::Ended(end))
        } else if now < begin {
            Some(Self::NotYet(begin))
        } else {
            (end.saturating_sub(now) < soon).then_some(Self::Soon(end))
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// As RFC 3339 has it.
fn date(at: i64) -> String {
    let since = Duration::from_secs(u64::try_from(at).unwrap_or_default());
    // RFC 5280 knows no later year than 9999.
    let at = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    #[test]
    fn what_has_ended_will_soon_or_has_not_begun_is_told() {
        let now = 20_000 * DAY;
        let of = |begin, end| {
            let (begin, end) = (now + begin, now + end);
            Concern::of(Validity { begin, end }, now)
        };
        assert_eq!(of(-DAY, 14 * DAY), None);
        assert_eq!(
            of(-DAY, 14 * DAY - 1),
            Some(Concern::Soon(now + 14 * DAY - 1))
        );
        assert_eq!(of(-DAY, 1), Some(Concern::Soon(now + 1)));
        assert_eq!(of(-DAY, 0), Some(Concern::Ended(now)));
        assert_eq!(of(0, 99 * DAY), None);
        assert_eq!(of(1, 99 * DAY), Some(Concern::NotYet(now + 1)));
    }

    fn made(days: i64) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(["a.test".to_owned()]).unwrap();
        let now = time::OffsetDateTime::now_utc();
        parameters.not_after = now + time::Duration::days(days);
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn of_a_chain_the_first_that_ends_counts_and_of_what_is_trusted_the_last() {
        let (ended, soon, long) = (made(-1), made(5), made(100));
        let warned = |warn: fn(&[CertificateDer<'_>], &str, &mut Diagnostics), all: &[_]| {
            let mut problems = Diagnostics::default();
            warn(all, "tls", &mut problems);
            let messages = problems.warnings.iter().map(|warning| &*warning.message);
            let message = messages.map(|message| message.split(" on ").next().unwrap());
            message.collect::<String>()
        };
        let chain = |all: &[_]| warned(warn_of_chain, all);
        let trusted = |all: &[_]| warned(warn_of_trusted, all);
        assert_eq!(chain(std::slice::from_ref(&long)), "");
        assert_eq!(chain(&[long.clone(), soon.clone()]), "ends soon,");
        assert_eq!(chain(&[long.clone(), ended.clone()]), "has ended,");
        assert_eq!(trusted(&[ended.clone(), soon.clone(), long]), "");
        let said = "will soon have no valid certificate: the last one ends";
        assert_eq!(trusted(&[ended.clone(), soon]), said);
        let said = "has no certificate that is still valid: the last one ended";
        assert_eq!(trusted(&[ended]), said);
    }
}
