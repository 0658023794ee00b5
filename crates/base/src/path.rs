//! Paths of requests: their readings, and the patterns that they are held against.
//!
//! A path has one reading, as it was written and as it is forwarded, or several: the raw one, and what servers make
//! of it that decode, split or cut off more than others. Whoever judges a path asks for all of them
//! ([`Path::matches_strictly`]); nothing here changes what is forwarded.

mod lenient;
mod readings;

use std::cmp::Ordering;

use readings::Readings;

/// A request's path in all its readings.
#[derive(Debug)]
pub struct Path<'a> {
    raw: &'a str,
    /// None: it has no other one.
    others: Option<Box<Readings>>,
}

impl<'a> Path<'a> {
    /// Reads a raw path (no query). Allocates only where there is more than one reading.
    #[must_use]
    pub fn new(raw: &'a str) -> Self {
        Self {
            raw,
            others: (!is_plain(raw)).then(|| Box::new(Readings::of(raw))),
        }
    }

    /// The path as the most lenient server reads it: decoded until nothing changes, `;parameters` dropped, dot
    /// segments resolved, empty segments and a trailing slash removed.
    #[must_use]
    pub fn normalised(&self) -> &str {
        let others = self.others.as_ref();
        let most_lenient = others.and_then(|others| others.all.last());
        most_lenient.map_or(self.raw, |most_lenient| most_lenient)
    }

    /// Whether the pattern matches every reading: the stricter verdict.
    #[must_use]
    pub fn matches_strictly(&self, pattern: &Pattern) -> bool {
        self.readings().all(|reading| pattern.matches(reading))
    }

    /// The readings, the raw one first.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        let others = self.others.iter().flat_map(|others| &others.all);
        std::iter::once(self.raw).chain(others.map(String::as_str))
    }

    /// All of them, and those that only a token endpoint need fear.
    pub fn suspicions(&self) -> impl Iterator<Item = &str> {
        let others = self.others.iter().flat_map(|others| &others.guarded);
        self.readings().chain(others.map(String::as_str))
    }

    /// Whether no reading is certain, so that the path must not go on.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.others
            .as_ref()
            .is_some_and(|others| others.is_doubtful)
    }

    /// Whether there is one reading only.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.others.is_none()
    }

    /// The path as it was written.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw
    }
}

/// What a byte says about a path.
const ORDINARY: u8 = 0;
/// That depends on the one before it.
const DEPENDS: u8 = 1;
/// There is more than one reading.
const SPECIAL: u8 = 2;
const KINDS: [u8; 256] = {
    let mut kinds = [SPECIAL; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        kinds[byte as usize] = match byte {
            b'%' | b';' | b'\\' | b'(' | b'?' | b'#' => SPECIAL,
            b'/' | b'.' | b':' | b'$' => DEPENDS,
            _ => ORDINARY,
        };
        byte += 1;
    }
    kinds
};

/// Whether a path has one reading only.
fn is_plain(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    let mut before = 0;
    for byte in bytes {
        match (KINDS[usize::from(*byte)], before, byte) {
            (ORDINARY, ..) => {}
            (SPECIAL, ..) | (_, b'/', b'/' | b'.') | (_, b'.', b'/') | (_, b':', b':' | b'$') => {
                return false;
            }
            _ => {}
        }
        before = *byte;
    }
    bytes.first() == Some(&b'/') && (bytes.len() == 1 || !matches!(before, b'/' | b'.'))
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
