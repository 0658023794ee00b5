//! Health of the servers that connections go to: whether the last one could be had, why not, and since when.
//!
//! Whoever connects writes, the admin port reads; both take the one lock for a look at a map. What is known outlives a
//! configuration: a reload forgets the servers that are no provider's any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use http::Uri;

use bursar_base::address::undotted;
use bursar_base::clock;
use bursar_config::{Provider, port_of};
use bursar_telemetry::metrics::{Cause, UpstreamSeries};

/// Servers that are known at a time. Below a wildcard there is no end of them; then the one that was connected to the
/// longest ago is forgotten.
const MAX_SERVERS: usize = 1024;

/// A server, as log, metrics and `/status` name it: its host with its port.
#[must_use]
pub fn server_name(url: &Uri) -> Box<str> {
    let host = undotted(url.host().unwrap_or_default()).to_ascii_lowercase();
    format!("{host}:{}", port_of(url)).into()
}

/// How the last connection to a server went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHealth {
    /// Whose server it is.
    pub provider: Arc<str>,
    /// Its host, with its port.
    pub host: Box<str>,
    /// Why there was no connection; None: there was one.
    pub cause: Option<Cause>,
    /// Since when that is so.
    pub since: SystemTime,
    /// When it was seen last.
    pub last: SystemTime,
}

/// What is known of all servers.
#[derive(Debug)]
pub(super) struct Servers {
    series: UpstreamSeries,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By provider and host.
    servers: BTreeMap<(Arc<str>, Box<str>), State>,
    /// Counts connections.
    connections: u64,
}

#[derive(Debug)]
struct State {
    cause: Option<Cause>,
    since: SystemTime,
    /// When the last connection was had, or not.
    last: SystemTime,
    /// Which connection that was.
    number: u64,
}

impl Servers {
    pub(super) fn new(series: &UpstreamSeries) -> Self {
        Self {
            series: series.clone(),
            known: Mutex::default(),
        }
    }

    /// A panic while it was held leaves nothing half-done.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was had, or not, and why.
    pub(super) fn connected(&self, provider: &Arc<str>, host: &str, cause: Option<Cause>) {
        let forgotten = self.known().connected(provider, host, cause);
        if let Some((provider, host)) = forgotten {
            self.series.forget(&provider, &host);
        }
    }

    /// What is counted of connections.
    pub(super) fn series(&self) -> &UpstreamSeries {
        &self.series
    }

    /// Forgets what is no server of these providers.
    pub(super) fn retain(&self, providers: &[Arc<Provider>]) {
        self.known().servers.retain(|(provider, host), _| {
            let mut providers = providers.iter();
            let is_kept = providers
                .find(|known| known.name == *provider)
                .is_some_and(|known| is_server_of(known, host));
            if !is_kept {
                self.series.forget(provider, host);
            }
            is_kept
        });
    }

    /// Why the last connection to a server could not be had, if it could not.
    pub(super) fn cause(&self, provider: &Arc<str>, host: &str) -> Option<Cause> {
        let key = (provider.clone(), host.into());
        self.known().servers.get(&key)?.cause
    }

    /// By provider and host.
    pub(super) fn snapshot(&self) -> Vec<ServerHealth> {
        let known = self.known();
        let servers = known.servers.iter();
        let health = servers.map(|((provider, host), state)| ServerHealth {
            provider: provider.clone(),
            host: host.clone(),
            cause: state.cause,
            since: state.since,
            last: state.last,
        });
        health.collect()
    }
}

impl Known {
    /// Another server that is forgotten for this one.
    fn connected(
        &mut self,
        provider: &Arc<str>,
        host: &str,
        cause: Option<Cause>,
    ) -> Option<(Arc<str>, Box<str>)> {
        self.connections += 1;
        let (number, last) = (self.connections, clock::wall());
        let key = (provider.clone(), host.into());
        if let Some(state) = self.servers.get_mut(&key) {
            (state.last, state.number) = (last, number);
            if state.cause != cause {
                state.cause = cause;
                state.since = last;
            }
            return None;
        }
        let state = State {
            cause,
            since: last,
            last,
            number,
        };
        self.servers.insert(key, state);
        if self.servers.len() <= MAX_SERVERS {
            return None;
        }
        let oldest = self.servers.iter().min_by_key(|(_, state)| state.number);
        let oldest = oldest.map(|(key, _)| key.clone())?;
        self.servers.remove(&oldest);
        Some(oldest)
    }
}

/// Whether a server, which is named with its port, is one that a provider's requests or token calls go to.
fn is_server_of(provider: &Provider, server: &str) -> bool {
    let upstream = provider.upstream.as_ref().and_then(|origin| origin.url());
    let mut urls = provider.token.urls().chain(&upstream);
    if urls.any(|url| *server_name(url) == *server) {
        return true;
    }
    let Some((host, port)) = server.rsplit_once(':') else {
        return false;
    };
    let port = port.parse().ok();
    let mut hosts = provider.hosts.iter();
    upstream.is_none()
        && hosts.any(|known| known.matches(host) && (known.port.is_none() || known.port == port))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;
    use bursar_config::Config;
    use bursar_telemetry::metrics::Metrics;

    fn config(keys: &str) -> Config {
        let text = format!(
            "providers: {{acme: {{client_id: a, client_secret: b, token: {{url: 'https://login.test/t'}}, {keys}}}}}"
        );
        Config::parse(&text, Path::new("")).unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn servers(config: &Config) -> Servers {
        Servers::new(&Metrics::new(config).unwrap().upstream)
    }

    fn hosts(servers: &Servers) -> Vec<String> {
        let all = servers.snapshot().into_iter();
        all.map(|server| server.host.into()).collect()
    }

    #[test]
    fn a_server_is_named_with_its_port_and_without_a_dot_at_the_end() {
        for (url, expected) in [
            ("https://api.test/x", "api.test:443"),
            ("https://API.test.:8443/", "api.test:8443"),
            ("http://127.0.0.1/", "127.0.0.1:80"),
            ("https://[::1]/", "[::1]:443"),
        ] {
            assert_eq!(*server_name(&url.parse().unwrap()), *expected);
        }
    }

    #[test]
    fn since_is_when_the_cause_changed_and_not_when_it_was_seen_again() {
        let servers = servers(&config("hosts: [api.test]"));
        let acme: Arc<str> = "acme".into();
        let before = Cell::new(SystemTime::UNIX_EPOCH);
        let seen = |cause| {
            servers.connected(&acme, "api.test:443", cause);
            let [server] = &servers.snapshot()[..] else {
                panic!("one server")
            };
            assert_eq!(server.cause, cause);
            assert_eq!(servers.cause(&acme, "api.test:443"), cause);
            assert!(server.last > before.replace(server.last));
            server.since
        };
        let first = seen(Some(Cause::Refused));
        assert_eq!(seen(Some(Cause::Refused)), first);
        let healthy = seen(None);
        assert!(healthy > first);
        assert_eq!(seen(None), healthy);
        assert!(seen(Some(Cause::TlsExpired)) > healthy);
    }

    #[test]
    fn a_reload_forgets_what_is_no_server_of_a_provider_any_more() {
        let before = config("hosts: [api.test, '*.shop.test']");
        let servers = servers(&before);
        let acme: Arc<str> = "acme".into();
        let all = [
            "a.shop.test:443",
            "api.test:443",
            "login.test:443",
            "old.test:443",
        ];
        for host in all {
            servers.connected(&acme, host, None);
            servers.series().certificate(&acme, host, 7);
        }
        servers.connected(&"gone".into(), "api.test:443", None);
        servers.retain(&before.providers);
        assert_eq!(hosts(&servers), all[..3]);
        servers.retain(&config("hosts: [api.test], upstream: 'https://other.test'").providers);
        assert_eq!(hosts(&servers), ["login.test:443"]);
    }

    #[test]
    fn of_too_many_servers_the_one_that_was_connected_to_the_longest_ago_is_forgotten() {
        let servers = servers(&config("hosts: ['*.shop.test']"));
        let acme: Arc<str> = "acme".into();
        let host = |number: usize| format!("{number:05}.shop.test:443");
        for number in 0..MAX_SERVERS {
            servers.connected(&acme, &host(number), None);
        }
        servers.connected(&acme, &host(0), None);
        servers.connected(&acme, &host(MAX_SERVERS), None);
        let left = hosts(&servers);
        assert_eq!(left.len(), MAX_SERVERS);
        assert_eq!((&left[0], &left[1]), (&host(0), &host(2)), "1 is forgotten");
    }
}
