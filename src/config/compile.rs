//! From plain data to [`Config`]: every default and every rule of the file, in one pass that goes on
//! after a problem so that all of them are reported.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Uri};
use rustls::RootCertStore;

use super::file::{self, ClientAuth, Encoding, Refresh, Size, Time};
use super::node::join;
use super::presets::{Endpoints, Preset};
use super::problem::Problems;
use super::{
    Allow, Caller, Config, Host, Merchant, Origin, Provider, Route, Timeouts, TokenDialect,
};
use crate::path::{Path as RequestPath, Pattern};
use crate::secret::Secret;
use crate::tls::{self, ClientTls};

const MIB: usize = 1 << 20;

/// Names that metrics and logs use where there is no caller or provider.
const RESERVED_NAMES: [&str; 2] = ["anonymous", "none"];

/// Durations longer than this are a mistake, and could overflow timers.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Turns the file into the configuration, or reports why it cannot.
pub(super) fn compile(
    file: file::Proxy,
    directory: &Path,
    problems: &mut Problems,
) -> Option<Config> {
    let listen = file
        .listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3128)));
    let replay_memory = file.replay_memory.map_or(256 * MIB, |Size(size)| size);
    if file.callers.is_none() && !listen.ip().is_loopback() {
        problems.add("callers", "is missing; without it `listen` must be a loopback address, because whoever reaches the listener can spend the merchant's money");
    }
    if file.providers.is_empty() {
        problems.add("providers", "is missing or empty; name at least one");
    }
    let names: Vec<String> = file.providers.keys().cloned().collect();
    let callers = file
        .callers
        .map(|callers| compile_callers(callers, &names, problems));
    let mut shared = Shared {
        directory,
        system: None,
    };
    let providers: Vec<_> = (0..)
        .zip(file.providers)
        .filter_map(|(index, (name, provider))| {
            ProviderFile::new(&name, provider, problems)?.compile(index, &mut shared, problems)
        })
        .map(Arc::new)
        .collect();
    refuse_shared_hosts(&providers, problems);
    Some(Config {
        listen,
        admin: file
            .admin
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9128))),
        drain_delay: time("drain_delay", file.drain_delay, Duration::ZERO, problems),
        drain_timeout: time(
            "drain_timeout",
            file.drain_timeout,
            Duration::from_secs(30),
            problems,
        ),
        replay_memory,
        callers,
        providers,
        warnings: Vec::new(),
    })
}

fn compile_callers(
    callers: std::collections::BTreeMap<String, file::Caller>,
    providers: &[String],
    problems: &mut Problems,
) -> Vec<Caller> {
    let mut compiled = Vec::new();
    for (name, caller) in callers {
        let path = join("callers", &name);
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            problems.add(&path, "a caller's name must not be empty or hold `:` or control characters, because it is the user name of Basic authentication");
        }
        refuse_reserved(&name, &path, problems);
        if caller.allow.is_empty() {
            problems.warn(
                &path,
                "may reach nothing, because `allow` is missing or empty",
            );
        }
        let allow = caller
            .allow
            .into_iter()
            .enumerate()
            .filter_map(|(at, allow)| {
                compile_allow(allow, &format!("{path}.allow[{at}]"), providers, problems)
            });
        let allow = allow.collect();
        match caller.password {
            Some(file::Hidden(password)) if !password.expose().is_empty() => {
                compiled.push(Caller {
                    name: name.into(),
                    password,
                    allow,
                })
            }
            Some(_) => problems.add(&join(&path, "password"), "is empty"),
            None => problems.add(&join(&path, "password"), "is missing"),
        }
    }
    compiled
}

fn compile_allow(
    allow: file::Allow,
    path: &str,
    providers: &[String],
    problems: &mut Problems,
) -> Option<Allow> {
    let (some, provider_key) = match allow {
        file::Allow::Provider(name) => (
            file::AllowSome {
                provider: Some(name),
                ..file::AllowSome::default()
            },
            path.to_owned(),
        ),
        file::Allow::Some(some) => (some, join(path, "provider")),
    };
    let methods = methods(some.methods, &join(path, "methods"), problems);
    let paths = some
        .paths
        .map(|paths| patterns(&paths, &join(path, "paths"), problems));
    let Some(name) = some.provider else {
        problems.add(&provider_key, "is missing");
        return None;
    };
    let provider = providers.iter().position(|provider| *provider == name);
    if provider.is_none() {
        let known = providers.join(", ");
        problems.add(
            &provider_key,
            format_args!("names no provider of this file; there are: {known}"),
        );
    }
    Some(Allow {
        provider: provider?,
        methods,
        paths,
    })
}

/// What compiling one provider needs of the others.
struct Shared<'a> {
    directory: &'a Path,
    /// Loaded once, and only if some provider wants them.
    system: Option<(Arc<RootCertStore>, ClientTls)>,
}

/// A provider's part of the file, its preset, and its key path.
struct ProviderFile {
    name: String,
    path: String,
    file: file::Provider,
    preset: Option<(&'static Preset, &'static Endpoints)>,
}

impl ProviderFile {
    fn new(name: &str, file: file::Provider, problems: &mut Problems) -> Option<Self> {
        let path = join("providers", name);
        let word = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        if name.is_empty() || !name.chars().all(word) {
            problems.add(
                &path,
                "a provider's name may hold letters, digits, `_`, `-` and `.`",
            );
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

    fn compile(
        mut self,
        index: usize,
        shared: &mut Shared<'_>,
        problems: &mut Problems,
    ) -> Option<Provider> {
        let hosts = self.hosts(problems);
        let paths = match self.file.paths.take() {
            Some(paths) => patterns(&paths, &self.key("paths"), problems),
            None => trusted(self.preset.map_or(&["/**"], |(preset, _)| preset.paths)),
        };
        let upstream = self.file.upstream.take().and_then(|text| {
            let origin = origin(&text, &self.key("upstream"), problems)?;
            Some(origin)
        });
        let mut scopes = ScopeSets::new(self.preset.and_then(|(preset, _)| preset.max_scopes));
        let default_scopes = self.default_scopes(&mut scopes, problems);
        let routes = self.routes(default_scopes, &mut scopes, problems);
        let preset_routes = self.preset_routes(&mut scopes);
        let merchant = self.merchant(problems);
        let replay_buffer = self.file.replay_buffer.map_or(MIB, |Size(size)| size);
        let timeouts = self.timeouts(problems);
        let tls = self.tls(shared, problems);
        let token = self.token(problems)?;
        Some(Provider {
            index,
            name: self.name.as_str().into(),
            environment: self.file.environment,
            hosts,
            upstream,
            paths,
            routes,
            preset_routes,
            scope_sets: scopes.sets,
            default_scopes,
            protected: self.protected(&token),
            secret_below: trusted(self.preset.map_or(&[], |(preset, _)| preset.secret_below)),
            merchant,
            token,
            replay_buffer,
            timeouts,
            tls: tls?,
        })
    }

    fn hosts(&mut self, problems: &mut Problems) -> Vec<Host> {
        let key = self.key("hosts");
        match self.file.hosts.take() {
            Some(hosts) => {
                if hosts.is_empty() {
                    problems.add(&key, "is empty; nothing would ever be routed here");
                }
                let parsed = hosts
                    .iter()
                    .enumerate()
                    .filter_map(|(at, text)| host(text, &format!("{key}[{at}]"), problems));
                parsed.collect()
            }
            None => match self.preset {
                Some((_, endpoints)) => {
                    let parsed = endpoints
                        .hosts
                        .iter()
                        .filter_map(|text| host(text, &key, problems));
                    parsed.collect()
                }
                None => {
                    problems.add(
                        &key,
                        "is missing; without a preset the hosts to route must be named",
                    );
                    Vec::new()
                }
            },
        }
    }

    fn default_scopes(&mut self, scopes: &mut ScopeSets, problems: &mut Problems) -> Option<usize> {
        let key = self.key("token.scopes");
        match self.file.token.scopes.take() {
            Some(names) => Some(scopes.add(&names, &key, problems)),
            None => match self.preset {
                Some((preset, _)) => preset.default_scopes.map(|names| scopes.add_trusted(names)),
                None => Some(scopes.add_trusted(&[])),
            },
        }
    }

    fn routes(
        &mut self,
        default_scopes: Option<usize>,
        scopes: &mut ScopeSets,
        problems: &mut Problems,
    ) -> Vec<Route> {
        let mut routes = Vec::new();
        for (at, route) in self
            .file
            .routes
            .take()
            .unwrap_or_default()
            .into_iter()
            .enumerate()
        {
            let key = self.key(&format!("routes[{at}]"));
            let methods = methods(route.methods, &join(&key, "methods"), problems);
            let set = match route.scopes {
                Some(names) => Some(scopes.add(&names, &join(&key, "scopes"), problems)),
                None => default_scopes,
            };
            if set.is_none() {
                problems.add(
                    &join(&key, "scopes"),
                    "is missing, and there is no `token.scopes` to fall back to",
                );
            }
            let path = match route.path {
                Some(path) => pattern(&path, &join(&key, "path"), problems),
                None => {
                    problems.add(&join(&key, "path"), "is missing");
                    None
                }
            };
            if let (Some(path), Some(scopes)) = (path, set) {
                routes.push((at, new_route(methods, path, scopes)));
            }
        }
        routes.sort_by(|(_, one), (_, other)| compare_specificity(one, other));
        self.refuse_unreachable(&routes, problems);
        routes.into_iter().map(|(_, route)| route).collect()
    }

    /// A route is unreachable where one that is looked at before it matches whatever it matches.
    fn refuse_unreachable(&self, routes: &[(usize, Route)], problems: &mut Problems) {
        for (place, (at, route)) in routes.iter().enumerate() {
            let shadow = routes.iter().take(place).find(|(_, earlier)| {
                earlier.path.covers(&route.path)
                    && covers_methods(earlier.methods.as_deref(), route.methods.as_deref())
            });
            if let Some((earlier, _)) = shadow {
                let key = self.key(&format!("routes[{at}]"));
                problems.add(
                    &key,
                    format_args!("can never match, because routes[{earlier}] matches all of it"),
                );
            }
        }
    }

    fn preset_routes(&self, scopes: &mut ScopeSets) -> Vec<Route> {
        let mut routes: Vec<Route> = self
            .preset
            .map_or(&[][..], |(preset, _)| preset.routes)
            .iter()
            .filter_map(|route| {
                let methods = route
                    .0
                    .iter()
                    .filter_map(|name| name.parse().ok())
                    .collect();
                let path = Pattern::parse(route.1).ok()?;
                Some(new_route(Some(methods), path, scopes.add_trusted(route.2)))
            })
            .collect();
        routes.sort_by(compare_specificity);
        routes
    }

    fn merchant(&mut self, problems: &mut Problems) -> Option<Merchant> {
        let key = self.key("merchant_id");
        let id = self.file.merchant_id.take()?;
        let names = self
            .preset
            .map_or(&[][..], |(preset, _)| preset.merchant_headers);
        if names.is_empty() {
            problems.add(
                &key,
                "has no effect here; only the payu preset has a merchant header",
            );
            return None;
        }
        let Ok(value) = HeaderValue::from_str(&id) else {
            problems.add(&key, "holds characters that no header may hold");
            return None;
        };
        let headers = names
            .iter()
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        Some(Merchant {
            headers: headers.collect(),
            value,
        })
    }

    fn timeouts(&self, problems: &mut Problems) -> Timeouts {
        let file = &self.file.timeouts;
        let mut limit = |key, value, default| {
            let path = self.key(&format!("timeouts.{key}"));
            positive(&path, value, Duration::from_secs(default), problems)
        };
        Timeouts {
            connect: limit("connect", file.connect, 5),
            head: limit("head", file.head, 60),
            idle: limit("idle", file.idle, 60),
            pool_idle: limit("pool_idle", file.pool_idle, 30),
        }
    }

    fn tls(&self, shared: &mut Shared<'_>, problems: &mut Problems) -> Option<ClientTls> {
        let file = &self.file.tls;
        if file.certificate.is_some() != file.key.is_some() {
            problems.add(
                &self.key("tls"),
                "needs `certificate` and `key` together, or neither",
            );
        }
        let path = |name: &Option<String>| name.as_ref().map(|name| shared.directory.join(name));
        let (ca, certificate, key) = (path(&file.ca), path(&file.certificate), path(&file.key));
        let mut report = |key: &str, error: tls::Error| problems.add(&self.key(key), error);
        let roots = match ca {
            Some(ca) => tls::roots_from(&ca)
                .map_err(|error| report("tls.ca", error))
                .ok()?,
            None => match &shared.system {
                Some((_, tls)) if certificate.is_none() => return Some(tls.clone()),
                Some((roots, _)) => roots.clone(),
                None => {
                    let roots = tls::system_roots()
                        .map_err(|error| report("tls.ca", error))
                        .ok()?;
                    let tls = tls::client(roots.clone(), None)
                        .map_err(|error| report("tls", error))
                        .ok()?;
                    shared.system.insert((roots, tls)).0.clone()
                }
            },
        };
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let chain = tls::certificates(&certificate)
                    .map_err(|error| report("tls.certificate", error));
                let key = tls::key(&key).map_err(|error| report("tls.key", error));
                Some((chain.ok()?, key.ok()?))
            }
            _ => None,
        };
        tls::client(roots, identity)
            .map_err(|error| report("tls", error))
            .ok()
    }

    fn token(&mut self, problems: &mut Problems) -> Option<TokenDialect> {
        let preset = self.preset;
        let endpoints = preset.map(|(_, endpoints)| endpoints);
        let preset = preset.map(|(preset, _)| preset);
        let file = std::mem::take(&mut self.file.token);
        let client_id = self.credential("client_id", self.file.client_id.clone(), problems);
        let client_secret =
            self.credential("client_secret", self.file.client_secret.clone(), problems);
        let url = file
            .url
            .or_else(|| endpoints.map(|endpoints| endpoints.token_url.to_owned()));
        let url = match url {
            Some(url) => endpoint(&url, &self.key("token.url"), problems),
            None => {
                problems.add(
                    &self.key("token.url"),
                    "is missing; without a preset the token endpoint must be named",
                );
                None
            }
        };
        let refresh = file
            .refresh
            .or(preset.map(|preset| preset.refresh))
            .unwrap_or(Refresh::None);
        let refresh_url = file
            .refresh_url
            .or_else(|| {
                endpoints
                    .and_then(|endpoints| endpoints.refresh_url)
                    .map(str::to_owned)
            })
            .and_then(|url| endpoint(&url, &self.key("token.refresh_url"), problems));
        if refresh == Refresh::Endpoint && refresh_url.is_none() {
            problems.add(
                &self.key("token.refresh_url"),
                "is missing; `refresh: endpoint` needs it",
            );
        }
        let response = file
            .response
            .unwrap_or_else(|| preset.map_or("", |preset| preset.response).to_owned());
        if !response.is_empty() && !response.starts_with('/') {
            problems.add(
                &self.key("token.response"),
                "must be empty or a JSON pointer that begins with `/`",
            );
        }
        let seconds = Duration::from_secs;
        Some(TokenDialect {
            encoding: file
                .encoding
                .or(preset.map(|preset| preset.encoding))
                .unwrap_or(Encoding::Form),
            client_auth: file
                .client_auth
                .or(preset.map(|preset| preset.client_auth))
                .unwrap_or(ClientAuth::Body),
            response: response.into(),
            refresh,
            refresh_lifetime: file
                .refresh_lifetime
                .map(|value| {
                    time(
                        &self.key("token.refresh_lifetime"),
                        Some(value),
                        Duration::ZERO,
                        problems,
                    )
                })
                .or(preset.and_then(|preset| preset.refresh_lifetime)),
            params: self.params(file.params.unwrap_or_default(), problems),
            margin: time(
                &self.key("token.margin"),
                file.margin,
                seconds(60),
                problems,
            ),
            default_lifetime: positive(
                &self.key("token.default_lifetime"),
                file.default_lifetime,
                seconds(300),
                problems,
            ),
            timeout: positive(
                &self.key("token.timeout"),
                file.timeout,
                seconds(10),
                problems,
            ),
            wait: positive(&self.key("token.wait"), file.wait, seconds(5), problems),
            url: url?,
            refresh_url,
            client_id: client_id?,
            client_secret: client_secret?,
        })
    }

    fn credential(
        &self,
        key: &str,
        value: Option<file::Hidden>,
        problems: &mut Problems,
    ) -> Option<Secret> {
        let key = self.key(key);
        match value {
            Some(file::Hidden(secret)) if !secret.expose().is_empty() => Some(secret),
            Some(_) => {
                problems.add(&key, "is empty");
                None
            }
            None => {
                problems.add(&key, "is missing");
                None
            }
        }
    }

    fn params(
        &self,
        params: std::collections::BTreeMap<String, file::Hidden>,
        problems: &mut Problems,
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
        for url in [Some(&token.url), token.refresh_url.as_ref()]
            .into_iter()
            .flatten()
        {
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

/// The scope sets of one provider, each once.
struct ScopeSets {
    sets: Vec<Arc<str>>,
    max: Option<usize>,
}

impl ScopeSets {
    fn new(max: Option<usize>) -> Self {
        Self {
            sets: Vec::new(),
            max,
        }
    }

    fn add(&mut self, names: &[String], path: &str, problems: &mut Problems) -> usize {
        // RFC 6749 section 3.3.
        let valid = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() || !name.bytes().all(valid) {
                problems.add(&format!("{path}[{at}]"), "is no scope: one word of printable ASCII without quotes and backslashes (RFC 6749 section 3.3)");
            }
        }
        if self.max.is_some_and(|max| names.len() > max) {
            problems.add(
                path,
                format_args!(
                    "holds {} scopes; this provider's tokens hold at most {}",
                    names.len(),
                    self.max.unwrap_or_default()
                ),
            );
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.add_trusted(&names)
    }

    fn add_trusted(&mut self, names: &[&str]) -> usize {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        let joined = names.join(" ");
        self.sets
            .iter()
            .position(|set| **set == *joined)
            .unwrap_or_else(|| {
                self.sets.push(joined.into());
                self.sets.len() - 1
            })
    }
}

fn new_route(methods: Option<Vec<Method>>, path: Pattern, scopes: usize) -> Route {
    let name = match &methods {
        Some(methods) => {
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            format!("{} {}", names.join(","), path.as_str())
        }
        None => path.as_str().to_owned(),
    };
    Route {
        name: name.into(),
        methods,
        path,
        scopes,
    }
}

/// The more specific path first, then the fewer methods.
fn compare_specificity(one: &Route, other: &Route) -> std::cmp::Ordering {
    let methods = |route: &Route| route.methods.as_ref().map_or(usize::MAX, Vec::len);
    one.path
        .compare_specificity(&other.path)
        .then(methods(one).cmp(&methods(other)))
}

fn covers_methods(one: Option<&[Method]>, other: Option<&[Method]>) -> bool {
    match (one, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => other.iter().all(|method| one.contains(method)),
    }
}

fn refuse_reserved(name: &str, path: &str, problems: &mut Problems) {
    if RESERVED_NAMES.contains(&name) {
        problems.add(
            path,
            "is a name that metrics and logs use for something else",
        );
    }
}

fn refuse_shared_hosts(providers: &[Arc<Provider>], problems: &mut Problems) {
    let mut owners: HashMap<&Host, &Provider> = HashMap::new();
    for provider in providers {
        for host in &provider.hosts {
            let owner = *owners.entry(host).or_insert(provider);
            if owner.index != provider.index {
                let path = format!("providers.{}.hosts", provider.name);
                problems.add(
                    &path,
                    format_args!(
                        "{} is already a host of the provider {}; requests could not be told apart",
                        host.name, owner.name
                    ),
                );
            }
        }
    }
}

fn time(path: &str, value: Option<Time>, default: Duration, problems: &mut Problems) -> Duration {
    let Some(Time(value)) = value else {
        return default;
    };
    if value > MAX_DURATION {
        problems.add(path, "is longer than a year");
    }
    value
}

fn positive(
    path: &str,
    value: Option<Time>,
    default: Duration,
    problems: &mut Problems,
) -> Duration {
    let value = time(path, value, default, problems);
    if value.is_zero() {
        problems.add(path, "must be longer than nothing");
    }
    value
}

fn methods(names: Option<Vec<String>>, path: &str, problems: &mut Problems) -> Option<Vec<Method>> {
    let names = names?;
    if names.is_empty() {
        problems.add(path, "is empty; leave it out to mean any method");
    }
    let parse = |(at, name): (usize, String)| {
        let path = format!("{path}[{at}]");
        match name.parse::<Method>() {
            Ok(Method::TRACE | Method::CONNECT) => problems.add(&path, "is never sent upstream"),
            Ok(method) if name.chars().any(|char| char.is_ascii_lowercase()) => {
                problems.add(
                    &path,
                    format_args!(
                        "methods are case-sensitive; did you mean {}?",
                        method.as_str().to_ascii_uppercase()
                    ),
                );
            }
            Ok(method) => return Some(method),
            Err(_) => problems.add(&path, "is no HTTP method"),
        }
        None
    };
    Some(names.into_iter().enumerate().filter_map(parse).collect())
}

fn patterns(texts: &[String], path: &str, problems: &mut Problems) -> Vec<Pattern> {
    if texts.is_empty() {
        problems.add(path, "is empty; leave it out, or name the paths");
    }
    let parse = |(at, text): (usize, &String)| pattern(text, &format!("{path}[{at}]"), problems);
    texts.iter().enumerate().filter_map(parse).collect()
}

fn pattern(text: &str, path: &str, problems: &mut Problems) -> Option<Pattern> {
    Pattern::parse(text)
        .map_err(|error| problems.add(path, error))
        .ok()
}

/// Patterns of a preset; a test parses every one of them.
fn trusted(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .filter_map(|text| Pattern::parse(text).ok())
        .collect()
}

fn host(text: &str, path: &str, problems: &mut Problems) -> Option<Host> {
    let (wildcard, rest) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let parsed: Option<http::uri::Authority> = rest.parse().ok();
    let authority = parsed.filter(|authority| {
        let host = authority.host();
        !host.is_empty()
            && !host.contains('*')
            && !rest.contains('@')
            && !rest.ends_with(':')
            && (authority.port().is_none() || authority.port_u16().is_some())
            && !(wildcard && (host.starts_with('[') || host.parse::<IpAddr>().is_ok()))
    });
    let Some(authority) = authority else {
        problems.add(path, "is no host: write `api.example.com`, `api.example.com:8443` or `*.example.com`, without a scheme or path");
        return None;
    };
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    Some(Host {
        name: name.into(),
        wildcard,
        port: authority.port_u16(),
    })
}

/// A URL with a host, over TLS unless it stays on this machine.
fn url(text: &str, path: &str, problems: &mut Problems) -> Option<(Uri, Origin)> {
    let Some((uri, scheme, authority)) = text.parse::<Uri>().ok().and_then(|uri| {
        let scheme = uri.scheme().cloned()?;
        let authority = uri.authority().cloned()?;
        Some((uri, scheme, authority))
    }) else {
        problems.add(
            path,
            "is no URL; write it as `https://host` or `https://host:port`",
        );
        return None;
    };
    if authority.as_str().contains('@') {
        problems.add(path, "must not hold a user name or password");
    }
    let host = authority.host();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host.eq_ignore_ascii_case("localhost")
        || literal
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if scheme != Scheme::HTTPS && !(scheme == Scheme::HTTP && loopback) {
        problems.add(path, "must begin with `https://`; plain `http://` is for loopback addresses and `localhost` only, because tokens and secrets would cross the network in clear");
        return None;
    }
    let own = if scheme == Scheme::HTTP { 80 } else { 443 };
    let port = match (authority.port(), authority.port_u16()) {
        (None, _) => own,
        (Some(_), Some(port)) if port > 0 => port,
        _ => {
            problems.add(path, "has an invalid port");
            return None;
        }
    };
    let origin = Origin::new(scheme, host, port).ok()?;
    Some((uri, origin))
}

/// An API's server: a URL without a path.
fn origin(text: &str, path: &str, problems: &mut Problems) -> Option<Origin> {
    let (uri, origin) = url(text, path, problems)?;
    if uri.path() != "/" || uri.query().is_some() || text.ends_with('/') {
        problems.add(
            path,
            "must be scheme, host and port only, because the request's own path is sent",
        );
    }
    Some(origin)
}

/// A token endpoint.
fn endpoint(text: &str, path: &str, problems: &mut Problems) -> Option<Uri> {
    Some(url(text, path, problems)?.0)
}
