//! Readiness: whether requests may be sent here, and how each provider is.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::Instant;

use crate::exchange::Proxy;
use crate::token::Source;

/// What `/readyz` says of a provider whose breaker is open.
const HELD: &str =
    "the provider cannot be reached; requests are refused until one that is tried succeeds";

/// `/readyz`.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Readiness {
    /// By name.
    pub(in crate::server) providers: BTreeMap<String, Health>,
    pub(in crate::server) ready: bool,
    pub(in crate::server) why: Option<&'static str>,
}

/// How a provider is.
#[derive(Debug, Default, Serialize)]
pub(in crate::server) struct Health {
    /// Whether an operator has frozen it; shown only then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::server) frozen: bool,
    pub(in crate::server) healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) why: Option<String>,
}

impl Readiness {
    /// As it is now.
    pub(in crate::server) fn of(proxy: &Proxy) -> Self {
        let why = if proxy.admin_control.is_draining() {
            Some("draining")
        } else if !proxy.tokens.are_ready() {
            Some("no account has had a token yet")
        } else if !proxy.admin_control.are_freezes_known() {
            Some("it is not known yet what the fleet has frozen")
        } else if !proxy.has_shares() {
            Some("the fleet has not granted shares of callers' limits yet")
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
    pub(super) fn good() -> Self {
        Self {
            healthy: true,
            ..Self::default()
        }
    }

    pub(super) fn bad(why: String) -> Self {
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
