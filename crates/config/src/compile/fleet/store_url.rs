//! The URL of a store's server: parsed strictly, because what is read otherwise than it was meant sends a password
//! elsewhere.
//!
//! The schemes are those that IANA has, `redis` and `rediss`. No message repeats a part of the text, which holds a
//! password.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::super::value::ODD;
use crate::defaults::fleet as defaults;
use crate::diagnostic::Diagnostics;
use crate::fleet::StoreUrl;
use bursar_base::address::{Spelling, bare, undotted};
use bursar_base::secret::Secret;

/// What is said of a password without TLS.
pub(super) const CLEAR_PASSWORD: &str =
    "crosses the network in clear, because the URL does not begin with `rediss://`";

/// What is said of the rest without TLS.
const CLEAR: &str = "does not begin with `rediss://`: values are sealed, but whoever is on the network can change, delay and drop them";

/// What kind of server is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// The one that the store is.
    Single,
    Sentinel,
    ClusterNode,
}

/// What is wrong with a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Error {
    #[error("is a socket's path; a store is reached by `rediss://` or `redis://`")]
    Socket,
    #[error("must begin with `rediss://`, or with `redis://` for one without TLS")]
    Scheme,
    #[error(
        "has a `?` or `#`; there are no options here, and certificates are always verified. In a user or password they are written `%3F` and `%23`"
    )]
    Options,
    #[error(
        "has a path that is no number of a database. In a user or password `/` is written `%2F`"
    )]
    Path,
    #[error(
        "has more than one `@`. In a user or password it is written `%40`, and what else is special is percent-encoded, too"
    )]
    Credentials,
    #[error(
        "has a user or password that is not percent-encoded: `%` itself is written `%25`, and what is no letter, digit, `-`, `.`, `_` or `~` is better written like that"
    )]
    Encoding,
    #[error(
        "has a user without a password; write `user:password@`, or `:password@` for the default user"
    )]
    NoPassword,
    #[error(
        "has no host, or one that is neither a name nor an address; IPv6 is written in brackets"
    )]
    Host,
    #[error("{ODD}")]
    Odd,
    #[error("has an invalid port")]
    Port,
    #[error(
        "names a database; Sentinels have none, and the servers that they name are used with database 0"
    )]
    SentinelDatabase,
    #[error("names a database; a cluster has no other than 0")]
    ClusterDatabase,
}

/// Reads a URL, and says what is wrong or careless about it.
pub(super) fn parse(
    text: &str,
    server: Server,
    path: &str,
    problems: &mut Diagnostics,
) -> Option<StoreUrl> {
    let url = read(text, server)
        .map_err(|error| problems.add(path, error))
        .ok()?;
    if !url.tls && !url.is_loopback() {
        match url.password {
            Some(_) => problems.warn(path, format_args!("has a password, which {CLEAR_PASSWORD}")),
            None => problems.warn(path, CLEAR),
        }
    }
    Some(url)
}

fn read(text: &str, server: Server) -> Result<StoreUrl, Error> {
    let (scheme, rest) = text.split_once("://").ok_or(match text.starts_with('/') {
        true => Error::Socket,
        false => Error::Scheme,
    })?;
    // Schemes have no letter case (RFC 3986 section 3.1).
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "rediss" => true,
        "redis" => false,
        "unix" | "redis+unix" | "valkey+unix" => return Err(Error::Socket),
        _ => return Err(Error::Scheme),
    };
    if rest.contains(['?', '#']) {
        return Err(Error::Options);
    }
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let database = database(path.unwrap_or_default(), server)?;
    let (user, address) = match authority.split_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, authority),
    };
    if address.contains('@') {
        return Err(Error::Credentials);
    }
    let (username, password) = user.map_or(Ok((None, None)), credentials)?;
    let (host, port) = address_of(address)?;
    let port = port.unwrap_or(match server {
        Server::Sentinel => defaults::SENTINEL_PORT,
        Server::Single | Server::ClusterNode => defaults::PORT,
    });
    Ok(StoreUrl {
        host: host.into(),
        port,
        tls,
        username,
        password,
        database,
    })
}

fn database(path: &str, server: Server) -> Result<u16, Error> {
    if path.is_empty() {
        return Ok(0);
    }
    let is_number = path.bytes().all(|byte| byte.is_ascii_digit());
    let number = path.parse().ok().filter(|_| is_number);
    match (number.ok_or(Error::Path)?, server) {
        (0, _) => Ok(0),
        (number, Server::Single) => Ok(number),
        (_, Server::Sentinel) => Err(Error::SentinelDatabase),
        (_, Server::ClusterNode) => Err(Error::ClusterDatabase),
    }
}

/// User and password, each where there is one.
fn credentials(user: &str) -> Result<(Option<Secret>, Option<Secret>), Error> {
    let (username, password) = user.split_once(':').ok_or(Error::NoPassword)?;
    if password.is_empty() {
        return Err(Error::NoPassword);
    }
    let username = match username {
        "" => None,
        username => Some(decoded(username)?),
    };
    Ok((username, Some(decoded(password)?)))
}

/// A `%` that begins nothing is a password that was put in as it is.
fn decoded(text: &str) -> Result<Secret, Error> {
    let is_digit = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let is_encoded = text
        .split('%')
        .skip(1)
        .map(str::as_bytes)
        .all(|rest| is_digit(rest.first()) && is_digit(rest.get(1)));
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_encoded || !is_plain {
        return Err(Error::Encoding);
    }
    // Growing would leave a copy behind that nobody wipes.
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    decoded.extend(percent_decode_str(text));
    match String::from_utf8(std::mem::take(&mut *decoded)) {
        Ok(decoded) => Ok(Secret::new(decoded)),
        Err(other) => {
            drop(Zeroizing::new(other.into_bytes()));
            Err(Error::Encoding)
        }
    }
}

/// Host and port, IPv6 without its brackets.
fn address_of(text: &str) -> Result<(&str, Option<u16>), Error> {
    let (host, port) = match text.rsplit_once(':') {
        // A colon of an address in brackets.
        Some((_, after)) if after.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| !label.is_empty() && label.bytes().all(word);
    match Spelling::of(host) {
        // Without brackets nobody knows where a port begins.
        Spelling::Address(address) if address.is_ipv6() == host.starts_with('[') => {}
        Spelling::Address(_) => return Err(Error::Host),
        Spelling::Odd(_) => return Err(Error::Odd),
        Spelling::Name if undotted(host).split('.').all(label) => {}
        Spelling::Name => return Err(Error::Host),
    }
    let number = |port: &str| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse().ok().filter(|port| is_number && *port > 0)
    };
    let port = port.map(|port| number(port).ok_or(Error::Port));
    Ok((bare(host), port.transpose()?))
}
