//! The serde mirror of `proxy.yaml`: names and shapes, no defaults and no logic.
//!
//! Every key is optional here; what is required, and what a missing key means, is decided in one place,
//! by [`super`]. The JSON schema of the file is generated from these types.

mod fleet;
mod limits;
mod operations;
mod preset;
mod provider;
mod scalar;
mod traces;

use std::collections::BTreeMap;
use std::fmt;
#[cfg(test)]
use std::net::SocketAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, Visitor};

pub use fleet::OnOutage;
pub(super) use fleet::{Fleet, Sentinel};
pub(super) use limits::{CallerLimits, Limits};
pub(super) use operations::{Operation, OperationScopes};
pub(super) use preset::PresetName;
pub(super) use provider::{Account, Provider, Route, RouteAuthorization, Tls, Token, Trace};
pub use provider::{ClientAuth, Encoding, Environment, Http, Refresh, ReplayRule};
pub(super) use scalar::{Address, Count, Hidden, Ratio, Size, Time};
pub(super) use traces::Traces;

use crate::defaults;
use crate::typed::SECRET;
use bursar_base::secret::Secret;

/// The configuration of Bursar. Any string may hold `${NAME}` (environment), `${NAME:-default}`, `${file:PATH}` (a
/// file's content) and `${credential:NAME}` (systemd's); `$${` is a literal `${`. Keys that begin with `x-` mean nothing, and `<<` merges mappings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Proxy {
    /// Where callers connect: `HTTP_PROXY`, `CONNECT` and gateway requests on one port, HTTP/1.1 and HTTP/2.
    #[cfg_attr(test, schemars(extend("default" = defaults::LISTEN)))]
    #[cfg_attr(test, schemars(with = "Option<SocketAddr>"))]
    pub(super) listen: Option<Address<{ defaults::LISTEN.port() }>>,
    /// Where a page for people, `/metrics`, `/healthz`, `/readyz`, `/status` and `/ca.pem` are served. Reading needs no
    /// authentication.
    #[cfg_attr(test, schemars(extend("default" = defaults::ADMIN)))]
    #[cfg_attr(test, schemars(with = "Option<SocketAddr>"))]
    pub(super) admin: Option<Address<{ defaults::ADMIN.port() }>>,
    /// Whoever shows this token at `admin` may make changes there, such as freeze, thaw and reload; 16 to 1024
    /// characters. Without it nothing can be changed there.
    #[cfg_attr(test, schemars(extend("examples" = ["${BURSAR_ADMIN_TOKEN}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) admin_token: Option<Hidden>,
    /// Names that `admin` is asked by, such as a service's name that metrics are scraped by. A request to `admin` whose
    /// `Host` is no address, not `localhost` and none of these is refused with 421.
    #[cfg_attr(test, schemars(extend("examples" = [["bursar.payments.svc"]])))]
    pub(super) admin_hosts: Option<Vec<String>>,
    /// How long new connections are still taken after SIGTERM.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::DRAIN_DELAY))))]
    pub(super) drain_delay: Option<Time>,
    /// How long requests in flight may then take to finish; those that move no money have three quarters of it.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::DRAIN_TIMEOUT))))]
    pub(super) drain_timeout: Option<Time>,
    /// How much is kept of all request bodies together, so that they can be sent again after a 401.
    #[cfg_attr(test, schemars(extend("default" = Size(defaults::REPLAY_MEMORY))))]
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
    /// Several instances that act as one. Without it each instance is on its own.
    pub(super) fleet: Option<Fleet>,
    /// Spans of requests, exported by OTLP. Without `endpoint` there are none.
    #[serde(default)]
    pub(super) traces: Traces,
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
    /// Whether the user that Bursar runs as may trace it, read its memory and have it dumped, as a debugger or a
    /// profiler needs.
    #[cfg_attr(test, schemars(extend("default" = defaults::DUMPABLE)))]
    pub(super) dumpable: Option<bool>,
}

/// Where connections to APIs and token endpoints may go.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Egress {
    /// Addresses and ranges that are allowed although a rule refuses them.
    #[cfg_attr(test, schemars(extend("examples" = [["10.20.0.0/16"]])))]
    pub(super) allow_addresses: Option<Vec<String>>,
    /// What happens to a connection that a rule refuses.
    #[cfg_attr(test, schemars(extend("default" = Mode::default())))]
    pub(super) mode: Option<Mode>,
    /// The mode of single rules, by the rule's name.
    #[cfg_attr(test, schemars(extend("examples" = [std::collections::BTreeMap::from([("private", "report")])])))]
    pub(super) rules: Option<BTreeMap<String, Mode>>,
    /// Parent proxy for connections to APIs and token endpoints, reached by `CONNECT`:
    /// `http://[user:password@]host[:port]`, or one for each kind of call.
    #[cfg_attr(test, schemars(extend("examples" = ["http://bursar:${PROXY_PASSWORD}@proxy.example:3128"])))]
    pub(super) proxy: Option<ParentProxy>,
    /// What is reached without the parent proxy: hosts (exact, or with a leading `*.`; with or without a port),
    /// addresses and ranges.
    #[cfg_attr(test, schemars(extend("examples" = [["*.corp.example", "10.0.0.0/8"]])))]
    pub(super) no_proxy: Option<Vec<String>>,
}

/// What a rule does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
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
    /// For requests to APIs. Without it they are sent directly.
    #[cfg_attr(test, schemars(extend("examples" = ["http://proxy.example:3128"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) api: Option<Hidden>,
    /// For token calls. Without it they are sent directly.
    #[cfg_attr(test, schemars(extend("examples" = ["http://proxy.example:3128"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) token: Option<Hidden>,
}

/// A program that sends requests to Bursar.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Caller {
    /// What the caller sends with its name as `Proxy-Authorization: Basic`: in clear, or its Argon2 or bcrypt hash.
    #[cfg_attr(test, schemars(extend("examples" = ["${CHECKOUT_PASSWORD}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) password: Option<Hidden>,
    /// Further passwords or hashes; one of them is enough.
    #[cfg_attr(test, schemars(extend("examples" = [["${TILL_OLD}", "${TILL_NEW}"]])))]
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub(super) passwords: Option<Vec<Hidden>>,
    /// Address ranges that the caller connects from. Without a password it is known by them alone.
    #[cfg_attr(test, schemars(extend("examples" = [["10.2.0.0/16"]])))]
    pub(super) addresses: Option<Vec<String>>,
    /// A URI or DNS name in the subjectAltName of the caller's certificate. Needs `tls.client_ca`.
    #[cfg_attr(test, schemars(extend("examples" = ["spiffe://example.org/checkout"])))]
    pub(super) certificate: Option<String>,
    /// How much it may ask for.
    #[serde(default)]
    pub(super) limits: CallerLimits,
    /// What the caller may use; nothing where this is empty or missing.
    #[cfg_attr(test, schemars(extend("examples" = [["payu"]])))]
    #[serde(default)]
    pub(super) allow: Vec<Allow>,
}

/// TLS on `listen`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct ListenTls {
    /// PEM file with the certificate and its chain.
    #[cfg_attr(test, schemars(extend("examples" = ["server.pem"])))]
    pub(super) certificate: Option<String>,
    /// PEM file with the certificate's key.
    #[cfg_attr(test, schemars(extend("examples" = ["server.key"])))]
    pub(super) key: Option<String>,
    /// PEM file with the authorities that sign for callers, who may then show certificates, and need not.
    #[cfg_attr(test, schemars(extend("examples" = ["callers-ca.pem"])))]
    pub(super) client_ca: Option<String>,
}

/// Interception of TLS.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Intercept {
    /// The authority that callers trust. `bursar ca new` makes one.
    pub(super) ca: Option<AuthorityFiles>,
}

/// An authority's files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct AuthorityFiles {
    /// PEM file with the authority's certificate, constrained to the providers' hosts.
    #[cfg_attr(test, schemars(extend("examples" = ["ca.pem"])))]
    pub(super) certificate: Option<String>,
    /// PEM file with its key, which no other user may be able to read; root's may be readable for a group.
    #[cfg_attr(test, schemars(extend("examples" = ["ca.key"])))]
    pub(super) key: Option<String>,
}

/// A record of requests that move money.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Journal {
    /// The journal's directory, made where there is none. Required, and one for each instance.
    #[cfg_attr(test, schemars(extend("examples" = ["/var/lib/bursar"])))]
    pub(super) path: Option<String>,
    /// Whether the journal survives the loss of power, and not only the end of the process.
    #[cfg_attr(test, schemars(extend("default" = defaults::journal::SYNC)))]
    pub(super) sync: Option<bool>,
    /// How large its database may become, `1MiB` at least. With its log, a disk five times as large is enough in
    /// any case.
    #[cfg_attr(test, schemars(extend("default" = Size(defaults::journal::MAX_SIZE))))]
    pub(super) max_size: Option<Size>,
    /// How long settled requests are kept, at most. Those in doubt are kept until they are resolved.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::journal::KEEP))))]
    pub(super) keep: Option<Time>,
    /// What happens to requests that move money while the journal cannot be written.
    #[cfg_attr(test, schemars(extend("default" = OnFailure::default())))]
    pub(super) on_failure: Option<OnFailure>,
}

/// What happens to requests that move money while the journal cannot be written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
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
    /// Exact, or with a leading `*.` for one or more labels; without a port. Not a provider's host.
    #[cfg_attr(test, schemars(extend("examples" = ["*.sentry.io"])))]
    pub(super) host: Option<String>,
    /// The ports. An `http://` URL needs its own here, for example 80.
    #[cfg_attr(test, schemars(extend("default" = defaults::passthrough::PORTS)))]
    pub(super) ports: Option<Vec<u16>>,
    /// The callers that may reach it. Without this, everybody who may call at all.
    #[cfg_attr(test, schemars(extend("examples" = [["checkout"]])))]
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
    /// The provider's name. Required.
    #[cfg_attr(test, schemars(extend("examples" = ["payu"])))]
    pub(super) provider: Option<String>,
    /// The methods. Without this, any.
    #[cfg_attr(test, schemars(extend("examples" = [["GET"]])))]
    pub(super) methods: Option<Vec<String>>,
    /// The paths, where `*` is one segment and `**` any number, none included. Without this, any.
    #[cfg_attr(test, schemars(extend("examples" = [["/payment-links/**"]])))]
    pub(super) paths: Option<Vec<String>>,
    /// The one account that the caller uses there.
    #[cfg_attr(test, schemars(extend("examples" = ["outlet"])))]
    pub(super) account: Option<String>,
    /// The accounts of which a request names one in the header `Bursar-Account`. Without this and `account`, any.
    #[cfg_attr(test, schemars(extend("examples" = [["shop", "outlet"]])))]
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

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<ParentProxy, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
        deserializer.deserialize_newtype_struct(SECRET, ParentVisitor)
    }
}

#[cfg(test)]
mod schema;
