//! Settings of a fleet: several instances that act as one, by way of a store (Redis or Valkey).
//!
//! Nothing here connects: a store's address is kept in its parts, so that nobody needs to read a URL with a password in
//! it a second time.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::file::OnOutage;
use bursar_base::address::{Spelling, undotted};
use bursar_base::secret::Secret;
use bursar_tls::roots::Roots;

/// A fleet, and the store by which its instances find each other.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Where the store is.
    pub store: StoreAddress,
    /// Whom it is known by. None: it is reached without TLS.
    pub tls: Option<StoreTls>,
    /// What values are sealed with; never empty. The first one seals, all of them open.
    pub keys: Vec<FleetKey>,
    /// Of the fleet, and a part of all its names in the store.
    pub name: Box<str>,
    /// What happens while the store cannot be used. None: it depends on the token key.
    pub on_outage: Option<OnOutage>,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// One server.
    Single(StoreUrl),
    /// Whatever server Sentinels name.
    Sentinel(Sentinel),
    /// Some nodes of a cluster, never none: which others there are they know. All have the same credentials, and all
    /// or none speak TLS.
    Cluster(Vec<StoreUrl>),
}

/// Sentinels, and what to ask them for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinel {
    /// Where they are; never empty, and all or none speak TLS, as the servers that they name.
    pub urls: Vec<StoreUrl>,
    /// The name by which they know the primary.
    pub master: Box<str>,
    /// The user there.
    pub username: Option<Secret>,
    /// Its password.
    pub password: Option<Secret>,
}

/// A server's URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// A name, or an address; IPv6 without brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Who logs in. None: the default user.
    pub username: Option<Secret>,
    /// With what. None: nobody logs in.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u16,
}

/// Whom a store is known by.
#[derive(Debug, Clone)]
pub struct StoreTls {
    /// The authorities that are trusted.
    pub roots: Roots,
    /// The same as PEM, where they are not the system's.
    pub ca: Option<Arc<[u8]>>,
}

/// A key that seals values and names. `Debug` does not show it, and its memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct FleetKey(Zeroizing<[u8; Self::LENGTH]>);

impl FleetKey {
    /// In bytes.
    pub const LENGTH: usize = 32;

    pub(crate) const fn new(bytes: Zeroizing<[u8; Self::LENGTH]>) -> Self {
        Self(bytes)
    }

    /// The key itself. Every caller of this is a place where a secret leaves its wrapper.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FleetKey(…)")
    }
}

impl StoreAddress {
    fn changed_keys(&self, other: &Self) -> Vec<&'static str> {
        match (self, other) {
            _ if self == other => Vec::new(),
            (Self::Single(_), Self::Single(_)) => vec!["fleet.url"],
            (Self::Cluster(_), Self::Cluster(_)) => vec!["fleet.cluster"],
            (Self::Sentinel(old), Self::Sentinel(new)) => {
                let all = [
                    ("fleet.sentinel.urls", old.urls != new.urls),
                    ("fleet.sentinel.master", old.master != new.master),
                    ("fleet.sentinel.username", old.username != new.username),
                    ("fleet.sentinel.password", old.password != new.password),
                ];
                let changed = all.into_iter().filter(|(_, is_changed)| *is_changed);
                changed.map(|(key, _)| key).collect()
            }
            _ => vec!["fleet"],
        }
    }
}

impl StoreUrl {
    /// Whether no network is in between.
    pub(crate) fn is_loopback(&self) -> bool {
        match Spelling::of(&self.host) {
            Spelling::Address(address) => address.is_loopback(),
            Spelling::Name => undotted(&self.host).eq_ignore_ascii_case("localhost"),
            Spelling::Odd(_) => false,
        }
    }
}

impl FleetConfig {
    /// What happens while the store cannot be used to a token key whose new tokens end the ones before, or do not.
    #[must_use]
    pub fn on_outage(&self, single_active: bool) -> OnOutage {
        self.on_outage.unwrap_or(match single_active {
            true => OnOutage::Hold,
            false => OnOutage::Mint,
        })
    }

    /// What is different in another one, but for their keys, which may change while an instance runs. The system's roots
    /// are the same, whatever has become of them.
    #[must_use]
    pub fn changed_keys(&self, other: &Self) -> Vec<&'static str> {
        let ca = |fleet: &Self| fleet.tls.as_ref().and_then(|tls| tls.ca.clone());
        let mut changed = self.store.changed_keys(&other.store);
        let others = [
            ("fleet.tls.ca", ca(self) != ca(other)),
            ("fleet.name", self.name != other.name),
            ("fleet.on_outage", self.on_outage != other.on_outage),
        ];
        let others = others.iter().filter(|(_, is_changed)| *is_changed);
        changed.extend(others.map(|(key, _)| key));
        changed
    }
}
