//! Escaping of text for terminals: what comes from a file or from the wire must not steer one, nor pose as another line.
//!
//! Controls are escaped, C1 ones and those for the direction of text too, and so are both separators of Unicode.
//! Everything else stays as it is, in any language.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text as one line without controls.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    escape(text, steers, |escaped, char| {
        escaped.extend(char.escape_default());
    })
}

/// The same, where line breaks stay.
#[must_use]
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    let steers = |char: char| char != '\n' && steers(char);
    escape(text, steers, |escaped, char| {
        escaped.extend(char.escape_default());
    })
}

/// JSON text, which stays the same value.
#[must_use]
pub fn plain_json(text: &str) -> Cow<'_, str> {
    // Those below U+0020 are escaped in strings already, and elsewhere they are white space.
    let steers = |char: char| char >= ' ' && steers(char);
    escape(text, steers, |escaped, char| {
        // None of them is beyond the first plane. Writing to a String cannot fail.
        let written = write!(escaped, "\\u{:04x}", u32::from(char));
        debug_assert!(written.is_ok());
    })
}

fn escape(
    text: &str,
    steers: impl Fn(char) -> bool,
    put: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&steers) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match steers(char) {
            true => put(&mut escaped, char),
            false => escaped.push(char),
        }
    }
    escaped.into()
}

/// Whether a character steers a terminal, or looks like the end of a line.
#[must_use]
pub fn steers(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped_and_nothing_else() {
        for (text, expected) in [
            ("Müller \"語\" \\ ok", "Müller \"語\" \\ ok"),
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{7f}\u{9b}31m\u{0}", "\\u{7f}\\u{9b}31m\\u{0}"),
            (
                "\u{202e}gpj\u{2066}\u{2028}",
                "\\u{202e}gpj\\u{2066}\\u{2028}",
            ),
        ] {
            assert_eq!(plain(text), expected);
        }
        assert_eq!(plain_lines("a\nb\u{1b}\r\n"), "a\nb\\u{1b}\\r\n");
    }

    #[test]
    fn json_stays_the_same_value() {
        let text = "{\n  \"a\": \"\u{9b}x\\u001b\u{202e}ü\"\n}";
        let plain = plain_json(text);
        assert_eq!(plain, "{\n  \"a\": \"\\u009bx\\u001b\\u202eü\"\n}");
    }
}
