//! A provider as it is written in the file.

use std::collections::BTreeMap;
use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::operations::OperationScopes;
use super::preset::PresetName;
use super::scalar::{Count, Hidden, Size, Time};
#[cfg(test)]
use crate::defaults;

/// A payment API and its token endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Provider {
    /// What Bursar knows of the provider out of the box; every part of it can be overridden.
    #[cfg_attr(test, schemars(extend("examples" = ["payu"])))]
    pub(crate) preset: Option<PresetName>,
    /// Whether requests that move money are refused with 503 `frozen`, whatever `bursar thaw` says. `bursar freeze` does
    /// the same without the file.
    #[cfg_attr(test, schemars(extend("default" = false)))]
    pub(crate) frozen: Option<bool>,
    /// Decides hosts and token URL. Required with a preset; there is no default.
    #[cfg_attr(test, schemars(extend("examples" = ["sandbox"])))]
    pub(crate) environment: Option<Environment>,
    /// Request hosts that lead here: exact, or with a leading `*.` for one or more labels. Without a port: 80 and
    /// 443. A dot at the end of a name, here and in `upstream` and `token.url`, means that no search domain is
    /// tried. Required without a preset.
    #[cfg_attr(test, schemars(extend("examples" = [["api.acme.example", "*.eu.acme.example"]])))]
    pub(crate) hosts: Option<Vec<String>>,
    /// The API's paths; anything else on those hosts is refused (403). A preset has its own.
    #[cfg_attr(test, schemars(extend("default" = defaults::provider::PATHS)))]
    pub(crate) paths: Option<Vec<String>>,
    /// Where requests go: scheme, host and port. Without this: `https://` and the matched host; a matched port is
    /// kept, but 80 becomes 443.
    #[cfg_attr(test, schemars(extend("examples" = ["https://api.acme.example"])))]
    pub(crate) upstream: Option<String>,
    /// The client id of the account `default`. Required without `accounts`.
    #[cfg_attr(test, schemars(extend("examples" = ["${ACME_ID}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) client_id: Option<Hidden>,
    /// The client secret of the account `default`. Required without `accounts`.
    #[cfg_attr(test, schemars(extend("examples" = ["${ACME_SECRET}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) client_secret: Option<Hidden>,
    /// A second secret, while one replaces the other: where the token endpoint refuses one of them, the other is
    /// tried.
    #[cfg_attr(test, schemars(extend("examples" = ["${ACME_NEXT_SECRET}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) next_client_secret: Option<Hidden>,
    /// PayU only: sent as `merchantId` with payment links, and with what only your own routes know, where the
    /// caller sent none. With several accounts of which any has an id of either kind, what the caller sent of both
    /// kinds is removed, in any spelling.
    #[cfg_attr(test, schemars(extend("examples" = ["8123456"])))]
    pub(crate) merchant_id: Option<String>,
    /// PayU only: the same for payouts, as `payoutMerchantId`.
    #[cfg_attr(test, schemars(extend("examples" = ["1111594"])))]
    pub(crate) payout_merchant_id: Option<String>,
    /// Further accounts by name, instead of `client_id` and `client_secret` or beside them. A name may hold
    /// letters, digits, `_`, `-` and `.`.
    pub(crate) accounts: Option<BTreeMap<String, Account>>,
    /// How tokens are obtained.
    #[serde(default)]
    pub(crate) token: Token,
    /// Methods and paths with what they need. The most specific one counts; these are looked at before the
    /// preset's.
    pub(crate) routes: Option<Vec<Route>>,
    /// PayU only: scopes of operations for which PayU's own pages name several.
    pub(crate) operation_scopes: Option<OperationScopes>,
    /// How much of one request body is kept, so that it can be sent again after a 401.
    #[cfg_attr(test, schemars(extend("default" = Size(defaults::provider::REPLAY_BUFFER))))]
    pub(crate) replay_buffer: Option<Size>,
    /// What becomes of callers' trace headers. Without this, they are removed.
    #[cfg_attr(test, schemars(extend("examples" = ["forward"])))]
    pub(crate) trace: Option<Trace>,
    /// Trust and client certificate, for both the API and the token endpoint.
    #[serde(default)]
    pub(crate) tls: Tls,
    /// Refuses requests while the API cannot be reached. Without this, there is no circuit breaker.
    pub(crate) breaker: Option<Breaker>,
    /// How long things may take at the API.
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    /// Which HTTP is spoken to the API.
    #[cfg_attr(test, schemars(extend("default" = Http::default())))]
    pub(crate) http: Option<Http>,
}

/// Which HTTP an API is spoken to in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub enum Http {
    /// A connection carries one request at a time.
    #[cfg_attr(test, serde(rename = "1.1"))]
    Http1,
    /// HTTP/2 alone, also without TLS: a connection carries as many requests as the server takes.
    #[cfg_attr(test, serde(rename = "2"))]
    Http2,
    /// HTTP/2 where the server agrees to it by ALPN, but one request that moves money at a time on a connection;
    /// otherwise HTTP/1.1.
    #[default]
    #[cfg_attr(test, serde(rename = "auto"))]
    Auto,
}

/// One set of credentials at a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Account {
    /// The account's client id. Required.
    #[cfg_attr(test, schemars(extend("examples" = ["${OUTLET_ID}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) client_id: Option<Hidden>,
    /// The account's client secret. Required.
    #[cfg_attr(test, schemars(extend("examples" = ["${OUTLET_SECRET}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) client_secret: Option<Hidden>,
    /// As the provider's.
    #[cfg_attr(test, schemars(extend("examples" = ["${OUTLET_NEXT_SECRET}"])))]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) next_client_secret: Option<Hidden>,
    /// As the provider's.
    #[cfg_attr(test, schemars(extend("examples" = ["8123457"])))]
    pub(crate) merchant_id: Option<String>,
    /// As the provider's.
    #[cfg_attr(test, schemars(extend("examples" = ["1111594"])))]
    pub(crate) payout_merchant_id: Option<String>,
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
pub(crate) struct Token {
    /// The token endpoint. Required without a preset.
    #[cfg_attr(test, schemars(extend("examples" = ["https://login.acme.example/oauth/token"])))]
    pub(crate) url: Option<String>,
    /// Where refresh tokens are sent with `refresh: endpoint`.
    #[cfg_attr(test, schemars(extend("examples" = ["https://login.acme.example/oauth/refresh"])))]
    pub(crate) refresh_url: Option<String>,
    /// How the body of the token request is encoded. A preset has its own.
    #[cfg_attr(test, schemars(extend("default" = Encoding::default())))]
    pub(crate) encoding: Option<Encoding>,
    /// Where client id and secret go. A preset has its own.
    #[cfg_attr(test, schemars(extend("default" = ClientAuth::default())))]
    pub(crate) client_auth: Option<ClientAuth>,
    /// JSON pointer to the object with `access_token`; where it leads nowhere, the root is tried. A preset has its
    /// own.
    #[cfg_attr(test, schemars(extend("default" = defaults::token::RESPONSE, "examples" = ["/data"])))]
    pub(crate) response: Option<String>,
    /// What refresh tokens are used for. A preset has its own.
    #[cfg_attr(test, schemars(extend("default" = Refresh::default())))]
    pub(crate) refresh: Option<Refresh>,
    /// Lifetime of a refresh token whose response has no `refresh_expires_in`. Quidkey's preset has `24h`.
    #[cfg_attr(test, schemars(extend("examples" = ["24h"])))]
    pub(crate) refresh_lifetime: Option<Time>,
    /// Scopes for requests that match no route. PayU's preset has none at all: there, such a request is refused.
    #[cfg_attr(test, schemars(extend("default" = defaults::token::SCOPES, "examples" = [["links.read"]])))]
    pub(crate) scopes: Option<Vec<String>>,
    /// Further parameters of the token request.
    #[cfg_attr(test, schemars(extend("examples" = [std::collections::BTreeMap::from([("audience", "https://api.acme.example")])])))]
    #[cfg_attr(test, schemars(with = "Option<BTreeMap<String, String>>"))]
    pub(crate) params: Option<BTreeMap<String, Hidden>>,
    /// How long before its end a token is renewed: at most a fifth of its lifetime, plus a little jitter.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::token::MARGIN))))]
    pub(crate) margin: Option<Time>,
    /// Lifetime of a token whose response has no usable `expires_in`.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::token::LIFETIME))))]
    pub(crate) default_lifetime: Option<Time>,
    /// Calls to the token endpoint in any minute, of all accounts together; a quarter of them at once. The preset
    /// `alternative_payments` has 150, the other presets 600.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::token::CALLS_PER_MINUTE))))]
    pub(crate) calls_per_minute: Option<Count>,
    /// Whether a new token ends the one before, so that only one instance may ask for one at a time. Of use with
    /// `fleet`.
    #[cfg_attr(test, schemars(extend("default" = defaults::token::SINGLE_ACTIVE)))]
    pub(crate) single_active: Option<bool>,
    /// How long one call to the token endpoint may take.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::token::TIMEOUT))))]
    pub(crate) timeout: Option<Time>,
    /// How long a request waits for a token before it is answered 503.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::token::WAIT))))]
    pub(crate) wait: Option<Time>,
}

/// The encoding of token requests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub enum Encoding {
    /// `application/x-www-form-urlencoded`, as RFC 6749 has it.
    #[default]
    Form,
    /// `application/json`.
    Json,
}

/// How the client authenticates at the token endpoint.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub enum ClientAuth {
    /// `client_id` and `client_secret` in the body.
    #[default]
    Body,
    /// `Authorization: Basic` of the raw id and secret.
    Basic,
    /// `Authorization: Basic`, id and secret form-encoded first (RFC 6749 section 2.3.1).
    BasicForm,
}

/// What refresh tokens are used for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub enum Refresh {
    /// Nothing.
    #[default]
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
pub(crate) struct Route {
    /// The methods. Without this, any.
    #[cfg_attr(test, schemars(extend("examples" = [["POST", "PUT"]])))]
    pub(crate) methods: Option<Vec<String>>,
    /// The path, where `*` is one segment and `**` any number, none included. Required.
    #[cfg_attr(test, schemars(extend("examples" = ["/links/**"])))]
    pub(crate) path: Option<String>,
    /// The scopes that the request's token needs. Without this, `token.scopes`.
    #[cfg_attr(test, schemars(extend("examples" = [["links.write"]])))]
    pub(crate) scopes: Option<Vec<String>>,
    /// Whose token goes with such a request.
    #[cfg_attr(test, schemars(extend("default" = RouteAuthorization::default())))]
    pub(crate) authorization: Option<RouteAuthorization>,
    /// Whether such a request moves money. Without this: as the preset's route says, else by method, where all but
    /// `GET`, `HEAD` and `OPTIONS` do.
    #[cfg_attr(test, schemars(extend("examples" = [true])))]
    pub(crate) moves_money: Option<bool>,
    /// Whether such a request may be sent again after a 401. Without this: as the preset's route says, else always.
    #[cfg_attr(test, schemars(extend("examples" = ["if_keyed"])))]
    pub(crate) replay: Option<ReplayRule>,
    /// The header by which the provider recognises a repeated request. Without this, as the preset's route says.
    #[cfg_attr(test, schemars(extend("examples" = ["Idempotency-Key"])))]
    pub(crate) idempotency_header: Option<String>,
    /// JSON pointer to the field of a JSON body that does the same where no header has a key. The key is text that
    /// is there once, whatever the letter case of its name, in a body of up to 64 KiB without `Content-Encoding`,
    /// which `replay_buffer` has kept whole when the 401 comes; otherwise there is no key.
    #[cfg_attr(test, schemars(extend("examples" = ["/idempotency_key"])))]
    pub(crate) idempotency_field: Option<String>,
}

/// Whose token goes with a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
pub(crate) enum RouteAuthorization {
    /// Bursar's, with the route's scopes.
    #[default]
    Bursar,
    /// The caller's own, which it must bring as `Authorization: Bearer`.
    Caller,
    /// The caller's own where it brings one, else Bursar's.
    CallerOrBursar,
}

/// Whether a request may be sent again after a 401, the stricter the later.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum ReplayRule {
    /// It may: a 401 means that the provider did not act.
    #[default]
    Always,
    /// Only where it carries the key of the route's `idempotency_header` or `idempotency_field`.
    IfKeyed,
    /// It may not.
    Never,
}

/// What becomes of callers' trace headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) enum Trace {
    /// They go on to the API.
    Forward,
}

/// Trust and client certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Tls {
    /// PEM file with authorities that are trusted instead of the system's, for the API and the token endpoint.
    #[cfg_attr(test, schemars(extend("examples" = ["acme-ca.pem"])))]
    pub(crate) ca: Option<String>,
    /// PEM file with the client certificate and its chain.
    #[cfg_attr(test, schemars(extend("examples" = ["client.pem"])))]
    pub(crate) certificate: Option<String>,
    /// PEM file with the client certificate's key.
    #[cfg_attr(test, schemars(extend("examples" = ["client.key"])))]
    pub(crate) key: Option<String>,
}

/// When requests are held back because the API cannot be reached.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Breaker {
    /// Connections in a row that failed, broke or timed out, after which requests are refused. Responses are no
    /// failures, not even 5xx.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::breaker::FAILURES))))]
    pub(crate) failures: Option<Count>,
    /// How long requests are refused before one of them is tried.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::breaker::PAUSE))))]
    pub(crate) pause: Option<Time>,
}

/// How long things may take at the API.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Timeouts {
    /// Name, TCP, parent proxy and TLS together; for a request that moves money, the settings of an HTTP/2 server
    /// too.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::timeouts::CONNECT))))]
    pub(crate) connect: Option<Time>,
    /// From the last byte of the request written to the head of the response.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::timeouts::HEAD))))]
    pub(crate) head: Option<Time>,
    /// Between bytes of a body, in either direction.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::timeouts::IDLE))))]
    pub(crate) idle: Option<Time>,
    /// How long an unused connection is kept; less where the provider's `Keep-Alive` says so. Where its side closes sooner
    /// without saying so, make this shorter than that.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::timeouts::POOL_IDLE))))]
    pub(crate) pool_idle: Option<Time>,
    /// How old a connection may be that still gets requests; what is under way on it is finished.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::timeouts::POOL_AGE))))]
    pub(crate) pool_age: Option<Time>,
}

/// Without its quotes a version is a number.
impl<'de> Deserialize<'de> for Http {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "\"1.1\", \"2\" or auto";
        struct HttpVisitor;
        impl Visitor<'_> for HttpVisitor {
            type Value = Http;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Http, E> {
                match text {
                    "1.1" => Ok(Http::Http1),
                    "2" => Ok(Http::Http2),
                    "auto" => Ok(Http::Auto),
                    _ => Err(E::custom(format_args!("is not {EXPECTED}"))),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Http, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Http, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(HttpVisitor)
    }
}
