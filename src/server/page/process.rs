//! The sections on the fleet and on the process: reloads, certificates, version.

use super::html::{Html, counted};
use super::level::Level;
use super::summary::certificate_level;
use super::time::{Now, long};
use crate::server::status::{Certificate, Fleet, Status};

/// Members, certificates and problems that are shown; how many more there are is said.
const MAX: usize = 50;

pub(super) fn fleet(fleet: &Fleet, now: Now, html: &mut Html) {
    html.markup("<section id=\"fleet\" aria-labelledby=\"fleet-h\"><h2 id=\"fleet-h\">Fleet</h2><dl><dt>Name<dd>");
    html.text(&fleet.name).markup("<dt>Store<dd>");
    let store = &fleet.store;
    match store.up {
        true => Level::Well.state("Up", html),
        false => Level::Attention.state("Cannot be used", html),
    }
    html.markup(", <code>")
        .text(&store.address)
        .markup("</code>, since ");
    html.time(&store.since, &now.when(&store.since));
    if let Some(why) = &store.why {
        html.markup(": ").text(why);
    }
    html.markup("<dt>Leases held here<dd>")
        .number(fleet.leases_held as u64);
    html.markup("</dl><table><caption>");
    html.text(&counted(fleet.members.len() as u64, "member", "members"));
    html.markup("</caption><thead><tr><th scope=\"col\">Member<th scope=\"col\">Started<th scope=\"col\">Version</tr></thead><tbody>");
    for member in fleet.members.iter().take(MAX) {
        html.markup("<tr><th scope=\"row\">").text(&member.name);
        if member.this_instance {
            html.markup(" (this one)");
        }
        html.markup("</th><td>")
            .time(&member.started, &now.ago(&member.started));
        html.markup("</td><td>")
            .text(&member.version)
            .markup("</td></tr>");
    }
    html.markup("</tbody></table>");
    more(fleet.members.len(), html);
    html.markup("</section>");
}

pub(super) fn section(status: &Status, now: Now, html: &mut Html) {
    html.markup("<section id=\"process\" aria-labelledby=\"process-h\"><h2 id=\"process-h\">Process</h2><dl><dt>Version<dd>");
    html.text(status.version).markup("<dt>Started<dd>");
    html.time(&status.started, &now.when(&status.started));
    html.markup(", ").text(&now.ago(&status.started));
    html.markup("<dt>Configuration<dd>");
    reloads(status, now, html);
    html.markup("</dl>");
    certificates(&status.certificates, now, html);
    html.markup("</section>");
}

fn reloads(status: &Status, now: Now, html: &mut Html) {
    match &status.last_reload {
        None => {
            Level::Well.state("As at the start", html);
        }
        Some(last) if last.problems.is_empty() => {
            Level::Well.state("Read again", html);
            html.markup(" ").time(&last.at, &now.ago(&last.at));
        }
        Some(last) => {
            Level::Attention.state("Rejected", html);
            html.markup(" ").time(&last.at, &now.ago(&last.at));
            html.markup(", so the one before is in force<ul class=\"plain\">");
            for problem in last.problems.iter().take(MAX) {
                html.markup("<li>").prose(problem).markup("</li>");
            }
            html.markup("</ul>");
            more(last.problems.len(), html);
        }
    }
    html.markup("<div class=\"soft\">since the start ")
        .number(status.reloads.ok);
    html.markup(" read again, ").number(status.reloads.rejected);
    html.markup(" rejected</div>");
}

fn certificates(certificates: &[Certificate], now: Now, html: &mut Html) {
    if certificates.is_empty() {
        html.markup("<p class=\"soft\">No certificate is known yet.</p>");
        return;
    }
    html.markup("<table><caption>Certificates, the one that ends first before the others.</caption><thead><tr><th scope=\"col\">Certificate<th scope=\"col\">State<th scope=\"col\">End</tr></thead><tbody>");
    for certificate in certificates.iter().take(MAX) {
        html.markup("<tr><th scope=\"row\">");
        html.markup(match certificate.kind {
            "listen" => "<code>tls</code> on <code>listen</code>",
            "intercept" => "authority of <code>intercept</code>",
            "client" => "client certificate",
            _ => "server",
        });
        if let Some(provider) = &certificate.provider {
            html.markup(" of ").text(provider);
        }
        if let Some(server) = &certificate.server {
            html.markup("<div class=\"soft\">")
                .text(server)
                .markup("</div>");
        }
        html.markup("</th><td>");
        let level = certificate_level(certificate, now);
        let word = match level {
            Level::Trouble => "Has ended",
            Level::Attention => "Ends soon",
            Level::Well => "Valid",
        };
        level.state(word, html);
        html.markup("</td><td>");
        html.time(&certificate.expires_at, &now.when(&certificate.expires_at));
        if let Some(left) = now.left(&certificate.expires_at) {
            html.markup(", in ").text(&long(left));
        }
        html.markup("</td></tr>");
    }
    html.markup("</tbody></table>");
    more(certificates.len(), html);
}

fn more(count: usize, html: &mut Html) {
    let more = count.saturating_sub(MAX) as u64;
    if more > 0 {
        html.markup("<p class=\"soft\">")
            .number(more)
            .markup(" more in <a href=\"./status\">/status</a></p>");
    }
}
