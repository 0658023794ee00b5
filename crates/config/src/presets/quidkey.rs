//! Quidkey.

use std::time::Duration;

use super::table::{Endpoints, Preset, PresetHost, PresetRoute, UNDOCUMENTED, WRITE, other, pays};
use crate::file::{ClientAuth, Encoding, Refresh};

/// Wraps its replies in `data`, and takes the refresh token alone at an endpoint of its own. All that is below
/// `oauth2` takes or returns tokens, its health check too.
pub(super) const PRESET: Preset = Preset {
    sandbox: Endpoints {
        hosts: &[
            PresetHost::new("core-dev.quidkey.com", &[ROUTES]),
            PresetHost::new("core-tst.quidkey.com", &[ROUTES]),
        ],
        token_url: "https://core-dev.quidkey.com/api/v1/oauth2/token",
        refresh_url: Some("https://core-dev.quidkey.com/api/v1/oauth2/refresh"),
    },
    production: Endpoints {
        hosts: &[PresetHost::new("core.quidkey.com", &[ROUTES])],
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
    has_merchants: false,
    protected: &[],
    protected_below: &["/api/v1/oauth2", "/oauth2"],
    // Payment tokens, which pay without any other credential.
    secret_below: &[
        "/api/v1/payment-requests",
        "/api/v1/payment-links",
        "/api/v1/payment-initiation",
        "/api/v1/payments",
        "/api/v1/embedded",
    ],
};

/// By which it knows a request again that creates something. Of changes, refunds and embedded requests nobody says so.
const KEY: &str = "idempotency-key";

const ROUTES: &[PresetRoute] = &[
    pays(&["POST"], "/api/v1/payment-requests").keyed(KEY),
    pays(&["POST"], "/api/v1/payment-requests:redirect").keyed(KEY),
    pays(&["PATCH"], "/api/v1/payment-requests/*"),
    pays(&["POST"], "/api/v1/payment-links").keyed(KEY),
    // The payment token of a change is in the body.
    pays(&["POST", "PATCH"], "/api/v1/embedded/payment-requests"),
    pays(&["POST"], "/api/v1/merchants/*/transactions/*/refunds"),
    pays(&["POST"], "/api/v1/refund-session"),
    pays(&["PUT"], "/api/v1/merchants/*/transactions/*/status"),
    // These read.
    other(&["POST"], "/api/v1/merchants/*/transactions"),
    other(&["POST"], "/api/v1/bank-predictions"),
    other(WRITE, "/api/v1/webhooks/**"),
];
