//! Readings of a path: each server decodes, cuts off and splits as it likes; these are the
//! readings that are known of them, so that rules can hold for all.
//!
//! A `..` is read alike by all servers where it stands there plainly. Where it comes out of anything else, or control
//! characters do, no reading is certain, and the path is ambiguous as a whole. A `.` leads nowhere else, however it is
//! written, so its readings are usual ones.

use super::lenient::{decode, is_control};

/// A path that was encoded so often has no honest reason.
const MAX_DECODINGS: usize = 5;
/// A path with more is ambiguous.
const MAX_READINGS: usize = 16;

/// The readings of a path that is not plain.
#[derive(Debug)]
pub(super) struct Readings {
    /// What the known servers take it for, the most lenient last: every rule has to hold for each.
    pub(super) usual: Vec<String>,
    /// What few servers make of it: only a token endpoint is protected against these.
    pub(super) rare: Vec<String>,
    /// Whether no reading is certain, so that the path is refused.
    pub(super) is_ambiguous: bool,
}

impl Readings {
    pub(super) fn of(raw: &str) -> Self {
        let mut readings = Self {
            usual: Vec::new(),
            rare: Vec::new(),
            is_ambiguous: false,
        };
        // RFC 3986 section 6.2.2: the same path, so some server sees the dots and decodes nothing else.
        let plain = raw.replace("%2e", ".").replace("%2E", ".");
        readings.read(raw);
        let mut text = plain.clone();
        for decodings in 0.. {
            readings.is_ambiguous |=
                text.contains(is_control) || (climbs(&text) && !climbs_alike(&plain, &text));
            readings.read(&text);
            let Some(decoded) = decode(&text) else {
                break;
            };
            if decodings == MAX_DECODINGS || readings.usual.len() > MAX_READINGS {
                readings.is_ambiguous = true;
                break;
            }
            text = decoded;
        }
        readings.read_invalid(&text);
        readings
    }

    /// One decoding in its readings, the most lenient one last.
    fn read(&mut self, text: &str) {
        if !text.contains(is_control) {
            self.add(resolve(text.split('/')));
            self.add(resolve_with_empty(text));
        }
        for end in ["?#\0\r\n", ";"] {
            if let Some((before, _)) = text.split_once(|char| end.contains(char)) {
                self.add(lenient(before));
            }
        }
        let whole = lenient(text);
        // ASP.NET keeps a session's id there, and takes it out.
        let is_session = |segment: &&str| segment.starts_with('(') && segment.ends_with("))");
        if whole.split('/').any(|segment| is_session(&segment)) {
            let rest = whole.split('/').filter(|segment| !is_session(segment));
            self.rare.push(resolve(rest));
        }
        self.usual.retain(|known| *known != whole);
        self.usual.push(whole);
    }

    /// Escapes that are none and bytes that are no UTF-8, both left after the last decoding, end a path for some
    /// server, and are dropped by others.
    fn read_invalid(&mut self, text: &str) {
        let invalid = ['%', char::REPLACEMENT_CHARACTER];
        let Some((before, _)) = text.split_once(invalid) else {
            return;
        };
        if before != "/" {
            self.rare.push(lenient(before));
        }
        self.rare.push(lenient(&text.replace(invalid, "")));
    }

    fn add(&mut self, reading: String) {
        if !self.usual.contains(&reading) {
            self.usual.push(reading);
        }
    }
}

/// Backslashes are slashes, parameters are dropped, and so is what Windows drops of a name.
fn lenient(text: &str) -> String {
    resolve(text.split(['/', '\\']).map(name))
}

/// Dot segments resolved, empty segments and a trailing slash removed.
fn resolve<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in all {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

/// As RFC 3986 section 5.2.4 and the URL standard have it: an empty segment is one that `..` takes away.
fn resolve_with_empty(text: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    resolve(segments.into_iter())
}

/// A segment without its parameters, the stream of a file that it may name, and white space and dots at its ends.
fn name(segment: &str) -> &str {
    let segment = segment.split(';').next().unwrap_or_default();
    let end = ["::", ":$"].iter().filter_map(|mark| segment.find(mark));
    let segment = segment.get(..end.min().unwrap_or(segment.len()));
    let segment = segment.unwrap_or_default();
    let is_space = |char: char| char.is_whitespace() || is_control(char);
    let segment = segment.trim_start_matches(is_space);
    let without = segment.trim_end_matches(|char| is_space(char) || char == '.');
    if !without.is_empty() {
        return without;
    }
    match segment.trim_end_matches(is_space) {
        "" => "",
        "." => ".",
        // Whoever takes three dots for anything takes them for more than one.
        _ => "..",
    }
}

/// Whether some server finds a `..`.
fn climbs(text: &str) -> bool {
    let split_at_end = |char| "/\\?#".contains(char) || is_control(char);
    text.split(split_at_end)
        .any(|segment| name(segment) == "..")
}

/// Whether all servers find each `..` at the same place: decoded or not, the path has as many segments, the same ones
/// are dots or empty, and nothing has to be dropped or cut off to see that.
fn climbs_alike(plain: &str, decoded: &str) -> bool {
    let is_mark = |segment: &str| matches!(segment, "" | "." | "..");
    let mut pairs = plain.split('/').zip(decoded.split('/'));
    !decoded.contains([';', '\\', '(', '?', '#'])
        && plain.split('/').count() == decoded.split('/').count()
        && pairs.all(|(plain, decoded)| match is_mark(decoded) {
            true => plain == decoded,
            false => name(decoded) == decoded,
        })
}
