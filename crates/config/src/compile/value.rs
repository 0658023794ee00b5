//! From text to the values that the configuration is made of, each with what to say about a bad one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{Method, Uri};

use crate::diagnostic::Diagnostics;
use crate::file::Time;
use crate::host::{Host, Origin, default_port};
use bursar_base::address::{Spelling, undotted};
use bursar_base::path::Pattern;

pub(super) const MIB: usize = 1 << 20;

/// What to say of a host that is a number, but no address as RFC 3986 writes it.
pub(super) const ODD: &str = "is neither a name nor an address as it must be written: four decimal numbers, or IPv6 in brackets";

/// Names that metrics and logs use where there is no caller or provider.
const RESERVED_NAMES: [&str; 2] = ["anonymous", "none"];

/// Durations longer than this are a mistake, and could overflow timers.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The scope sets of one provider, each once.
pub(super) struct ScopeSets {
    pub(super) sets: Vec<Arc<str>>,
    max: Option<usize>,
}

impl ScopeSets {
    pub(super) fn new(max: Option<usize>) -> Self {
        Self {
            sets: Vec::new(),
            max,
        }
    }

    pub(super) fn add(
        &mut self,
        names: &[String],
        path: &str,
        problems: &mut Diagnostics,
    ) -> usize {
        // RFC 6749 section 3.3.
        let valid = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() || !name.bytes().all(valid) {
                problems.add(&format!("{path}[{at}]"), "is not a scope: one word of printable ASCII without quotes and backslashes (RFC 6749 section 3.3)");
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

    pub(super) fn add_trusted(&mut self, names: &[&str]) -> usize {
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

pub(super) fn refuse_reserved(name: &str, path: &str, problems: &mut Diagnostics) {
    if RESERVED_NAMES.contains(&name) {
        problems.add(
            path,
            "is a name that metrics and logs use for something else",
        );
    }
}

pub(super) fn time(
    path: &str,
    value: Option<Time>,
    default: Duration,
    problems: &mut Diagnostics,
) -> Duration {
    let Some(Time(value)) = value else {
        return default;
    };
    if value > MAX_DURATION {
        problems.add(path, "is longer than a year");
    }
    value
}

pub(super) fn positive(
    path: &str,
    value: Option<Time>,
    default: Duration,
    problems: &mut Diagnostics,
) -> Duration {
    let value = time(path, value, default, problems);
    if value.is_zero() {
        problems.add(path, "must be longer than nothing");
    }
    value
}

pub(super) fn methods(
    names: Option<Vec<String>>,
    path: &str,
    problems: &mut Diagnostics,
) -> Option<Vec<Method>> {
    let names = names?;
    if names.is_empty() {
        problems.add(path, "is empty; leave it out to mean any method");
    }
    let parse = |(at, name): (usize, String)| {
        let path = format!("{path}[{at}]");
        match name.parse::<Method>() {
            _ if ["*", "any", "all"].contains(&&*name.to_ascii_lowercase()) => {
                problems.add(&path, "is no method; leave `methods` out to mean any");
            }
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

pub(super) fn patterns(texts: &[String], path: &str, problems: &mut Diagnostics) -> Vec<Pattern> {
    if texts.is_empty() {
        problems.add(path, "is empty; leave it out, or name the paths");
    }
    let parse = |(at, text): (usize, &String)| pattern(text, &format!("{path}[{at}]"), problems);
    texts.iter().enumerate().filter_map(parse).collect()
}

pub(super) fn pattern(text: &str, path: &str, problems: &mut Diagnostics) -> Option<Pattern> {
    Pattern::parse(text)
        .map_err(|error| problems.add(path, error))
        .ok()
}

/// Patterns of a preset; a test parses every one of them.
pub(super) fn trusted(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .filter_map(|text| Pattern::parse(text).ok())
        .collect()
}

pub(super) fn host(text: &str, path: &str, problems: &mut Diagnostics) -> Option<Host> {
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
            && !host.ends_with("..")
            && host != "."
            && port(authority).is_ok()
            && !(wildcard && (host.starts_with('[') || host.parse::<IpAddr>().is_ok()))
    });
    let Some(authority) = authority else {
        problems.add(path, "is not a host: write `api.example.com`, `api.example.com:8443` or `*.example.com`, without a scheme or path");
        return None;
    };
    if matches!(Spelling::of(authority.host()), Spelling::Odd(_)) {
        problems.add(path, ODD);
        return None;
    }
    let name = authority.host().to_ascii_lowercase();
    Some(Host {
        name: undotted(&name).into(),
        is_complete: name.ends_with('.'),
        wildcard,
        port: authority.port_u16(),
    })
}

/// A port that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidPort;

/// The port that is written. `Authority::port` takes one that is too large for none at all, and the
/// connection would go to the scheme's own.
pub(super) fn port(authority: &http::uri::Authority) -> Result<Option<u16>, InvalidPort> {
    let text = authority.as_str();
    let address = text.rsplit_once('@').map_or(text, |(_, address)| address);
    match address.strip_prefix(authority.host()) {
        None | Some("") => Ok(None),
        Some(_) => authority.port_u16().map(Some).ok_or(InvalidPort),
    }
}

/// A URL with a host, over TLS unless it stays on this machine.
fn url(text: &str, path: &str, problems: &mut Diagnostics) -> Option<(Uri, Origin)> {
    let Some((uri, scheme, authority)) = text.parse::<Uri>().ok().and_then(|uri| {
        let scheme = uri.scheme().cloned()?;
        let authority = uri.authority().cloned()?;
        Some((uri, scheme, authority))
    }) else {
        problems.add(
            path,
            "is not a URL; write it as `https://host` or `https://host:port`",
        );
        return None;
    };
    if authority.as_str().contains('@') {
        problems.add(path, "must not hold a user name or password");
    }
    // RFC 6749 section 3.2; the parser leaves it out in silence.
    if text.contains('#') {
        problems.add(path, "must not hold a fragment (`#`), which is never sent");
    }
    let host = authority.host();
    if host.ends_with("..") {
        problems.add(path, "has a host with two dots at its end");
        return None;
    }
    let loopback = match Spelling::of(host) {
        Spelling::Address(address) => address.is_loopback(),
        Spelling::Name => undotted(host).eq_ignore_ascii_case("localhost"),
        Spelling::Odd(_) => {
            problems.add(path, ODD);
            return None;
        }
    };
    if scheme != Scheme::HTTPS && !(scheme == Scheme::HTTP && loopback) {
        problems.add(path, "must begin with `https://`; plain `http://` is for loopback addresses and `localhost` only, because tokens and secrets would cross the network in clear");
        return None;
    }
    let port = match port(&authority) {
        Ok(None) => default_port(Some(&scheme)),
        Ok(Some(port)) if port > 0 => port,
        Ok(Some(_)) | Err(InvalidPort) => {
            problems.add(path, "has an invalid port");
            return None;
        }
    };
    let origin = Origin::new(scheme, host, port).ok()?;
    Some((uri, origin))
}

/// An API's server: a URL without a path.
pub(super) fn origin(text: &str, path: &str, problems: &mut Diagnostics) -> Option<Origin> {
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
pub(super) fn endpoint(text: &str, path: &str, problems: &mut Diagnostics) -> Option<Uri> {
    Some(url(text, path, problems)?.0)
}
