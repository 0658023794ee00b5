//! Providers: a payment API, its routes, and how its tokens are obtained.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use crate::account::{Account, AccountIndex};
use crate::file::{ClientAuth, Encoding, Environment, Http, Refresh};
use crate::host::{Host, Origin};
use crate::route::{HostRoutes, Route};
use bursar_base::path::Pattern;
use bursar_base::secret::Secret;
use bursar_tls::client::ClientTls;

/// A payment API.
#[derive(Debug)]
pub struct Provider {
    /// Its place in [`Config::providers`](crate::Config::providers).
    pub index: usize,
    /// Whether the file freezes it.
    pub is_frozen: bool,
    /// Its name, also in metrics and logs.
    pub name: Arc<str>,
    /// As the provider writes its name, where a preset knows; else the same.
    pub title: Arc<str>,
    /// Part of the token key.
    pub environment: Option<Environment>,
    /// The request hosts that route here.
    pub hosts: Vec<Host>,
    /// What the preset knows of each of them.
    pub known: Vec<HostRoutes>,
    /// None: `https://` and the matched host.
    pub upstream: Option<Origin>,
    /// The API's paths.
    pub paths: Vec<Pattern>,
    /// The operator's routes, most specific first; looked at before the preset's.
    pub routes: Vec<Route>,
    /// The scope sets that tokens are obtained for, sorted and space-joined.
    pub scope_sets: Vec<Arc<str>>,
    /// For requests without a route: an index into `scope_sets`. None: they are refused.
    pub default_scopes: Option<usize>,
    /// Normalised lower-case paths of token, refresh and revoke endpoints.
    pub protected: Vec<Box<str>>,
    /// The same of what is a token service's with all that is below it.
    pub protected_below: Vec<Box<str>>,
    /// What follows these paths is masked in logs.
    pub secret_below: Vec<Pattern>,
    /// Whose tokens there are, in the order of their names; never empty.
    pub accounts: Vec<Account>,
    /// Where they are, by name.
    pub account_index: AccountIndex,
    /// How tokens are obtained.
    pub token: TokenDialect,
    /// Bytes of one request body kept for a replay.
    pub replay_buffer: usize,
    /// Whether callers' trace headers go on.
    pub forwards_trace: bool,
    /// None: requests are tried however many failed before.
    pub breaker: Option<BreakerLimits>,
    /// How long things may take at the API.
    pub timeouts: Timeouts,
    /// Which HTTP its API is spoken to in.
    pub http: Http,
    /// Trust and client certificate.
    pub tls: ClientTls,
}

/// How a provider hands out tokens.
#[derive(Debug)]
pub struct TokenDialect {
    /// The token endpoint.
    pub url: Uri,
    /// Where refresh tokens go with [`Refresh::Endpoint`].
    pub refresh_url: Option<Uri>,
    /// Of the token request's body.
    pub encoding: Encoding,
    /// Where id and secret go.
    pub client_auth: ClientAuth,
    /// JSON pointer to the object with the token.
    pub response: Box<str>,
    /// What refresh tokens are for.
    pub refresh: Refresh,
    /// Lifetime of a refresh token whose reply does not say. None: used until it is refused.
    pub refresh_lifetime: Option<Duration>,
    /// Extra parameters of the token request.
    pub params: Vec<(String, Secret)>,
    /// How long before expiry a token is renewed, at most.
    pub margin: Duration,
    /// Where the reply has no usable `expires_in`.
    pub default_lifetime: Duration,
    /// All calls of the provider in any minute, at most.
    pub calls_per_minute: NonZeroU32,
    /// Whether a new token ends the one before.
    pub single_active: bool,
    /// For one call.
    pub timeout: Duration,
    /// How long a request waits for a token.
    pub wait: Duration,
}

/// When requests are held back because the API cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures in a row.
    pub failures: NonZeroU32,
    /// Until one request is tried.
    pub pause: Duration,
}

/// How long things may take at the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name, TCP and TLS together.
    pub connect: Duration,
    /// From the last byte of the request written to the response head.
    pub head: Duration,
    /// Between bytes of a body, either way.
    pub idle: Duration,
    /// How long an unused connection is kept.
    pub pool_idle: Duration,
    /// How old a connection is that gets no further request.
    pub pool_age: Duration,
}

impl TokenDialect {
    /// Those of its token endpoint: with [`Refresh::Endpoint`] there are two.
    pub fn urls(&self) -> impl Iterator<Item = &Uri> {
        std::iter::once(&self.url).chain(&self.refresh_url)
    }

    /// Whether both ask the same endpoint in the same way, whatever follows from the answer.
    #[must_use]
    pub fn asks_like(&self, other: &Self) -> bool {
        (&self.url, self.encoding, self.client_auth)
            == (&other.url, other.encoding, other.client_auth)
            && (&self.refresh_url, self.refresh) == (&other.refresh_url, other.refresh)
            && self.params == other.params
    }
}

impl Provider {
    /// Its hosts that a preset has for a few of their paths. A file that was written before the preset had them
    /// goes on meaning the same.
    pub fn further_hosts(&self) -> impl Iterator<Item = &Host> {
        let hosts = self.hosts.iter().zip(&self.known);
        let further = hosts.filter(|(_, known)| known.paths.is_some());
        further.map(|(host, _)| host)
    }

    /// The place of an account in [`Self::accounts`].
    #[must_use]
    pub fn account(&self, name: &str) -> Option<usize> {
        self.account_index.find(&self.accounts, name)
    }
}
