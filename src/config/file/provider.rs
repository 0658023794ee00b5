//! How is a provider written?

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::operations::OperationScopes;
use super::scalar::{Count, Hidden, Size, Time};
use crate::config::presets::PresetName;

/// A payment API and its token endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct Provider {
    /// What Bursar knows of the provider out of the box; every part of it can be overridden.
    pub(in crate::config) preset: Option<PresetName>,
    /// Decides hosts and token URL; required with a preset.
    pub(in crate::config) environment: Option<Environment>,
    /// Request hosts that route here: exact, or a leading `*.` for one or more labels.
    pub(in crate::config) hosts: Option<Vec<String>>,
    /// The API's paths; anything else on those hosts is refused.
    pub(in crate::config) paths: Option<Vec<String>>,
    /// Where requests go, as scheme, host and port. Default: `https://` and the matched host.
    pub(in crate::config) upstream: Option<String>,
    /// The account's client id.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(in crate::config) client_id: Option<Hidden>,
    /// The account's client secret.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(in crate::config) client_secret: Option<Hidden>,
    /// The account's second secret, while one is being exchanged for the other: where the token endpoint refuses one,
    /// the other is tried.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(in crate::config) next_client_secret: Option<Hidden>,
    /// PayU: sent as `merchantId` with payment links where the caller sent none.
    pub(in crate::config) merchant_id: Option<String>,
    /// PayU: sent as `payoutMerchantId` with payouts where the caller sent none.
    pub(in crate::config) payout_merchant_id: Option<String>,
    /// Further accounts by name, instead of `client_id` and `client_secret` or beside them: those are the
    /// account `default`.
    pub(in crate::config) accounts: Option<BTreeMap<String, Account>>,
    /// How tokens are obtained.
    #[serde(default)]
    pub(in crate::config) token: Token,
    /// Methods and paths with the scopes that they need; the most specific wins. They are looked at
    /// before the preset's.
    pub(in crate::config) routes: Option<Vec<Route>>,
    /// PayU: scopes of the operations for which its own pages name several.
    pub(in crate::config) operation_scopes: Option<OperationScopes>,
    /// How much of one request body is kept for a replay. Default 1MiB.
    pub(in crate::config) replay_buffer: Option<Size>,
    /// Whether callers' trace headers go on (`forward`). Default: they do not.
    pub(in crate::config) trace: Option<Trace>,
    /// Trust and client certificate, for both the API and the token endpoint.
    #[serde(default)]
    pub(in crate::config) tls: Tls,
    /// Refuses requests while the API cannot be reached. There is none where this is missing.
    pub(in crate::config) breaker: Option<Breaker>,
    /// How long things may take at the API.
    #[serde(default)]
    pub(in crate::config) timeouts: Timeouts,
    /// Which HTTP its API is spoken to in. Default auto.
    pub(in crate::config) http: Option<Http>,
}

/// Which HTTP an API is spoken to in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(JsonSchema))]
pub enum Http {
    /// HTTP/1.1: a connection carries one request at a time.
    #[cfg_attr(test, schemars(rename = "1.1"))]
    Http1,
    /// HTTP/2 alone: a connection carries as many requests as the server takes.
    #[cfg_attr(test, schemars(rename = "2"))]
    Http2,
    /// HTTP/2 where the server agrees to it, but one request that moves money at a time on a connection; else HTTP/1.1.
    #[default]
    #[cfg_attr(test, schemars(rename = "auto"))]
    Auto,
}

/// One set of credentials at a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct Account {
    /// The account's client id.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(in crate::config) client_id: Option<Hidden>,
    /// The account's client secret.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(in crate::config) client_secret: Option<Hidden>,
    /// The account's second secret, while one is being exchanged for the other: where the token endpoint refuses one,
    /// the other is tried.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(in crate::config) next_client_secret: Option<Hidden>,
    /// PayU: sent as `merchantId` with payment links where the caller sent none.
    pub(in crate::config) merchant_id: Option<String>,
    /// PayU: sent as `payoutMerchantId` with payouts where the caller sent none.
    pub(in crate::config) payout_merchant_id: Option<String>,
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
pub(in crate::config) struct Token {
    /// The token endpoint.
    pub(in crate::config) url: Option<String>,
    /// Where refresh tokens are sent with `refresh: endpoint`.
    pub(in crate::config) refresh_url: Option<String>,
    /// The token request's body. Default form.
    pub(in crate::config) encoding: Option<Encoding>,
    /// Where client id and secret go. Default body.
    pub(in crate::config) client_auth: Option<ClientAuth>,
    /// JSON pointer to the object with `access_token`, e.g. `/data`; where it leads nowhere the root is tried.
    pub(in crate::config) response: Option<String>,
    /// What refresh tokens are used for. Default none.
    pub(in crate::config) refresh: Option<Refresh>,
    /// Lifetime of a refresh token whose reply does not say.
    pub(in crate::config) refresh_lifetime: Option<Time>,
    /// For requests that match no route of their own.
    pub(in crate::config) scopes: Option<Vec<String>>,
    /// Extra parameters of the token request.
    #[cfg_attr(test, schemars(with = "Option<BTreeMap<String, String>>"))]
    pub(in crate::config) params: Option<BTreeMap<String, Hidden>>,
    /// How long before expiry a token is renewed, at most a fifth of its lifetime. Default 60s.
    pub(in crate::config) margin: Option<Time>,
    /// Where the reply has no `expires_in`. Default 300s.
    pub(in crate::config) default_lifetime: Option<Time>,
    /// Calls to the token endpoint in any minute, of all accounts together. Default: the preset's, else 6000.
    pub(in crate::config) calls_per_minute: Option<Count>,
    /// One call to the token endpoint. Default 10s.
    pub(in crate::config) timeout: Option<Time>,
    /// How long a request waits for a token before it is answered 503. Default 5s.
    pub(in crate::config) wait: Option<Time>,
}

/// The encoding of token requests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
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
#[cfg_attr(test, derive(JsonSchema))]
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
#[cfg_attr(test, derive(JsonSchema))]
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
pub(in crate::config) struct Route {
    /// Any method where this is missing.
    pub(in crate::config) methods: Option<Vec<String>>,
    /// `*` is one segment, `**` any number.
    pub(in crate::config) path: Option<String>,
    /// `token.scopes` where this is missing.
    pub(in crate::config) scopes: Option<Vec<String>>,
    /// Whose token goes with such a request. Default bursar.
    pub(in crate::config) authorization: Option<RouteAuthorization>,
    /// Whether such a request moves money. Default: as the preset's route says, else all but GET, HEAD and
    /// OPTIONS do.
    pub(in crate::config) moves_money: Option<bool>,
    /// Whether it may be sent again after a 401. Default: as the preset's route says, else always.
    pub(in crate::config) replay: Option<ReplayRule>,
    /// The header by which the provider knows a request again, e.g. Idempotency-Key.
    pub(in crate::config) idempotency_header: Option<String>,
    /// The field of a JSON body by which it does, as a JSON pointer, e.g. /idempotency_key. The header counts first.
    pub(in crate::config) idempotency_field: Option<String>,
}

/// Whose token goes with a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) enum RouteAuthorization {
    /// Bursar's, with the route's scopes.
    #[default]
    Bursar,
    /// The caller's own, which it must bring as `Authorization: Bearer`.
    Caller,
    /// The caller's own where it brings one, else Bursar's.
    CallerOrBursar,
}

/// Whether a request may be sent again after a 401, the stricter the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum ReplayRule {
    /// It may: a 401 means that the provider did not act.
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
pub(in crate::config) enum Trace {
    /// They go on to the API.
    Forward,
}

/// Trust and client certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct Tls {
    /// PEM file trusted instead of the system's roots.
    pub(in crate::config) ca: Option<String>,
    /// PEM file with the client certificate and its chain.
    pub(in crate::config) certificate: Option<String>,
    /// PEM file with the certificate's key.
    pub(in crate::config) key: Option<String>,
}

/// When requests are held back because the API cannot be reached.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct Breaker {
    /// Connections in a row that fail, break or time out, after which requests are refused. Default 5.
    pub(in crate::config) failures: Option<Count>,
    /// How long they are refused before one of them is tried. Default 10s.
    pub(in crate::config) pause: Option<Time>,
}

/// How long things may take at the API.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct Timeouts {
    /// Name, TCP, parent proxy and TLS together. Default 5s.
    pub(in crate::config) connect: Option<Time>,
    /// From the last byte of the request written to the response head. Default 60s.
    pub(in crate::config) head: Option<Time>,
    /// Between bytes of a body, either way. Default 60s.
    pub(in crate::config) idle: Option<Time>,
    /// How long an unused connection is kept. Default 30s.
    pub(in crate::config) pool_idle: Option<Time>,
    /// How old a connection is that gets no further request. Default 10m.
    pub(in crate::config) pool_age: Option<Time>,
}
