//! Paths of requests: their readings, and the patterns that they are held against.
//!
//! A path has one reading, as it was written and as it is forwarded, or several: the raw one, and what servers make
//! of it that decode, split or cut off more than others. Rules hold for a path only where they hold for all of its
//! [readings](Path::readings), as [`Path::matches_strictly`] has it; token endpoints are protected against the
//! [rare ones](Path::all_readings) as well; and an [ambiguous](Path::is_ambiguous) path is refused. Nothing here changes
//! what is forwarded.

mod lenient;
mod readings;

use std::cmp::Ordering;

use readings::Readings;

/// A request's path in all its readings.
#[derive(Debug)]
pub struct Path<'a> {
    raw: &'a str,
    has_variants: bool,
    /// None: it has no other one.
    others: Option<Box<Readings>>,
}

impl<'a> Path<'a> {
    /// Reads a raw path (no query). Allocates only where there is more than one reading.
    #[must_use]
    pub fn new(raw: &'a str) -> Self {
        let kinds = Kinds::of(raw);
        Self {
            raw,
            has_variants: kinds.all & !SLASH != 0,
            others: (!kinds.are_plain(raw)).then(|| Box::new(Readings::of(raw))),
        }
    }

    /// The path as the most lenient server reads it: decoded until nothing changes, `;parameters` dropped, dot
    /// segments resolved, empty segments and a trailing slash removed.
    #[must_use]
    pub fn normalised(&self) -> &str {
        let others = self.others.as_ref();
        let most_lenient = others.and_then(|others| others.usual.last());
        most_lenient.map_or(self.raw, |most_lenient| most_lenient)
    }

    /// Whether the pattern matches every reading: the stricter verdict.
    #[must_use]
    pub fn matches_strictly(&self, pattern: &Pattern) -> bool {
        self.readings().all(|reading| pattern.matches(reading))
    }

    /// What servers take the path for, the raw path first: every rule has to hold for each of them.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        let others = self.others.iter().flat_map(|others| &others.usual);
        std::iter::once(self.raw).chain(others.map(String::as_str))
    }

    /// The same, and what few servers make of the path: none of them may be a token endpoint, whose response a caller
    /// must not get. Other rules do not look at these, or honest paths would be refused.
    pub fn all_readings(&self) -> impl Iterator<Item = &str> {
        let others = self.others.iter().flat_map(|others| &others.rare);
        self.readings().chain(others.map(String::as_str))
    }

    /// Whether servers may find a `..`, or more readings than are known here, so that no rule can be sure what the path
    /// means: it must not go on.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.others
            .as_ref()
            .is_some_and(|others| others.is_ambiguous)
    }

    /// Whether there is one reading only.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.others.is_none()
    }

    /// Whether it has capitals, dots or colons, or several readings, so that some server may take it for another path.
    #[must_use]
    pub fn has_variants(&self) -> bool {
        self.has_variants || !self.is_plain()
    }

    /// The path as it was written.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw
    }
}

/// What bytes say about a path, a bit each. Together with the one before it, it may have more than one reading.
const DEPENDS: u8 = 1;
/// The same for a slash.
const SLASH: u8 = 2;
/// There is more than one reading.
const SPECIAL: u8 = 4;
/// There is one reading, and servers that compare without regard to case.
const CAPITAL: u8 = 8;
const KINDS: [u8; 256] = {
    let mut kinds = [SPECIAL; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        kinds[byte as usize] = match byte {
            b'%' | b';' | b'\\' | b'(' | b'?' | b'#' => SPECIAL,
            b'/' => SLASH,
            b'.' | b':' | b'$' => DEPENDS,
            b'A'..=b'Z' => CAPITAL,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// What the bytes of a path say together.
struct Kinds {
    all: u8,
    /// What two say that follow one another.
    both: u8,
}

impl Kinds {
    fn of(raw: &str) -> Self {
        let (mut all, mut both, mut before) = (0, 0, 0);
        for byte in raw.as_bytes() {
            let kind = KINDS[usize::from(*byte)];
            all |= kind;
            both |= kind & before;
            before = kind;
        }
        Self { all, both }
    }

    /// Whether that path has one reading only.
    fn are_plain(&self, raw: &str) -> bool {
        let bytes = raw.as_bytes();
        let is_doubled = self.both & SLASH != 0;
        let is_ended = bytes.len() == 1 || !matches!(bytes.last(), Some(b'/' | b'.'));
        let is_odd =
            |pair: &[u8]| matches!(pair, [b'/', b'.'] | [b'.', b'/'] | [b':', b':' | b'$']);
        bytes.first() == Some(&b'/')
            && self.all & SPECIAL == 0
            && !is_doubled
            && is_ended
            && (self.all & DEPENDS == 0 || !bytes.windows(2).any(is_odd))
    }
}

/// A path without its first slash and its last one.
fn trimmed(path: &str) -> &[u8] {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path).as_bytes()
}

/// The segments of a path, one trailing slash not counted.
fn segments(path: &str) -> impl Iterator<Item = &[u8]> + Clone {
    let path = trimmed(path);
    split((!path.is_empty()).then_some(path))
}

/// The segments between slashes. By bytes: searching text costs more to begin than a segment is long.
fn split(path: Option<&[u8]>) -> impl Iterator<Item = &[u8]> + Clone {
    let segments = path.unwrap_or_default().split(|byte| *byte == b'/');
    segments.take(if path.is_some() { usize::MAX } else { 0 })
}

/// A path pattern: `*` is one segment, `**` any number, none included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    segments: Vec<Segment>,
    /// The literal segments that it begins with, as a path has them, and how many those are.
    start: Box<[u8]>,
    literals: usize,
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
    /// Frameworks and API descriptions have it for `*`; here it would match nothing but itself.
    #[error(
        "holds a placeholder such as `{{id}}` or `:id`, which would match nothing but itself; write `*` for one segment, as in `/payments/*`"
    )]
    Placeholder,
    /// It could not match a normalised path.
    #[error("must not hold `?`, `#`, `%`, `;`, `\\`, spaces, empty or dot segments")]
    NotNormalised,
}

impl Pattern {
    /// Reads a pattern such as `/payment-links/*`.
    ///
    /// # Errors
    /// Where it is relative, has a wildcard inside a segment or a placeholder, or could match no normalised path.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::Relative);
        }
        let odd = |char: char| "?#%;\\".contains(char) || char.is_whitespace() || char.is_control();
        if text.contains(odd) {
            return Err(PatternError::NotNormalised);
        }
        // No path may hold brackets that are not encoded (RFC 3986 section 3.3), and none is known with such a colon.
        let is_named = |segment: &[u8]| matches!(segment, [b':', first, ..] if first.is_ascii_alphabetic() || *first == b'_');
        if text.contains(['{', '}', '<', '>']) || segments(text).any(is_named) {
            return Err(PatternError::Placeholder);
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
        let is_literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
        let literals = parsed.iter().take_while(is_literal).count();
        let start: Vec<&[u8]> = segments(text).take(literals).collect();
        Ok(Self {
            text: text.into(),
            segments: parsed,
            start: start.join(&b'/').into(),
            literals,
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has letters of ASCII in upper case.
    #[must_use]
    pub fn has_capitals(&self) -> bool {
        self.text.bytes().any(|byte| byte.is_ascii_uppercase())
    }

    /// Whether one reading of a path matches. Takes time in proportion to the path's length times the
    /// pattern's, whatever the two hold.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.matches_by(path, |literal, text| literal == text)
    }

    /// The same for a server to which letters of ASCII are the same in either case.
    #[must_use]
    pub fn matches_ignoring_case(&self, path: &str) -> bool {
        self.matches_by(path, <[u8]>::eq_ignore_ascii_case)
    }

    fn matches_by(&self, path: &str, is_equal: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        if let [Segment::Many] = *self.segments {
            return true;
        }
        // What is literal at the beginning is compared in one piece: most patterns differ from most paths there.
        let path = trimmed(path);
        let rest = match path.split_at_checked(self.start.len()) {
            _ if self.literals == 0 => (!path.is_empty()).then_some(path),
            Some((start, [])) if is_equal(&self.start, start) => None,
            Some((start, [b'/', rest @ ..])) if is_equal(&self.start, start) => Some(rest),
            _ => return false,
        };
        let patterns = self.segments.get(self.literals..).unwrap_or_default();
        match_sequence(patterns, split(rest), |pattern, segment| match pattern {
            Segment::Literal(literal) => is_equal(literal, segment),
            Segment::One => !segment.is_empty(),
            Segment::Many => true,
        })
    }

    /// Whether every path that `other` matches is matched by this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let segments = other.segments.iter();
        match_sequence(&self.segments, segments, |pattern, segment| {
            match (pattern, segment) {
                (Segment::Literal(mine), Segment::Literal(theirs)) => mine == theirs,
                (Segment::One, Segment::Literal(_) | Segment::One) | (Segment::Many, _) => true,
                (Segment::Literal(_) | Segment::One, _) => false,
            }
        })
    }

    /// Whether there is a path that both match.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // For each number of segments of the other: whether what is left of both, from there on, has a path in common.
        let mut below = vec![false; other.segments.len() + 1];
        for at in (0..=self.segments.len()).rev() {
            let mut row = below.clone();
            for place in (0..=other.segments.len()).rev() {
                let after = |row: &[bool]| row.get(place + 1).is_some_and(|is| *is);
                let under = below.get(place).is_some_and(|is| *is);
                row[place] = match (self.segments.get(at), other.segments.get(place)) {
                    (None, None) => true,
                    (Some(Segment::Many), _) | (_, Some(Segment::Many)) => under || after(&row),
                    (Some(Segment::Literal(mine)), Some(Segment::Literal(theirs))) => {
                        mine == theirs && after(&below)
                    }
                    (Some(_), Some(_)) => after(&below),
                    (None, Some(_)) | (Some(_), None) => false,
                };
            }
            below = row;
        }
        below.first().is_some_and(|is| *is)
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

/// Glob matching over segments; only the last `**` ever needs to be tried again.
fn match_sequence<T: Copy>(
    patterns: &[Segment],
    mut path: impl Iterator<Item = T> + Clone,
    fits: impl Fn(&Segment, T) -> bool,
) -> bool {
    let mut at = 0;
    let mut retry = None;
    loop {
        let mut rest = path.clone();
        match (patterns.get(at), rest.next()) {
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

#[cfg(test)]
mod tests;
