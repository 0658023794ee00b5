//! PayU India: its token service, and which scopes each operation takes.
//!
//! Tokens as its token pages and Doorkeeper have them: scopes for each operation, three at most, `created_at`,
//! remaining `expires_in`, revocation with an empty answer. Which scopes are right is [`OPERATIONS`]' to say, row by row
//! from docs.payu.in and its source, payu-india/CMS-Chatbot; where pages contradict each other, either is taken.
//! A missing scope is 401, but 403 at two operations, as the same source has it. What operations do is below: payment
//! links and payouts in [`links`] and [`payouts`], the partner API in [`partner`].

mod links;
mod partner;
mod payouts;

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Call, EmulatedResponse};
use crate::issuing::{Issuing, rfc3339, unix_time};
use crate::provider::{Dialect, Emulation};
use bursar_base::path::Pattern;
use links::Links;
use partner::Partner;
use payouts::Payouts;

const TOKEN_PATH: &str = "/oauth/token";
const REVOKE_PATH: &str = "/oauth/revoke";
/// How many a token may hold.
const MAX_SCOPES: usize = 3;

/// What follows `curl` and the proxy's address.
pub const EXAMPLE: &str = "http://uatoneapi.payu.in/payment-links --json '{\"subAmount\":10}'";

pub(crate) static DIALECT: Dialect = Dialect {
    name: "payu",
    title: "PayU",
    client_id: "5f0c1d7e9a3b",
    client_secret: "sandbox-payu",
    token_path: TOKEN_PATH,
    refresh_path: None,
    extra_configuration: &[
        ("merchant_id", "8123456"),
        ("payout_merchant_id", "1111594"),
    ],
    examples: [
        (
            "create a payment link (its token has just the scope for that)",
            EXAMPLE,
        ),
        (
            "see what was paid with one (with a token for that)",
            "http://uatoneapi.payu.in/payment-links/INV1000/txns",
        ),
    ],
    emulation: |lifetime| Box::new(PayU::new(lifetime)),
};

/// An operation, and the sets of scopes of which a token must have one.
pub(crate) struct Operation {
    /// None: any.
    pub(crate) method: Option<&'static str>,
    pub(crate) path: &'static str,
    pub(crate) scopes: &'static [&'static [&'static str]],
    /// Whether a person's token will do instead, whatever its scopes.
    by_user: bool,
    /// What a token without the scope is answered.
    refusal: u16,
}

const fn operation(
    method: Option<&'static str>,
    path: &'static str,
    scopes: &'static [&'static [&'static str]],
) -> Operation {
    Operation {
        method,
        path,
        scopes,
        by_user: false,
        refusal: 401,
    }
}

impl Operation {
    const fn or_by_user(self) -> Self {
        Self {
            by_user: true,
            ..self
        }
    }

    const fn refused_with_403(self) -> Self {
        Self {
            refusal: 403,
            ..self
        }
    }
}

const GET: Option<&str> = Some("GET");
const POST: Option<&str> = Some("POST");
const REFER: &[&[&str]] = &[&["refer_merchant"]];
const READ_LINKS: &[&[&str]] = &[&["read_payment_links"]];
const PAYOUT: &[&[&str]] = &[&["create_payout_transactions"]];
/// Either alone was refused when PayU tried it in March 2026.
const E_SIGN: &[&[&str]] = &[
    &["client_manage_agreement", "refer_merchant"],
    &["client_manage_kyc_details", "refer_merchant"],
];
/// Older pages have the one, the guide in sixteen steps the other.
const KYC: &[&[&str]] = &[&["client_manage_kyc_details"], &["refer_merchant"]];
/// The table of scopes has the one, a page's note the other.
const CANCEL: &[&[&str]] = &[&["update_payment_links"], &["create_payment_links"]];

/// The first that matches counts.
pub(crate) static OPERATIONS: &[Operation] = &[
    // Reference, payment links; `/transactions` and DELETE from its source.
    operation(POST, "/payment-links", &[&["create_payment_links"]]),
    operation(GET, "/payment-links", READ_LINKS),
    operation(GET, "/payment-links/*", READ_LINKS),
    operation(GET, "/payment-links/*/txns", READ_LINKS),
    operation(GET, "/payment-links/*/transactions", READ_LINKS),
    operation(POST, "/payment-links/*/share", READ_LINKS),
    operation(
        Some("PUT"),
        "/payment-links/*",
        &[&["update_payment_links"]],
    ),
    operation(Some("DELETE"), "/payment-links/*", CANCEL),
    // Reference, send_otp_api and verify_otp_api.
    operation(POST, "/api/v1/otps/send_otp", &[&["send_sign_in_otp"]]),
    operation(POST, "/api/v1/otps/verify_otp", &[&["verify_sign_in_otp"]]),
    // Reference, penny_verify_api: "user token", and "scope user_token from Get Token".
    operation(POST, "/api/v1/merchants/*/verify_penny", &[&["user_token"]]).or_by_user(),
    // Reference, add_update_bank_details_api; the token page names the scope. A person's token needs it too.
    operation(
        POST,
        "/api/*/merchants/*/add_bank_detail",
        &[&["create_bank_details"], &["refer_merchant"]],
    ),
    operation(None, "/api/v3/merchants/kyc_document/**", KYC),
    operation(None, "/api/v3/merchants/*/kyc_document/**", KYC),
    operation(
        GET,
        "/api/v1/merchants/*/generate_merged_document_for_esign",
        E_SIGN,
    ),
    operation(POST, "/api/v1/merchants/*/send_signatory_otp/*", E_SIGN),
    operation(POST, "/api/v1/merchants/*/esign_merged_document/*", E_SIGN),
    operation(
        GET,
        "/api/v1/merchants/*/credential",
        &[&["read_merchant_reseller"]],
    ),
    operation(POST, "/api/v3/merchants", REFER),
    operation(None, "/api/v1/merchants/**", REFER),
    // The old e-sign of the other host has paths of this form, and a scope of its own.
    operation(
        None,
        "/api/v3/merchants/**",
        &[&["refer_merchant"], &["client_manage_agreement"]],
    ),
    operation(None, "/v3/merchants/**", &[&["client_manage_agreement"]]),
    // Partner integration, rates: its 403 has its 401's body.
    operation(None, "/api/v1/partners/merchant_rates", REFER).refused_with_403(),
    operation(GET, "/api/v1/partners/merchant_rates/fetch_rates", REFER).refused_with_403(),
    operation(GET, "/api/v1/partners/fetch_rates", REFER).refused_with_403(),
    // Reference, payouts.
    operation(None, "/payout/**", PAYOUT),
    // Split settlements.
    operation(
        POST,
        "/api/v3/product_accounts",
        &[&["refer_child_merchant"]],
    ),
    operation(
        GET,
        "/api/v3/product_accounts/**",
        &[&["fetch_child_merchants"]],
    ),
    // Partner payments, live and test.
    operation(POST, "/partner/payments", &[&["partner_payments"]]),
    operation(POST, "/apilayer/partner/payments", &[&["partner_payments"]]),
    operation(
        POST,
        "/apilayer/partner/payment-link/payment",
        &[&["partner_payment_links"]],
    ),
    operation(
        GET,
        "/apilayer/partner/payment-link/metadata",
        &[&["partner_payment_links"]],
    )
    .refused_with_403(),
];

/// What it remembers.
struct PayU {
    issuing: Issuing,
    operations: Vec<(Pattern, &'static Operation)>,
    links: Links,
    partner: Partner,
    payouts: Payouts,
}

impl Emulation for PayU {
    fn respond(&mut self, call: &Call) -> EmulatedResponse {
        match (call.method(), call.path()) {
            ("POST", TOKEN_PATH) => return self.token(call),
            ("POST", REVOKE_PATH) => return self.revoke(call),
            _ => {}
        }
        let known = self.issuing.scopes(call.bearer());
        let known = known.map(|(scopes, is_users)| (scopes.to_owned(), is_users));
        let Some((scopes, is_users)) = known else {
            return refused(call, 401);
        };
        let path = newer_spelling(call.path().trim_end_matches('/'));
        let operation = self.operations.iter().find(|(pattern, operation)| {
            operation
                .method
                .is_none_or(|method| method == call.method())
                && pattern.matches(path)
        });
        let Some((_, operation)) = operation else {
            return unknown(call);
        };
        let has = |wanted: &&str| scopes.split(' ').any(|scope| scope == *wanted);
        let is_right = operation.scopes.iter().any(|set| set.iter().all(has));
        if !(is_right || operation.by_user && is_users) {
            return refused(call, operation.refusal);
        }
        let segments = call.segments();
        let response = match &*segments {
            ["payment-links", ..] => self.links.respond(call, &segments),
            ["api", older @ ..] if older.first() == Some(&"payment-links") => {
                self.links.respond(call, older)
            }
            ["payout", ..] => self.payouts.respond(call, &segments),
            _ => self.partner.respond(call, &segments, &mut self.issuing),
        };
        let response = response.unwrap_or_else(|| unknown(call));
        response.showing(call, DIALECT.name, &scopes)
    }

    fn issuing(&mut self) -> &mut Issuing {
        &mut self.issuing
    }
}

impl PayU {
    fn new(lifetime: Duration) -> Self {
        let operations = OPERATIONS.iter();
        let parsed =
            |operation: &'static Operation| Some((Pattern::parse(operation.path).ok()?, operation));
        Self {
            issuing: Issuing::new(DIALECT.name, lifetime),
            operations: operations.filter_map(parsed).collect(),
            links: Links::new(),
            partner: Partner::new(),
            payouts: Payouts::default(),
        }
    }

    fn is_client(&self, call: &Call) -> bool {
        let text = |name| call.text(&[name]).unwrap_or_default();
        (text("client_id"), text("client_secret"))
            == (DIALECT.client_id.into(), DIALECT.client_secret.into())
    }

    /// Every error is filed under 401 in the newest description; a code says which it is.
    fn token(&mut self, call: &Call) -> EmulatedResponse {
        let error = |code: &str, description: &str| {
            EmulatedResponse::new(
                401,
                json!({ "error": code, "error_description": description }),
            )
        };
        if !self.is_client(call) {
            return error(
                "invalid_client",
                "Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method.",
            );
        }
        if call.text(&["grant_type"]).as_deref() != Some("client_credentials") {
            return error(
                "unsupported_grant_type",
                "The authorization grant type is not supported by the authorization server.",
            );
        }
        let scope = call.text(&["scope"]).unwrap_or_default();
        let scopes: Vec<&str> = scope.split_whitespace().collect();
        let known = |wanted: &&str| {
            let all = OPERATIONS.iter().flat_map(|operation| operation.scopes);
            all.flat_map(|set| set.iter()).any(|scope| scope == wanted)
        };
        if scopes.is_empty() || scopes.len() > MAX_SCOPES || !scopes.iter().all(known) {
            return error(
                "invalid_scope",
                "The requested scope is invalid, unknown, or malformed.",
            );
        }
        let scope = scopes.join(" ");
        EmulatedResponse::ok(json!({
            "access_token": self.issuing.issue(&scope),
            "token_type": "Bearer",
            "expires_in": self.issuing.lifetime.as_secs(),
            "scope": scope,
            "created_at": unix_time(),
        }))
    }

    /// Takes effect at once, and says nothing.
    fn revoke(&mut self, call: &Call) -> EmulatedResponse {
        if !self.is_client(call) {
            return EmulatedResponse::new(401, json!({ "error": "invalid_client" }));
        }
        if let Some(token) = call.text(&["token"]) {
            self.issuing.revoke(&token);
        }
        EmulatedResponse::empty(200)
    }
}

/// Older pages of the partner API have payment links below `/api`.
pub(crate) fn newer_spelling(path: &str) -> &str {
    let below = path.strip_prefix("/api");
    below
        .filter(|below| below.starts_with("/payment-links"))
        .unwrap_or(path)
}

/// Whether a path is of the host for payment links and payouts, a Spring service; the partner API is Rails.
fn is_spring(call: &Call) -> bool {
    let segments = call.segments();
    matches!(segments.first(), Some(&("payment-links" | "payout" | "v3")))
}

/// No token, a bad one, or one without the scope: nothing tells them apart.
fn refused(call: &Call, status: u16) -> EmulatedResponse {
    if is_spring(call) {
        return EmulatedResponse::new(
            status,
            spring(call, status, "Unauthorized", "Access is denied"),
        );
    }
    EmulatedResponse::new(status, json!({ "status": "Unauthorized" }))
}

fn unknown(call: &Call) -> EmulatedResponse {
    if is_spring(call) {
        return EmulatedResponse::unknown(spring(call, 404, "Not Found", "No message available"));
    }
    EmulatedResponse::unknown(json!({ "status": 404, "error": "Not Found" }))
}

fn spring(call: &Call, status: u16, error: &str, message: &str) -> Value {
    json!({
        "timestamp": rfc3339(),
        "status": status,
        "error": error,
        "message": message,
        "path": call.path(),
    })
}
