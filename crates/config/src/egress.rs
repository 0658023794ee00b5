//! Egress: where connections to APIs and token endpoints may go, and through which proxy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, Uri};
use ipnet::IpNet;

use crate::file::Mode;
use crate::host::Host;
use bursar_base::address::{Rule, Spelling, bare, undotted};

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
