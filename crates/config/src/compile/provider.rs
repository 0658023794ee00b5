//! From a provider's part of the file, and its preset, to a [`Provider`].

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;

use super::account;
use super::provider_tls::{self, Shared};
use super::route;
use super::value::{
    ScopeSets, endpoint, host, origin, patterns, positive, refuse_reserved, time, trusted,
};
use crate::account::AccountIndex;
use crate::defaults;
use crate::diagnostic::Diagnostics;
use crate::file::{self, ClientAuth, Count, Refresh, Size, Trace};
use crate::host::{Host, Origin, port_of};
use crate::node::join;
use crate::presets::{Endpoints, Preset, PresetHost, PresetName, PresetRoute};
use crate::provider::{BreakerLimits, Provider, Timeouts, TokenDialect};
use crate::route::HostRoutes;
use bursar_base::address::undotted;
use bursar_base::path::{Path as RequestPath, Pattern};
use bursar_base::secret::Secret;

/// A provider's part of the file, its preset, and its key path.
pub(super) struct ProviderFile {
    name: String,
    path: String,
    file: file::Provider,
    preset: Option<(&'static Preset, &'static Endpoints)>,
}

impl ProviderFile {
    pub(super) fn new(
        name: &str,
        file: file::Provider,
        problems: &mut Diagnostics,
    ) -> Option<Self> {
        let path = join("providers", name);
        let word = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        if name.is_empty() || !name.chars().all(word) {
            problems.add(
                &path,
                "a provider's name may hold letters, digits, `_`, `-` and `.`",
            );
        } else if name.chars().all(|char| char == '.') {
            // In the path of a URL it would be another one.
            problems.add(&path, "a provider's name has more than dots");
        }
        refuse_reserved(name, &path, problems);
        let preset = match (file.preset, file.environment) {
            (Some(preset), Some(environment)) => {
                let preset = Preset::of(preset);
                Some((preset, preset.endpoints(environment)))
            }
            (Some(_), None) => {
                problems.add(
                    &join(&path, "environment"),
                    "is missing; it must be `sandbox` or `production`, there is no default",
                );
                return None;
            }
            (None, _) => None,
        };
        Some(Self {
            name: name.to_owned(),
            path,
            file,
            preset,
        })
    }

    fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether the file names a preset, but not as it is called: then nothing that it has is missing.
    fn is_preset_wrong(&self, problems: &Diagnostics) -> bool {
        self.preset.is_none() && problems.is_reported(&self.key("preset"))
    }

    fn forwards_trace(&self) -> bool {
        self.file.trace == Some(Trace::Forward)
    }

    pub(super) fn compile(
        mut self,
        index: usize,
        shared: &mut Shared<'_>,
        problems: &mut Diagnostics,
    ) -> Option<Provider> {
        let hosts = self.hosts(problems);
        let paths = self.paths(problems);
        let upstream = self.file.upstream.take();
        let upstream = upstream.and_then(|text| origin(&text, &self.key("upstream"), problems));
        let mut scopes = ScopeSets::new(self.preset.and_then(|(preset, _)| preset.max_scopes));
        let default_scopes = self.default_scopes(&mut scopes, problems);
        let own = self.file.routes.take().unwrap_or_default();
        let place = (self.key("routes"), default_scopes);
        let known: Vec<_> = hosts.iter().flat_map(RequestHost::routes).collect();
        let routes = route::routes(own, &place, self.forwards_trace(), &mut scopes, problems);
        route::refuse_unkeyed(&routes, &known, &place.0, problems);
        let routes = routes.into_iter().map(|(_, route)| route).collect();
        let chosen = self.operation_scopes(problems);
        let known = hosts.iter().map(|host| HostRoutes {
            paths: host.paths.map(trusted),
            routes: route::preset_routes(host.routes(), default_scopes, &chosen, &mut scopes),
        });
        let known = known.collect();
        let rules = account::Rules {
            has_merchants: self.preset.is_some_and(|(preset, _)| preset.has_merchants),
            client_auth: self.client_auth(),
        };
        let accounts = account::accounts(&mut self.file, &self.path, rules, problems);
        let replay_buffer = self
            .file
            .replay_buffer
            .map_or(defaults::provider::REPLAY_BUFFER, |Size(size)| size);
        let timeouts = self.timeouts(problems);
        let breaker = self.breaker(problems);
        let tls = provider_tls::compile(&self.file.tls, &self.path, shared, problems);
        let token = self.token(problems)?;
        let servers = servers(&hosts, upstream.as_ref(), &token);
        let tls = tls.map(|tls| tls.for_servers(servers, &self.key("tls.ca"), problems));
        Some(Provider {
            index,
            is_frozen: self.file.frozen == Some(true),
            name: self.name.as_str().into(),
            title: match self.file.preset {
                Some(preset) => PresetName::title(preset).into(),
                None => self.name.as_str().into(),
            },
            environment: self.file.environment,
            hosts: hosts.into_iter().map(|host| host.host).collect(),
            known,
            upstream,
            paths,
            routes,
            scope_sets: scopes.sets,
            default_scopes,
            forwards_trace: self.forwards_trace(),
            protected: self.protected(&token),
            protected_below: texts(
                self.preset
                    .map_or(&[], |(preset, _)| preset.protected_below),
            ),
            secret_below: trusted(self.preset.map_or(&[], |(preset, _)| preset.secret_below)),
            account_index: AccountIndex::of(&accounts),
            accounts,
            token,
            replay_buffer,
            breaker,
            timeouts,
            http: self.file.http.unwrap_or_default(),
            tls: tls?,
        })
    }

    fn paths(&mut self, problems: &mut Diagnostics) -> Vec<Pattern> {
        let known = self.preset.map(|(preset, _)| preset.paths);
        match self.file.paths.take() {
            Some(paths) => patterns(&paths, &self.key("paths"), problems),
            None => trusted(known.unwrap_or(&defaults::provider::PATHS)),
        }
    }

    fn hosts(&mut self, problems: &mut Diagnostics) -> Vec<RequestHost> {
        let key = self.key("hosts");
        let known = self
            .preset
            .map_or(&[][..], |(_, endpoints)| endpoints.hosts);
        let Some(named) = self.file.hosts.take() else {
            if known.is_empty() && !self.is_preset_wrong(problems) {
                problems.add(
                    &key,
                    "is missing; without a preset the hosts to route must be named",
                );
            }
            let of_preset =
                |known: &'static PresetHost| Some((host(known.name, &key, problems)?, known));
            let hosts = known.iter().filter_map(of_preset);
            return hosts.map(RequestHost::of_preset).collect();
        };
        if named.is_empty() {
            problems.add(&key, "is empty; nothing would ever be routed here");
        }
        let parse = |(at, text): (usize, &String)| host(text, &format!("{key}[{at}]"), problems);
        let hosts = named.iter().enumerate().filter_map(parse);
        hosts.map(|host| RequestHost::named(host, known)).collect()
    }

    fn operation_scopes(&mut self, problems: &mut Diagnostics) -> file::OperationScopes {
        let chosen = self.file.operation_scopes.take();
        // The one that has merchants.
        let has_choices = self.preset.is_some_and(|(preset, _)| preset.has_merchants);
        if chosen.is_some() && !has_choices {
            problems.add(
                &self.key("operation_scopes"),
                "has no effect here; only the payu preset has operations with several scopes to choose from",
            );
        }
        chosen.unwrap_or_default()
    }

    fn default_scopes(
        &mut self,
        scopes: &mut ScopeSets,
        problems: &mut Diagnostics,
    ) -> Option<usize> {
        let key = self.key("token.scopes");
        match self.file.token.scopes.take() {
            Some(names) => Some(scopes.add(&names, &key, problems)),
            None => match self.preset {
                Some((preset, _)) => preset.default_scopes.map(|names| scopes.add_trusted(names)),
                None => Some(scopes.add_trusted(&defaults::token::SCOPES)),
            },
        }
    }

    fn breaker(&self, problems: &mut Diagnostics) -> Option<BreakerLimits> {
        let file = self.file.breaker.as_ref()?;
        Some(BreakerLimits {
            failures: file
                .failures
                .as_ref()
                .map_or(defaults::breaker::FAILURES, |Count(count)| *count),
            pause: positive(
                &self.key("breaker.pause"),
                file.pause,
                defaults::breaker::PAUSE,
                problems,
            ),
        })
    }

    fn timeouts(&self, problems: &mut Diagnostics) -> Timeouts {
        let file = &self.file.timeouts;
        let mut limit = |key, value, default| {
            let path = self.key(&format!("timeouts.{key}"));
            positive(&path, value, default, problems)
        };
        Timeouts {
            connect: limit("connect", file.connect, defaults::timeouts::CONNECT),
            head: limit("head", file.head, defaults::timeouts::HEAD),
            idle: limit("idle", file.idle, defaults::timeouts::IDLE),
            pool_idle: limit("pool_idle", file.pool_idle, defaults::timeouts::POOL_IDLE),
            pool_age: limit("pool_age", file.pool_age, defaults::timeouts::POOL_AGE),
        }
    }

    fn client_auth(&self) -> ClientAuth {
        let known = self.preset.map(|(preset, _)| preset.client_auth);
        self.file.token.client_auth.or(known).unwrap_or_default()
    }

    fn token(&mut self, problems: &mut Diagnostics) -> Option<TokenDialect> {
        let preset = self.preset.map(|(preset, _)| preset);
        let client_auth = self.client_auth();
        let mut file = std::mem::take(&mut self.file.token);
        let refresh = file
            .refresh
            .or(preset.map(|preset| preset.refresh))
            .unwrap_or_default();
        let (url, refresh_url) = self.token_urls(&mut file, refresh, problems);
        let response = file.response.unwrap_or_else(|| {
            preset
                .map_or(defaults::token::RESPONSE, |preset| preset.response)
                .to_owned()
        });
        if !response.is_empty() && !response.starts_with('/') {
            problems.add(
                &self.key("token.response"),
                "must be empty or a JSON pointer that begins with `/`",
            );
        }
        let refresh_lifetime = file
            .refresh_lifetime
            .map(|value| {
                time(
                    &self.key("token.refresh_lifetime"),
                    Some(value),
                    Duration::ZERO,
                    problems,
                )
            })
            .or(preset.and_then(|preset| preset.refresh_lifetime));
        let mut limit = |key, value, default| positive(&self.key(key), value, default, problems);
        let default_lifetime = limit(
            "token.default_lifetime",
            file.default_lifetime,
            defaults::token::LIFETIME,
        );
        let timeout = limit("token.timeout", file.timeout, defaults::token::TIMEOUT);
        let wait = limit("token.wait", file.wait, defaults::token::WAIT);
        let calls = preset.map_or(defaults::token::CALLS_PER_MINUTE, |preset| {
            preset.calls_per_minute
        });
        Some(TokenDialect {
            calls_per_minute: file.calls_per_minute.map_or(calls, |Count(calls)| calls),
            encoding: file
                .encoding
                .or(preset.map(|preset| preset.encoding))
                .unwrap_or_default(),
            client_auth,
            response: response.into(),
            refresh,
            refresh_lifetime,
            params: self.params(file.params.unwrap_or_default(), problems),
            margin: time(
                &self.key("token.margin"),
                file.margin,
                defaults::token::MARGIN,
                problems,
            ),
            default_lifetime,
            single_active: file.single_active.unwrap_or(defaults::token::SINGLE_ACTIVE),
            timeout,
            wait,
            url: url?,
            refresh_url,
        })
    }

    fn token_urls(
        &self,
        file: &mut file::Token,
        refresh: Refresh,
        problems: &mut Diagnostics,
    ) -> (Option<Uri>, Option<Uri>) {
        let endpoints = self.preset.map(|(_, endpoints)| endpoints);
        let preset_url = || endpoints.map(|endpoints| endpoints.token_url.to_owned());
        let url = match file.url.take().or_else(preset_url) {
            Some(url) => endpoint(&url, &self.key("token.url"), problems),
            None => {
                if !self.is_preset_wrong(problems) {
                    problems.add(
                        &self.key("token.url"),
                        "is missing; without a preset the token endpoint must be named",
                    );
                }
                None
            }
        };
        let key = self.key("token.refresh_url");
        let known = endpoints.and_then(|endpoints| endpoints.refresh_url);
        // The preset's own is for refresh tokens of the preset's own server.
        let is_elsewhere = url.as_ref().zip(endpoints).is_some_and(|(url, endpoints)| {
            let preset = endpoints.token_url.parse::<Uri>();
            preset.is_ok_and(|preset| !is_of_one_server(url, &preset))
        });
        let preset_url = || known.filter(|_| !is_elsewhere).map(str::to_owned);
        let named = file.refresh_url.take().or_else(preset_url);
        let is_named = named.is_some();
        let refresh_url = named.and_then(|url| endpoint(&url, &key, problems));
        if refresh == Refresh::Endpoint && !is_named {
            problems.add(&key, match known {
                Some(_) => "is missing; `token.url` names another server than the preset, whose refresh endpoint must not get this one's refresh tokens; write the URL of its own, or `refresh: none`",
                None => "is missing; `refresh: endpoint` needs it",
            });
        }
        (url, refresh_url)
    }

    fn params(
        &self,
        params: BTreeMap<String, file::Hidden>,
        problems: &mut Diagnostics,
    ) -> Vec<(String, Secret)> {
        // A parameter sent twice is refused by RFC 6749 section 3.2.
        for name in [
            "grant_type",
            "client_id",
            "client_secret",
            "refresh_token",
            "scope",
        ] {
            if params.contains_key(name) {
                problems.add(
                    &self.key(&format!("token.params.{name}")),
                    "is set by Bursar itself",
                );
            }
        }
        params
            .into_iter()
            .map(|(name, value)| (name, value.0))
            .collect()
    }

    fn protected(&self, token: &TokenDialect) -> Vec<Box<str>> {
        let mut paths = Vec::new();
        let known = self.preset.map(|(_, endpoints)| endpoints);
        let known = known.map(|known| [Some(known.token_url), known.refresh_url]);
        // The preset's own are the provider's, too, whatever the file says.
        let known = known.into_iter().flatten().flatten();
        let known: Vec<Uri> = known.filter_map(|url| url.parse().ok()).collect();
        for url in token.urls().chain(&known) {
            let path = RequestPath::new(url.path())
                .normalised()
                .to_ascii_lowercase();
            if let Some((parent, _)) = path.rsplit_once('/') {
                paths.push(format!("{parent}/revoke"));
            }
            paths.push(path);
        }
        paths.extend(
            self.preset
                .map_or(&[][..], |(preset, _)| preset.protected)
                .iter()
                .map(ToString::to_string),
        );
        paths.sort();
        paths.dedup();
        paths.into_iter().map(String::into_boxed_str).collect()
    }
}

/// Whether both URLs have the same host, in whatever spelling, and the same port.
fn is_of_one_server(one: &Uri, other: &Uri) -> bool {
    let host = |url: &Uri| undotted(url.host().unwrap_or_default()).to_ascii_lowercase();
    host(one) == host(other) && port_of(one) == port_of(other)
}

/// The servers that are known by name, of the API and for tokens.
fn servers<'h>(
    hosts: &'h [RequestHost],
    upstream: Option<&'h Origin>,
    token: &'h TokenDialect,
) -> impl Iterator<Item = &'h str> {
    let exact = hosts.iter().filter(|host| !host.host.wildcard);
    let exact = exact.map(|host| &*host.host.name);
    let upstream = upstream.map(|origin| origin.authority.host());
    exact.chain(upstream).chain(token.url.host())
}

/// A host, and what the preset knows of it.
struct RequestHost {
    host: Host,
    /// The entries that it is one of, or could be.
    known: &'static [PresetHost],
    /// None: all of the provider's.
    paths: Option<&'static [&'static str]>,
}

impl RequestHost {
    fn of_preset((host, known): (Host, &'static PresetHost)) -> Self {
        Self {
            host,
            known: std::slice::from_ref(known),
            paths: known.paths,
        }
    }

    /// One that the file names, which is the operator's decision with all of its paths. It has the operations of
    /// the host that it is, or else could have all, where the preset's first host has the first word.
    fn named(host: Host, known: &'static [PresetHost]) -> Self {
        let is_it = |known: &&PresetHost| !host.wildcard && *host.name == *known.name;
        let it = known.iter().find(is_it);
        Self {
            known: it.map_or(known, std::slice::from_ref),
            host,
            paths: None,
        }
    }

    fn routes(&self) -> impl Iterator<Item = &'static PresetRoute> {
        let tables = self.known.iter().flat_map(|known| known.routes);
        tables.copied().flatten()
    }
}

fn texts(texts: &[&str]) -> Vec<Box<str>> {
    texts.iter().map(|text| (*text).into()).collect()
}
