//! PayU India: payment links, partner integration, payouts, onboarding of child merchants, partner payments.

use super::table::{
    EVERYTHING, Endpoints, Preset, PresetHost, PresetRoute, READ, READ_AND_POST, UNDOCUMENTED,
    other, pays,
};
use crate::file::{ClientAuth, Encoding, Operation, Refresh};
use crate::route::MerchantHeader::{Payments, Payouts};

/// One token per operation: a token holds at most three scopes, and most operations need one. Every host takes
/// tokens of one token service.
pub(super) const PRESET: Preset = Preset {
    sandbox: Endpoints {
        hosts: &[
            // First, because a host of the operator's that none of these is has the partner API as it is now.
            PresetHost::new("uat-partner.payu.in", &[LINKS, OLD_LINKS, PARTNER]),
            PresetHost::new("test-partner.payu.in", &[LINKS, OLD_LINKS, PARTNER]),
            PresetHost::new("uatoneapi.payu.in", &[LINKS, OLD_PARTNER, PAYOUTS]),
            PresetHost::new("uat-onepayuonboarding.payu.in", &[ONBOARDING]).only(ONBOARDING_PATHS),
            PresetHost::new("test-partnerapilayer.payu.in", &[TEST_PARTNER_PAYMENTS])
                .only(&["/apilayer/partner/payments"]),
            // Nobody says where this is in production.
            PresetHost::new("uat-api.payu.in", &[TEST_PARTNER_LINKS])
                .only(&["/apilayer/partner/payment-link/**"]),
        ],
        token_url: "https://uat-accounts.payu.in/oauth/token",
        refresh_url: None,
    },
    production: Endpoints {
        hosts: &[
            PresetHost::new("partner.payu.in", &[LINKS, OLD_LINKS, PARTNER]),
            PresetHost::new("oneapi.payu.in", &[LINKS, OLD_PARTNER]),
            PresetHost::new("payout.payumoney.com", &[PAYOUTS]).only(&["/payout/**"]),
            PresetHost::new("onboarding.payu.in", &[ONBOARDING]).only(ONBOARDING_PATHS),
            PresetHost::new("api.payu.in", &[PARTNER_PAYMENTS]).only(&["/partner/payments"]),
        ],
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
    has_merchants: true,
    protected: &["/token", "/oauth/oauth/token"],
    protected_below: &[],
    secret_below: &[],
};

const ONBOARDING_PATHS: &[&str] = &["/api/v3/product_accounts/**"];

/// Payment links, below that path.
macro_rules! payment_links {
    ($below:literal) => {
        &[
            pays(&["POST"], concat!($below, "/payment-links"))
                .scopes(&["create_payment_links"])
                .merchant(Payments),
            other(READ, concat!($below, "/payment-links"))
                .scopes(&["read_payment_links"])
                .merchant(Payments),
            other(READ, concat!($below, "/payment-links/*"))
                .scopes(&["read_payment_links"])
                .merchant(Payments),
            // Both are in the documentation.
            other(READ, concat!($below, "/payment-links/*/txns"))
                .scopes(&["read_payment_links"])
                .merchant(Payments),
            other(READ, concat!($below, "/payment-links/*/transactions"))
                .scopes(&["read_payment_links"])
                .merchant(Payments),
            pays(&["PUT"], concat!($below, "/payment-links/*"))
                .scopes(&["update_payment_links"])
                .merchant(Payments),
            // Cancels it.
            pays(&["DELETE"], concat!($below, "/payment-links/*"))
                .scopes(&["update_payment_links"])
                .by_choice(Operation::CancelPaymentLink)
                .merchant(Payments),
            // Sends the link to the customer once more.
            other(&["POST"], concat!($below, "/payment-links/*/share"))
                .scopes(&["read_payment_links"])
                .merchant(Payments),
        ]
    };
}

const LINKS: &[PresetRoute] = payment_links!("");
/// Older pages of the partner API have them here.
const OLD_LINKS: &[PresetRoute] = payment_links!("/api");

/// A merchant's account, documents and bank details. What the preset does not name here is done with
/// `refer_merchant`. The user token of a merchant, which `verify_otp` answers with, cannot be obtained without the
/// merchant.
const PARTNER: &[PresetRoute] = &[
    other(&["POST"], "/api/v1/otps/send_otp").scopes(&["send_sign_in_otp"]),
    other(&["POST"], "/api/v1/otps/verify_otp").scopes(&["verify_sign_in_otp"]),
    other(&["POST"], "/api/v3/merchants").scopes(&["refer_merchant"]),
    other(EVERYTHING, "/api/v3/merchants/**").scopes(&["refer_merchant"]),
    other(EVERYTHING, "/api/v1/merchants/**").scopes(&["refer_merchant"]),
    other(&["POST"], "/api/v1/merchants/*/verify_penny")
        .scopes(&["user_token"])
        .or_callers_token(),
    // The account that settlements go to.
    other(&["POST"], "/api/v1/merchants/*/add_bank_detail")
        .scopes(&["create_bank_details"])
        .by_choice(Operation::BankDetails)
        .or_callers_token(),
    other(&["POST"], "/api/v3/merchants/*/add_bank_detail")
        .scopes(&["create_bank_details"])
        .by_choice(Operation::BankDetails)
        .or_callers_token(),
    other(EVERYTHING, "/api/v3/merchants/kyc_document/**")
        .scopes(&["refer_merchant"])
        .by_choice(Operation::KycDocuments),
    other(EVERYTHING, "/api/v3/merchants/*/kyc_document/**")
        .scopes(&["refer_merchant"])
        .by_choice(Operation::KycDocuments),
    // Each alone is refused.
    other(
        READ,
        "/api/v1/merchants/*/generate_merged_document_for_esign",
    )
    .scopes(E_SIGN),
    other(&["POST"], "/api/v1/merchants/*/send_signatory_otp/*").scopes(E_SIGN),
    other(&["POST"], "/api/v1/merchants/*/esign_merged_document/*").scopes(E_SIGN),
    // Key and salt are in the answer.
    other(READ, "/api/v1/merchants/*/credential").scopes(&["read_merchant_reseller"]),
    other(READ_AND_POST, "/api/v1/partners/merchant_rates").scopes(&["refer_merchant"]),
    other(READ, "/api/v1/partners/merchant_rates/fetch_rates").scopes(&["refer_merchant"]),
    other(READ, "/api/v1/partners/fetch_rates").scopes(&["refer_merchant"]),
];

const E_SIGN: &[&str] = &["refer_merchant", "client_manage_agreement"];

/// What older pages have beside payment links: the e-sign flow of once, and what the partner API is for now.
const OLD_PARTNER: &[PresetRoute] = &[
    other(EVERYTHING, "/v3/merchants/**").scopes(&["client_manage_agreement"]),
    other(EVERYTHING, "/api/v3/merchants/**").scopes(&["client_manage_agreement"]),
    other(&["POST"], "/api/v3/merchants").scopes(&["refer_merchant"]),
    other(EVERYTHING, "/api/v1/merchants/**").scopes(&["refer_merchant"]),
    other(
        READ,
        "/api/v1/merchants/*/generate_merged_document_for_esign",
    )
    .scopes(E_SIGN),
];

const PAYOUTS: &[PresetRoute] = &[
    pays(&["POST"], "/payout/payment")
        .scopes(PAYOUT)
        .merchant(Payouts),
    pays(&["POST"], "/payout/v2/payment")
        .scopes(PAYOUT)
        .merchant(Payouts),
    pays(&["POST"], "/payout/payment/cancel")
        .scopes(PAYOUT)
        .merchant(Payouts),
    other(READ_AND_POST, "/payout/merchant/**")
        .scopes(PAYOUT)
        .merchant(Payouts),
    other(READ_AND_POST, "/payout/payment/listTransactions")
        .scopes(PAYOUT)
        .merchant(Payouts),
    // Pays a rupee or so to see whether the account is there.
    other(READ_AND_POST, "/payout/payment/verifyAccount")
        .scopes(PAYOUT)
        .merchant(Payouts),
];

const PAYOUT: &[&str] = &["create_payout_transactions"];

const ONBOARDING: &[PresetRoute] = &[
    other(&["POST"], "/api/v3/product_accounts").scopes(&["refer_child_merchant"]),
    other(READ, "/api/v3/product_accounts").scopes(&["fetch_child_merchants"]),
];

/// Their bodies carry a hash over the client secret, so whoever calls them has to know it.
const PARTNER_PAYMENTS: &[PresetRoute] =
    &[pays(&["POST"], "/partner/payments").scopes(&["partner_payments"])];

const TEST_PARTNER_PAYMENTS: &[PresetRoute] =
    &[pays(&["POST"], "/apilayer/partner/payments").scopes(&["partner_payments"])];

const TEST_PARTNER_LINKS: &[PresetRoute] = &[
    pays(&["POST"], "/apilayer/partner/payment-link/payment").scopes(&["partner_payment_links"]),
    other(READ, "/apilayer/partner/payment-link/metadata").scopes(&["partner_payment_links"]),
];
