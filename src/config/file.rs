//! How is `proxy.yaml` written? Its serde mirror: names and shapes, no defaults and no logic.
//!
//! Every key is optional here; what is required, and what a missing key means, is decided in one place,
//! by [`super`]. The JSON schema of the file is generated from these types.

mod limits;
mod operations;
mod provider;
mod scalar;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, Visitor};

pub(super) use limits::{CallerLimits, Limits};
pub(super) use operations::{Operation, OperationScopes};
pub(super) use provider::{Account, Provider, Route, RouteAuthorization, Token, Trace};
pub use provider::{ClientAuth, Encoding, Environment, Http, Refresh, ReplayRule};
pub(super) use scalar::{Count, Hidden, Size, Time};

use crate::base::secret::Secret;

/// The configuration of Bursar. Any string may hold `${NAME}` (environment) and `${file:PATH}` (a file's
/// content); `$${` is a literal `${`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Proxy {
    /// Where callers connect: `HTTP_PROXY`, `CONNECT` and gateway requests, HTTP/1.1 and HTTP/2. Default 127.0.0.1:3128.
    pub(super) listen: Option<SocketAddr>,
    /// Where /metrics, /healthz, /readyz and /status are served. Default 127.0.0.1:9128.
    pub(super) admin: Option<SocketAddr>,
    /// What `bursar freeze` and `bursar thaw` show to the admin port. Without it nothing can be changed there.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) admin_token: Option<Hidden>,
    /// How long new connections are still taken after SIGTERM. Default 0s.
    pub(super) drain_delay: Option<Time>,
    /// How long requests in flight may take to finish after that; those that move no money three quarters of it. Default 30s.
    pub(super) drain_timeout: Option<Time>,
    /// All request bodies kept for replays together. Default 256MiB.
    pub(super) replay_memory: Option<Size>,
    /// What the process is to the system.
    #[serde(default)]
    pub(super) process: Process,
    /// How much all callers together may ask for, and how slowly.
    #[serde(default)]
    pub(super) limits: Limits,
    /// Who may send requests, by name. May be absent only while `listen` is a loopback address.
    pub(super) callers: Option<BTreeMap<String, Caller>>,
    /// TLS on `listen`.
    pub(super) tls: Option<ListenTls>,
    /// Interception of TLS in tunnels to providers' hosts. Without it, `https://` URLs of providers are refused.
    pub(super) intercept: Option<Intercept>,
    /// A record of requests that move money, from which `bursar outcomes` tells those in doubt. Without it
    /// there is none.
    pub(super) journal: Option<Journal>,
    /// What else callers may reach, without a token: `CONNECT` (opaque) and `http://` URLs (in clear).
    #[serde(default)]
    pub(super) passthrough: Vec<Passthrough>,
    /// Where Bursar's own connections may go, and through which proxy.
    #[serde(default)]
    pub(super) egress: Egress,
    /// The payment APIs, by name.
    #[serde(default)]
    pub(super) providers: BTreeMap<String, Provider>,
}

/// What the process is to the system.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Process {
    /// Whether the user that it runs as may trace it, read its memory and have it dumped. Default false.
    pub(super) dumpable: Option<bool>,
}

/// Where connections to APIs and token endpoints may go.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Egress {
    /// Addresses and ranges that are allowed although a rule refuses them, e.g. 10.0.0.0/8.
    pub(super) allow_addresses: Option<Vec<String>>,
    /// What happens to a connection that a rule refuses. Default enforce.
    pub(super) mode: Option<Mode>,
    /// The same for single rules, e.g. `private: report`.
    pub(super) rules: Option<BTreeMap<String, Mode>>,
    /// Parent proxy, reached through CONNECT.
    pub(super) proxy: Option<ParentProxy>,
    /// Hosts (exact, or with a leading `*.`), addresses and ranges that are reached without it.
    pub(super) no_proxy: Option<Vec<String>>,
}

/// What a rule does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum Mode {
    /// The connection is refused.
    #[default]
    Enforce,
    /// It is made, logged and counted.
    Report,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Report];

    /// As it is written in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}

/// A URL such as `http://user:password@proxy.example:3128` for everything, or one for each kind of call.
#[derive(Debug)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(untagged))]
pub(super) enum ParentProxy {
    /// For both.
    Both(#[cfg_attr(test, schemars(with = "String"))] Hidden),
    /// For each.
    Each(ParentProxies),
}

/// A parent proxy for API calls, and one for token calls.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct ParentProxies {
    /// None where this is missing.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) api: Option<Hidden>,
    /// None where this is missing.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) token: Option<Hidden>,
}

/// A program that sends requests to Bursar.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Caller {
    /// What it sends in `Proxy-Authorization: Basic`, with its name. Or the Argon2 or bcrypt hash of that.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) password: Option<Hidden>,
    /// Further passwords or hashes; one is enough.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(super) passwords: Option<Vec<Hidden>>,
    /// Where it calls from, e.g. 10.2.0.0/16. Alone, or besides a password.
    pub(super) addresses: Option<Vec<String>>,
    /// A URI or DNS name in the subjectAltName of its client certificate.
    pub(super) certificate: Option<String>,
    /// How much it may ask for.
    #[serde(default)]
    pub(super) limits: CallerLimits,
    /// What it may reach; nothing where this is empty or missing.
    #[serde(default)]
    pub(super) allow: Vec<Allow>,
}

/// TLS on `listen`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct ListenTls {
    /// PEM file with the certificate and its chain.
    pub(super) certificate: Option<String>,
    /// PEM file with the certificate's key.
    pub(super) key: Option<String>,
    /// PEM file with the authorities that sign for callers, who may then show certificates.
    pub(super) client_ca: Option<String>,
}

/// Interception of TLS.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Intercept {
    /// The authority that callers trust; `bursar ca new` makes it.
    pub(super) ca: Option<AuthorityFiles>,
}

/// An authority's files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct AuthorityFiles {
    /// PEM file with the certificate, name-constrained to the providers' hosts.
    pub(super) certificate: Option<String>,
    /// PEM file with its key, which nobody else may read.
    pub(super) key: Option<String>,
}

/// A record of requests that move money.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Journal {
    /// Its directory, made where there is none. Each instance needs its own.
    pub(super) path: Option<String>,
    /// Whether it survives the loss of power, and not only the end of the process. Default true.
    pub(super) sync: Option<bool>,
    /// How large its database may become. Default 64MiB.
    pub(super) max_size: Option<Size>,
    /// How long settled requests are kept, at most. Default 30d.
    pub(super) keep: Option<Time>,
    /// What happens to requests that move money while it cannot be written. Default refuse.
    pub(super) on_failure: Option<OnFailure>,
}

/// What happens to requests that move money while the journal cannot be written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum OnFailure {
    /// They are answered 503.
    #[default]
    Refuse,
    /// They are sent, and the log says so.
    Warn,
}

/// A host that is no provider's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Passthrough {
    /// Exact, or a leading `*.` for one or more labels; without a port.
    pub(super) host: Option<String>,
    /// Default 443 alone. An `http://` URL needs its port here, e.g. 80.
    pub(super) ports: Option<Vec<u16>>,
    /// The callers that may reach it; all where this is missing.
    pub(super) callers: Option<Vec<String>>,
}

/// A provider's name, or a provider with methods and paths.
#[derive(Debug)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(untagged))]
pub(super) enum Allow {
    /// Everything at that provider.
    Provider(String),
    /// Some of it.
    Some(AllowSome),
}

/// Some requests at a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct AllowSome {
    /// The provider's name.
    pub(super) provider: Option<String>,
    /// Any method where this is missing.
    pub(super) methods: Option<Vec<String>>,
    /// Any path where this is missing. `*` is one segment, `**` any number.
    pub(super) paths: Option<Vec<String>>,
    /// The one account that it uses there.
    pub(super) account: Option<String>,
    /// The accounts of which it names one in the request header `Bursar-Account`; any where both are missing.
    pub(super) accounts: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllowVisitor;
        impl<'de> Visitor<'de> for AllowVisitor {
            type Value = Allow;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a provider's name, or a mapping with `provider`")
            }

            fn visit_str<E>(self, name: &str) -> Result<Allow, E> {
                Ok(Allow::Provider(name.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Allow, A::Error> {
                AllowSome::deserialize(MapAccessDeserializer::new(map)).map(Allow::Some)
            }
        }
        deserializer.deserialize_any(AllowVisitor)
    }
}

impl<'de> Deserialize<'de> for ParentProxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParentVisitor;
        impl<'de> Visitor<'de> for ParentVisitor {
            type Value = ParentProxy;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a URL, or a mapping with `api` and `token`")
            }

            fn visit_str<E>(self, url: &str) -> Result<ParentProxy, E> {
                Ok(ParentProxy::Both(Hidden(Secret::new(url.to_owned()))))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ParentProxy, A::Error> {
                ParentProxies::deserialize(MapAccessDeserializer::new(map)).map(ParentProxy::Each)
            }
        }
        deserializer.deserialize_any(ParentVisitor)
    }
}

#[cfg(test)]
mod schema;
