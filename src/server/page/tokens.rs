//! The section on tokens: what is left of each, as a bar and as text, those that need somebody first.

use std::time::Duration;

use super::html::{Html, counted};
use super::level::Level;
use super::query::{Query, Table};
use super::time::{Now, long};
use crate::server::status::{Status, Token};
use bursar_config::DEFAULT_ACCOUNT;

/// Rows of a page.
const ROWS: usize = 50;

pub(super) fn section(status: &Status, query: &Query, now: Now, html: &mut Html) {
    html.markup(
        "<section id=\"tokens\" aria-labelledby=\"tokens-h\"><h2 id=\"tokens-h\">Tokens</h2>",
    );
    let mut tokens: Vec<&Token> = status.tokens.iter().filter(|one| query.has(one)).collect();
    tokens.sort_by(|one, other| {
        order(one)
            .partial_cmp(&order(other))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let pages = tokens.len().div_ceil(ROWS).max(1);
    let page = query.page.min(pages);
    let skipped = (page - 1) * ROWS;
    let shown = tokens.iter().skip(skipped).take(ROWS);
    let all = status.tokens.len();
    html.markup("<table><caption>");
    match (query.text.is_empty(), all) {
        (true, _) => html.text(&counted(all as u64, "token", "tokens")),
        (false, _) => html
            .number(tokens.len() as u64)
            .markup(" of ")
            .text(&counted(all as u64, "token", "tokens")),
    };
    if all > 0 {
        html.markup(", those first that need somebody, then those that end first. A bar runs from when the token was issued to its end; the line across it is now, the hatched part the margin in which it is renewed.");
    }
    html.markup("</caption><thead><tr><th scope=\"col\">Token<th scope=\"col\">State<th scope=\"col\">What is left</tr></thead><tbody>");
    for token in shown {
        row(token, now, html);
    }
    html.markup("</tbody></table>");
    if all > ROWS {
        pages_of(query, page, pages, html);
    }
    html.markup("</section>");
}

/// Trouble first, then what ends first.
fn order(token: &Token) -> (std::cmp::Reverse<Level>, bool, f64) {
    let left = token.expires_in_seconds;
    let level = std::cmp::Reverse(level(token).0);
    (level, left.is_none(), left.unwrap_or_default())
}

fn level(token: &Token) -> (Level, &'static str) {
    let is_valid = token.expires_in_seconds.is_some();
    if token.contention.is_some() {
        (Level::Trouble, "Revoked by another instance")
    } else if token.renewal_is_failing {
        match is_valid {
            true => (Level::Attention, "Valid, but cannot be renewed"),
            false => (Level::Trouble, "None can be had"),
        }
    } else if !is_valid {
        match token.generation {
            0 => (Level::Well, "None yet"),
            _ => (Level::Well, "None now"),
        }
    } else if !token.refused_routes.is_empty() || token.missing_scopes.is_some() {
        (Level::Attention, "Valid, but not for everything")
    } else {
        (Level::Well, "Valid")
    }
}

fn row(token: &Token, now: Now, html: &mut Html) {
    html.markup("<tr><th scope=\"row\">").text(&token.provider);
    if token.account != DEFAULT_ACCOUNT {
        html.markup(" / ").text(&token.account);
    }
    if !token.scopes.is_empty() {
        html.markup("<div class=\"soft\">")
            .text(&token.scopes)
            .markup("</div>");
    }
    html.markup("</th><td>");
    let (level, word) = level(token);
    level.state(word, html);
    if let Some(contention) = token.contention {
        html.markup("<div>").text(contention).markup("</div>");
    }
    if let Some(missing) = &token.missing_scopes {
        html.markup("<div>Not granted: ")
            .text(missing)
            .markup("</div>");
    }
    for route in token.refused_routes.iter().take(3) {
        html.markup("<div>").text(&route.why).markup(": <code>");
        html.text(&route.route).markup("</code></div>");
    }
    let error = token.last_error.as_ref().zip(token.last_error_at.as_ref());
    if let Some((error, at)) = error.filter(|_| token.renewal_is_failing) {
        html.markup("<div>").text(error).markup(", ");
        html.time(at, &now.ago(at)).markup("</div>");
    }
    html.markup("</td><td>");
    life(token, now, html);
    html.markup("</td></tr>");
}

fn life(token: &Token, now: Now, html: &mut Html) {
    let known = token.expires_in_seconds.zip(token.age_seconds);
    let (Some((left, age)), Some(end)) = (known, &token.expires_at) else {
        html.markup("<span class=\"soft\">nothing</span>");
        return;
    };
    let lifetime = (left + age).max(0.001);
    let margin = token.margin_seconds.unwrap_or_default().min(lifetime);
    bar(age / lifetime * 100.0, margin / lifetime * 100.0, html);
    let time = |seconds: f64| long(Duration::from_secs_f64(seconds.max(0.0)));
    html.markup("<span class=\"num\">")
        .text(&time(left))
        .markup("</span> of ");
    html.text(&time(lifetime))
        .markup(" left<div class=\"soft\">ends at ");
    html.time(end, &now.when(end)).markup(", renewed ");
    html.text(&time(margin)).markup(" before, generation ");
    html.number(token.generation).markup("</div>");
}

/// Both in hundredths: how much is over, and how much the margin is.
fn bar(over: f64, margin: f64, html: &mut Html) {
    let over = over.clamp(0.0, 100.0);
    let start = (100.0 - margin).clamp(0.0, 100.0);
    html.markup("<svg class=\"life\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\" focusable=\"false\"><rect class=\"all\" width=\"100\" height=\"8\"/>");
    html.markup("<rect class=\"left\" height=\"8\" x=\"")
        .length(over.min(start));
    html.markup("\" width=\"").length((start - over).max(0.0));
    html.markup("\"/><rect class=\"margin\" height=\"8\" x=\"")
        .length(start);
    html.markup("\" width=\"").length(100.0 - start);
    html.markup("\"/><rect class=\"edge\" width=\"100\" height=\"8\"/><rect class=\"now\" y=\"-2\" height=\"12\" width=\".8\" x=\"").length(over.min(99.2));
    html.markup("\"/></svg>");
}

/// Links to other pages of the table, and what finds a token.
fn pages_of(query: &Query, page: usize, pages: usize, html: &mut Html) {
    html.markup("<form class=\"find\" method=\"get\" action=\"./#tokens\"><label>Provider, account or scope<input type=\"search\" name=\"find\" maxlength=\"100\" value=\"");
    html.text(&query.text)
        .markup("\"></label><button>Find</button></form>");
    query.links(Table::Tokens, page, pages, html);
    if !query.text.is_empty() {
        html.markup("<p><a href=\"./#tokens\">All tokens</a></p>");
    }
}
