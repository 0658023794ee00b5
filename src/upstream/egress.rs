//! Egress rules: what `egress` says of the addresses of a name, counted and logged.
//!
//! A name is resolved once, every address that comes back is checked, and the connection is made to one
//! that passed: there is no second look at the name in between. Connections that are open already cost
//! nothing here. How a connection is made is [`crate::upstream::connect`]'s.
//!
//! The one lock is for the pace of log lines; it is held for a look at a small map, and only after a failure.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Uri;
use tokio::time::Instant;

use super::lookups::Lookups;
use super::server_health::{ServerHealth, Servers};
use bursar_base::address::{Rule, Spelling, bare, rules, undotted};
use bursar_base::log_throttle::{Due, GroupedLogThrottles};
use bursar_config::{self as config, Mode, Names, ParentProxy};
use bursar_telemetry::metrics::{Cause, EgressSeries, Metrics, NO_PROVIDER};

/// What `egress` says, for all providers.
#[derive(Debug, Clone)]
pub struct Egress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Arc<config::Egress>,
    series: EgressSeries,
    /// Of whose connection to which host the log was told what lately; the metrics count all.
    throttles: GroupedLogThrottles<Arc<str>, (Box<str>, Told)>,
    /// Outlives the configuration.
    servers: Arc<Servers>,
}

/// What the log is told of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Told {
    /// It could not be had.
    Failed(Cause),
    /// One of several addresses failed.
    AddressFailed(Option<SocketAddr>, Cause),
    /// A rule refuses an address, or would.
    Denied(Rule),
    /// It ended without close_notify.
    CutOff,
}

/// What `egress` says, for the connections of one purpose.
#[derive(Debug, Clone)]
pub struct DialPolicy {
    egress: Egress,
    provider: Arc<str>,
    /// Whether that is a provider's name: other servers are in no `/status`.
    is_providers: bool,
    /// Hosts that the operator wrote down: a literal loopback address or `localhost` among them stays
    /// allowed.
    written: Arc<[Box<str>]>,
    lookups: Arc<Lookups>,
}

/// Why no connection goes there.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// No address is left that may be connected to.
    #[error("no allowed address (egress rule {})", .0.as_str())]
    Rule(Rule),
    /// The name has no address.
    #[error("the name does not resolve")]
    Unresolved(#[source] io::Error),
}

impl Egress {
    /// Checks by the configuration.
    #[must_use]
    pub fn new(config: &Arc<config::Egress>, metrics: &Metrics) -> Self {
        let servers = Servers::new(&metrics.upstream);
        Self::with(config, metrics.egress.clone(), Arc::new(servers))
    }

    fn with(config: &Arc<config::Egress>, series: EgressSeries, servers: Arc<Servers>) -> Self {
        Self(Arc::new(Shared {
            config: config.clone(),
            series,
            throttles: GroupedLogThrottles::default(),
            servers,
        }))
    }

    /// The same under another configuration, whose servers keep what is known of them.
    #[must_use]
    pub fn succeeded_by(&self, config: &config::Config) -> Self {
        self.0.servers.retain(&config.providers);
        if self.is_of(&config.egress) {
            return self.clone();
        }
        let Shared {
            series, servers, ..
        } = &*self.0;
        Self::with(&config.egress, series.clone(), servers.clone())
    }

    /// Whether it checks by that configuration.
    #[must_use]
    pub fn is_of(&self, config: &config::Egress) -> bool {
        *self.0.config == *config
    }

    /// How connections to the servers of all providers went.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerHealth> {
        self.0.servers.snapshot()
    }

    /// For a provider's API.
    #[must_use]
    pub fn api(&self, provider: &config::Provider) -> DialPolicy {
        let upstream = provider.upstream.as_ref();
        let upstream = upstream.map(|origin| origin.authority.host());
        let exact = provider.hosts.iter().filter(|host| !host.wildcard);
        let hosts = exact.map(|host| &*host.name);
        let policy = self.dial_policy(&provider.name, upstream.into_iter().chain(hosts));
        policy.of_provider()
    }

    /// For a provider's token endpoint.
    #[must_use]
    pub fn token(&self, provider: &config::Provider) -> DialPolicy {
        let hosts = provider.token.urls().filter_map(Uri::host);
        self.dial_policy(&provider.name, hosts).of_provider()
    }

    /// For whatever an operator's `hosts` say, on behalf of `provider` in the log.
    #[must_use]
    pub fn dial_policy<'a>(
        &self,
        provider: &Arc<str>,
        hosts: impl Iterator<Item = &'a str>,
    ) -> DialPolicy {
        DialPolicy {
            egress: self.clone(),
            provider: provider.clone(),
            is_providers: false,
            written: hosts.map(|host| bare(undotted(host)).into()).collect(),
            lookups: Arc::default(),
        }
    }

    /// The parent proxy for API calls.
    #[must_use]
    pub fn api_proxy(&self) -> Option<&Arc<ParentProxy>> {
        self.0.config.api_proxy.as_ref()
    }

    /// The parent proxy for token calls.
    #[must_use]
    pub fn token_proxy(&self) -> Option<&Arc<ParentProxy>> {
        self.0.config.token_proxy.as_ref()
    }
}

impl DialPolicy {
    fn of_provider(self) -> Self {
        Self {
            is_providers: true,
            ..self
        }
    }

    /// The last connection to a server could be had, or why not.
    pub(crate) fn set_health(&self, host: &str, cause: Option<Cause>) {
        if self.is_providers {
            self.egress.0.servers.connected(&self.provider, host, cause);
        }
    }

    /// A server has shown a certificate that ends then, in seconds since 1970.
    pub(crate) fn set_certificate(&self, host: &str, expiry: i64) {
        if self.is_providers {
            let series = self.egress.0.servers.series();
            series.certificate(&self.provider, host, expiry);
        }
    }

    /// Counts a connection that could not be had, and tells the log once a minute; `details` are words of the error.
    pub(crate) fn failed(&self, host: &str, cause: Cause, details: impl FnOnce() -> String) {
        let shared = &self.egress.0;
        let label = match self.is_providers {
            true => &*self.provider,
            false => NO_PROVIDER,
        };
        shared.servers.series().failed(label, cause);
        if self.is_due(host, Told::Failed(cause)) {
            tracing::warn!(provider = %self.provider, host, cause = cause.as_str(), error = %details(), "no connection");
        }
    }

    /// Tells the log once a minute that one of several addresses failed; of one that is None, that the rest did.
    pub(crate) fn address_failed(
        &self,
        host: &str,
        address: Option<SocketAddr>,
        cause: Cause,
        details: impl FnOnce() -> String,
    ) {
        if self.is_due(host, Told::AddressFailed(address, cause)) {
            let address = address.map(tracing::field::display);
            tracing::warn!(provider = %self.provider, host, address, cause = cause.as_str(), error = %details(), "no connection to one of several addresses");
        }
    }

    /// Whether the log is told of that now.
    fn is_due(&self, host: &str, told: Told) -> bool {
        let throttles = &self.egress.0.throttles;
        let due = throttles.due(self.provider.clone(), (host.into(), told), Instant::now());
        if due == Due::TooMuch {
            tracing::warn!(provider = %self.provider, "connections to so many hosts fail that further ones are counted only; see bursar_upstream_connect_failures_total");
        }
        due == Due::Now
    }

    /// Why the last connection to a server could not be had, if it could not.
    pub(crate) fn cause(&self, host: &str) -> Option<Cause> {
        self.egress.0.servers.cause(&self.provider, host)
    }

    /// Tells the log that a connection to a host ended without TLS close_notify, before a response was complete; of one
    /// provider's once a minute.
    pub(crate) fn complain_of_end(&self, host: &str) {
        if self.is_due("", Told::CutOff) {
            tracing::warn!(provider = %self.provider, host, "a response was cut off: the connection ended without TLS close_notify");
        }
    }

    /// The policy for the connection to a parent proxy.
    pub(crate) fn to_parent(&self, parent: &ParentProxy) -> Self {
        self.egress
            .dial_policy(&self.provider, parent.url.host().into_iter())
    }

    /// Whether a host is reached without a parent proxy. What the operator wrote down as loopback is: the
    /// parent would take it for itself, and without TLS the token would cross the network in clear.
    pub(crate) fn bypasses_parent(&self, host: &str, port: u16) -> bool {
        self.is_written_loopback(host) || self.config().no_proxy.covers(bare(host), port)
    }

    /// The addresses of a host that may be connected to, from one look at its name.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Denied> {
        let (found, odd) = match Spelling::of(host) {
            Spelling::Address(address) => (vec![address], None),
            // No resolver is asked: what it would make of such a name is anybody's guess.
            Spelling::Odd(address) => (
                address.map(IpAddr::V4).into_iter().collect(),
                Some(Rule::Literal),
            ),
            Spelling::Name => (self.resolve(host).await.map_err(Denied::Unresolved)?, None),
        };
        let is_loopback = self.is_written_loopback(host);
        let exempt = |address: &IpAddr| is_loopback && address.is_loopback();
        self.admit(host, found, odd, exempt).map_err(Denied::Rule)
    }

    /// Whether a parent proxy may be asked for a host: a name is the parent's to check, a literal is not.
    pub(crate) async fn may_ask_parent(&self, host: &str) -> Result<(), Denied> {
        match Spelling::of(host) {
            Spelling::Name => Ok(()),
            Spelling::Address(_) | Spelling::Odd(_) => self.addresses(host).await.map(drop),
        }
    }

    /// Drops the addresses that a rule refuses; where none is left, the rule that refused the first.
    fn admit(
        &self,
        host: &str,
        found: Vec<IpAddr>,
        odd: Option<Rule>,
        exempt: impl Fn(&IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, Rule> {
        let config = self.config();
        // Once for a rule, however many addresses a name has.
        let mut broken: Vec<Rule> = odd.into_iter().collect();
        let mut refused = odd.filter(|rule| config.mode(*rule) == Mode::Enforce);
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            let mut passes = refused != Some(Rule::Literal);
            for (meant, rule) in rules(address) {
                if exempt(&address) || config.allows(meant) {
                    continue;
                }
                if !broken.contains(&rule) {
                    broken.push(rule);
                }
                if config.mode(rule) == Mode::Enforce {
                    passes = false;
                    refused = refused.or(Some(rule));
                }
            }
            if passes {
                allowed.push(address);
            }
        }
        let is_refused = allowed.is_empty();
        for rule in broken {
            self.tell(host, rule, is_refused);
        }
        match refused {
            _ if !is_refused => Ok(allowed),
            Some(rule) => Err(rule),
            // A number that is no address, or a name without one.
            None => Err(Rule::Literal),
        }
    }

    /// Counts, and tells the log once a minute.
    fn tell(&self, host: &str, rule: Rule, is_refused: bool) {
        let shared = &self.egress.0;
        let mode = self.config().mode(rule);
        shared.series.denied(rule, mode);
        if self.is_due(host, Told::Denied(rule)) {
            tracing::warn!(provider = %self.provider, host, rule = rule.as_str(), mode = mode.as_str(), refused = is_refused, "an address is not allowed; see egress.allow_addresses");
        }
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found: Vec<IpAddr> = match &self.config().names {
            Names::System => self.lookups.addresses(host).await?,
            Names::Fixed(table) => table.get(host).cloned().unwrap_or_default(),
            Names::Changing(table) => table.load().get(host).cloned().unwrap_or_default(),
        };
        if found.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(found)
    }

    fn is_written_loopback(&self, host: &str) -> bool {
        let host = bare(undotted(host));
        let is_loopback = match Spelling::of(host) {
            Spelling::Address(address) => address.is_loopback(),
            Spelling::Name => host.eq_ignore_ascii_case("localhost"),
            Spelling::Odd(_) => false,
        };
        is_loopback
            && self
                .written
                .iter()
                .any(|written| bare(written).eq_ignore_ascii_case(host))
    }

    fn config(&self) -> &config::Egress {
        &self.egress.0.config
    }
}

#[cfg(test)]
mod tests;
