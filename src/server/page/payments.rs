//! The section on payments in doubt, with the command that takes each off the list.

use super::html::{Html, counted};
use super::level::Level;
use super::time::Now;
use crate::server::status::Status;
use bursar_config::DEFAULT_ACCOUNT;

pub(super) fn section(status: &Status, now: Now, html: &mut Html) {
    html.markup("<section id=\"payments\" aria-labelledby=\"payments-h\"><h2 id=\"payments-h\">Payments in doubt</h2>");
    match &status.payments_in_doubt {
        None => {
            html.markup("<p class=\"soft\">There is no <code>journal</code>, so nobody knows after a failure which payments are in doubt.</p>");
        }
        Some(payments) => {
            match payments.count {
                None => {
                    Level::Trouble.state("The journal cannot be read", html);
                    html.markup("<p class=\"soft\">See the log for why.</p>");
                }
                Some(0) => {
                    Level::Well.state("None", html);
                    html.markup("<p class=\"soft\">Of every request that moved money the outcome is known.</p>");
                }
                Some(count) => table(status, count, now, html),
            }
        }
    }
    if status.fleet.is_some() {
        html.markup("<p class=\"soft\">This instance's. Those of the whole fleet: <code>bursar outcomes --fleet</code></p>");
    }
    html.markup("</section>");
}

fn table(status: &Status, count: u64, now: Now, html: &mut Html) {
    let payments = status.payments_in_doubt.iter();
    let oldest: Vec<_> = payments.flat_map(|payments| &payments.oldest).collect();
    Level::Trouble.state(&counted(count, "payment", "payments"), html);
    html.markup("<table><caption>Find out at the provider what became of each, the oldest first, and then take it off the list.");
    let more = count.saturating_sub(oldest.len() as u64);
    if more > 0 {
        html.markup(" Not shown: ")
            .number(more)
            .markup(" more, which <code>bursar outcomes</code> lists.");
    }
    html.markup("</caption><thead><tr><th scope=\"col\">Payment<th scope=\"col\">How far it came<th scope=\"col\">To take it off the list</tr></thead><tbody>");
    for payment in oldest {
        html.markup("<tr><th scope=\"row\">")
            .text(&payment.provider);
        if payment.account != DEFAULT_ACCOUNT {
            html.markup(" / ").text(&payment.account);
        }
        html.markup("<br><code>").text(&payment.method).markup(" ");
        html.text(&payment.path).markup("</code></th><td>");
        html.text(match payment.phase {
            "head_sent" => "its head went out",
            "body_sent" => "all of it went out",
            "response_lost" => "all of it went out, and the response was lost",
            other => other,
        });
        html.markup("<br><span class=\"soft\">");
        html.time(&payment.at, &now.ago(&payment.at));
        html.markup(", from ").text(&payment.caller);
        if let Some(reference) = &payment.reference {
            html.markup(", reference ").text(reference);
        }
        html.markup("</span></td><td><code>").text(&payment.resolve);
        html.markup("</code></td></tr>");
    }
    html.markup("</tbody></table>");
}
