//! What was Bursar told to do? The typed configuration; past this module nothing is left to validate.
//!
//! The file becomes a tree that knows lines ([`node`]), references are resolved ([`expand`]), the tree
//! is read as plain data ([`mod@file`]), and one pass ([`compile`]) turns that into the types here. Every
//! problem is collected; any problem at all means that there is no configuration.

mod account;
mod compile;
mod defaults;
mod expand;
mod file;
mod files;
mod journal;
mod node;
mod presets;
mod problem;
mod readable;
mod reading;
mod route;

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Uri};
use ipnet::IpNet;

pub use account::{Account, DEFAULT_ACCOUNT, Merchant, Places, SecretName};
pub use file::{ClientAuth, Encoding, Environment, Http, Mode, OnFailure, Refresh, ReplayRule};
pub use journal::Journal;
pub use problem::Problem;
pub use route::{Authorization, HostRoutes, MerchantHeader, Route, Semantics};

use bursar_base::address::{Rule, Spelling, bare, undotted};
use bursar_base::password::Password;
use bursar_base::path::Pattern;
use bursar_base::secret::Secret;
use bursar_tls as tls;
use bursar_tls::authority::Authority;
use bursar_tls::client::ClientTls;
pub use files::{Files, Stamps};
use reading::{Reading, text};

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Where callers connect.
    pub listen: SocketAddr,
    /// Where the admin port is.
    pub admin: SocketAddr,
    /// Whoever shows it at the admin port may freeze and thaw. None: nobody may.
    pub admin_token: Option<Secret>,
    /// How long new connections are still taken once draining.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish after that.
    pub drain_timeout: Duration,
    /// Bytes of request bodies kept for replays, all together.
    pub replay_memory: usize,
    /// Whether the user that the process runs as may trace it, read its memory and have it dumped.
    pub is_dumpable: bool,
    /// How much all callers together may ask for.
    pub limits: ProxyLimits,
    /// Where connections to APIs and token endpoints may go.
    pub egress: Arc<Egress>,
    /// None: there is no authentication, which only a loopback listener may do without.
    pub callers: Option<Vec<Caller>>,
    /// In the order of their names; [`Provider::index`] is the place here.
    pub providers: Vec<Arc<Provider>>,
    /// What else callers may reach.
    pub passthrough: Vec<Passthrough>,
    /// TLS on `listen`. None: there is none.
    pub tls: Option<Arc<tls::server::Tls>>,
    /// Who speaks for providers in tunnels. None: TLS in them is refused.
    pub intercept: Option<Arc<Authority>>,
    /// Where requests that move money are written down. None: nowhere.
    pub journal: Option<Journal>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
    /// What it was read from.
    pub files: Files,
}

/// Where connections to APIs and token endpoints may go.
#[derive(Debug, PartialEq)]
pub struct Egress {
    /// Allowed although a rule refuses them.
    pub allow_addresses: Vec<IpNet>,
    /// What each rule does, in the order of [`Rule::ALL`].
    pub modes: [Mode; Rule::ALL.len()],
    /// For API calls.
    pub api_proxy: Option<Arc<ParentProxy>>,
    /// For token calls.
    pub token_proxy: Option<Arc<ParentProxy>>,
    /// Reached without a parent proxy.
    pub no_proxy: NoProxy,
    /// Who resolves names. A file cannot choose.
    pub names: Names,
}

/// Who resolves names.
#[derive(Debug, Clone)]
pub enum Names {
    /// The system, which is what a file means.
    System,
    /// This table and nobody else, so that tests need no name server.
    Fixed(HashMap<Box<str>, Vec<IpAddr>>),
    /// The same, and it may be another one the next time.
    Changing(Arc<ArcSwap<HashMap<Box<str>, Vec<IpAddr>>>>),
}

/// Those of a file are the same; a table is only itself.
impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Self::System, Self::System)) || std::ptr::eq(self, other)
    }
}

/// A proxy on the way to the internet.
#[derive(Debug, PartialEq)]
pub struct ParentProxy {
    /// `http://` and its host and port.
    pub url: Uri,
    /// `Proxy-Authorization`, where its URL has a user.
    pub authorization: Option<HeaderValue>,
}

/// What is reached without a parent proxy.
#[derive(Debug, Default, PartialEq)]
pub struct NoProxy {
    /// By name; without a port: any.
    pub hosts: Vec<Host>,
    /// By literal address.
    pub addresses: Vec<IpNet>,
}

impl NoProxy {
    /// Whether that host and port are reached without the parent proxy.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16) -> bool {
        if let Spelling::Address(address) = Spelling::of(host)
            && self.addresses.iter().any(|net| net.contains(&address))
        {
            return true;
        }
        let host = undotted(host).to_ascii_lowercase();
        let is_meant = |known: &Host| {
            let name = bare(&known.name);
            let same = match known.wildcard {
                false => host == name,
                true => host
                    .strip_suffix(name)
                    .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
            };
            same && known.port.is_none_or(|known| known == port)
        };
        self.hosts.iter().any(is_meant)
    }
}

/// A program that may send requests.
#[derive(Debug)]
pub struct Caller {
    /// Its name, also in metrics and logs.
    pub name: Arc<str>,
    /// One of them is enough. Empty: it is known by the rest alone.
    pub passwords: Vec<Password>,
    /// Where it calls from. Empty: anywhere.
    pub addresses: Vec<IpNet>,
    /// A name in its client certificate: a URI as it is, or a DNS name in lower case.
    pub certificate: Option<Box<str>>,
    /// How much it may ask for.
    pub limits: Limits,
    /// What it may reach. Empty: nothing.
    pub allow: Vec<Allow>,
}

/// How much a caller may ask for; None: as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once.
    pub in_flight: Option<NonZeroU32>,
    /// Requests in a second.
    pub per_second: Option<NonZeroU32>,
    /// Connections at once.
    pub connections: Option<NonZeroU32>,
}

/// How much all callers together may ask for, and how slowly.
#[derive(Debug, Clone, Copy)]
pub struct ProxyLimits {
    /// Connections at once.
    pub connections: usize,
    /// Of those, of one address, until a request was verified on them.
    pub unknown_connections: UnknownConnections,
    /// Requests at once whose answer has not begun.
    pub requests: usize,
    /// Tunnels to providers at once, and as many opaque ones.
    pub tunnels: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Header fields of a request.
    pub headers: usize,
    /// Bytes of request line and header fields together.
    pub header_size: u32,
    /// Bytes of a request target.
    pub target_size: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// How long a connection may wait for a request.
    pub idle_timeout: Duration,
}

/// How many connections one address may have that no caller is known on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownConnections {
    /// A share of all that are served.
    Share,
    /// So many.
    AtMost(usize),
    /// Any number: everybody is a caller.
    Any,
}

/// Requests that a caller may send.
#[derive(Debug, Clone)]
pub struct Allow {
    /// [`Provider::index`].
    pub provider: usize,
    /// None: any.
    pub methods: Option<Vec<Method>>,
    /// None: any.
    pub paths: Option<Vec<Pattern>>,
    /// Places in [`Provider::accounts`], ascending. None: any.
    pub accounts: Option<Box<[usize]>>,
}

impl Allow {
    /// Whether requests may be sent for that account, a place in [`Provider::accounts`].
    #[must_use]
    pub fn has_account(&self, account: usize) -> bool {
        self.accounts
            .as_ref()
            .is_none_or(|accounts| accounts.binary_search(&account).is_ok())
    }
}

/// Servers that callers may reach without a token.
#[derive(Debug, Clone)]
pub struct Passthrough {
    /// Without a port.
    pub host: Host,
    /// At least one.
    pub ports: Vec<u16>,
    /// None: everybody who may call at all.
    pub callers: Option<Vec<Arc<str>>>,
}

/// A payment API.
#[derive(Debug)]
pub struct Provider {
    /// Its place in [`Config::providers`].
    pub index: usize,
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
    pub account_places: Places,
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

/// A request host: exact, or any name below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// Lower case; for a wildcard what follows `*.`.
    pub name: Box<str>,
    /// Whether it stands for one or more labels below `name`.
    pub wildcard: bool,
    /// None: 80 and 443.
    pub port: Option<u16>,
    /// Whether it is written with a dot at its end: then no search domain is tried when it is resolved.
    pub is_complete: bool,
}

/// Scheme, host and port of a server.
#[derive(Debug, Clone, Eq)]
pub struct Origin {
    /// `https`, or `http` to loopback.
    pub scheme: http::uri::Scheme,
    /// Host, and the port where it is not the scheme's own: what `Host` says upstream.
    pub authority: http::uri::Authority,
    /// Whether its name is resolved as it is, without search domains.
    pub is_complete: bool,
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

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        Self::load_noting(path, &mut Files::default())
    }

    /// The same; which files were read is noted even where something is wrong with them.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load_noting(path: &Path, files: &mut Files) -> Result<Self, Vec<Problem>> {
        let text = text(path, files)?;
        let mut reading = Reading::of(&text, path, files);
        let mut config = reading.compile()?;
        let secret = reading.secret.take();
        let warning = secret.and_then(|secret| readable::warn_of_open_configuration(path, secret));
        config.warnings.extend(warning);
        Ok(config)
    }

    /// The same without `intercept`, whose authority is yet to be made.
    ///
    /// # Errors
    /// Everything else that is wrong with it.
    pub fn load_without_authority(path: &Path) -> Result<Self, Vec<Problem>> {
        let mut files = Files::default();
        let text = text(path, &mut files)?;
        let mut reading = Reading::of(&text, path, &mut files);
        reading.has_authority = false;
        reading.compile()
    }

    /// Reads `journal` alone: what the rest of the file refers to need not be there.
    ///
    /// # Errors
    /// Everything that is wrong with that part.
    pub fn load_journal(path: &Path) -> Result<Option<Journal>, Vec<Problem>> {
        let mut files = Files::default();
        let text = text(path, &mut files)?;
        Reading::of(&text, path, &mut files).journal()
    }

    /// The names and addresses of all providers' hosts, each once; for a wildcard what it is below.
    #[must_use]
    pub fn host_names(&self) -> Vec<Box<str>> {
        host_names(self.providers.iter().flat_map(|provider| &provider.hosts))
    }

    /// Reads YAML text; relative file names in it start at `directory`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<Problem>> {
        let mut reading = Reading {
            text,
            directory,
            has_authority: true,
            secret: None,
            files: &mut Files::default(),
        };
        reading.compile()
    }
}

fn host_names<'a>(hosts: impl Iterator<Item = &'a Host>) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = hosts.map(|host| bare(&host.name).into()).collect();
    names.sort();
    names.dedup();
    names
}

impl Host {
    /// Whether a host's name is meant, in whatever letter case.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (own, name) = (bare(&self.name), bare(name));
        if !self.wildcard {
            return name.eq_ignore_ascii_case(own);
        }
        let at = name.len().checked_sub(own.len());
        at.and_then(|at| name.split_at_checked(at))
            .is_some_and(|(labels, below)| {
                labels.len() > 1 && labels.ends_with('.') && below.eq_ignore_ascii_case(own)
            })
    }

    /// Whether some name is meant by both, whatever their ports.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.wildcard, other.wildcard) {
            (_, false) => self.matches(&other.name),
            (false, true) => other.matches(&self.name),
            (true, true) => {
                self.name == other.name || self.matches(&other.name) || other.matches(&self.name)
            }
        }
    }
}

impl TokenDialect {
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
        self.account_places.find(&self.accounts, name)
    }
}

impl Egress {
    /// Whether the operator allowed an address that a rule refuses.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow_addresses
            .iter()
            .any(|net| net.contains(&address))
    }

    /// What a rule does.
    #[must_use]
    pub fn mode(&self, rule: Rule) -> Mode {
        self.modes[rule as usize]
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(formatter, "{star}{}", self.name)?;
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

/// As text: the authority's own ways look at each byte by itself. It is in lower case, so equal ones are the
/// same text.
impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.authority.as_str() == other.authority.as_str()
            && self.scheme == other.scheme
            && self.is_complete == other.is_complete
    }
}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.authority.as_str().hash(state);
    }
}

impl Origin {
    /// Makes an origin; the scheme's own port is left out of the authority, an IPv6 address gets its brackets where
    /// it has none, and a dot at the end of a name is for resolving alone.
    ///
    /// # Errors
    /// Where the host is none.
    pub fn new(
        scheme: http::uri::Scheme,
        host: &str,
        port: u16,
    ) -> Result<Self, http::uri::InvalidUri> {
        let own = if scheme == http::uri::Scheme::HTTP {
            80
        } else {
            443
        };
        let mut host = host.to_ascii_lowercase();
        let is_complete = host.ends_with('.');
        if is_complete {
            host.pop();
        }
        if host.contains(':') && !host.starts_with('[') {
            host = format!("[{host}]");
        }
        let authority = if port == own {
            host.parse()?
        } else {
            format!("{host}:{port}").parse()?
        };
        Ok(Self {
            scheme,
            authority,
            is_complete,
        })
    }

    /// As a connection to it is asked for; None would mean that it is none.
    #[must_use]
    pub fn url(&self) -> Option<Uri> {
        let (host, port) = (self.authority.host(), self.authority.port());
        let authority = match (self.is_complete, port) {
            (false, _) => self.authority.clone(),
            (true, None) => format!("{host}.").parse().ok()?,
            (true, Some(port)) => format!("{host}.:{port}").parse().ok()?,
        };
        let url = Uri::builder().scheme(self.scheme.clone());
        url.authority(authority).path_and_query("/").build().ok()
    }
}

#[cfg(test)]
mod tests;
