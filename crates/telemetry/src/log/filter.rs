//! The filter of the log, which may be another one for a time.
//!
//! What is given goes on top of what the filter usually is, so that levels for one target do not silence all others, nor
//! access lines.

use std::fmt;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A longer filter is refused.
const MAX_BYTES: usize = 1024;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Changes what is logged. Clones change the same log.
#[derive(Clone)]
pub struct LogFilter(Arc<Inner>);

struct Inner {
    /// From when it was started.
    usual: String,
    put: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

/// A text is no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a filter is a level (off, error, warn, info, debug, trace) or TARGET=LEVEL, or several of them with commas between"
)]
pub struct Invalid;

impl LogFilter {
    /// That one, which `put` replaces.
    #[must_use]
    pub fn new(usual: &EnvFilter, put: Box<dyn Fn(EnvFilter) + Send + Sync>) -> Self {
        let usual = usual.to_string();
        Self(Arc::new(Inner { usual, put }))
    }

    /// What it usually is.
    #[must_use]
    pub fn usual(&self) -> &str {
        &self.0.usual
    }

    /// What it would be with that on top.
    ///
    /// # Errors
    /// Where that is none.
    pub fn with(&self, given: &str) -> Result<String, Invalid> {
        let all = format!("{},{}", self.0.usual, checked(given)?);
        Ok(parse(&all).to_string())
    }

    /// Has the log filtered by what [`Self::with`] or [`Self::usual`] has returned.
    pub fn put(&self, filter: &str) {
        (self.0.put)(for_log(filter));
    }
}

/// That filter, without spaces.
///
/// # Errors
/// Where it is none.
pub fn checked(given: &str) -> Result<String, Invalid> {
    let parts: Vec<&str> = given.split(',').map(str::trim).collect();
    if given.len() > MAX_BYTES || !parts.iter().all(|part| is_directive(part)) {
        return Err(Invalid);
    }
    Ok(parts.join(","))
}

/// What is filtered in fact, whatever is asked for: of a malformed request h2 tells the path and the authority as they are,
/// with the query and with credentials.
pub(super) fn for_log(text: &str) -> EnvFilter {
    let filter = parse(text);
    match "h2::server=info".parse() {
        Ok(silenced) => filter.add_directive(silenced),
        Err(_) => filter,
    }
}

/// The later one of two for the same target counts.
pub(super) fn parse(text: &str) -> EnvFilter {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(text)
}

/// The parts of a text that are filters, and those that are not.
pub(super) fn sorted_out(text: &str) -> (String, String) {
    let parts = text.split(',').map(str::trim);
    let (right, wrong): (Vec<&str>, Vec<&str>) = parts
        .filter(|part| !part.is_empty())
        .partition(|part| is_directive(part));
    (right.join(","), wrong.join(","))
}

/// A word alone would be taken for a target, even one that is a level but for a letter.
fn is_directive(part: &str) -> bool {
    let is_level = |text: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    let is_target = |text: &str| {
        let fits = |char: char| char.is_ascii_alphanumeric() || "_:-".contains(char);
        !text.is_empty() && text.chars().all(fits)
    };
    match part.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("LogFilter")
            .field(&self.0.usual)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_goes_on_top_of_what_there_is() {
        let sorted = |text: &str| {
            let mut parts: Vec<String> = text.split(',').map(str::to_owned).collect();
            parts.sort_unstable();
            parts.join(",")
        };
        for (usual, given, expected) in [
            ("", "bursar::token=debug", "bursar::token=debug,info"),
            ("", "debug", "debug"),
            (
                "warn",
                "bursar=trace, h2=DEBUG",
                "bursar=trace,h2=debug,warn",
            ),
            (
                "info,bursar::access=off",
                "bursar::access=info",
                "bursar::access=info,info",
            ),
            (
                "info,bursar::access=off",
                "error",
                "bursar::access=off,error",
            ),
        ] {
            let filter = LogFilter::new(&parse(usual), Box::new(drop));
            let now = filter.with(given).unwrap();
            assert_eq!(sorted(&now), expected, "{usual} {given}");
            assert_eq!(parse(&now).to_string(), now);
        }
    }

    #[test]
    fn what_is_a_filter_is_told_from_what_is_none() {
        for (text, right, wrong) in [
            ("", "", ""),
            ("debgu", "", "debgu"),
            ("bursar=nope", "", "bursar=nope"),
            (" info ,h2=DEBUG,,x", "info,h2=DEBUG", "x"),
        ] {
            let expected = (right.to_owned(), wrong.to_owned());
            assert_eq!(sorted_out(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let filter = LogFilter::new(&parse(""), Box::new(drop));
        for text in [
            "",
            "debgu",
            "bursar",
            "bursar=",
            "=debug",
            "a=debug,",
            "[x]=debug",
            "a{b=c}=info",
            "a b=info",
        ] {
            assert_eq!(filter.with(text), Err(Invalid), "{text}");
        }
        assert_eq!(filter.with(&"a=info,".repeat(200)), Err(Invalid));
    }
}
