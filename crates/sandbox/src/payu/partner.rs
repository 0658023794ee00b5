//! PayU's partner API: merchants, one-time codes and the user token, documents, bank details, e-sign, child merchants,
//! partner payments.
//!
//! Modelled on the pages of the partner integration and on a hotel-booking site's PHP client. The code that a person
//! would get is always [`CODE`]. `verify_otp` answers a token object: the merchant's, which no client secret yields.

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Call, EmulatedResponse, Records};
use crate::issuing::{Issuing, unix_time};

/// What the person would read on the phone.
const CODE: &str = "5154";
/// Of a user token.
const USER_TOKEN_LIFETIME: Duration = Duration::from_secs(7200);
/// Scopes that may be asked for with `send_otp`.
const USER_SCOPES: [&str; 6] = [
    "user_profile",
    "create_bank_details",
    "update_bank_details",
    "create_payment_links",
    "update_payment_links",
    "read_payment_links",
];

pub(crate) struct Partner {
    merchants: Records,
    /// Codes that were sent, by who got them: the scopes that were asked for.
    codes: Records,
    children: Records,
    payments: Records,
}

/// A merchant that there is from the start.
const FIRST_MERCHANT: &str = "8123456";

impl Partner {
    pub(crate) fn new() -> Self {
        let mut merchants = Records::default();
        merchants.add(FIRST_MERCHANT, merchant(FIRST_MERCHANT));
        Self {
            merchants,
            codes: Records::default(),
            children: Records::default(),
            payments: Records::default(),
        }
    }

    /// None: there is no such operation.
    pub(crate) fn respond(
        &mut self,
        call: &Call,
        segments: &[&str],
        issuing: &mut Issuing,
    ) -> Option<EmulatedResponse> {
        let response = match (call.method(), segments) {
            ("POST", ["api", "v1", "otps", "send_otp"]) => self.send_otp(call),
            ("POST", ["api", "v1", "otps", "verify_otp"]) => self.verify_otp(call, issuing),
            ("POST", ["api", "v3", "merchants"]) => self.create(call),
            (_, ["api", "v1" | "v3", "merchants", rest @ ..] | ["v3", "merchants", rest @ ..]) => {
                return self.merchant(call, rest);
            }
            ("GET" | "POST", ["api", "v1", "partners", ..]) => {
                EmulatedResponse::ok(json!({ "rates": [{ "mode": "upi", "percentage": 1.5 }] }))
            }
            ("POST", ["api", "v3", "product_accounts"]) => {
                let id = self.children.next("86");
                let child = json!({ "mid": id, "display_name": call.text(&["display_name"]) });
                self.children.add(&id, child.clone());
                EmulatedResponse::ok(json!({ "product_account": child }))
            }
            ("GET", ["api", "v3", "product_accounts"]) => {
                EmulatedResponse::ok(json!({ "product_accounts": self.children.all() }))
            }
            ("POST", ["partner", "payments"] | ["apilayer", "partner", "payments"]) => {
                self.pay(call)
            }
            ("POST", ["apilayer", "partner", "payment-link", "payment"]) => self.pay(call),
            ("GET", ["apilayer", "partner", "payment-link", "metadata"]) => {
                EmulatedResponse::ok(json!({ "status": "success", "modes": ["upi", "card"] }))
            }
            _ => return None,
        };
        Some(response)
    }

    fn send_otp(&mut self, call: &Call) -> EmulatedResponse {
        let Some(identity) = call.text(&["otp[identity]"]) else {
            return invalid("identity can't be blank");
        };
        let scope = call.text(&["otp[scope]"]).unwrap_or_default();
        let scopes = scope
            .split([' ', ','])
            .filter(|scope| USER_SCOPES.contains(scope));
        let scopes: Vec<&str> = scopes.collect();
        self.codes.add(&identity, scopes.join(" ").into());
        EmulatedResponse::ok(json!({ "message": "OTP sent successfully" }))
    }

    fn verify_otp(&mut self, call: &Call, issuing: &mut Issuing) -> EmulatedResponse {
        let identity = call.text(&["otp[identity]"]).unwrap_or_default();
        if call.text(&["otp[code]"]).as_deref() != Some(CODE) {
            return invalid("Invalid OTP");
        }
        // Good for one token.
        let Some(Value::String(scopes)) = self.codes.remove(&identity) else {
            return invalid("Invalid OTP");
        };
        EmulatedResponse::ok(json!({
            "access_token": issuing.issue_to_user(&scopes, USER_TOKEN_LIFETIME),
            "token_type": "Bearer",
            "expires_in": USER_TOKEN_LIFETIME.as_secs(),
            "scope": scopes,
            "created_at": unix_time(),
            "mid": self.mid_of(&identity),
        }))
    }

    /// Whose mobile number or e-mail address that is; else the first merchant.
    fn mid_of(&self, identity: &str) -> Value {
        let mut same = ["mobile", "email"]
            .into_iter()
            .flat_map(|name| self.merchants.with(name, identity));
        same.next()
            .map_or_else(|| FIRST_MERCHANT.into(), |merchant| merchant["mid"].clone())
    }

    fn create(&mut self, call: &Call) -> EmulatedResponse {
        let mid = self.merchants.next("81");
        let mut merchant = merchant(&mid);
        for name in ["display_name", "mobile", "email"] {
            let value = call.text(&[&format!("merchant[{name}]"), name]);
            merchant[name] = value.into();
        }
        self.merchants.add(&mid, merchant.clone());
        EmulatedResponse::ok(json!({ "merchant": merchant }))
    }

    /// A merchant is named by its number or by its UUID.
    fn merchant(&mut self, call: &Call, rest: &[&str]) -> Option<EmulatedResponse> {
        if let ["kyc_document", ..] | [_, "kyc_document", ..] = rest {
            return Some(EmulatedResponse::ok(
                json!({ "kyc_document": { "status": "submitted" } }),
            ));
        }
        let [id, operation @ ..] = rest else {
            return None;
        };
        let mid = id.strip_prefix("11ea-").unwrap_or(id);
        let Some(merchant) = self.merchants.get_mut(mid) else {
            return Some(EmulatedResponse::new(
                404,
                json!({ "error": "Merchant not found" }),
            ));
        };
        let response = match (call.method(), operation) {
            ("GET", []) => EmulatedResponse::ok(json!({ "merchant": merchant })),
            ("PUT" | "PATCH", [] | ["update"]) => {
                if let Some(name) = call.text(&["merchant[display_name]", "display_name"]) {
                    merchant["display_name"] = name.into();
                }
                EmulatedResponse::ok(json!({ "merchant": merchant }))
            }
            ("POST", ["verify"]) => EmulatedResponse::ok(json!({ "message": "Merchant linked" })),
            ("POST", ["add_bank_detail"]) => {
                let detail =
                    json!({ "bank_verification_status": "Pending", "uuid": format!("bank-{mid}") });
                merchant["bank_verification_status"] = "Pending".into();
                EmulatedResponse::ok(json!({ "bank_detail": detail }))
            }
            ("POST", ["verify_penny"]) => {
                merchant["bank_verification_status"] = "Verified".into();
                EmulatedResponse::ok(json!({ "message": "Bank verification successful" }))
            }
            ("GET", ["credential"]) => EmulatedResponse::ok(
                json!({ "data": { "credentials": { "prod_key": "sandbox", "prod_salt": "sandbox" } } }),
            ),
            ("GET", ["generate_merged_document_for_esign"]) => EmulatedResponse::ok(
                json!({ "message": "Agreement generated", "document": "https://pay.invalid/agreement" }),
            ),
            ("POST", ["send_signatory_otp", _]) => {
                EmulatedResponse::ok(json!({ "message": "OTP sent" }))
            }
            ("POST", ["esign_merged_document", _]) => {
                EmulatedResponse::ok(json!({ "message": "Agreement signed" }))
            }
            // The old e-sign names its operations differently on each page.
            _ if call.segments().first() == Some(&"v3") => {
                EmulatedResponse::ok(json!({ "message": "Success" }))
            }
            _ => return None,
        };
        Some(response)
    }

    /// The hash is over the client secret, which only the caller's own code could know here: that it is there is all that is looked at.
    fn pay(&mut self, call: &Call) -> EmulatedResponse {
        if call.field("hash").is_none() {
            return EmulatedResponse::ok(
                json!({ "status": "failure", "message": "hash is missing" }),
            );
        }
        let id = self.payments.next("4039");
        let payment =
            json!({ "mihpayid": id, "status": "success", "amount": call.field("amount") });
        self.payments.add(&id, payment.clone());
        EmulatedResponse::ok(payment)
    }
}

fn merchant(mid: &str) -> Value {
    json!({
        "mid": mid,
        "uuid": format!("11ea-{mid}"),
        "display_name": Value::Null,
        "bank_verification_status": "Pending",
    })
}

fn invalid(message: &str) -> EmulatedResponse {
    EmulatedResponse::new(422, json!({ "error": message }))
}
