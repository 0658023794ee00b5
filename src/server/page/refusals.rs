//! The section on recent refusals: each kind with how often it came and what to do, then one by one.

use super::html::{Html, counted};
use super::level::Level;
use super::time::Now;
use crate::server::status::{Refusal, Status};

pub(super) fn section(status: &Status, now: Now, html: &mut Html) {
    html.markup("<section id=\"refusals\" aria-labelledby=\"refusals-h\"><h2 id=\"refusals-h\">Recent refusals</h2>");
    let refusals = &status.recent_refusals;
    match refusals.is_empty() {
        true => {
            Level::Well.state("None since the start", html);
        }
        false => {
            kinds(refusals, now, html);
            html.markup("<details><summary>One by one</summary>");
            each(refusals, now, html);
            html.markup("</details>");
        }
    }
    html.markup("</section>");
}

/// Refusals for the same reason, the latest first.
struct Kind<'a> {
    last: &'a Refusal,
    count: u64,
    callers: Vec<&'a str>,
    providers: Vec<&'a str>,
}

impl<'a> Kind<'a> {
    fn add(&mut self, refusal: &'a Refusal) {
        self.count += 1;
        let note = |names: &mut Vec<&'a str>, name: &'a Option<String>| {
            if let Some(name) = name.as_deref().filter(|name| !names.contains(name)) {
                names.push(name);
            }
        };
        note(&mut self.callers, &refusal.caller);
        note(&mut self.providers, &refusal.provider);
    }
}

fn kinds(refusals: &[Refusal], now: Now, html: &mut Html) {
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    for refusal in refusals {
        let is_same = |kind: &&mut Kind<'_>| {
            (kind.last.reason, kind.last.detail) == (refusal.reason, refusal.detail)
        };
        match kinds.iter_mut().find(is_same) {
            Some(kind) => kind.add(refusal),
            None => {
                let mut kind = Kind {
                    last: refusal,
                    count: 0,
                    callers: Vec::new(),
                    providers: Vec::new(),
                };
                kind.add(refusal);
                kinds.push(kind);
            }
        }
    }
    html.markup("<table><caption>What Bursar itself responded with, of the last ");
    html.text(&counted(refusals.len() as u64, "refusal", "refusals"));
    html.markup(", the latest first.</caption><thead><tr><th scope=\"col\">Reason<th scope=\"col\">How often<th scope=\"col\">What to do</tr></thead><tbody>");
    for kind in &kinds {
        html.markup("<tr><th scope=\"row\">");
        reason(kind.last, html);
        html.markup("<div class=\"soft\">").prose(kind.last.meaning);
        html.markup("</div></th><td><span class=\"num\">")
            .text(&counted(kind.count, "time", "times"));
        html.markup("</span><div class=\"soft\">last ");
        html.time(&kind.last.at, &now.ago(&kind.last.at));
        names(", from ", &kind.callers, html);
        names(", to ", &kind.providers, html);
        html.markup("</div></td><td>").prose(kind.last.what_to_do);
        html.markup("</td></tr>");
    }
    html.markup("</tbody></table>");
}

fn reason(refusal: &Refusal, html: &mut Html) {
    html.markup("<code>").text(refusal.reason).markup("</code>");
    for word in [refusal.detail, refusal.cause].into_iter().flatten() {
        html.markup(" <code>").text(word).markup("</code>");
    }
}

/// The first few.
fn names(before: &'static str, names: &[&str], html: &mut Html) {
    const MAX: usize = 3;
    for (index, name) in names.iter().take(MAX).enumerate() {
        html.markup(if index == 0 { before } else { ", " })
            .text(name);
    }
    if names.len() > MAX {
        html.markup(" and others");
    }
}

fn each(refusals: &[Refusal], now: Now, html: &mut Html) {
    html.markup("<table><caption>The last ");
    html.text(&counted(refusals.len() as u64, "refusal", "refusals"));
    html.markup(". The access log has a line for each, with its request id.</caption><thead><tr><th scope=\"col\">When<th scope=\"col\">Reason<th scope=\"col\">Request</tr></thead><tbody>");
    for refusal in refusals {
        html.markup("<tr><th scope=\"row\">");
        html.time(&refusal.at, &now.when(&refusal.at));
        html.markup("</th><td>");
        reason(refusal, html);
        html.markup("<div class=\"soft\">")
            .prose(refusal.what_to_do)
            .markup("</div></td><td>");
        match &refusal.client {
            Some(client) => {
                let caller = refusal.caller.as_deref().unwrap_or("nobody known");
                html.text(caller).markup(" at ").text(client);
                if let Some(name) = &refusal.claimed_caller {
                    html.markup(", who claims to be ").text(name);
                }
            }
            None => {
                html.markup("<span class=\"soft\">no whole request</span>");
            }
        }
        if let Some(provider) = &refusal.provider {
            html.markup(", to ").text(provider);
        }
        if let Some(route) = &refusal.route {
            html.markup(" <code>").text(route).markup("</code>");
        }
        if let Some(host) = &refusal.host {
            html.markup(", for <code>").text(host).markup("</code>");
        }
        if let Some(id) = &refusal.request_id {
            html.markup("<div class=\"soft\">request ")
                .text(id)
                .markup("</div>");
        }
        html.markup("</td></tr>");
    }
    html.markup("</tbody></table>");
}
