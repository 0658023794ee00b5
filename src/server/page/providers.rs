//! The section on providers: how each is, its servers, and freeze and thaw.

use std::time::Duration;

use super::html::{Html, counted};
use super::level::Level;
use super::query::{Query, Table};
use super::time::Now;
use crate::server::status::{Freeze, Health, Readiness, Status, UpstreamServer};

/// Rows of a page.
const ROWS: usize = 100;
/// Servers that are named for each, those that cannot be reached first.
const MAX_SERVERS: usize = 4;
/// A connection that failed longer ago says little of a server: nobody has needed it since.
const RECENTLY: Duration = Duration::from_secs(5 * 60);

/// Everything that is known of one.
struct Row<'a> {
    name: &'a str,
    health: Option<&'a Health>,
    freeze: Option<&'a Freeze>,
    is_held: bool,
    servers: Vec<&'a UpstreamServer>,
}

impl Row<'_> {
    fn level(&self, now: Now) -> Level {
        let of_servers = self.servers.iter().map(|server| server_level(server, now));
        if self.is_held || self.health.is_some_and(|health| !health.healthy) {
            Level::Trouble
        } else if self.freeze.is_some() {
            Level::Attention
        } else {
            of_servers.max().unwrap_or(Level::Well)
        }
    }
}

/// How bad it is what the last connection to a server says.
pub(super) fn server_level(server: &UpstreamServer, now: Now) -> Level {
    match !server.healthy && now.is_within(RECENTLY, &server.last) {
        true => Level::Attention,
        false => Level::Well,
    }
}

/// What is known of these providers, and whether they can be frozen here.
pub(super) fn section(
    status: &Status,
    readiness: &Readiness,
    names: &[&str],
    can_change: bool,
    query: &Query,
    now: Now,
    html: &mut Html,
) {
    html.markup("<section id=\"providers\" aria-labelledby=\"providers-h\"><h2 id=\"providers-h\">Providers</h2>");
    html.markup("<table><caption>Whether requests pass. A freeze refuses what moves money, and lets reads pass.");
    let pages = names.len().div_ceil(ROWS).max(1);
    if pages > 1 {
        html.markup(" Those of ")
            .number(names.len() as u64)
            .markup(" first that need somebody.");
    }
    let mut rows: Vec<Row<'_>> = names
        .iter()
        .map(|name| row(name, status, readiness))
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.level(now)));
    html.markup("</caption><thead><tr><th scope=\"col\">Provider<th scope=\"col\">State<th scope=\"col\">Change</tr></thead><tbody>");
    let page = query.providers.min(pages);
    for row in rows.iter().skip((page - 1) * ROWS).take(ROWS) {
        html.markup("<tr><th scope=\"row\">").text(row.name);
        html.markup("</th><td>");
        describe(row, now, html);
        html.markup("</td><td>");
        change(row, can_change, html);
        html.markup("</td></tr>");
    }
    html.markup("</tbody></table>");
    if pages > 1 {
        query.links(Table::Providers, page, pages, html);
    }
    html.markup(match can_change {
        true => "<p class=\"soft\">On a command line: <code>bursar freeze NAME --reason TEXT --for 30m</code> and <code>bursar thaw NAME</code></p>",
        false => "<p class=\"soft\">Nothing can be changed here, because the configuration has no <code>admin_token</code>.</p>",
    });
    html.markup("</section>");
}

fn row<'a>(name: &'a str, status: &'a Status, readiness: &'a Readiness) -> Row<'a> {
    let servers = status.upstreams.iter().filter(|one| one.provider == name);
    let mut servers: Vec<&UpstreamServer> = servers.collect();
    servers.sort_by_key(|server| server.healthy);
    Row {
        name,
        health: readiness.providers.get(name),
        freeze: status.freezes.iter().find(|freeze| freeze.provider == name),
        is_held: status.held_providers.iter().any(|held| held == name),
        servers,
    }
}

fn describe(row: &Row<'_>, now: Now, html: &mut Html) {
    let level = row.level(now);
    match (level, row.freeze) {
        (Level::Well, _) => level.state("Well", html),
        (_, None) if row.is_held => level.state("Held back", html),
        (Level::Attention, None) => level.state("A server cannot be reached", html),
        (Level::Trouble, None) => level.state("In trouble", html),
        (Level::Attention, Some(_)) => level.state("Frozen", html),
        (Level::Trouble, Some(_)) => level.state("Frozen, and in trouble", html),
    }
    if let Some(freeze) = row.freeze {
        html.markup("<div>");
        describe_freeze(freeze, now, html);
        html.markup("</div>");
    }
    if let Some(why) = row.health.and_then(|health| health.why.as_deref()) {
        html.markup("<div>").text(why).markup("</div>");
    }
    for server in row.servers.iter().take(MAX_SERVERS) {
        html.markup("<div class=\"soft\"><code>").text(&server.host);
        html.markup("</code> ");
        match server.cause {
            None => html.markup("connected"),
            Some(cause) => html
                .markup("no connection, <code>")
                .text(cause)
                .markup("</code>"),
        };
        html.markup(", since ")
            .time(&server.since, &now.when(&server.since));
        if !server.healthy {
            html.markup(", last tried ")
                .time(&server.last, &now.when(&server.last));
        }
        html.markup("</div>");
    }
    let more = row.servers.len().saturating_sub(MAX_SERVERS) as u64;
    if more > 0 {
        html.markup("<div class=\"soft\">")
            .text(&counted(more, "more server", "more servers"));
        html.markup("</div>");
    }
}

fn describe_freeze(freeze: &Freeze, now: Now, html: &mut Html) {
    if let Some(since) = &freeze.since {
        html.markup("Since ")
            .time(since, &now.when(since))
            .markup(" ");
    }
    let by = freeze.by.as_deref().unwrap_or("somebody");
    match (freeze.by_command, freeze.in_file) {
        (true, true) => html.markup("by the configuration and by ").text(by),
        (false, true) => html.markup("by the configuration"),
        (_, false) => html.markup("by ").text(by),
    };
    if let Some(reason) = &freeze.reason {
        html.markup(": ").text(reason);
    }
    html.markup(". ");
    match (&freeze.until, freeze.in_file) {
        (Some(until), _) => {
            html.markup("It ends at ").time(until, &now.when(until));
        }
        (None, true) => {
            html.markup("It ends with <code>frozen: true</code> in the file");
        }
        (None, false) => {
            html.markup("It ends with a thaw");
        }
    }
    html.markup(".");
}

/// Without JavaScript the buttons are not there.
fn change(row: &Row<'_>, can_change: bool, html: &mut Html) {
    let is_by_command = row
        .freeze
        .is_some_and(|freeze| !freeze.in_file || freeze.by_command);
    let verb = match (row.freeze, is_by_command) {
        (None, _) => "freeze",
        (Some(_), true) => "thaw",
        (Some(_), false) => {
            html.markup("<span class=\"soft\">in the configuration</span>");
            return;
        }
    };
    if !can_change {
        html.markup("<code>bursar ").markup(verb).markup(" ");
        html.text(row.name).markup("</code>");
        return;
    }
    html.markup("<button type=\"button\" hidden data-verb=\"")
        .markup(verb);
    html.markup("\" data-name=\"").text(row.name).markup("\">");
    html.markup(if verb == "freeze" { "Freeze " } else { "Thaw " });
    html.text(row.name)
        .markup("</button><noscript><code>bursar ");
    html.markup(verb)
        .markup(" ")
        .text(row.name)
        .markup("</code></noscript>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_needs_attention_for_five_minutes_after_a_connection_failed() {
        let now = Now::of("2026-11-29T23:00:00.000Z");
        let level = |cause: Option<&'static str>, last: &str| {
            let server = UpstreamServer {
                cause,
                healthy: cause.is_none(),
                host: "api.test:443".to_owned(),
                provider: "acme".to_owned(),
                since: "2026-11-29T20:00:00.000Z".to_owned(),
                last: last.to_owned(),
            };
            let row = Row {
                name: "acme",
                health: None,
                freeze: None,
                is_held: false,
                servers: vec![&server],
            };
            assert_eq!(row.level(now), server_level(&server, now));
            server_level(&server, now)
        };
        let failed = Some("refused");
        for at in ["2026-11-29T22:55:00.000Z", "2026-11-29T23:00:01.000Z"] {
            assert_eq!(level(failed, at), Level::Attention, "{at}");
            assert_eq!(level(None, at), Level::Well, "{at}");
        }
        assert_eq!(level(failed, "2026-11-29T22:54:59.000Z"), Level::Well);
    }
}
