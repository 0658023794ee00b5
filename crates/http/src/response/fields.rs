//! Field sections, line by line, each checked by itself: folded ones are put together (RFC 9112
//! section 5.2), blanks before a colon go (section 5.1), and what has no name or no value that may go on is dropped.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ResponseError;
use crate::numbers::trim;
use bursar_telemetry::metrics::{DroppedFields, Section};

/// Names of fields that frame an answer, letters alone.
const FRAMING: [&[u8]; 2] = [b"contentlength", b"transferencoding"];

/// More fields of one section are dropped, apart from what frames the answer.
const MAX_FIELDS: usize = 8192;

/// A section's fields.
#[derive(Debug, Default)]
pub(super) struct SectionFields {
    pub(super) all: HeaderMap,
    /// Whether a line was dropped that may have been meant to frame the answer.
    pub(super) is_garbled: bool,
}

/// A line without what ends it. Text mode on some systems writes more than one CR.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| *byte != b'\r');
    line.get(..end.map_or(0, |last| last + 1))
        .unwrap_or_default()
}

/// Where a section's empty line ends; None where that has not come. Before `from` there is none.
pub(super) fn end(bytes: &[u8], from: &mut usize) -> Option<usize> {
    for found in memchr::memchr_iter(b'\n', bytes.get(*from..)?) {
        let end = *from + found;
        let before = without_end(bytes.get(..end)?);
        if before.last().is_none_or(|last| *last == b'\n') {
            return Some(end + 1);
        }
    }
    *from = bytes.len();
    None
}

/// Reads the lines of a section.
pub(super) fn read(section: &[u8], kind: Section, dropped: &DroppedFields) -> SectionFields {
    let mut fields = SectionFields::default();
    let mut whole: Vec<u8> = Vec::new();
    let (mut number, mut begun) = (0, 0);
    for line in section.split(|byte| *byte == b'\n').map(without_end) {
        number += 1;
        if matches!(line, [b' ' | b'\t', ..]) && begun > 0 {
            whole.push(b' ');
            whole.extend_from_slice(trim(line));
            continue;
        }
        fields.take(&whole, kind, begun, dropped);
        whole.clear();
        whole.extend_from_slice(line);
        begun = number;
    }
    fields.take(&whole, kind, begun, dropped);
    fields
}

impl SectionFields {
    /// Takes one, or drops it. It has that number within its section.
    fn take(&mut self, line: &[u8], kind: Section, number: usize, dropped: &DroppedFields) {
        if line.is_empty() {
            return;
        }
        let colon = memchr::memchr(b':', line);
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        // Blanks before it make it another line's continuation, which there is none of (RFC 9112 section 2.2).
        let name = trim_end(name);
        let value = value.strip_prefix(b":").map(trim);
        let field = HeaderName::from_bytes(name)
            .ok()
            .zip(value.and_then(|value| HeaderValue::from_bytes(value).ok()));
        let field = field.filter(|_| self.all.len() < MAX_FIELDS || may_frame(name));
        let is_taken = field.is_some_and(|(name, value)| self.all.try_append(name, value).is_ok());
        if !is_taken {
            self.is_garbled |= may_frame(name);
            // Without a colon there is no name, and there may be a piece of a value.
            dropped.count(colon.map_or(&[], |_| name), kind, number);
        }
    }

    /// Whether a list has an element, of a field with that name.
    pub(super) fn have(&self, name: HeaderName, element: &str) -> bool {
        self.all.get_all(name).iter().any(|value| {
            let mut elements = value.as_bytes().split(|byte| *byte == b',');
            elements.any(|one| trim(one).eq_ignore_ascii_case(element.as_bytes()))
        })
    }

    /// That no line was dropped that may have framed the answer.
    pub(super) fn are_clear(&self) -> Result<(), ResponseError> {
        match self.is_garbled {
            true => Err(ResponseError::Garbled),
            false => Ok(()),
        }
    }
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !is_blank(*byte));
    bytes
        .get(..end.map_or(0, |last| last + 1))
        .unwrap_or_default()
}

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn may_frame(name: &[u8]) -> bool {
    let letters = name.iter().filter(|byte| byte.is_ascii_alphabetic());
    let letters: Vec<u8> = letters.take(16).map(u8::to_ascii_lowercase).collect();
    FRAMING.iter().any(|framing| letters.starts_with(framing))
}
