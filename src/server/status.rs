//! Status and readiness as the admin port shows them in JSON.
//!
//! Fields are declared in the order in which they are shown, which is the alphabet's. No secret and no token is among
//! them.

mod certificates;
mod date;
mod fleet;
mod freezes;
mod minutes;
mod payments;
mod readiness;
mod refusals;
mod tokens;
mod upstreams;

use serde::Serialize;
use tokio::time::Instant;

use super::controls::Shown;
use crate::exchange::{Proxy, Reloaded};
use bursar_base::clock;
use bursar_config::{Changes, Problem, Severity};
use bursar_telemetry::metrics::Reload;
pub(super) use certificates::Certificate;
use date::date;
pub(super) use fleet::Fleet;
pub(super) use freezes::{Freeze, Frozen};
pub(super) use minutes::Minute;
use payments::PaymentsInDoubt;
pub(super) use readiness::{Health, Readiness};
pub(super) use refusals::Refusal;
pub(super) use tokens::Token;
use tokens::TokenEndpoint;
pub(super) use upstreams::UpstreamServer;

/// What a reload comes to.
#[derive(Debug, Serialize)]
pub(in crate::server) struct ReloadOutcome<'a> {
    pub(in crate::server) at: String,
    /// None: nothing was put in force.
    pub(in crate::server) changed: Option<&'a Changes>,
    pub(in crate::server) outcome: &'static str,
    /// Warnings of what is in force now are among them.
    pub(in crate::server) problems: Vec<Problem<'a>>,
}

impl<'a> ReloadOutcome<'a> {
    pub(super) fn of(reloaded: &'a Reloaded) -> Self {
        let outcome = outcome(reloaded);
        let problems = reloaded.problems.iter();
        let problems = problems.map(|problem| problem.as_problem(Severity::Error));
        let warnings = reloaded.warnings.iter();
        let warnings = warnings.map(|warning| warning.as_problem(Severity::Warning));
        Self {
            at: date(reloaded.at),
            changed: (outcome == Reload::Ok).then_some(&reloaded.changes),
            outcome: outcome.as_str(),
            problems: problems.chain(warnings).collect(),
        }
    }
}

fn outcome(reloaded: &Reloaded) -> Reload {
    match reloaded.problems.is_empty() {
        true => Reload::Ok,
        false => Reload::Rejected,
    }
}

/// `/status`.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Status {
    pub(in crate::server) at: String,
    pub(in crate::server) certificates: Vec<Certificate>,
    pub(in crate::server) draining: bool,
    /// Only where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) fleet: Option<Fleet>,
    pub(in crate::server) freezes: Vec<Freeze>,
    pub(in crate::server) frozen: Vec<String>,
    pub(in crate::server) held_providers: Vec<String>,
    /// Its host and the port where callers connect, as a fleet names it.
    pub(in crate::server) instance: String,
    /// Whether it cannot be written.
    pub(in crate::server) journal_is_failing: bool,
    /// Minute by minute, the oldest first; the last one is under way.
    pub(in crate::server) last_hour: Vec<Minute>,
    pub(in crate::server) last_reload: Option<LastReload>,
    /// None: there is no journal, so nobody knows.
    pub(in crate::server) payments_in_doubt: Option<PaymentsInDoubt>,
    /// The last 50, the latest first.
    pub(in crate::server) recent_refusals: Vec<Refusal>,
    pub(in crate::server) reloads: Reloads,
    pub(in crate::server) replay_memory_used_bytes: usize,
    pub(in crate::server) started: String,
    pub(in crate::server) token_endpoints: Vec<TokenEndpoint>,
    pub(in crate::server) tokens: Vec<Token>,
    pub(in crate::server) upstreams: Vec<UpstreamServer>,
    /// With its commit.
    pub(in crate::server) version: &'static str,
}

/// How often the configuration was read again.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Reloads {
    pub(in crate::server) ok: u64,
    pub(in crate::server) rejected: u64,
}

#[derive(Debug, Serialize)]
pub(in crate::server) struct LastReload {
    pub(in crate::server) at: String,
    pub(in crate::server) outcome: &'static str,
    /// They hold no values, and so no secrets.
    pub(in crate::server) problems: Vec<String>,
}

impl Status {
    /// As it is now. Blocks.
    pub(super) fn of(proxy: &Proxy, shown: &Shown, fleet: Option<Fleet>) -> Self {
        let now = Instant::now();
        let metrics = proxy.metrics();
        let last_hour = shown.last_hour.minutes(metrics.totals());
        let refusals = metrics.requests.recent_refusals.last();
        let last_reload = proxy.admin_control.last_reload();
        Self {
            at: date(clock::wall()),
            certificates: Certificate::all(proxy, shown.tls.as_deref()),
            draining: proxy.admin_control.is_draining(),
            fleet,
            freezes: proxy.admin_control.freezes().map(Freeze::of).collect(),
            frozen: proxy.admin_control.frozen().map(Into::into).collect(),
            held_providers: proxy.held_providers().map(ToString::to_string).collect(),
            instance: shown.instance.clone(),
            journal_is_failing: metrics.journal.is_failing(),
            last_hour: last_hour.iter().map(Minute::of).collect(),
            last_reload: last_reload.map(|reloaded| LastReload::of(&reloaded)),
            payments_in_doubt: shown.journal.as_deref().map(PaymentsInDoubt::of),
            recent_refusals: refusals.into_iter().map(Refusal::of).collect(),
            reloads: Reloads {
                ok: metrics.reloads(Reload::Ok),
                rejected: metrics.reloads(Reload::Rejected),
            },
            replay_memory_used_bytes: proxy.replay_memory_used(),
            started: date(shown.started),
            token_endpoints: proxy.tokens.endpoints().map(TokenEndpoint::of).collect(),
            tokens: proxy
                .tokens
                .all()
                .map(|source| Token::of(source, now))
                .collect(),
            upstreams: proxy
                .upstream_servers()
                .into_iter()
                .map(UpstreamServer::of)
                .collect(),
            version: env!("BURSAR_VERSION"),
        }
    }
}

impl LastReload {
    fn of(reloaded: &Reloaded) -> Self {
        let problems = reloaded.problems.iter().map(ToString::to_string);
        Self {
            at: date(reloaded.at),
            outcome: outcome(reloaded).as_str(),
            problems: problems.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
