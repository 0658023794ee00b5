//! Routing: the compiled table of hosts, paths and routes, which says whose API is meant and with which scopes.
//!
//! Absolute-form and gateway requests meet here; everything after this takes a [`Destination`]. Looking
//! up costs the same with one host or ten thousand.

mod look_alike;
mod payment;
mod protection;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use http::uri::Scheme;
use smallvec::SmallVec;
use smol_str::SmolStr;

use bursar_base::address::{bare, undotted};
use bursar_base::path::{Path, Pattern};
use bursar_config::{
    Allow, Authorization, Config, HostRoutes, MerchantHeader, Origin, Provider, Route,
};
use bursar_http::target::Target;
use look_alike::look_alikes;
pub use payment::Payment;
use protection::is_token_endpoint;

/// What logs call the route of a request that matches none of its own.
const DEFAULT_ROUTE: &str = "default";

/// By the name of a host, in lower case. All are configured, so nobody gains by names that collide. Most have
/// one entry, which lies beside the name, which is short mostly: one of ten thousand hosts costs few cache lines.
type Hosts<T> = HashMap<SmolStr, SmallVec<[T; 1]>, foldhash::fast::RandomState>;

/// All hosts and their providers.
#[derive(Debug)]
pub struct Routes {
    exact: Hosts<Entry>,
    /// By what follows the `*.`.
    wildcard: Hosts<Entry>,
    /// Hosts of token endpoints, with the providers whose they are.
    token_hosts: Hosts<Arc<Provider>>,
}

#[derive(Debug)]
struct Entry {
    /// None: 80 and 443.
    port: Option<u16>,
    provider: Arc<Provider>,
    /// Its place in [`Provider::hosts`].
    place: usize,
    /// None: it depends on the request's host. With `upstream` all hosts of the provider share it.
    server: Option<Arc<Server>>,
    /// Whether a route's path has capitals.
    has_capitals: bool,
}

/// Where requests to a host are sent.
#[derive(Debug)]
struct Server {
    origin: Arc<Origin>,
    /// Who else has token endpoints at the provider's `upstream`.
    tenants: SmallVec<[Arc<Provider>; 1]>,
}

/// Where a request goes and what it needs.
#[derive(Debug)]
pub struct Destination<'a> {
    /// Whose API it is.
    pub provider: &'a Arc<Provider>,
    /// The server to send to.
    pub origin: Cow<'a, Arc<Origin>>,
    /// The route's name.
    pub route: Cow<'a, Arc<str>>,
    /// Whose token the request carries.
    pub authorization: Authorization,
    /// Index into [`Provider::accounts`].
    pub account: usize,
    /// Which of the account's merchant ids goes with the request.
    pub merchant: Option<MerchantHeader>,
    /// What the request means for money.
    pub payment: Payment<'a>,
}

/// What a request asks for besides a path.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The account that it names; an empty name where it does not name one unambiguously.
    pub account: Option<&'a str>,
}

/// A provider's host, before path and method were looked at.
#[derive(Debug)]
pub struct MatchedHost<'a> {
    /// Whose it is.
    pub provider: &'a Arc<Provider>,
    known: &'a HostRoutes,
    has_capitals: bool,
    origin: Cow<'a, Arc<Origin>>,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No provider has that host.
    #[error("no provider has the host")]
    UnknownHost,
    /// A provider's own token, refresh or revoke path.
    #[error("the path is a token endpoint's")]
    TokenEndpoint,
    /// The path is not one of the API's.
    #[error("the path is not one of the API's")]
    OutsidePaths,
    /// The caller may not use that provider, method or path.
    #[error("the caller may not use provider, method or path")]
    NotAllowed,
    /// The request names an account that there is not, or that the caller may not use.
    #[error("the caller may not use the account, if there is one")]
    AccountNotAllowed,
    /// The caller may use several accounts, and the request names none.
    #[error("no account is named")]
    AccountMissing,
    /// No route matches, and the provider has no default scopes.
    #[error("no route matches")]
    NoScopes,
    /// The path's readings lead to different scopes, or none of them is certain.
    #[error("the path can be read in several ways")]
    Ambiguous,
}

impl Routes {
    /// Compiles the table.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut routes = Self {
            exact: Hosts::default(),
            wildcard: Hosts::default(),
            token_hosts: Hosts::default(),
        };
        for provider in &config.providers {
            for host in provider.token.urls().filter_map(http::Uri::host) {
                let host = bare(undotted(host)).to_ascii_lowercase().into();
                routes
                    .token_hosts
                    .entry(host)
                    .or_default()
                    .push(provider.clone());
            }
        }
        for provider in &config.providers {
            let server = provider.upstream.as_ref().map(|upstream| {
                let tenants = routes.token_hosts.get(bare(upstream.authority.host()));
                // Its own are looked at for each of its hosts.
                let is_other = |tenant: &&Arc<Provider>| tenant.index != provider.index;
                let others = tenants.into_iter().flatten().filter(is_other);
                Arc::new(Server {
                    origin: Arc::new(upstream.clone()),
                    tenants: others.cloned().collect(),
                })
            });
            for place in 0..provider.hosts.len() {
                routes.add(provider, place, server.clone());
            }
        }
        routes
    }

    fn add(&mut self, provider: &Arc<Provider>, place: usize, server: Option<Arc<Server>>) {
        let host = &provider.hosts[place];
        let table = if host.wildcard {
            &mut self.wildcard
        } else {
            &mut self.exact
        };
        let own = || {
            let port = host.port.unwrap_or(443);
            let origin = matched_origin(&host.name, port, host.is_complete);
            let origin = Arc::new(origin.filter(|_| !host.wildcard)?);
            let tenants = SmallVec::new();
            Some(Arc::new(Server { origin, tenants }))
        };
        let mut routes = provider.routes.iter().chain(&provider.known[place].routes);
        table
            .entry(bare(&host.name).into())
            .or_default()
            .push(Entry {
                port: host.port,
                provider: provider.clone(),
                place,
                server: server.or_else(own),
                has_capitals: routes.any(|route| route.path.has_capitals()),
            });
    }

    /// The provider that has a target's host, and protects its token endpoints first of all.
    ///
    /// # Errors
    /// Where no provider has the host, or the path is a token endpoint.
    pub fn match_host(
        &self,
        target: &Target<'_>,
        path: &Path<'_>,
    ) -> Result<MatchedHost<'_>, Error> {
        let host = lower_case(target.host);
        let entry = self.entry(&host, target.port);
        if self.protecting(&host, entry, path).is_some() {
            return Err(Error::TokenEndpoint);
        }
        let entry = entry.ok_or(Error::UnknownHost)?;
        let origin = match &entry.server {
            Some(server) => Cow::Borrowed(&server.origin),
            None => {
                let origin = matched_origin(&host, target.port, target.is_complete);
                Cow::Owned(Arc::new(origin.ok_or(Error::UnknownHost)?))
            }
        };
        Ok(MatchedHost {
            provider: &entry.provider,
            known: &entry.provider.known[entry.place],
            has_capitals: entry.has_capitals,
            origin,
        })
    }

    /// Whose token endpoint a target is.
    #[must_use]
    pub fn owner_of_token_endpoint(
        &self,
        target: &Target<'_>,
        path: &Path<'_>,
    ) -> Option<&Arc<Provider>> {
        let host = lower_case(target.host);
        self.protecting(&host, self.entry(&host, target.port), path)
    }

    fn protecting<'a>(
        &'a self,
        host: &str,
        entry: Option<&'a Entry>,
        path: &Path<'_>,
    ) -> Option<&'a Arc<Provider>> {
        let is_protected = |provider: &&Arc<Provider>| is_token_endpoint(provider, path);
        let by_entry = entry.and_then(|entry| {
            let tenants = entry.server.iter().flat_map(|server| &server.tenants);
            std::iter::once(&entry.provider)
                .chain(tenants)
                .find(is_protected)
        });
        by_entry.or_else(|| self.token_hosts.get(host)?.iter().find(is_protected))
    }

    /// Whether a request for that path there would be the provider's.
    #[must_use]
    pub fn serves(&self, provider: &Provider, host: &str, port: u16, path: &str) -> bool {
        let path = Path::new(path);
        self.entry(&lower_case(host), port).is_some_and(|entry| {
            entry.provider.index == provider.index
                && has_path(provider, &provider.known[entry.place], &path)
        })
    }

    /// Whether a tunnel there leads to a provider.
    #[must_use]
    pub fn is_provider(&self, host: &str, port: u16) -> bool {
        self.entry(&lower_case(host), port).is_some()
    }

    /// Whose tokens come from there, where nothing else does.
    #[must_use]
    pub fn owner_of_token_host(&self, host: &str) -> Option<&Arc<Provider>> {
        let owners = self.token_hosts.get(&*lower_case(host))?;
        match self.provider_at_any_port(host) {
            Some(_) => None,
            None => owners.first(),
        }
    }

    /// A provider that has the host at whatever port.
    #[must_use]
    pub fn provider_at_any_port(&self, host: &str) -> Option<&Arc<Provider>> {
        let host = lower_case(host);
        let mut rest: &str = &host;
        if let Some(entries) = self.exact.get(rest) {
            return entries.first().map(|entry| &entry.provider);
        }
        while let Some((_, below)) = rest.split_once('.') {
            if let Some(entries) = self.wildcard.get(below) {
                return entries.first().map(|entry| &entry.provider);
            }
            rest = below;
        }
        None
    }

    fn entry(&self, host: &str, port: u16) -> Option<&Entry> {
        if let Some(entry) = self.exact.get(host).and_then(|entries| fits(entries, port)) {
            return Some(entry);
        }
        // The longest name below which the host lies wins.
        let mut rest = host;
        while !self.wildcard.is_empty() {
            let (_, below) = rest.split_once('.')?;
            if let Some(entry) = self
                .wildcard
                .get(below)
                .and_then(|entries| fits(entries, port))
            {
                return Some(entry);
            }
            rest = below;
        }
        None
    }
}

/// A port that was named wins over one that was not.
fn fits(entries: &[Entry], port: u16) -> Option<&Entry> {
    let own = |entry: &&Entry| entry.port.is_none() && matches!(port, 80 | 443);
    entries
        .iter()
        .find(|entry| entry.port == Some(port))
        .or_else(|| entries.iter().find(own))
}

impl<'a> MatchedHost<'a> {
    /// Checks method, path and account; `allow` is None where there is no authentication.
    ///
    /// # Errors
    /// Where the request is not for the API, not for this caller, or no token would fit it.
    pub fn route(
        self,
        query: RouteQuery<'_>,
        path: &Path<'_>,
        allow: Option<&[Allow]>,
    ) -> Result<Destination<'a>, Error> {
        let method = query.method;
        let provider = self.provider;
        if path.is_ambiguous() {
            return Err(Error::Ambiguous);
        }
        let is_one_of = |patterns: &Vec<Pattern>| is_one_of(patterns, path);
        if !has_path(provider, self.known, path) {
            return Err(Error::OutsidePaths);
        }
        let allowed = |allow: &Allow| {
            allow.provider == provider.index
                && allow
                    .methods
                    .as_ref()
                    .is_none_or(|methods| methods.contains(method))
                && allow.paths.as_ref().is_none_or(is_one_of)
        };
        let mut allow = allow.map(|list| list.iter().filter(|entry| allowed(entry)).peekable());
        if allow.as_mut().is_some_and(|list| list.peek().is_none()) {
            return Err(Error::NotAllowed);
        }
        let account = choose_account(provider, query.account, allow)?;
        let tables = [&provider.routes, &self.known.routes];
        let read = |path| Reading::of(tables, provider.default_scopes, method, path);
        let mut reading = read(path.normalised());
        if !path.is_plain() {
            for other in path.readings() {
                let other = read(other);
                if other.authorization != reading.authorization {
                    return Err(Error::Ambiguous);
                }
                reading.payment = reading.payment.stricter(other.payment);
            }
        }
        // Most requests look like no other.
        if self.has_capitals || method == Method::HEAD || path.has_variants() {
            reading.payment = with_look_alikes(reading.payment, tables, method, path);
        }
        let Reading {
            route,
            authorization,
            merchant,
            payment,
        } = reading;
        let route = route.map_or_else(
            || Cow::Owned(DEFAULT_ROUTE.into()),
            |route| Cow::Borrowed(&route.name),
        );
        let authorization = authorization.ok_or(Error::NoScopes)?;
        Ok(Destination {
            provider,
            origin: self.origin,
            route,
            authorization,
            account,
            merchant,
            payment,
        })
    }
}

fn is_one_of(patterns: &[Pattern], path: &Path<'_>) -> bool {
    patterns
        .iter()
        .any(|pattern| path.matches_strictly(pattern))
}

/// Whether a path is one of the API's, on that host of it.
fn has_path(provider: &Provider, known: &HostRoutes, path: &Path<'_>) -> bool {
    let on_host = known.paths.as_ref();
    is_one_of(&provider.paths, path) && on_host.is_none_or(|patterns| is_one_of(patterns, path))
}

/// What one reading of a path leads to.
struct Reading<'a> {
    route: Option<&'a Route>,
    authorization: Option<Authorization>,
    merchant: Option<MerchantHeader>,
    payment: Payment<'a>,
}

impl<'a> Reading<'a> {
    /// By the operator's and the preset's routes.
    fn of(
        [own, known]: [&'a Vec<Route>; 2],
        default_scopes: Option<usize>,
        method: &Method,
        path: &str,
    ) -> Self {
        let [own, known] =
            [own, known].map(|routes| first(routes, method, |pattern| pattern.matches(path)));
        let said = [own, known].map(|route| route.map(|route| &route.semantics));
        let route = own.or(known);
        let default = default_scopes.map(Authorization::Bursar);
        Self {
            route,
            authorization: route.map_or(default, |route| Some(route.authorization)),
            // Of what the preset does not know nothing else is known.
            merchant: known.map_or(Some(MerchantHeader::Payments), |known| known.merchant),
            payment: Payment::of(method, said),
        }
    }
}

/// What a request means for money where a server may take it for one that a route knows. Nothing is refused by this, and
/// scopes stay as they are, so that more is looked at here than in [`Reading::of`].
fn with_look_alikes<'a>(
    mut payment: Payment<'a>,
    tables: [&'a Vec<Route>; 2],
    method: &Method,
    path: &Path<'_>,
) -> Payment<'a> {
    // Many frameworks answer HEAD by what they do for GET, without the body.
    let as_get = (method == Method::HEAD).then_some(&Method::GET);
    for path in path.all_readings().flat_map(look_alikes) {
        for method in std::iter::once(method).chain(as_get) {
            let matches = |pattern: &Pattern| pattern.matches_ignoring_case(path);
            let found = tables.map(|routes| first(routes, method, matches));
            if found.iter().any(Option::is_some) {
                let said = found.map(|route| route.map(|route| &route.semantics));
                payment = payment.stricter(Payment::of(method, said));
            }
        }
    }
    payment
}

/// The account that a request is sent for: the one that it names, or the only one that the entries which
/// allow the request leave. `allow` is None where there is no authentication.
fn choose_account<'a>(
    provider: &Provider,
    named: Option<&str>,
    allow: Option<impl Iterator<Item = &'a Allow>>,
) -> Result<usize, Error> {
    if let Some(name) = named {
        let account = provider.account(name).ok_or(Error::AccountNotAllowed)?;
        let is_allowed = match allow {
            Some(mut list) => list.any(|allow| allow.has_account(account)),
            None => true,
        };
        return is_allowed
            .then_some(account)
            .ok_or(Error::AccountNotAllowed);
    }
    let single = (provider.accounts.len() == 1).then_some(0);
    let Some(list) = allow else {
        return single.ok_or(Error::AccountMissing);
    };
    let mut chosen = None;
    for allow in list {
        let only = match allow.accounts.as_deref() {
            None => single,
            Some([account]) => Some(*account),
            Some(_) => None,
        };
        let only = only.ok_or(Error::AccountMissing)?;
        if chosen.is_some_and(|chosen| chosen != only) {
            return Err(Error::AccountMissing);
        }
        chosen = Some(only);
    }
    chosen.ok_or(Error::AccountMissing)
}

/// The first that matches.
fn first<'a>(
    routes: &'a [Route],
    method: &Method,
    matches: impl Fn(&Pattern) -> bool,
) -> Option<&'a Route> {
    routes.iter().find(|route| {
        route
            .methods
            .as_ref()
            .is_none_or(|methods| methods.contains(method))
            && matches(&route.path)
    })
}

/// The matched host itself, over TLS; 80 becomes 443.
fn matched_origin(host: &str, port: u16, is_complete: bool) -> Option<Origin> {
    let port = if port == 80 { 443 } else { port };
    let origin = Origin::new(Scheme::HTTPS, host, port).ok()?;
    Some(Origin {
        is_complete,
        ..origin
    })
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests;
