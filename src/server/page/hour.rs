//! The last hour in four small pictures, each with its figures as text.

use super::html::Html;
use super::time::Now;
use crate::server::status::{Minute, Status};

/// Minutes that are drawn.
const MINUTES: usize = 60;

/// What is drawn.
type Series = (&'static str, fn(&Minute) -> u64);

const SERIES: [Series; 4] = [
    ("Requests", |minute| minute.requests),
    ("401s that no caller saw", |minute| minute.absorbed_401s),
    ("Refusals", |minute| minute.refusals),
    ("Payments in doubt", |minute| minute.payments_in_doubt),
];

/// The payments in doubt of the last hour.
pub(super) fn in_doubt(status: &Status) -> u64 {
    let minutes = last_hour(status).iter();
    minutes.map(|minute| minute.payments_in_doubt).sum()
}

fn last_hour(status: &Status) -> &[Minute] {
    let from = status.last_hour.len().saturating_sub(MINUTES);
    status.last_hour.get(from..).unwrap_or_default()
}

pub(super) fn section(status: &Status, now: Now, html: &mut Html) {
    html.markup("<section id=\"hour\" aria-labelledby=\"hour-h\"><h2 id=\"hour-h\">The last hour</h2><div class=\"tiles\">");
    let minutes = last_hour(status);
    for (name, value) in SERIES {
        figure(name, value, minutes, html);
    }
    html.markup("</div><p class=\"soft\">Each bar is a minute; the last one is under way.");
    if minutes.len() < MINUTES
        && let Some(first) = minutes.first()
    {
        html.markup(" Counted since ")
            .time(&first.at, &now.when(&first.at));
        html.markup(".");
    }
    html.markup("</p></section>");
}

fn figure(name: &'static str, value: fn(&Minute) -> u64, minutes: &[Minute], html: &mut Html) {
    let total: u64 = minutes.iter().map(value).sum();
    let most = minutes.iter().max_by_key(|minute| value(minute));
    html.markup("<figure><figcaption>").markup(name);
    html.markup("</figcaption><b>").number(total);
    html.markup("</b>");
    picture(minutes, value, most.map_or(0, value), html);
    html.markup("<p class=\"soft\">");
    match most.filter(|minute| value(minute) > 0) {
        Some(minute) => {
            html.markup("at most ").number(value(minute));
            html.markup(" in a minute, at ")
                .time(&minute.at, Now::minute(&minute.at));
        }
        None => {
            html.markup("none in any minute");
        }
    }
    html.markup("</p></figure>");
}

/// The latest minute stands at the right edge.
fn picture(minutes: &[Minute], value: fn(&Minute) -> u64, most: u64, html: &mut Html) {
    html.markup("<svg viewBox=\"0 0 60 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\" focusable=\"false\">");
    let start = MINUTES.saturating_sub(minutes.len());
    for (index, minute) in minutes.iter().enumerate() {
        let count = value(minute);
        if count == 0 {
            continue;
        }
        // As high as can be seen, at least.
        let height = (count as f64 / most as f64 * 20.0).max(1.0);
        html.markup("<rect width=\".8\" x=\"")
            .length((start + index) as f64 + 0.1);
        html.markup("\" y=\"").length(20.0 - height);
        html.markup("\" height=\"").length(height).markup("\"/>");
    }
    html.markup("</svg>");
}
