//! Quidkey: payment requests, the embedded flow, links, refunds and webhooks, all below `/api/v1`.
//!
//! Tokens as docs.quidkey.com has them (JSON, wrapped in `data`, a refresh endpoint that takes the token alone) and
//! errors as its openapi.json names them (400 `INVALID_INPUT`, 401 `UNAUTHORIZED`, closed request objects). Embedded
//! requests, refunds, `status`, reads by POST and the paths without security are modelled on openapi.json;
//! `payment-requests:redirect`, `PATCH /payment-requests/*` and `Idempotency-Key` on the guides, which are newer.
//! Customers pay at once; what they pay in the embedded flow begins with the payment's initiation.

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Call, EmulatedResponse, Records};
use crate::issuing::{Issuing, rfc3339};
use crate::provider::{Dialect, Emulation};

const TOKEN_PATH: &str = "/api/v1/oauth2/token";
const REFRESH_PATH: &str = "/api/v1/oauth2/refresh";
const REFRESH_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) static DIALECT: Dialect = Dialect {
    name: "quidkey",
    title: "Quidkey",
    client_id: "11111111-2222-3333-4444-555555555555",
    client_secret: "sandbox-quidkey",
    token_path: TOKEN_PATH,
    refresh_path: Some(REFRESH_PATH),
    extra_configuration: &[],
    examples: [
        (
            "request a payment",
            "http://core-dev.quidkey.com/api/v1/payment-requests -H 'Idempotency-Key: 1001' --json '{\"amount\":10}'",
        ),
        (
            "request one for the embedded flow",
            "http://core-dev.quidkey.com/api/v1/embedded/payment-requests --json '{\"amount\":10}'",
        ),
    ],
    emulation: |lifetime| Box::new(Quidkey::new(lifetime)),
};

/// What it remembers.
struct Quidkey {
    issuing: Issuing,
    requests: Records,
    links: Records,
    transactions: Records,
    refunds: Records,
    /// Answers, by operation and key.
    keyed: Records,
}

impl Emulation for Quidkey {
    fn respond(&mut self, call: &Call) -> EmulatedResponse {
        let segments = call.segments();
        let Some(operation) = segments.strip_prefix(&["api", "v1"][..]) else {
            return unknown();
        };
        if let ["oauth2", endpoint] = operation {
            return self.oauth(call, endpoint);
        }
        if let Some(response) = self.without_token(call, operation) {
            return response.showing(call, DIALECT.name, "");
        }
        match call.header("authorization") {
            None => return failure(401, "NO_TOKEN", "there is no token"),
            Some(_) if self.issuing.scopes(call.bearer()).is_none() => {
                return failure(401, "INVALID_TOKEN", "the token is expired or unknown");
            }
            Some(_) => {}
        }
        let response = self.keyed(call, operation);
        response.showing(call, DIALECT.name, "")
    }

    fn issuing(&mut self) -> &mut Issuing {
        &mut self.issuing
    }
}

impl Quidkey {
    fn new(lifetime: Duration) -> Self {
        Self {
            issuing: Issuing::new(DIALECT.name, lifetime),
            requests: Records::default(),
            links: Records::default(),
            transactions: Records::default(),
            refunds: Records::default(),
            keyed: Records::default(),
        }
    }

    fn oauth(&mut self, call: &Call, endpoint: &str) -> EmulatedResponse {
        let text = |name| call.text(&[name]).unwrap_or_default();
        let known = [
            "grant_type",
            "client_id",
            "client_secret",
            "refresh_token",
            "ctx",
        ];
        match (call.method(), endpoint) {
            ("POST", "token" | "refresh") if !call.unknown_fields(&known).is_empty() => {
                failure(400, "INVALID_INPUT", "the object has unknown fields")
            }
            ("POST", "refresh") => self.refreshed(&text("refresh_token")),
            ("POST", "token") if text("grant_type") == "refresh_token" => {
                self.refreshed(&text("refresh_token"))
            }
            ("POST", "token") if text("grant_type") != "client_credentials" => {
                failure(400, "INVALID_INPUT", "grant_type is required")
            }
            ("POST", "token")
                if (text("client_id"), text("client_secret"))
                    != (DIALECT.client_id.into(), DIALECT.client_secret.into()) =>
            {
                failure(401, "UNAUTHORIZED", "client id or secret is wrong")
            }
            ("POST", "token") => {
                let mut tokens = self.tokens();
                tokens["refresh_token"] = self.issuing.issue_refresh(REFRESH_LIFETIME).into();
                success(200, tokens)
            }
            // It takes a token and shows one.
            ("GET", "healthcheck") => success(200, json!({ "token": call.bearer() })),
            _ => unknown(),
        }
    }

    /// The refresh token stays as it is.
    fn refreshed(&mut self, token: &str) -> EmulatedResponse {
        if !self.issuing.knows_refresh(token) {
            return failure(
                401,
                "UNAUTHORIZED",
                "the refresh token is expired or unknown",
            );
        }
        let tokens = self.tokens();
        success(200, tokens)
    }

    fn tokens(&mut self) -> Value {
        json!({
            "access_token": self.issuing.issue(""),
            "token_type": "Bearer",
            "expires_in": self.issuing.lifetime.as_secs(),
        })
    }

    /// What a browser asks; the token in path or body says what for.
    fn without_token(&mut self, call: &Call, operation: &[&str]) -> Option<EmulatedResponse> {
        let response = match (call.method(), operation) {
            ("GET" | "POST", ["payment-links", token, "details"]) => found(self.links.get(token)),
            ("POST", ["payment-links", token, "confirm"]) => match self.links.get(token).cloned() {
                Some(link) => {
                    let transaction = self.pay(&link["amount"], token);
                    success(200, json!({ "transaction_id": transaction }))
                }
                None => not_found(),
            },
            ("POST", ["embedded", "payment-initiation"] | ["payment-initiation", ..]) => {
                let token = call.text(&["payment_token"]).unwrap_or_default();
                match self.requests.get(&token).cloned() {
                    Some(request) => {
                        let transaction = self.pay(&request["amount"], &token);
                        let link = format!("https://bank.invalid/{token}");
                        success(
                            200,
                            json!({ "payment_link": link, "transaction_id": transaction }),
                        )
                    }
                    None => not_found(),
                }
            }
            ("GET", ["payments", id, "status"]) => {
                let paid = self.transactions.with("payment_token", id).pop();
                found(paid.as_ref().or_else(|| self.transactions.get(id)))
            }
            _ => return None,
        };
        Some(response)
    }

    /// Where the guides know an `Idempotency-Key`, a repeat answers what was answered before; elsewhere it is ignored.
    fn keyed(&mut self, call: &Call, operation: &[&str]) -> EmulatedResponse {
        let knows_key = matches!(
            (call.method(), operation),
            (
                "POST",
                ["payment-requests" | "payment-requests:redirect" | "payment-links"]
            ) | ("PATCH", ["payment-requests", _])
        );
        let key = call.header("idempotency-key").filter(|_| knows_key);
        let key = key.map(|key| format!("{} {} {key}", call.method(), call.path()));
        if let Some(earlier) = key.as_ref().and_then(|key| self.keyed.get(key)) {
            return EmulatedResponse::ok(earlier.clone());
        }
        let response = self.api(call, operation);
        if let (Some(key), Some(body)) = (key, &response.body)
            && response.status < 300
        {
            self.keyed.add(&key, body.clone());
        }
        response
    }

    fn api(&mut self, call: &Call, operation: &[&str]) -> EmulatedResponse {
        match (call.method(), operation) {
            ("POST", ["payment-requests"]) => self.request(call, "direct"),
            ("POST", ["payment-requests:redirect"]) => self.request(call, "redirect"),
            ("POST", ["embedded", "payment-requests"]) => self.request(call, "embedded"),
            ("GET", ["payment-requests", token]) => found(self.requests.get(token)),
            ("PATCH", ["payment-requests", token]) => self.change(call, token),
            ("PATCH", ["embedded", "payment-requests"]) => match call.text(&["payment_token"]) {
                Some(token) => self.change(call, &token),
                None => failure(400, "INVALID_INPUT", "payment_token is required"),
            },
            ("GET", ["payment-links"]) => success(200, self.links.all().into()),
            ("POST", ["payment-links"]) => self.link(call),
            ("GET", ["payment-links", id]) => found(self.links.get(id)),
            ("POST", ["bank-predictions"]) => success(
                200,
                json!([{ "bank_id": "sandbox-bank", "probability": 1.0 }]),
            ),
            ("POST", ["refund-session"]) => match call.text(&["transaction_id"]) {
                Some(id) => self.refund(call, &id),
                None => failure(400, "INVALID_INPUT", "transaction_id is required"),
            },
            (_, ["merchants", merchant, "transactions", rest @ ..]) => {
                self.transactions(call, merchant, rest)
            }
            (_, ["webhooks", rest @ ..]) => webhooks(call, rest),
            _ => unknown(),
        }
    }

    fn transactions(&mut self, call: &Call, merchant: &str, rest: &[&str]) -> EmulatedResponse {
        match (call.method(), rest) {
            // A read, by POST.
            ("POST", []) => success(
                200,
                json!({ "merchant_id": merchant, "transactions": self.transactions.all() }),
            ),
            ("GET", [id]) => found(self.transactions.get(id)),
            ("POST", [id, "refunds"]) => self.refund(call, id),
            ("GET", [id, "refunds"]) => {
                success(200, self.refunds.with("transaction_id", id).into())
            }
            ("PUT", [id, "status"]) => match self.transactions.get_mut(id) {
                Some(transaction) => {
                    let status = call.text(&["status"]).unwrap_or_default();
                    transaction["status"] = status.into();
                    success(200, transaction.clone())
                }
                None => not_found(),
            },
            _ => unknown(),
        }
    }

    fn request(&mut self, call: &Call, kind: &str) -> EmulatedResponse {
        let Some(amount) = call.amount("amount") else {
            return failure(400, "INVALID_INPUT", "amount is required");
        };
        let token = format!("pt_{:032x}", fastrand::u128(..));
        let request = json!({
            "payment_token": token,
            "kind": kind,
            "amount": amount,
            "created_at": rfc3339(),
        });
        self.requests.add(&token, request.clone());
        if kind != "embedded" {
            self.pay(&request["amount"], &token);
        }
        let mut shown = request;
        shown["redirect_url"] = format!("https://checkout.invalid/quidkey/{token}").into();
        success(201, shown)
    }

    fn change(&mut self, call: &Call, token: &str) -> EmulatedResponse {
        let Some(request) = self.requests.get_mut(token) else {
            return not_found();
        };
        if let Some(amount) = call.amount("amount") {
            request["amount"] = amount.into();
        }
        success(200, request.clone())
    }

    fn link(&mut self, call: &Call) -> EmulatedResponse {
        let Some(amount) = call.amount("amount") else {
            return failure(400, "INVALID_INPUT", "amount is required");
        };
        let id = self.links.next("pl_");
        let link = json!({ "id": id, "amount": amount, "url": format!("https://pay.invalid/{id}"), "status": "active" });
        self.links.add(&id, link.clone());
        success(201, link)
    }

    fn pay(&mut self, amount: &Value, token: &str) -> String {
        let id = self.transactions.next("tx_");
        let transaction = json!({
            "id": id,
            "payment_token": token,
            "amount": amount,
            "refunded_amount": 0.0,
            "status": "completed",
            "created_at": rfc3339(),
        });
        self.transactions.add(&id, transaction);
        id
    }

    /// No key is known for it: a repeat is a second refund.
    fn refund(&mut self, call: &Call, transaction: &str) -> EmulatedResponse {
        let Some(row) = self.transactions.get_mut(transaction) else {
            return not_found();
        };
        let number = |name: &str| row[name].as_f64().unwrap_or_default();
        let left = number("amount") - number("refunded_amount");
        let amount = call.amount("amount").unwrap_or(left);
        if left <= 0.0 || amount > left {
            return failure(
                422,
                "REFUND_EXCEEDS_PAYMENT",
                "more than what is left of it",
            );
        }
        row["refunded_amount"] = (number("refunded_amount") + amount).into();
        let id = self.refunds.next("rf_");
        let refund = json!({ "id": id, "transaction_id": transaction, "amount": amount, "status": "pending" });
        self.refunds.add(&id, refund.clone());
        success(201, refund)
    }
}

/// The secret is shown once, and is another one with each call.
fn webhooks(call: &Call, rest: &[&str]) -> EmulatedResponse {
    match (call.method(), rest) {
        ("GET", []) => success(200, json!([])),
        ("POST" | "PUT" | "PATCH", []) => success(200, json!({ "url": call.text(&["url"]) })),
        ("DELETE", [] | [_]) => success(200, Value::Null),
        ("POST", ["secret"]) => {
            let secret = format!("whsec_{:032x}", fastrand::u128(..));
            success(200, json!({ "secret": secret }))
        }
        ("POST", ["secret", "revoke"]) => success(200, Value::Null),
        _ => unknown(),
    }
}

fn success(status: u16, data: Value) -> EmulatedResponse {
    EmulatedResponse::new(status, json!({ "success": true, "data": data }))
}

fn found(row: Option<&Value>) -> EmulatedResponse {
    row.map_or_else(not_found, |row| success(200, row.clone()))
}

fn failure(status: u16, code: &str, message: &str) -> EmulatedResponse {
    let error = json!({ "code": code, "message": message, "metadata": { "errors": [] } });
    EmulatedResponse::new(status, json!({ "success": false, "error": error }))
}

/// Another tenant's things are not there either.
fn not_found() -> EmulatedResponse {
    failure(404, "NOT_FOUND", "there is no such thing")
}

fn unknown() -> EmulatedResponse {
    EmulatedResponse {
        is_unknown: true,
        ..failure(404, "NOT_FOUND", "there is no such path")
    }
}
