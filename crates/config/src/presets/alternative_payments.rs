//! Alternative Payments.

use std::num::NonZeroU32;

use super::table::{Endpoints, Preset, PresetHost, PresetRoute, WRITE, other, pays};
use crate::file::{ClientAuth, Encoding, Refresh};

/// Refuses bad credentials with 403 and a free-form object. It allows 5 requests in a second, token calls
/// among them: half of that, so that the rest is left for the API.
pub(super) const PRESET: Preset = Preset {
    sandbox: Endpoints {
        hosts: &[PresetHost::new(
            "public-api.demo.alternativepayments.io",
            &[ROUTES],
        )],
        token_url: "https://public-api.demo.alternativepayments.io/oauth/token",
        refresh_url: None,
    },
    production: Endpoints {
        hosts: &[PresetHost::new(
            "public-api.alternativepayments.io",
            &[ROUTES],
        )],
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
    has_merchants: false,
    protected: &[],
    protected_below: &[],
    secret_below: &[],
};

const ROUTES: &[PresetRoute] = &[
    // The guide has the one, the reference the other.
    pays(&["POST"], "/payment/request"),
    pays(&["POST"], "/payments/request"),
    // Charges a card or a bank account at once; the key is required.
    pays(&["POST"], "/payments").keyed_in_body("/idempotency_key"),
    pays(WRITE, "/invoices/**"),
    // Payment methods among them: what is stored there is charged by `/payments`.
    other(WRITE, "/customers/**"),
    // A browser's token. The documentation has `/v1`, the service answers without it.
    other(&["POST"], "/v1/checkout-auth/init"),
    other(&["POST"], "/checkout-auth/init"),
    other(&["POST", "DELETE"], "/webhooks/**"),
];
