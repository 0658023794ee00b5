//! PayLater: a Keycloak, and the merchant portal's second and first version.
//!
//! Tokens as its token page and Keycloak's source have them (form, refresh token grant with client authentication
//! and rotation). The second version is modelled on docs.paylaterapp.com (create, status, refund with and without
//! `amount`, transactions, shopper, error bodies); the first on paylaterapp/docs and the vendor's own plugins, which
//! show an `x-api-key` instead of a token and pay back on a GET. Nobody publishes the path of the second version's
//! request to pay: it is taken to be the first one's. A shopper pays as soon as there is an order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Call, EmulatedResponse, Records};
use crate::issuing::{Issuing, rfc3339};
use crate::provider::{Dialect, Emulation};

const TOKEN_PATH: &str = "/auth/realms/api/protocol/openid-connect/token";
const REFRESH_LIFETIME: Duration = Duration::from_secs(1800);
/// What the first version's callers show.
const API_KEY: &str = "sandbox-api-key";

pub(crate) static DIALECT: Dialect = Dialect {
    name: "paylater",
    title: "PayLater",
    client_id: "merchant-900",
    client_secret: "sandbox-paylater+t/x",
    token_path: TOKEN_PATH,
    refresh_path: None,
    extra_configuration: &[],
    examples: [
        (
            "create a checkout (an order_id is good for one)",
            "http://connect.uat.paylaterapp.com/api/paylater/merchant-portal/v2/web-checkout --json '{\"order_id\":\"'$(date +%s%N)'\",\"amount\":25}'",
        ),
        (
            "pay a cent of one back",
            "http://connect.uat.paylaterapp.com/api/paylater/merchant-portal/v2/web-checkout/refund --json '{\"order_id\":\"1000\",\"amount\":0.01}'",
        ),
    ],
    emulation: |lifetime| Box::new(PayLater::new(lifetime)),
};

/// What it remembers.
struct PayLater {
    issuing: Issuing,
    orders: Records,
    requests_to_pay: Records,
}

impl Emulation for PayLater {
    fn respond(&mut self, call: &Call) -> EmulatedResponse {
        if call.path() == TOKEN_PATH {
            return self.token(call);
        }
        let segments = call.segments();
        let Some(operation) = segments.strip_prefix(&["api", "paylater", "merchant-portal"][..])
        else {
            return not_found();
        };
        let (is_second, operation) = match operation {
            ["v2", operation @ ..] => (true, operation),
            operation => (false, operation),
        };
        let is_known = self.issuing.scopes(call.bearer()).is_some();
        // Whether the first version takes a token is not written down anywhere; the plugins show a key.
        if !is_known && (is_second || call.header("x-api-key") != Some(API_KEY)) {
            // Its status is not written down; another one would not be renewed on.
            return EmulatedResponse::new(401, json!({ "error": "Invalid API Key" }));
        }
        let response = match is_second {
            true => self.second(call, operation),
            false => self.first(call, operation),
        };
        response.showing(call, DIALECT.name, "")
    }

    fn issuing(&mut self) -> &mut Issuing {
        &mut self.issuing
    }
}

impl PayLater {
    fn new(lifetime: Duration) -> Self {
        let mut paylater = Self {
            issuing: Issuing::new(DIALECT.name, lifetime),
            orders: Records::default(),
            requests_to_pay: Records::default(),
        };
        paylater.orders.add("1000", order("1000", 25.0));
        paylater
    }

    fn token(&mut self, call: &Call) -> EmulatedResponse {
        let text = |name| call.text(&[name]).unwrap_or_default();
        if (text("client_id"), text("client_secret"))
            != (DIALECT.client_id.into(), DIALECT.client_secret.into())
        {
            let body = json!({ "error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials" });
            return EmulatedResponse::new(401, body);
        }
        match &*text("grant_type") {
            "client_credentials" => {}
            "refresh_token" if self.issuing.take_refresh(&text("refresh_token")) => {}
            "refresh_token" => {
                let body =
                    json!({ "error": "invalid_grant", "error_description": "Token is not active" });
                return EmulatedResponse::new(400, body);
            }
            _ => {
                let body = json!({ "error": "unsupported_grant_type", "error_description": "Unsupported grant_type" });
                return EmulatedResponse::new(400, body);
            }
        }
        EmulatedResponse::ok(json!({
            "access_token": self.issuing.issue(""),
            "expires_in": self.issuing.lifetime.as_secs(),
            "refresh_expires_in": REFRESH_LIFETIME.as_secs(),
            "refresh_token": self.issuing.issue_refresh(REFRESH_LIFETIME),
            "token_type": "Bearer",
            "not-before-policy": 0,
            "session_state": format!("{:032x}", fastrand::u128(..)),
            "scope": "profile email",
        }))
    }

    fn second(&mut self, call: &Call, operation: &[&str]) -> EmulatedResponse {
        match (call.method(), operation) {
            ("POST", ["web-checkout"]) => self.create(call),
            ("GET", ["web-checkout", "status"]) => self.status(call),
            ("POST", ["web-checkout", "refund"]) => self.refund(call, call.amount("amount")),
            ("GET", ["web-checkout", "transactions"]) => {
                EmulatedResponse::ok(json!({ "transactions": self.orders.all() }))
            }
            ("GET", ["web-checkout", "shopper"]) => shopper(call),
            ("POST", ["request-to-pay"]) => self.request_to_pay(call),
            _ => not_found(),
        }
    }

    fn first(&mut self, call: &Call, operation: &[&str]) -> EmulatedResponse {
        match (call.method(), operation) {
            ("POST", ["web-checkout"]) => self.create(call),
            ("GET", ["web-checkout", "status"]) => self.status(call),
            // The plugins pay back on a GET.
            ("GET" | "POST", ["web-checkout", "refund"]) => self.refund(call, None),
            ("POST", ["web-checkout", "refund", "partial"]) => match call.amount("amount") {
                Some(amount) => self.refund(call, Some(amount)),
                None => bad_request("amount is required"),
            },
            ("GET", ["web-checkout", "transactions", order]) => {
                self.orders.get(order).map_or_else(no_order, |order| {
                    EmulatedResponse::ok(json!({ "transactions": [order] }))
                })
            }
            ("GET", ["web-checkout", "transactions"]) => {
                EmulatedResponse::ok(json!({ "transactions": self.orders.all() }))
            }
            ("GET", ["web-checkout", "shopper"]) => shopper(call),
            ("POST", ["request-to-pay"]) => self.request_to_pay(call),
            _ => not_found(),
        }
    }

    fn create(&mut self, call: &Call) -> EmulatedResponse {
        let Some(id) = order_id(call) else {
            return bad_request("order_id is required");
        };
        if self.orders.get(&id).is_some() {
            return EmulatedResponse::new(400, json!({ "error": "Order ID must be unique" }));
        }
        self.orders
            .add(&id, order(&id, call.amount("amount").unwrap_or(10.0)));
        EmulatedResponse::ok(json!({
            "order_id": id,
            "paymentLinkUrl": format!("https://checkout.invalid/paylater/{id}"),
        }))
    }

    fn status(&self, call: &Call) -> EmulatedResponse {
        let order = order_id(call).and_then(|id| self.orders.get(&id));
        order.map_or_else(no_order, |order| EmulatedResponse::ok(order.clone()))
    }

    /// There is no key: a repeat is a second refund, as long as something is left.
    fn refund(&mut self, call: &Call, amount: Option<f64>) -> EmulatedResponse {
        let order = order_id(call).and_then(|id| self.orders.get_mut(&id));
        let Some(order) = order else {
            return no_order();
        };
        let number = |name: &str| order[name].as_f64().unwrap_or_default();
        let left = number("amount") - number("refunded_amount");
        let amount = amount.unwrap_or(left);
        if left <= 0.0 || amount > left {
            let body = json!({ "error": "Refund failed", "message": "The amount exceeds what is left of the order" });
            return EmulatedResponse::new(400, body);
        }
        let refunded = number("refunded_amount") + amount;
        order["refunded_amount"] = json!(refunded);
        order["status"] = match left > amount {
            true => "PARTIALLY_REFUNDED".into(),
            false => "REFUNDED".into(),
        };
        // Accepted, no more: how it ended is a webhook's to say.
        EmulatedResponse::ok(json!({
            "message": "Refund request accepted",
            "order_id": order["order_id"],
            "amount": amount,
        }))
    }

    fn request_to_pay(&mut self, call: &Call) -> EmulatedResponse {
        let names = ["reference", "order_id", "orderId"];
        let Some(reference) = call.text(&names) else {
            return bad_request("reference is required");
        };
        if self.requests_to_pay.get(&reference).is_some() {
            let body = json!({ "error": "RTP-409-DUPLICATE-REFERENCE", "message": "The reference was used before" });
            return EmulatedResponse::new(409, body);
        }
        let request = json!({ "reference": reference, "status": "SENT", "created_at": rfc3339() });
        self.requests_to_pay.add(&reference, request.clone());
        EmulatedResponse::ok(request)
    }
}

fn order(id: &str, amount: f64) -> Value {
    json!({
        "order_id": id,
        "transaction_reference": format!("PL-{id}"),
        "amount": amount,
        "refunded_amount": 0.0,
        "status": "PAID",
        "created_at": rfc3339(),
    })
}

/// As either version calls it.
fn order_id(call: &Call) -> Option<String> {
    let id = call.text(&["order_id", "orderId", "transactionReference"])?;
    Some(id.strip_prefix("PL-").map(str::to_owned).unwrap_or(id))
}

fn shopper(call: &Call) -> EmulatedResponse {
    match call.text(&["mobile_number", "email"]) {
        Some(_) => EmulatedResponse::ok(json!({ "eligible": true })),
        None => bad_request("mobile_number or email is required"),
    }
}

fn no_order() -> EmulatedResponse {
    EmulatedResponse::new(404, json!({ "error": "Order not found" }))
}

fn bad_request(message: &str) -> EmulatedResponse {
    EmulatedResponse::new(400, json!({ "error": "Bad Request", "message": message }))
}

fn not_found() -> EmulatedResponse {
    EmulatedResponse::unknown(json!({ "error": "Not Found" }))
}
