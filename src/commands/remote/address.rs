//! Address of an admin port as people write it: an address or a name, with or without a port.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bursar_config::AdminKeys;

/// Where an admin port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// By its address.
    Socket(SocketAddr),
    /// By a name that is to be looked up.
    Name(String, u16),
}

/// Why a text is no address of an admin port.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It begins with another scheme.
    #[error("the admin port speaks HTTP without TLS; write only ADDRESS:PORT")]
    Scheme,
    /// It is none.
    #[error("is no address such as 127.0.0.1:9128, [::1]:9128 or bursar.internal:9128")]
    Form,
}

impl Address {
    /// All that it may be, at most a few.
    ///
    /// # Errors
    /// Where a name cannot be looked up.
    pub(super) async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = match self {
            Self::Socket(address) => vec![reachable(*address)],
            // An address with the name of a zone is looked up too: the system knows the zones.
            Self::Name(name, port) => tokio::net::lookup_host((name.as_str(), *port))
                .await?
                .collect(),
        };
        if found.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(found)
    }
}

/// An admin port on all addresses is asked on loopback.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

/// A link-local address with its zone, after `%` or as in a URL after `%25` (RFC 6874). The outer None: there is no zone.
fn zoned(text: &str, usual: u16) -> Option<Option<Address>> {
    let (address, rest) = text.split_once('%')?;
    let rest = rest
        .strip_prefix("25")
        .filter(|rest| !rest.is_empty() && !rest.starts_with(']'))
        .unwrap_or(rest);
    Some(zoned_address(address, rest, usual))
}

fn zoned_address(address: &str, rest: &str, usual: u16) -> Option<Address> {
    let (address, zone, port) = match address.strip_prefix('[') {
        Some(address) => {
            let (zone, port) = rest.split_once(']')?;
            let port = match port {
                "" => usual,
                port => port.strip_prefix(':')?.parse().ok()?,
            };
            (address, zone, port)
        }
        None => (address, rest, usual),
    };
    let is_zone = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    let address: Ipv6Addr = address.parse().ok()?;
    let is_one = port != 0 && !zone.is_empty() && zone.chars().all(is_zone);
    (is_one && address.is_unicast_link_local())
        .then(|| Address::Name(format!("{address}%{zone}"), port))
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                rest.strip_suffix('/').unwrap_or(rest)
            }
            Some(_) => return Err(Error::Scheme),
            None => text,
        };
        let usual = AdminKeys::DEFAULT.port();
        if let Some(zoned) = zoned(text, usual) {
            return zoned.ok_or(Error::Form);
        }
        let bracketed = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(ip) = bracketed.unwrap_or(text).parse::<IpAddr>() {
            return Ok(Self::Socket(SocketAddr::new(ip, usual)));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            let is_one = address.port() != 0;
            return is_one.then_some(Self::Socket(address)).ok_or(Error::Form);
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_other| Error::Form)?),
            None => (text, usual),
        };
        if name.is_empty() && !text.is_empty() && port != 0 {
            return Ok(Self::Socket(SocketAddr::new(AdminKeys::DEFAULT.ip(), port)));
        }
        let is_named = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
        let has_letter = name.contains(|char: char| char.is_ascii_alphabetic());
        match port != 0 && has_letter && name.chars().all(is_named) {
            true => Ok(Self::Name(name.to_owned(), port)),
            false => Err(Error::Form),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => reachable(*address).fmt(formatter),
            Self::Name(name, port) if name.contains(':') => write!(formatter, "[{name}]:{port}"),
            Self::Name(name, port) => write!(formatter, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (text, expected) in [
            ("127.0.0.1:7", "127.0.0.1:7"),
            ("127.0.0.1", "127.0.0.1:9128"),
            ("0.0.0.0:7", "127.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:9128"),
            ("::1", "[::1]:9128"),
            ("[::]:7", "[::1]:7"),
            (":7", "127.0.0.1:7"),
            ("localhost", "localhost:9128"),
            ("bursar-0.bursar:7", "bursar-0.bursar:7"),
            ("http://127.0.0.1:7/", "127.0.0.1:7"),
            ("HTTP://[::1]:7", "[::1]:7"),
            ("[fe80::1%eth0]:7", "[fe80::1%eth0]:7"),
            ("[fe80::1%25eth0]:7", "[fe80::1%eth0]:7"),
            ("http://[fe80::1%25eth0]/", "[fe80::1%eth0]:9128"),
            ("fe80::1%eth0", "[fe80::1%eth0]:9128"),
            ("[fe80::1%2]:7", "[fe80::1%2]:7"),
            ("[fe80::1%25]:7", "[fe80::1%25]:7"),
        ] {
            let address: Address = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "9128",
            "127.0.0.1:0",
            "localhost:0",
            "localhost:x",
            "localhost:65536",
            "a b",
            ":",
            "127.0.0.1:7/status",
            "https://127.0.0.1:7",
            "a:7:8",
            "[::1",
            "::1:99999",
            "1.2.3:7",
            "user@a:7",
            "[fe80::1%]:7",
            "[fe80::1%eth0]:0",
            "[fe80::1%eth0]7",
            "[fe80::1%eth0",
            "[fe80::1%a b]",
            "[::1%eth0]:7",
            "a%b:7",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
