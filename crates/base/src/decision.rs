//! Decision of an operator on the payments to a provider: freeze or thaw, by whom, when and why.
//!
//! Its texts come from people, and are shown to others in logs and terminals: they are short lines without controls.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use crate::terminal;

/// How long a freeze may take that ends by itself.
pub const FREEZE_TIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60);

/// Characters of who decides.
const MAX_BY: usize = 128;
/// Characters of why.
const MAX_REASON: usize = 200;
/// Where something longer was cut.
const CUT: char = '…';

/// What an operator has said of a provider last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether requests that move money are refused.
    pub is_frozen: bool,
    /// Since when that is so.
    pub since: SystemTime,
    /// When a freeze ends by itself, by the clock of whoever decided. None: it does not.
    pub until: Option<SystemTime>,
    /// Who says so, as `user@host` of the command. Not proven: whoever has the `admin_token` may say anything.
    pub by: Option<Box<str>>,
    /// Why.
    pub reason: Option<Box<str>>,
}

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// Who decides.
    By,
    /// Why.
    Reason,
}

/// A text is not a short line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is too long.
    #[error("longer than {0} characters")]
    Long(usize),
    /// It could steer a terminal, or pose as another line.
    #[error("not one line without control characters")]
    Controls,
}

impl Text {
    const fn most(self) -> usize {
        match self {
            Self::By => MAX_BY,
            Self::Reason => MAX_REASON,
        }
    }

    /// The text as it is kept; None where it says nothing.
    ///
    /// # Errors
    /// Where it is no short line.
    pub fn check(self, text: &str) -> Result<Option<Box<str>>, Unfit> {
        let text = text.trim();
        if text.chars().count() > self.most() {
            return Err(Unfit::Long(self.most()));
        }
        match terminal::plain(text) == text {
            true => Ok((!text.is_empty()).then(|| text.into())),
            false => Err(Unfit::Controls),
        }
    }

    /// The same of a text that somebody has checked already, or should have: it is made to fit.
    #[must_use]
    pub fn fit(self, text: &str) -> Option<Box<str>> {
        // No more of it is looked at than could be kept.
        let start: String = text.chars().take(self.most() + 1).collect();
        let plain = terminal::plain(start.trim());
        let mut kept: String = plain.chars().take(self.most()).collect();
        if plain.chars().count() > self.most() {
            kept.pop();
            kept.push(CUT);
        }
        (!kept.is_empty()).then(|| kept.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_lines_without_controls_are_taken() {
        let check = |text: &str| Text::Reason.check(text);
        assert_eq!(
            check("  Müller: 語 (#17) "),
            Ok(Some("Müller: 語 (#17)".into()))
        );
        assert_eq!(check(" \t"), Ok(None));
        for text in ["a\u{1b}[2J", "a\nb", "a\u{202e}b", "a\u{9b}b", "a\u{0}"] {
            assert_eq!(check(text), Err(Unfit::Controls), "{text:?}");
        }
        assert!(check(&"ü".repeat(MAX_REASON)).is_ok());
        assert_eq!(
            check(&"ü".repeat(MAX_REASON + 1)),
            Err(Unfit::Long(MAX_REASON))
        );
        assert!(Text::By.check(&"u".repeat(MAX_BY + 1)).is_err());
    }

    #[test]
    fn whatever_comes_is_made_to_fit() {
        let fit = |text: &str| Text::By.fit(text);
        assert_eq!(fit("ann@host"), Some("ann@host".into()));
        assert_eq!(fit("a\u{1b}b\n"), Some("a\\u{1b}b".into()));
        assert_eq!(fit(""), None);
        for text in ["u".repeat(1000), "\u{1b}".repeat(1000)] {
            let fit = fit(&text).unwrap();
            assert_eq!(fit.chars().count(), MAX_BY);
            assert!(fit.ends_with(CUT));
            assert!(Text::By.check(&fit).is_ok());
        }
    }
}
