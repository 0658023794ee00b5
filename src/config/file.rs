//! How is `proxy.yaml` written? Its serde mirror: names and shapes, no defaults and no logic.
//!
//! Every key is optional here; what is required, and what a missing key means, is decided in one place,
//! by [`super`]. The JSON schema of the file is generated from these types.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, Visitor};

use super::presets::PresetName;
use crate::secret::Secret;

/// The most that a limit may be; more is no limit.
const MAX_COUNT: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

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
    /// How long new connections are still taken after SIGTERM. Default 0s.
    pub(super) drain_delay: Option<Time>,
    /// How long requests in flight may take to finish after that. Default 30s.
    pub(super) drain_timeout: Option<Time>,
    /// All request bodies kept for replays together. Default 256MiB.
    pub(super) replay_memory: Option<Size>,
    /// Who may send requests, by name. May be absent only while `listen` is a loopback address.
    pub(super) callers: Option<BTreeMap<String, Caller>>,
    /// TLS on `listen`. The files are read again when they change.
    pub(super) tls: Option<ListenTls>,
    /// Interception of TLS in tunnels to providers' hosts. Without it, `https://` URLs of providers are refused.
    pub(super) intercept: Option<Intercept>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum Mode {
    /// The connection is refused.
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
    pub(super) limits: Limits,
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

/// How much a caller may ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Limits {
    /// Requests at once, until the last byte of the answer.
    pub(super) in_flight: Option<Count>,
    /// Requests in a second.
    pub(super) per_second: Option<Count>,
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

/// A payment API and its token endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Provider {
    /// What Bursar knows of the provider out of the box; every part of it can be overridden.
    pub(super) preset: Option<PresetName>,
    /// Decides hosts and token URL; required with a preset.
    pub(super) environment: Option<Environment>,
    /// Request hosts that route here: exact, or a leading `*.` for one or more labels.
    pub(super) hosts: Option<Vec<String>>,
    /// The API's paths; anything else on those hosts is refused.
    pub(super) paths: Option<Vec<String>>,
    /// Where requests go, as scheme, host and port. Default: `https://` and the matched host.
    pub(super) upstream: Option<String>,
    /// The account's client id.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) client_id: Option<Hidden>,
    /// The account's client secret.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) client_secret: Option<Hidden>,
    /// PayU: sent as `merchantId` where the caller sent none.
    pub(super) merchant_id: Option<String>,
    /// Further accounts by name, instead of `client_id` and `client_secret` or beside them: those are the
    /// account `default`.
    pub(super) accounts: Option<BTreeMap<String, Account>>,
    /// How tokens are obtained.
    #[serde(default)]
    pub(super) token: Token,
    /// Methods and paths with the scopes that they need; the most specific wins. They are looked at
    /// before the preset's.
    pub(super) routes: Option<Vec<Route>>,
    /// How much of one request body is kept for a replay. Default 1MiB.
    pub(super) replay_buffer: Option<Size>,
    /// Trust and client certificate, for both the API and the token endpoint.
    #[serde(default)]
    pub(super) tls: Tls,
    /// How long things may take at the API.
    #[serde(default)]
    pub(super) timeouts: Timeouts,
}

/// One set of credentials at a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Account {
    /// The account's client id.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) client_id: Option<Hidden>,
    /// The account's client secret.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) client_secret: Option<Hidden>,
    /// PayU: sent as `merchantId` where the caller sent none.
    pub(super) merchant_id: Option<String>,
}

/// Which of a provider's two worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum Environment {
    /// Test credentials and test money.
    Sandbox,
    /// Real money.
    Production,
}

impl Environment {
    /// As it is written in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }
}

/// A provider's token dialect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Token {
    /// The token endpoint.
    pub(super) url: Option<String>,
    /// Where refresh tokens are sent with `refresh: endpoint`.
    pub(super) refresh_url: Option<String>,
    /// The token request's body. Default form.
    pub(super) encoding: Option<Encoding>,
    /// Where client id and secret go. Default body.
    pub(super) client_auth: Option<ClientAuth>,
    /// JSON pointer to the object with `access_token`, e.g. `/data`; where it leads nowhere the root is tried.
    pub(super) response: Option<String>,
    /// What refresh tokens are used for. Default none.
    pub(super) refresh: Option<Refresh>,
    /// Lifetime of a refresh token whose reply does not say.
    pub(super) refresh_lifetime: Option<Time>,
    /// For requests that match no route of their own.
    pub(super) scopes: Option<Vec<String>>,
    /// Extra parameters of the token request.
    #[cfg_attr(test, schemars(with = "Option<BTreeMap<String, String>>"))]
    pub(super) params: Option<BTreeMap<String, Hidden>>,
    /// How long before expiry a token is renewed, at most a fifth of its lifetime. Default 60s.
    pub(super) margin: Option<Time>,
    /// Where the reply has no `expires_in`. Default 300s.
    pub(super) default_lifetime: Option<Time>,
    /// One call to the token endpoint. Default 10s.
    pub(super) timeout: Option<Time>,
    /// How long a request waits for a token before it is answered 503. Default 5s.
    pub(super) wait: Option<Time>,
}

/// The encoding of token requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum Encoding {
    /// `application/x-www-form-urlencoded`, as RFC 6749 has it.
    Form,
    /// `application/json`.
    Json,
}

/// How the client authenticates at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum ClientAuth {
    /// `client_id` and `client_secret` in the body.
    Body,
    /// `Authorization: Basic` of the raw id and secret.
    Basic,
    /// `Authorization: Basic`, id and secret form-encoded first (RFC 6749 section 2.3.1).
    BasicForm,
}

/// What refresh tokens are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum Refresh {
    /// Nothing.
    None,
    /// The refresh_token grant at `token.url`, with client authentication.
    Grant,
    /// The refresh token alone, sent to `token.refresh_url`.
    Endpoint,
}

/// Methods and a path, with the scopes that they need.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Route {
    /// Any method where this is missing.
    pub(super) methods: Option<Vec<String>>,
    /// `*` is one segment, `**` any number.
    pub(super) path: Option<String>,
    /// `token.scopes` where this is missing.
    pub(super) scopes: Option<Vec<String>>,
}

/// Trust and client certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Tls {
    /// PEM file trusted instead of the system's roots.
    pub(super) ca: Option<String>,
    /// PEM file with the client certificate and its chain.
    pub(super) certificate: Option<String>,
    /// PEM file with the certificate's key.
    pub(super) key: Option<String>,
}

/// How long things may take at the API.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct Timeouts {
    /// Name, TCP, parent proxy and TLS together. Default 5s.
    pub(super) connect: Option<Time>,
    /// From the last byte of the request written to the response head. Default 60s.
    pub(super) head: Option<Time>,
    /// Between bytes of a body, either way. Default 60s.
    pub(super) idle: Option<Time>,
    /// How long an unused connection is kept. Default 30s.
    pub(super) pool_idle: Option<Time>,
}

/// A duration such as `250ms`, `60s` or `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

/// A size such as `64KiB` or `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) usize);

/// A whole number from 1 to 1000000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(pub(super) NonZeroU32);

/// A string that must not be printed.
#[derive(Debug, Clone)]
pub(super) struct Hidden(pub(super) Secret);

/// Reads a value from a string with `read`; the message says what was expected, never what was found.
struct FromText<T, F> {
    expected: &'static str,
    read: F,
    result: PhantomData<T>,
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for FromText<T, F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::custom(format_args!("is not {}", self.expected)))
    }
}

fn from_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(FromText {
        expected,
        read,
        result: PhantomData,
    })
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(
            deserializer,
            "a duration such as 250ms, 60s or 5m",
            |text| humantime::parse_duration(text).ok().map(Self),
        )
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a size such as 64KiB or 1MiB", |text| {
            let size: bytesize::ByteSize = text.parse().ok()?;
            usize::try_from(size.as_u64()).ok().map(Self)
        })
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number from 1 to 1000000")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                let count = u32::try_from(number).ok().and_then(NonZeroU32::new);
                let count = count.filter(|count| *count <= MAX_COUNT);
                count
                    .map(Count)
                    .ok_or_else(|| E::custom("is not a whole number from 1 to 1000000"))
            }

            /// `${NAME}` is text.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                self.visit_i64(text.parse().unwrap_or_default())
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "text", |text| {
            Some(Self(Secret::new(text.to_owned())))
        })
    }
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
