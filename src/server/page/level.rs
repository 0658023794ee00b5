//! Level of a state: a word and a shape for each, so that nothing is told by colour alone.

use super::html::Html;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Well,
    Attention,
    Trouble,
}

impl Level {
    /// Its class in the style sheet.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Attention => "attention",
            Self::Trouble => "trouble",
        }
    }

    /// A circle with a tick, a triangle, an octagon.
    pub(super) fn icon(self, html: &mut Html) {
        html.markup("<svg class=\"icon ").markup(self.class());
        html.markup("\" viewBox=\"0 0 24 24\" aria-hidden=\"true\" focusable=\"false\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.4\" stroke-linecap=\"round\" stroke-linejoin=\"round\">");
        html.markup(match self {
            Self::Well => {
                "<circle cx=\"12\" cy=\"12\" r=\"9.8\"/><path d=\"m7.5 12.5 3 3 6-6.5\"/>"
            }
            Self::Attention => "<path d=\"M12 3 22 21H2Z\"/><path d=\"M12 10v5m0 2.6v.1\"/>",
            Self::Trouble => {
                "<path d=\"M8 2h8l6 6v8l-6 6H8l-6-6V8Z\"/><path d=\"m9 9 6 6m0-6-6 6\"/>"
            }
        });
        html.markup("</svg>");
    }

    /// With a word.
    pub(super) fn state(self, word: &str, html: &mut Html) {
        html.markup("<span class=\"state ").markup(self.class());
        html.markup("\">");
        self.icon(html);
        html.markup(" ").text(word).markup("</span>");
    }
}
