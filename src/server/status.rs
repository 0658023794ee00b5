//! Status and readiness as the admin port shows them in JSON.
//!
//! Fields are declared in the order in which they are shown, which is the alphabet's. No secret and no token is among
//! them.

mod fleet;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use crate::exchange::{self, AdminControl, Decided, Proxy, Reach, Reloaded};
use crate::token::{EndpointSnapshot, RefusedRoute, Source, TokenSnapshot};
use crate::upstream::ServerHealth;
use bursar_base::clock;
use bursar_config::{Changes, Environment, Problem, Provider, Severity};
use bursar_telemetry::metrics::{Cause, Reload};
pub(super) use fleet::Fleet;

/// What `/readyz` says of a provider whose breaker is open.
const HELD: &str =
    "the provider cannot be reached; requests are refused until one that is tried succeeds";

/// `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    /// By name.
    providers: BTreeMap<String, Health>,
    pub(super) ready: bool,
    why: Option<&'static str>,
}

/// How a provider is.
#[derive(Debug, Default, Serialize)]
struct Health {
    /// Whether an operator has frozen it; shown only then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    frozen: bool,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What freezing and thawing comes to.
#[derive(Debug, Serialize)]
pub(super) struct Frozen<'a> {
    /// The names of all that are frozen now.
    all_frozen: Vec<&'a str>,
    by: Option<Box<str>>,
    frozen: bool,
    /// Whether the file freezes it, whatever was decided.
    in_file: bool,
    /// Whether the journal or the fleet remembers it.
    outlasts_restart: bool,
    provider: &'a str,
    /// Where it holds: `alone` without a fleet, `fleet`, or `this_instance` where its store cannot be used.
    reach: &'static str,
    reason: Option<Box<str>>,
    since: String,
    until: Option<String>,
    was_frozen: bool,
    /// Why it holds on this instance only.
    why: Option<&'static str>,
}

impl<'a> Frozen<'a> {
    pub(super) fn of(control: &'a AdminControl, provider: &'a str, decided: Decided) -> Self {
        let Decided {
            decision,
            was_frozen,
            in_file,
            reach,
        } = decided;
        let is_frozen = decision.is_frozen || in_file.is_some();
        // A thaw that the file does not follow says nothing of the freeze.
        let since = in_file.filter(|_| !decision.is_frozen);
        let (by, reason) = match since {
            Some(_) => (None, None),
            None => (decision.by, decision.reason),
        };
        let until = decision.until.filter(|_| in_file.is_none());
        let (reach_name, why) = match reach {
            Reach::Alone => ("alone", None),
            Reach::Fleet => ("fleet", None),
            Reach::ThisInstance(why) => ("this_instance", Some(why)),
        };
        Self {
            all_frozen: control.frozen().collect(),
            by,
            frozen: is_frozen,
            in_file: in_file.is_some(),
            outlasts_restart: in_file.is_some() || control.has_journal() || reach == Reach::Fleet,
            provider,
            reach: reach_name,
            reason,
            since: date(since.unwrap_or(decision.since)),
            until: until.map(date),
            was_frozen,
            why,
        }
    }
}

/// A provider that is frozen.
#[derive(Debug, Serialize)]
struct Freeze {
    /// As the command said. None: the file freezes it alone, or it is just being decided.
    by: Option<Box<str>>,
    in_file: bool,
    provider: String,
    reason: Option<Box<str>>,
    since: Option<String>,
    /// None: until a thaw, or until the file does not freeze it any more.
    until: Option<String>,
}

/// What a reload comes to.
#[derive(Debug, Serialize)]
pub(super) struct ReloadOutcome<'a> {
    at: String,
    /// None: nothing was put in force.
    changed: Option<&'a Changes>,
    outcome: &'static str,
    /// Warnings of what is in force now are among them.
    problems: Vec<Problem<'a>>,
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
pub(super) struct Status {
    draining: bool,
    /// Only where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<Fleet>,
    freezes: Vec<Freeze>,
    frozen: Vec<String>,
    held_providers: Vec<String>,
    last_reload: Option<LastReload>,
    replay_memory_used_bytes: usize,
    token_endpoints: Vec<TokenEndpoint>,
    tokens: Vec<Token>,
    upstreams: Vec<UpstreamServer>,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct LastReload {
    at: String,
    outcome: &'static str,
    /// They hold no values, and so no secrets.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TokenEndpoint {
    calls_are_held: bool,
    calls_per_minute: NonZeroU32,
    calls_that_waited: u64,
    provider: String,
}

/// How the last connection to a server went, for requests or for token calls.
#[derive(Debug, Serialize)]
struct UpstreamServer {
    cause: Option<&'static str>,
    healthy: bool,
    host: String,
    provider: String,
    since: String,
}

#[derive(Debug, Serialize)]
struct Token {
    account: String,
    age_seconds: Option<f64>,
    contention: Option<&'static str>,
    environment: Option<&'static str>,
    expires_at: Option<String>,
    expires_in_seconds: Option<f64>,
    fingerprint: Option<String>,
    generation: u64,
    last_error: Option<String>,
    last_error_at: Option<String>,
    last_outcome: Option<&'static str>,
    last_outcome_at: Option<String>,
    missing_scopes: Option<String>,
    provider: String,
    refused_routes: Vec<Refused>,
    scopes: String,
    secret_in_use: &'static str,
}

/// A route that the provider refuses; a 403 may be about the very thing that was asked for.
#[derive(Debug, Serialize)]
struct Refused {
    forbidden: u64,
    last: String,
    route: String,
    since: String,
    unauthorized: u64,
    why: String,
}

impl Readiness {
    /// As it is now.
    pub(super) fn of(proxy: &Proxy) -> Self {
        let why = if proxy.admin_control.is_draining() {
            Some("draining")
        } else if !proxy.tokens.are_ready() {
            Some("no account has had a token yet")
        } else {
            None
        };
        let mut providers: BTreeMap<String, Health> = BTreeMap::new();
        for source in proxy.tokens.all() {
            let provider = &source.key.provider;
            let trouble = trouble(source).map(|why| match provider.accounts.len() {
                1 => why,
                _ => format!("account {}: {why}", source.key.account().name),
            });
            let health = providers
                .entry(provider.name.to_string())
                .or_insert_with(Health::good);
            if let Some(why) = trouble {
                *health = Health::bad(why);
            }
        }
        for name in proxy.held_providers() {
            providers.insert(name.to_string(), Health::bad(HELD.to_owned()));
        }
        for name in proxy.admin_control.frozen() {
            let health = providers.entry(name.into()).or_insert_with(Health::good);
            health.frozen = true;
        }
        Self {
            providers,
            ready: why.is_none(),
            why,
        }
    }
}

impl Health {
    fn good() -> Self {
        Self {
            healthy: true,
            ..Self::default()
        }
    }

    fn bad(why: String) -> Self {
        Self {
            why: Some(why),
            ..Self::default()
        }
    }
}

/// Why requests that need this token would fail now, or may.
fn trouble(source: &Source) -> Option<String> {
    let snapshot = source.snapshot(Instant::now());
    if snapshot.is_contended {
        return Some(source.contention().to_owned());
    }
    if snapshot.token.is_some_and(|token| token.is_valid) {
        return None;
    }
    let is_awaited = source.at_startup && !source.ever_had_a_token();
    let awaited = || is_awaited.then(|| "no token yet".to_owned());
    snapshot.failing.or_else(awaited)
}

impl Status {
    /// As it is now.
    pub(super) fn of(proxy: &Proxy, fleet: Option<Fleet>) -> Self {
        let now = Instant::now();
        let last_reload = proxy.admin_control.last_reload();
        Self {
            draining: proxy.admin_control.is_draining(),
            fleet,
            freezes: proxy.admin_control.freezes().map(Freeze::of).collect(),
            frozen: proxy.admin_control.frozen().map(Into::into).collect(),
            held_providers: proxy.held_providers().map(ToString::to_string).collect(),
            last_reload: last_reload.map(|reloaded| LastReload::of(&reloaded)),
            replay_memory_used_bytes: proxy.replay_memory_used(),
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
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl Freeze {
    fn of((provider, frozen): (&str, exchange::Frozen)) -> Self {
        let exchange::Frozen {
            by_command,
            in_file,
        } = frozen;
        let since = by_command.as_ref().map(|decision| decision.since);
        let until = by_command.as_ref().and_then(|decision| decision.until);
        let (by, reason) =
            by_command.map_or((None, None), |decision| (decision.by, decision.reason));
        Self {
            by,
            in_file: in_file.is_some(),
            provider: provider.to_owned(),
            reason,
            since: since.or(in_file).map(date),
            // What the file says outlasts it.
            until: until.filter(|_| in_file.is_none()).map(date),
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

impl TokenEndpoint {
    fn of(snapshot: EndpointSnapshot) -> Self {
        Self {
            calls_are_held: snapshot.is_open,
            calls_per_minute: snapshot.calls_per_minute,
            calls_that_waited: snapshot.exhausted,
            provider: snapshot.provider.to_string(),
        }
    }
}

impl UpstreamServer {
    fn of(server: ServerHealth) -> Self {
        Self {
            cause: server.cause.map(Cause::as_str),
            healthy: server.cause.is_none(),
            host: server.host.into(),
            provider: server.provider.to_string(),
            since: date(server.since),
        }
    }
}

impl Token {
    fn of(source: &Source, now: Instant) -> Self {
        let snapshot = source.snapshot(now);
        let token = snapshot.token.as_ref();
        let remaining = token.and_then(TokenSnapshot::remaining);
        let (last_outcome, last_outcome_at) = snapshot.last.unzip();
        let (last_error, last_error_at) = snapshot.last_error.unzip();
        let missing = token.map(|token| token.missing_scopes.clone());
        let provider = &source.key.provider;
        let routes = snapshot.refused_routes.iter();
        Self {
            account: source.key.account().name.to_string(),
            age_seconds: token.map(|token| seconds(token.age)),
            contention: snapshot.is_contended.then(|| source.contention()),
            environment: provider.environment.map(Environment::as_str),
            expires_at: remaining.map(|remaining| date(clock::wall() + remaining)),
            expires_in_seconds: remaining.map(seconds),
            fingerprint: token.map(|token| token.fingerprint.to_string()),
            generation: token.map_or(0, |token| token.generation),
            last_error,
            last_error_at: last_error_at.map(date),
            last_outcome,
            last_outcome_at: last_outcome_at.map(date),
            missing_scopes: missing.filter(|missing| !missing.is_empty()),
            provider: provider.name.to_string(),
            refused_routes: routes.map(|route| Refused::of(provider, route)).collect(),
            scopes: source.key.scopes.to_string(),
            secret_in_use: snapshot.secret_in_use.as_str(),
        }
    }
}

impl Refused {
    fn of(provider: &Provider, route: &RefusedRoute) -> Self {
        let title = &provider.title;
        Self {
            forbidden: route.forbidden,
            last: date(route.last),
            route: route.route.to_string(),
            since: date(route.since),
            unauthorized: route.unauthorized,
            why: match route.unauthorized {
                0 => format!("{title} answers 403 on this route with these scopes"),
                _ => format!("{title} refuses this route with these scopes"),
            },
        }
    }
}

fn date(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
