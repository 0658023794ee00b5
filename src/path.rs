//! Which path is meant? The readings of a request's path, and the patterns that it is held against.
//!
//! A path has two readings: the raw one, as it was written and as it is forwarded, and the normalised
//! one, as a lenient server would understand it. Whoever judges a path asks for both
//! ([`Path::matches_strictly`]); nothing here changes what is forwarded.

use std::borrow::Cow;
use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

/// A request's path in both readings.
#[derive(Debug)]
pub struct Path<'a> {
    raw: &'a str,
    normalised: Cow<'a, str>,
}

impl<'a> Path<'a> {
    /// Reads a raw path (no query). Allocates only where the two readings differ.
    #[must_use]
    pub fn new(raw: &'a str) -> Self {
        Self {
            raw,
            normalised: normalise(raw),
        }
    }

    /// The path as a lenient server reads it: percent-decoded once, `;parameters` dropped, dot segments
    /// resolved, empty segments and a trailing slash removed.
    #[must_use]
    pub fn normalised(&self) -> &str {
        &self.normalised
    }

    /// Whether the pattern matches the raw and the normalised reading alike: the stricter verdict.
    #[must_use]
    pub fn matches_strictly(&self, pattern: &Pattern) -> bool {
        pattern.matches(&self.normalised) && (self.is_plain() || pattern.matches(self.raw))
    }

    /// Whether the two readings are the same.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.normalised, Cow::Borrowed(_))
    }

    /// The path as it was written.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw
    }
}

/// See [`Path::normalised`]. A backslash counts as a slash, as some servers have it.
fn normalise(raw: &str) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    let special = |byte: &u8| matches!(byte, b'%' | b';' | b'\\');
    let pair = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.']);
    let plain = bytes.first() == Some(&b'/')
        && !bytes.iter().any(special)
        && !bytes.windows(2).any(pair)
        && (bytes.len() == 1 || bytes.last() != Some(&b'/'));
    if plain {
        return Cow::Borrowed(raw);
    }
    let decoded = percent_decode_str(raw).decode_utf8_lossy();
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// The segments of a path, one trailing slash not counted.
fn segments(path: &str) -> impl Iterator<Item = &[u8]> + Clone {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let count = if path.is_empty() { 0 } else { usize::MAX };
    // By bytes: searching text costs more to begin than a segment is long.
    let segments = path.as_bytes().split(|byte| *byte == b'/');
    segments.take(count)
}

/// A path pattern: `*` is one segment, `**` any number, none included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<[u8]>),
    One,
    Many,
}

/// Why a pattern is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is relative.
    #[error("must begin with `/`")]
    Relative,
    /// `/a*` and the like would suggest a match that does not happen.
    #[error("`*` and `**` stand for whole segments, as in `/payments/*` or `/payments/**`")]
    PartialWildcard,
    /// It could not match a normalised path.
    #[error("must not hold `?`, `#`, `%`, `;`, `\\`, spaces, empty or dot segments")]
    NotNormalised,
}

impl Pattern {
    /// Reads a pattern such as `/payment-links/*`.
    ///
    /// # Errors
    /// Where it is relative, has a wildcard inside a segment, or could match no normalised path.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::Relative);
        }
        let odd = |char: char| "?#%;\\".contains(char) || char.is_whitespace() || char.is_control();
        if text.contains(odd) {
            return Err(PatternError::NotNormalised);
        }
        let mut parsed = Vec::new();
        for segment in segments(text) {
            parsed.push(match segment {
                b"*" => Segment::One,
                b"**" => Segment::Many,
                b"" | b"." | b".." => return Err(PatternError::NotNormalised),
                literal if literal.contains(&b'*') => return Err(PatternError::PartialWildcard),
                literal => Segment::Literal(literal.into()),
            });
        }
        Ok(Self {
            text: text.into(),
            segments: parsed,
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether one reading of a path matches. Takes time in proportion to the path's length times the
    /// pattern's, whatever the two hold.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if let [Segment::Many] = *self.segments {
            return true;
        }
        self.matches_sequence(segments(path), |pattern, segment| match pattern {
            Segment::Literal(literal) => **literal == *segment,
            Segment::One => !segment.is_empty(),
            Segment::Many => true,
        })
    }

    /// Whether every path that `other` matches is matched by this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.matches_sequence(other.segments.iter(), |pattern, segment| {
            match (pattern, segment) {
                (Segment::Literal(mine), Segment::Literal(theirs)) => mine == theirs,
                (Segment::One, Segment::Literal(_) | Segment::One) | (Segment::Many, _) => true,
                (Segment::Literal(_) | Segment::One, _) => false,
            }
        })
    }

    /// Glob matching over segments; only the last `**` ever needs to be tried again.
    fn matches_sequence<T: Copy>(
        &self,
        mut path: impl Iterator<Item = T> + Clone,
        fits: impl Fn(&Segment, T) -> bool,
    ) -> bool {
        let mut at = 0;
        let mut retry = None;
        loop {
            let mut rest = path.clone();
            match (self.segments.get(at), rest.next()) {
                (None, None) => return true,
                (Some(Segment::Many), _) => {
                    at += 1;
                    retry = Some((at, path.clone()));
                }
                (Some(pattern), Some(segment)) if fits(pattern, segment) => {
                    at += 1;
                    path = rest;
                }
                _ => {
                    let Some((after_many, skipped)) = retry.as_mut() else {
                        return false;
                    };
                    if skipped.next().is_none() {
                        return false;
                    }
                    at = *after_many;
                    path = skipped.clone();
                }
            }
        }
    }

    /// Orders the more specific pattern first: segment by segment a literal comes before `*`, and `*`
    /// before `**`.
    #[must_use]
    pub fn compare_specificity(&self, other: &Self) -> Ordering {
        let rank = |segment: Option<&Segment>| match segment {
            None | Some(Segment::Literal(_)) => 0,
            Some(Segment::One) => 1,
            Some(Segment::Many) => 2,
        };
        (0..self.segments.len().max(other.segments.len()))
            .map(|at| rank(self.segments.get(at)).cmp(&rank(other.segments.get(at))))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| other.segments.len().cmp(&self.segments.len()))
    }
}

#[cfg(test)]
mod tests;
