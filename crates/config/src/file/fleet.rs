//! A fleet as it is written in the file.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::Hidden;
#[cfg(test)]
use crate::defaults;

/// Several instances that act as one, by way of a store: Redis from 6.2, or Valkey. Exactly one of `url`, `sentinel` and
/// `cluster` says where it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Fleet {
    /// The store, where it is one server: `rediss://[[user]:password@]host[:port][/database]`, or `redis://` without
    /// TLS. What is special in user and password is percent-encoded.
    #[cfg_attr(test, schemars(extend("examples" = ["rediss://bursar:${FLEET_PASSWORD}@valkey.example:6379"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) url: Option<Hidden>,
    /// The store, where Sentinels know which server it is.
    pub(crate) sentinel: Option<Sentinel>,
    /// The store, where it is a cluster: the URLs of one or more of its nodes, with the same user and password.
    #[cfg_attr(test, schemars(extend("examples" = [["rediss://bursar:${FLEET_PASSWORD}@node-1.example:6379", "rediss://bursar:${FLEET_PASSWORD}@node-2.example:6379"]])))]
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) cluster: Option<Vec<Hidden>>,
    /// Trust in the store's certificate.
    #[serde(default)]
    pub(crate) tls: FleetTls,
    /// What the store's values are sealed with: 1 to 8 keys of 32 bytes, in base64. The first one seals, all of them
    /// open. Required, and one in common for all instances.
    #[cfg_attr(test, schemars(extend("examples" = [["${file:/run/secrets/fleet}"]])))]
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) keys: Option<Vec<Hidden>>,
    /// Instances with one name and a key in common are one fleet. 1 to 64 letters, digits, `_`, `-` and `.`; all names
    /// in the store begin with `bursar:` and this.
    #[cfg_attr(test, schemars(extend("default" = defaults::fleet::NAME)))]
    pub(crate) name: Option<String>,
    /// What happens while the store cannot be used. Without this: `hold` where `token.single_active` is set, else
    /// `mint`.
    #[cfg_attr(test, schemars(extend("examples" = ["mint"])))]
    pub(crate) on_outage: Option<OnOutage>,
}

/// Sentinels, which know what server the store is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Sentinel {
    /// The Sentinels' own URLs, as `fleet.url`, with their own user and password and without a database. The port is
    /// 26379 where none is named. With `rediss://` the servers that they name are reached over TLS, too. Required.
    #[cfg_attr(test, schemars(extend("examples" = [["rediss://sentinel-1.example:26379", "rediss://sentinel-2.example:26379"]])))]
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(crate) urls: Option<Vec<Hidden>>,
    /// The name by which the Sentinels know the servers. Required.
    #[cfg_attr(test, schemars(extend("examples" = ["mymaster"])))]
    pub(crate) master: Option<String>,
    /// The user at the server, as it is: nothing is percent-encoded here. Without this, the default user.
    #[cfg_attr(test, schemars(extend("examples" = ["bursar"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) username: Option<Hidden>,
    /// The password at the server, as it is.
    #[cfg_attr(test, schemars(extend("examples" = ["${FLEET_PASSWORD}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) password: Option<Hidden>,
}

/// Trust in the store's certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct FleetTls {
    /// PEM file with authorities that are trusted instead of the system's.
    #[cfg_attr(test, schemars(extend("examples" = ["store-ca.pem"])))]
    pub(crate) ca: Option<String>,
}

/// What happens while the store cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum OnOutage {
    /// Each instance obtains tokens for itself, within its share of `token.calls_per_minute`.
    Mint,
    /// The instance that obtained the current token renews it; the others use it as long as it lives.
    Hold,
}
