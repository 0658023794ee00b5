//! HTML as it is written: what the program says is markup, and everything else is escaped.

use std::fmt::Write as _;

use bursar_base::terminal::plain;

/// A part of the page.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup, which is part of the program.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text from anywhere, for an element's content or for an attribute's value in quotation marks. Controls, those for
    /// the direction of text too, are shown and do nothing.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for char in plain(text).chars() {
            match char {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// A number, with its digits in groups of three.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.text(&grouped(number))
    }

    /// A length in a picture.
    pub(super) fn length(&mut self, length: f64) -> &mut Self {
        // Writing to a String cannot fail.
        let written = write!(self.0, "{length:.2}");
        debug_assert!(written.is_ok());
        self
    }

    /// A time, as it is given in RFC 3339, for programs; `shown` is for people.
    pub(super) fn time(&mut self, at: &str, shown: &str) -> &mut Self {
        self.markup("<time datetime=\"").text(at);
        self.markup("\">").text(shown).markup("</time>")
    }

    /// Text in which what stands between backticks is code.
    pub(super) fn prose(&mut self, text: &str) -> &mut Self {
        for (index, part) in text.split('`').enumerate() {
            match index % 2 {
                0 => self.text(part),
                _ => self.markup("<code>").text(part).markup("</code>"),
            };
        }
        self
    }

    /// All that was written.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 payment`, `2 payments`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{} {many}", grouped(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup_nor_steers_what_stands_beside_it() {
        let mut html = Html::default();
        html.markup("<a title=\"")
            .text("\"><script>'&\u{202e}\u{0}")
            .markup("\">");
        assert_eq!(
            html.0,
            "<a title=\"&quot;&gt;&lt;script&gt;&#39;&amp;\\u{202e}\\u{0}\">"
        );
        let mut prose = Html::default();
        prose.prose("see `a<b` and <b>");
        assert_eq!(prose.0, "see <code>a&lt;b</code> and &lt;b&gt;");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let numbers = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "token", "tokens"), "1 token");
        assert_eq!(counted(1000, "token", "tokens"), "1,000 tokens");
    }
}
