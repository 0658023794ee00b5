//! Query of the page: which page of tokens and of providers is shown, and which of the tokens. Links are relative: the
//! admin port may be behind a proxy, below a path of its own.

use super::html::Html;
use crate::server::status::Token;

/// More is not looked for.
const MAX_TEXT: usize = 100;

/// What the query says; what is no number is the first page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Of tokens, from 1.
    pub(super) page: usize,
    /// The page of providers, from 1.
    pub(super) providers: usize,
    /// What provider, account or scopes hold; empty: anything.
    pub(super) text: String,
}

/// A table that has pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Tokens,
    Providers,
}

impl Table {
    /// In the query, and the id of its section.
    const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Providers => "providers",
        }
    }
}

impl Query {
    pub(super) fn of(query: &str) -> Self {
        let (mut page, mut providers, mut text) = (1, 1, String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "tokens" => page = value.parse().unwrap_or(1).max(1),
                "providers" => providers = value.parse().unwrap_or(1).max(1),
                "find" => text = value.trim().chars().take(MAX_TEXT).collect(),
                _ => {}
            }
        }
        Self {
            page,
            providers,
            text,
        }
    }

    /// Whether a token is shown.
    pub(super) fn has(&self, token: &Token) -> bool {
        let text = self.text.to_lowercase();
        let is_in = |name: &str| name.to_lowercase().contains(&text);
        text.is_empty() || is_in(&token.provider) || is_in(&token.account) || is_in(&token.scopes)
    }

    /// The same with another page of that table.
    fn to_page(&self, table: Table, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.text.is_empty() {
            query.append_pair("find", &self.text);
        }
        for (other, own) in [
            (Table::Tokens, self.page),
            (Table::Providers, self.providers),
        ] {
            let page = if other == table { page } else { own };
            if page > 1 || other == table {
                query.append_pair(other.name(), &page.to_string());
            }
        }
        query.finish()
    }

    /// Links to the pages beside this one.
    pub(super) fn links(&self, table: Table, page: usize, pages: usize, html: &mut Html) {
        html.markup("<nav aria-label=\"Pages of ")
            .markup(table.name());
        html.markup("\"><ul>");
        let link = |page: usize, text: &'static str, html: &mut Html| {
            html.markup("<li><a href=\"./?")
                .text(&self.to_page(table, page));
            html.markup("#").markup(table.name());
            html.markup("\">").markup(text).markup("</a></li>");
        };
        if page > 1 {
            link(page - 1, "Previous page", html);
        }
        html.markup("<li>Page ").number(page as u64).markup(" of ");
        html.number(pages as u64).markup("</li>");
        if page < pages {
            link(page + 1, "Next page", html);
        }
        html.markup("</ul></nav>");
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
            let found = Query::of(query);
            assert_eq!((found.page, found.text), (page, text), "{query}");
        }
        let query = Query::of("find=a%26b%3D%22&providers=3");
        let again = Query::of(&query.to_page(Table::Tokens, 7));
        assert_eq!(
            (again.page, again.providers, &*again.text),
            (7, 3, "a&b=\"")
        );
        let again = Query::of(&again.to_page(Table::Providers, 1));
        assert_eq!((again.page, again.providers), (7, 1));
    }
}
