//! What does Bursar know of the four providers out of the box? A table, no code paths.
//!
//! A further provider is one more entry. Everything but the rows marked *fixed* has a key in `proxy.yaml`
//! that overrides it. Sources are the providers' own documents; where they contradict each other, what
//! is accepted is wide and what is sent is narrow.

use std::num::NonZeroU32;
use std::time::Duration;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::file::{ClientAuth, Encoding, Environment, Refresh};

/// The name of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) enum PresetName {
    /// PayLater (Keycloak).
    Paylater,
    /// PayU India: payment links and partner API.
    Payu,
    /// Alternative Payments.
    AlternativePayments,
    /// Quidkey.
    Quidkey,
}

impl PresetName {
    /// Every preset.
    pub(super) const ALL: [Self; 4] = [
        Self::Paylater,
        Self::Payu,
        Self::AlternativePayments,
        Self::Quidkey,
    ];
}

/// One provider.
pub(super) struct Preset {
    pub(super) sandbox: Endpoints,
    pub(super) production: Endpoints,
    pub(super) paths: &'static [&'static str],
    pub(super) encoding: Encoding,
    pub(super) client_auth: ClientAuth,
    pub(super) response: &'static str,
    pub(super) refresh: Refresh,
    pub(super) refresh_lifetime: Option<Duration>,
    /// None: a request that matches no route is refused, because no token fits it.
    pub(super) default_scopes: Option<&'static [&'static str]>,
    /// Token calls in a minute, of all accounts together.
    pub(super) calls_per_minute: NonZeroU32,
    /// Fixed: the token endpoint refuses more.
    pub(super) max_scopes: Option<usize>,
    pub(super) routes: &'static [PresetRoute],
    /// Fixed: the header that `merchant_id` goes into; where the caller sent any of these, it stays.
    pub(super) merchant_headers: &'static [&'static str],
    /// Fixed: token endpoints in other spellings than `token.url`, `token.refresh_url` and the `revoke` beside them.
    pub(super) protected: &'static [&'static str],
    /// Fixed: what follows these paths is a secret, and masked in logs.
    pub(super) secret_below: &'static [&'static str],
}

/// Where one environment of a provider lives.
pub(super) struct Endpoints {
    pub(super) hosts: &'static [&'static str],
    pub(super) token_url: &'static str,
    pub(super) refresh_url: Option<&'static str>,
}

/// One operation.
pub(super) struct PresetRoute {
    pub(super) methods: &'static [&'static str],
    pub(super) path: &'static str,
    /// None: the default ones.
    pub(super) scopes: Option<&'static [&'static str]>,
    pub(super) moves_money: bool,
    /// In lower case.
    pub(super) idempotency_header: Option<&'static str>,
}

/// An operation that creates, changes, pays or pays back what somebody owes.
const fn pays(methods: &'static [&'static str], path: &'static str) -> PresetRoute {
    PresetRoute {
        methods,
        path,
        scopes: None,
        moves_money: true,
        idempotency_header: None,
    }
}

/// Any other.
const fn other(methods: &'static [&'static str], path: &'static str) -> PresetRoute {
    PresetRoute {
        moves_money: false,
        ..pays(methods, path)
    }
}

impl PresetRoute {
    const fn scopes(self, scopes: &'static [&'static str]) -> Self {
        Self {
            scopes: Some(scopes),
            ..self
        }
    }

    const fn keyed(self, header: &'static str) -> Self {
        Self {
            idempotency_header: Some(header),
            ..self
        }
    }
}

impl Preset {
    pub(super) fn of(name: PresetName) -> &'static Self {
        match name {
            PresetName::Paylater => &PAYLATER,
            PresetName::Payu => &PAYU,
            PresetName::AlternativePayments => &ALTERNATIVE_PAYMENTS,
            PresetName::Quidkey => &QUIDKEY,
        }
    }

    pub(super) fn endpoints(&self, environment: Environment) -> &Endpoints {
        match environment {
            Environment::Sandbox => &self.sandbox,
            Environment::Production => &self.production,
        }
    }
}

/// For endpoints that say nothing of a limit, or do not say which: ten a second.
const UNDOCUMENTED: NonZeroU32 = NonZeroU32::new(600).unwrap();

/// Its API shares the host with its Keycloak, hence `paths`. The refresh grant needs client
/// authentication, whatever the documentation says: Keycloak checks the client for every grant.
const PAYLATER: Preset = Preset {
    sandbox: Endpoints {
        hosts: &["connect.uat.paylaterapp.com"],
        token_url: "https://connect.uat.paylaterapp.com/auth/realms/api/protocol/openid-connect/token",
        refresh_url: None,
    },
    production: Endpoints {
        hosts: &["connect.paylaterapp.com"],
        token_url: "https://connect.paylaterapp.com/auth/realms/api/protocol/openid-connect/token",
        refresh_url: None,
    },
    paths: &["/api/**"],
    encoding: Encoding::Form,
    client_auth: ClientAuth::Body,
    response: "",
    refresh: Refresh::Grant,
    refresh_lifetime: None,
    default_scopes: Some(&[]),
    calls_per_minute: UNDOCUMENTED,
    max_scopes: None,
    routes: &[
        pays(&["POST"], "/api/paylater/merchant-portal/v2/web-checkout"),
        pays(
            &["POST"],
            "/api/paylater/merchant-portal/v2/web-checkout/refund",
        ),
        pays(&["POST"], "/api/paylater/merchant-portal/web-checkout"),
        // The first version pays back on a GET.
        pays(
            &["GET", "HEAD", "POST"],
            "/api/paylater/merchant-portal/web-checkout/refund",
        ),
    ],
    merchant_headers: &[],
    protected: &[],
    secret_below: &[],
};

const READ: &[&str] = &["GET", "HEAD"];
const WRITE: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];
/// Quidkey's alone; the others know no key.
const KEY: &str = "idempotency-key";
const EVERYTHING: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// One token per operation: a token holds at most three scopes, and each operation needs one.
const PAYU: Preset = Preset {
    sandbox: Endpoints {
        hosts: &[
            "uatoneapi.payu.in",
            "uat-partner.payu.in",
            "test-partner.payu.in",
        ],
        token_url: "https://uat-accounts.payu.in/oauth/token",
        refresh_url: None,
    },
    production: Endpoints {
        hosts: &["oneapi.payu.in", "partner.payu.in"],
        token_url: "https://accounts.payu.in/oauth/token",
        refresh_url: None,
    },
    paths: &["/**"],
    encoding: Encoding::Form,
    client_auth: ClientAuth::Body,
    response: "",
    refresh: Refresh::None,
    refresh_lifetime: None,
    default_scopes: None,
    calls_per_minute: UNDOCUMENTED,
    max_scopes: Some(3),
    routes: &[
        // Payment links.
        pays(&["POST"], "/payment-links").scopes(&["create_payment_links"]),
        other(READ, "/payment-links").scopes(&["read_payment_links"]),
        other(READ, "/payment-links/*").scopes(&["read_payment_links"]),
        other(READ, "/payment-links/*/txns").scopes(&["read_payment_links"]),
        pays(&["PUT"], "/payment-links/*").scopes(&["update_payment_links"]),
        // Sends the link to the customer once more.
        other(&["POST"], "/payment-links/*/share").scopes(&["read_payment_links"]),
        // Partner integration: a merchant's account, documents and bank details.
        other(&["POST"], "/api/v3/merchants").scopes(&["refer_merchant"]),
        other(EVERYTHING, "/api/v3/merchants/**").scopes(&["refer_merchant"]),
        other(EVERYTHING, "/api/v1/merchants/**").scopes(&["refer_merchant"]),
        other(
            READ,
            "/api/v1/merchants/*/generate_merged_document_for_esign",
        )
        .scopes(&["refer_merchant", "client_manage_agreement"]),
    ],
    merchant_headers: &["merchantId", "mid"],
    protected: &["/token", "/oauth/oauth/token"],
    secret_below: &[],
};

/// Refuses bad credentials with 403 and a free-form object. It allows 5 requests in a second, token calls
/// among them: half of that, so that the rest is left for the API.
const ALTERNATIVE_PAYMENTS: Preset = Preset {
    sandbox: Endpoints {
        hosts: &["public-api.demo.alternativepayments.io"],
        token_url: "https://public-api.demo.alternativepayments.io/oauth/token",
        refresh_url: None,
    },
    production: Endpoints {
        hosts: &["public-api.alternativepayments.io"],
        token_url: "https://public-api.alternativepayments.io/oauth/token",
        refresh_url: None,
    },
    paths: &["/**"],
    encoding: Encoding::Form,
    client_auth: ClientAuth::Basic,
    response: "",
    refresh: Refresh::None,
    refresh_lifetime: None,
    default_scopes: Some(&[]),
    calls_per_minute: NonZeroU32::new(150).unwrap(),
    max_scopes: None,
    routes: &[
        pays(&["POST"], "/payment/request"),
        pays(WRITE, "/invoices/**"),
        other(WRITE, "/customers/**"),
        // A browser's token.
        other(&["POST"], "/v1/checkout-auth/init"),
    ],
    merchant_headers: &[],
    protected: &[],
    secret_below: &[],
};

/// Wraps its replies in `data`, and takes the refresh token alone at an endpoint of its own.
const QUIDKEY: Preset = Preset {
    sandbox: Endpoints {
        hosts: &["core-dev.quidkey.com", "core-tst.quidkey.com"],
        token_url: "https://core-dev.quidkey.com/api/v1/oauth2/token",
        refresh_url: Some("https://core-dev.quidkey.com/api/v1/oauth2/refresh"),
    },
    production: Endpoints {
        hosts: &["core.quidkey.com"],
        token_url: "https://core.quidkey.com/api/v1/oauth2/token",
        refresh_url: Some("https://core.quidkey.com/api/v1/oauth2/refresh"),
    },
    paths: &["/api/v1/**"],
    encoding: Encoding::Json,
    client_auth: ClientAuth::Body,
    response: "/data",
    refresh: Refresh::Endpoint,
    refresh_lifetime: Some(Duration::from_secs(24 * 60 * 60)),
    default_scopes: Some(&[]),
    calls_per_minute: UNDOCUMENTED,
    max_scopes: None,
    routes: &[
        pays(&["POST"], "/api/v1/payment-requests").keyed(KEY),
        pays(&["POST"], "/api/v1/payment-requests:redirect").keyed(KEY),
        pays(&["PATCH"], "/api/v1/payment-requests/*").keyed(KEY),
        pays(&["POST"], "/api/v1/payment-links").keyed(KEY),
        other(WRITE, "/api/v1/webhooks/**"),
    ],
    merchant_headers: &[],
    protected: &["/oauth2/token"],
    secret_below: &["/api/v1/payment-requests"],
};
