//! PayLater: a Keycloak with an API beside it.

use super::table::{Endpoints, Preset, PresetHost, PresetRoute, READ_AND_POST, UNDOCUMENTED, pays};
use crate::file::{ClientAuth, Encoding, Refresh};

/// Its API shares the host with its Keycloak, hence `paths`. The refresh grant needs client
/// authentication, whatever the documentation says: Keycloak checks the client for every grant.
pub(super) const PRESET: Preset = Preset {
    sandbox: Endpoints {
        hosts: &[PresetHost::new("connect.uat.paylaterapp.com", &[ROUTES])],
        token_url: "https://connect.uat.paylaterapp.com/auth/realms/api/protocol/openid-connect/token",
        refresh_url: None,
    },
    production: Endpoints {
        hosts: &[PresetHost::new("connect.paylaterapp.com", &[ROUTES])],
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
    has_merchants: false,
    protected: &[],
    protected_below: &[],
    secret_below: &[],
};

/// No operation has a key: a repeated refund is not recognised.
const ROUTES: &[PresetRoute] = &[
    pays(&["POST"], "/api/paylater/merchant-portal/v2/web-checkout"),
    // Partial too, with `amount` in the body.
    pays(
        &["POST"],
        "/api/paylater/merchant-portal/v2/web-checkout/refund",
    ),
    pays(&["POST"], "/api/paylater/merchant-portal/web-checkout"),
    // The first version pays back on a GET.
    pays(
        READ_AND_POST,
        "/api/paylater/merchant-portal/web-checkout/refund",
    ),
    pays(
        &["POST"],
        "/api/paylater/merchant-portal/web-checkout/refund/partial",
    ),
    pays(&["POST"], "/api/paylater/merchant-portal/request-to-pay"),
];
