//! Hosts that requests name, and origins that they are sent to.

use std::fmt;
use std::hash::{Hash, Hasher};

use http::Uri;
use http::uri::Scheme;

use bursar_base::address::bare;

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
    pub scheme: Scheme,
    /// Host, and the port where it is not the scheme's own: what `Host` says upstream.
    pub authority: http::uri::Authority,
    /// Whether its name is resolved as it is, without search domains.
    pub is_complete: bool,
}

/// The port of a URL that names none, by its scheme.
pub(crate) fn default_port(scheme: Option<&Scheme>) -> u16 {
    match scheme == Some(&Scheme::HTTP) {
        true => 80,
        false => 443,
    }
}

/// The port that a URL leads to.
#[must_use]
pub fn port_of(url: &Uri) -> u16 {
    url.port_u16().unwrap_or_else(|| default_port(url.scheme()))
}

/// The names and addresses of hosts, each once; for a wildcard what it is below.
pub(crate) fn host_names<'a>(hosts: impl Iterator<Item = &'a Host>) -> Vec<Box<str>> {
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
    /// Its port, named or not.
    #[must_use]
    pub fn port(&self) -> u16 {
        let named = self.authority.port_u16();
        named.unwrap_or_else(|| default_port(Some(&self.scheme)))
    }

    /// Makes an origin; the scheme's own port is left out of the authority, an IPv6 address gets its brackets where
    /// it has none, and a dot at the end of a name is for resolving alone.
    ///
    /// # Errors
    /// Where the host is none.
    pub fn new(scheme: Scheme, host: &str, port: u16) -> Result<Self, http::uri::InvalidUri> {
        let mut host = host.to_ascii_lowercase();
        let is_complete = host.ends_with('.');
        if is_complete {
            host.pop();
        }
        if host.contains(':') && !host.starts_with('[') {
            host = format!("[{host}]");
        }
        let authority = if port == default_port(Some(&scheme)) {
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
