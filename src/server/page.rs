//! The admin page: `/status` for people, as one HTML file that asks for nothing else.
//!
//! It is written here, so that it can be read without JavaScript, and its one script only makes it change. What stands in
//! it is escaped by [`html::Html`], which takes markup from the program alone. Style and script are named in the
//! Content-Security-Policy by their hashes, so a browser takes no other.

mod hour;
mod html;
mod level;
mod payments;
mod process;
mod providers;
mod query;
mod refusals;
mod summary;
mod time;
mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ring::digest::{SHA256, digest};

use super::status::{Readiness, Status};
use html::Html;
use query::Query;
use summary::Summary;
use time::Now;

const FILE: &str = include_str!("page/page.html");
const TITLE: &str = "{{title}}";
const VERSION: &str = "{{version}}";
const MAIN: &str = "{{main}}";

/// The file in its parts, and what a browser may do with it.
#[derive(Debug)]
pub(super) struct Page {
    /// Before the title, the version and the content, and after that.
    parts: [&'static str; 4],
    policy: HeaderValue,
}

/// What the page is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) status: &'a Status,
    pub(super) readiness: &'a Readiness,
    /// The names of all providers.
    pub(super) providers: &'a [&'a str],
    /// Whether there is an `admin_token`.
    pub(super) can_change: bool,
    /// Of the request's target.
    pub(super) query: &'a str,
}

impl Page {
    /// Takes the file apart.
    pub(super) fn new() -> Self {
        let (start, rest) = FILE.split_once(TITLE).unwrap_or_default();
        let (head, rest) = rest.split_once(VERSION).unwrap_or_default();
        let (header, end) = rest.split_once(MAIN).unwrap_or_default();
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            hash(inside(FILE, "<style>", "</style>")),
            hash(inside(FILE, "<script>", "</script>")),
        );
        Self {
            parts: [start, head, header, end],
            // Base64 is always a field's value.
            policy: HeaderValue::from_str(&policy)
                .unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }

    /// What a browser may do with it.
    pub(super) fn policy(&self) -> HeaderValue {
        self.policy.clone()
    }

    /// The whole file.
    pub(super) fn render(&self, shown: Shown<'_>) -> String {
        let Shown {
            status, readiness, ..
        } = shown;
        let now = Now::of(&status.at);
        let summary = Summary::of(status, readiness, now);
        let query = Query::of(shown.query);
        let [start, head, header, end] = self.parts;
        let mut page = Html::default();
        page.markup(start)
            .text(&status.instance)
            .markup(": ")
            .text(&summary.sentence);
        page.markup(head)
            .text(status.version)
            .markup("</span> <span id=\"instance\"");
        if status.fleet.is_some() {
            page.markup(" data-fleet");
        }
        page.markup(">").text(&status.instance).markup(header);
        hero(&summary, status, now, &mut page);
        payments::section(status, now, &mut page);
        hour::section(status, now, &mut page);
        providers::section(
            status,
            readiness,
            shown.providers,
            shown.can_change,
            &query,
            now,
            &mut page,
        );
        tokens::section(status, &query, now, &mut page);
        refusals::section(status, now, &mut page);
        if let Some(fleet) = &status.fleet {
            process::fleet(fleet, now, &mut page);
        }
        process::section(status, now, &mut page);
        page.markup(end);
        page.into_text()
    }
}

fn hero(summary: &Summary, status: &Status, now: Now, html: &mut Html) {
    html.markup("<section id=\"state\" class=\"hero ")
        .markup(summary.level.class());
    html.markup("\" aria-labelledby=\"state-h\">");
    summary.level.icon(html);
    html.markup("<h1 id=\"state-h\">").text(&summary.sentence);
    html.markup("</h1><p class=\"soft\">As of ")
        .time(&status.at, &now.when(&status.at));
    html.markup(", started ")
        .text(&now.ago(&status.started))
        .markup("</p></section>");
}

fn inside(text: &'static str, start: &str, end: &str) -> &'static str {
    let after = text.split_once(start).map(|(_, after)| after);
    let inside = after.and_then(|after| after.split_once(end));
    inside.map_or("", |(inside, _)| inside)
}

/// As a policy names it.
fn hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    format!("sha256-{}", STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_small_whole_and_asks_for_nothing() {
        assert!(FILE.len() < 40_000, "{}", FILE.len());
        let page = Page::new();
        assert!(page.parts.iter().all(|part| !part.is_empty()));
        for (start, count) in [
            ("<style", 1),
            ("<script", 1),
            (" style=", 0),
            (" src=", 0),
            ("onclick", 0),
        ] {
            assert_eq!(FILE.matches(start).count(), count, "{start}");
        }
        let policy = page.policy();
        let policy = policy.to_str().unwrap();
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
