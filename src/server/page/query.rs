//! Query of the page: which page of tokens is shown, and which of them.

use crate::server::status::Token;

/// More is not looked for.
const MAX_TEXT: usize = 100;

/// What the query says; what is no number is the first page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// From 1.
    pub(super) page: usize,
    /// What provider, account or scopes hold; empty: anything.
    pub(super) text: String,
}

impl Query {
    pub(super) fn of(query: &str) -> Self {
        let (mut page, mut text) = (1, String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "tokens" => page = value.parse().unwrap_or(1).max(1),
                "find" => text = value.trim().chars().take(MAX_TEXT).collect(),
                _ => {}
            }
        }
        Self { page, text }
    }

    /// Whether a token is shown.
    pub(super) fn has(&self, token: &Token) -> bool {
        let text = self.text.to_lowercase();
        let is_in = |name: &str| name.to_lowercase().contains(&text);
        text.is_empty() || is_in(&token.provider) || is_in(&token.account) || is_in(&token.scopes)
    }

    /// The same with another page.
    pub(super) fn to_page(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.text.is_empty() {
            query.append_pair("find", &self.text);
        }
        query.append_pair("tokens", &page.to_string());
        query.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_query_says_there_is_a_page() {
        for (query, page, text) in [
            ("", 1, ""),
            ("tokens=3&find=shop+1", 3, "shop 1"),
            ("tokens=0", 1, ""),
            ("tokens=-1&find=%3Cscript%3E", 1, "<script>"),
            ("tokens=99999999999999999999", 1, ""),
            ("find=%FF&x=y", 1, "\u{fffd}"),
        ] {
            let text = text.to_owned();
            assert_eq!(Query::of(query), Query { page, text }, "{query}");
        }
        let again = Query::of(&Query::of("find=a%26b%3D%22").to_page(7));
        assert_eq!((again.page, &*again.text), (7, "a&b=\""));
    }
}
