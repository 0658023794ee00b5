//! Tokens and token endpoints as `/status` shows them, never the token.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::date::date;
use crate::token::{EndpointSnapshot, RefusedRoute, Source, TokenSnapshot};
use bursar_base::clock;
use bursar_config::{Environment, Provider};

#[derive(Debug, Serialize)]
pub(in crate::server) struct TokenEndpoint {
    pub(in crate::server) calls_are_held: bool,
    pub(in crate::server) calls_per_minute: NonZeroU32,
    pub(in crate::server) calls_that_waited: u64,
    pub(in crate::server) provider: String,
}

#[derive(Debug, Serialize)]
pub(in crate::server) struct Token {
    pub(in crate::server) account: String,
    pub(in crate::server) age_seconds: Option<f64>,
    pub(in crate::server) contention: Option<&'static str>,
    pub(in crate::server) environment: Option<&'static str>,
    pub(in crate::server) expires_at: Option<String>,
    pub(in crate::server) expires_in_seconds: Option<f64>,
    pub(in crate::server) fingerprint: Option<String>,
    pub(in crate::server) generation: u64,
    pub(in crate::server) last_error: Option<String>,
    pub(in crate::server) last_error_at: Option<String>,
    pub(in crate::server) last_outcome: Option<&'static str>,
    pub(in crate::server) last_outcome_at: Option<String>,
    /// How long before its end the token is renewed, but for a little jitter.
    pub(in crate::server) margin_seconds: Option<f64>,
    pub(in crate::server) missing_scopes: Option<String>,
    pub(in crate::server) provider: String,
    pub(in crate::server) refused_routes: Vec<Refused>,
    /// What is odd about the token's response.
    pub(in crate::server) remarks: Vec<&'static str>,
    /// Whether a token is wanted, and the last attempt to have one has failed.
    pub(in crate::server) renewal_is_failing: bool,
    pub(in crate::server) scopes: String,
    pub(in crate::server) secret_in_use: &'static str,
}

/// A route that the provider refuses; a 403 may be about the very thing that was asked for.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Refused {
    pub(in crate::server) forbidden: u64,
    pub(in crate::server) last: String,
    pub(in crate::server) route: String,
    pub(in crate::server) since: String,
    pub(in crate::server) unauthorized: u64,
    pub(in crate::server) why: String,
}

impl TokenEndpoint {
    pub(super) fn of(snapshot: EndpointSnapshot) -> Self {
        Self {
            calls_are_held: snapshot.is_open,
            calls_per_minute: snapshot.calls_per_minute,
            calls_that_waited: snapshot.exhausted,
            provider: snapshot.provider.to_string(),
        }
    }
}

impl Token {
    pub(super) fn of(source: &Source, now: Instant) -> Self {
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
            margin_seconds: token.map(|token| {
                let margin = provider.token.margin.min(token.lifetime / 5);
                seconds(margin)
            }),
            missing_scopes: missing.filter(|missing| !missing.is_empty()),
            provider: provider.name.to_string(),
            refused_routes: routes.map(|route| Refused::of(provider, route)).collect(),
            remarks: token.map(|token| token.remarks.clone()).unwrap_or_default(),
            renewal_is_failing: snapshot.is_renewal_failing,
            scopes: source.key.scopes.to_string(),
            secret_in_use: snapshot.secret_in_use.as_str(),
        }
    }
}

impl Refused {
    pub(super) fn of(provider: &Provider, route: &RefusedRoute) -> Self {
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

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
