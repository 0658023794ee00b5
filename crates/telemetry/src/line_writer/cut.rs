//! Cutting of text that is too long for a line of the log: at a character, with its length behind it.

use std::borrow::Cow;

use bursar_base::terminal::steers;

/// No line is longer, its line break included: container runtimes cut lines at 16,384 bytes, with what they put
/// before them.
pub const MAX_LINE_BYTES: usize = 16_000;
/// What a character may become in JSON, e.g. `\\u0000`.
const MAX_WIDTH: usize = 6;
/// Room for the mark.
const MARK_BYTES: usize = 32;

/// The text, or as much of it as `most` bytes hold of it in JSON, and how long it was. None: all of it.
#[must_use]
pub fn cut(text: &str, most: usize) -> Option<String> {
    if text.len().saturating_mul(MAX_WIDTH) <= most {
        return None;
    }
    let (mut width, mut kept) = (0, 0);
    for (at, char) in text.char_indices() {
        width += json_width(char);
        if width <= most.saturating_sub(MARK_BYTES) {
            kept = at + char.len_utf8();
        }
        if width > most {
            return Some(marked(text.get(..kept).unwrap_or_default(), text.len()));
        }
    }
    None
}

/// The same for a whole line that is no JSON: its bytes count, with its line break.
#[must_use]
pub fn cut_line(line: &str) -> Cow<'_, str> {
    if line.len() <= MAX_LINE_BYTES {
        return line.into();
    }
    let kept = line.floor_char_boundary(MAX_LINE_BYTES - MARK_BYTES);
    let mut cut = marked(line.get(..kept).unwrap_or_default(), line.len());
    if line.ends_with('\n') {
        cut.push('\n');
    }
    cut.into()
}

fn marked(kept: &str, length: usize) -> String {
    format!("{kept}…[{length} bytes]")
}

/// Bytes of a character in a JSON string (RFC 8259 section 7), as serde and `plain_json` write it.
fn json_width(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        char if steers(char) => MAX_WIDTH,
        _ => char.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bursar_base::terminal::plain_json;

    fn in_json(text: &str) -> usize {
        let json = serde_json::to_string(text).unwrap();
        // Without its quotes.
        plain_json(&json).len() - 2
    }

    #[test]
    fn what_is_cut_fits_in_json_and_what_fits_is_not_cut() {
        for text in [
            "a", "\"", "\\", "\n", "\u{1}", "\u{7f}", "\u{9b}", "\u{2028}", "é", "語", "🂡",
        ] {
            for count in 1..120 {
                let long = text.repeat(count);
                let cut = cut(&long, 100);
                assert_eq!(cut.is_some(), in_json(&long) > 100, "{count} {text:?}");
                let Some(cut) = cut else { continue };
                assert!(in_json(&cut) <= 100, "{cut:?}");
                let (kept, mark) = cut.split_once('…').unwrap();
                assert!(long.starts_with(kept) && in_json(kept) > 60, "{cut:?}");
                assert_eq!(mark, format!("[{} bytes]", long.len()));
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_line_break() {
        let line = format!("{}\n", "é".repeat(9000));
        let cut = cut_line(&line);
        assert!(cut.len() <= MAX_LINE_BYTES && cut.len() > MAX_LINE_BYTES - 40);
        assert!(cut.ends_with("é…[18001 bytes]\n"), "{}", cut.len());
        assert_eq!(cut_line("short\n"), "short\n");
    }
}
