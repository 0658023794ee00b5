//! Alternative Payments: customers, invoices, payment requests, charges, payouts and webhooks.
//!
//! Tokens as its OpenAPI has them (HTTP Basic, 403 for bad credentials). Paths and the error object `{code, message,
//! validation_errors}` are those of the newest reference; `/payment/request` is the guide's spelling of
//! `/payments/request`. `POST /payments` with its `idempotency_key` in the body, payment methods and invoices' links
//! are modelled on wyre-technology's SDK; `/checkout-auth/init` (400 without `invoice_id`, `{token, expires_at}`) on a
//! client that was tried against the real one. The limit of five requests in a second is not emulated.
//! Customers pay as soon as they are asked to. There is no refund to emulate: none is documented.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::call::{Call, EmulatedResponse, Records};
use crate::issuing::{Issuing, rfc3339, unix_time};
use crate::provider::{Dialect, Emulation};

const TOKEN_PATH: &str = "/oauth/token";

pub(crate) static DIALECT: Dialect = Dialect {
    name: "alternative_payments",
    title: "Alternative Payments",
    client_id: "ap_id",
    client_secret: "sandbox:alternative",
    token_path: TOKEN_PATH,
    refresh_path: None,
    extra_configuration: &[],
    examples: [
        (
            "list invoices",
            "http://public-api.demo.alternativepayments.io/invoices",
        ),
        (
            "request a payment",
            "http://public-api.demo.alternativepayments.io/payments/request --json '{\"customer_id\":\"cus_1000\",\"amount\":1250}'",
        ),
    ],
    emulation: |lifetime| Box::new(AlternativePayments::new(lifetime)),
};

/// What it remembers.
struct AlternativePayments {
    issuing: Issuing,
    customers: Records,
    methods: Records,
    invoices: Records,
    requests: Records,
    payments: Records,
    webhooks: Records,
}

impl Emulation for AlternativePayments {
    fn respond(&mut self, call: &Call) -> EmulatedResponse {
        if call.path() == TOKEN_PATH {
            return self.token(call);
        }
        if self.issuing.scopes(call.bearer()).is_none() {
            return failure(401, "unauthorized", "missing or expired access_token");
        }
        let segments = call.segments();
        let response = match segments.first() {
            Some(&("customers" | "card-form")) => self.customers(call, &segments),
            Some(&"invoices") => self.invoices(call, &segments),
            Some(&("payment" | "payments" | "transactions")) => self.payments(call, &segments),
            Some(&"payouts") => self.payouts(call, &segments),
            Some(&"webhooks") => self.webhooks(call, &segments),
            _ => match (call.method(), &segments[..]) {
                ("POST", ["checkout-auth", "init"] | ["v1", "checkout-auth", "init"]) => {
                    self.checkout(call)
                }
                _ => unknown(),
            },
        };
        response.showing(call, DIALECT.name, "")
    }

    fn issuing(&mut self) -> &mut Issuing {
        &mut self.issuing
    }
}

impl AlternativePayments {
    fn new(lifetime: Duration) -> Self {
        let mut here = Self {
            issuing: Issuing::new(DIALECT.name, lifetime),
            customers: Records::default(),
            methods: Records::default(),
            invoices: Records::default(),
            requests: Records::default(),
            payments: Records::default(),
            webhooks: Records::default(),
        };
        let customer = json!({ "id": "cus_1000", "name": "Acme", "archived": false });
        here.customers.add("cus_1000", customer);
        let invoice = json!({ "id": "inv_1000", "customer_id": "cus_1000", "amount": 1250, "status": "open" });
        here.invoices.add("inv_1000", invoice);
        here
    }

    fn token(&mut self, call: &Call) -> EmulatedResponse {
        let pair = format!("{}:{}", DIALECT.client_id, DIALECT.client_secret);
        let expected = format!("Basic {}", BASE64.encode(pair));
        if call.header("authorization") != Some(&expected) {
            return EmulatedResponse::new(403, json!({ "message": "Invalid credentials" }));
        }
        if call.text(&["grant_type"]).as_deref() != Some("client_credentials") {
            return failure(
                400,
                "invalid_request",
                "grant_type must be client_credentials",
            );
        }
        EmulatedResponse::ok(json!({
            "access_token": self.issuing.issue(""),
            "expires_in": self.issuing.lifetime.as_secs(),
            "token_type": "bearer",
        }))
    }

    fn customers(&mut self, call: &Call, segments: &[&str]) -> EmulatedResponse {
        match (call.method(), segments) {
            ("GET", ["customers"]) => list(self.customers.all()),
            ("POST", ["customers"]) => create(&mut self.customers, "cus_", call, &[]),
            ("GET", ["customers", id]) => show(&self.customers, id),
            ("PUT" | "PATCH", ["customers", id]) => change(&mut self.customers, id, call),
            ("DELETE", ["customers", id]) => match self.customers.get_mut(id) {
                // Archived, no more.
                Some(customer) => {
                    customer["archived"] = true.into();
                    EmulatedResponse::empty(204)
                }
                None => not_found(),
            },
            (_, ["customers", id, ..]) if self.customers.get(id).is_none() => not_found(),
            ("GET", ["customers", _, "users"]) => list(Vec::new()),
            ("POST", ["customers", id, "users"]) => {
                EmulatedResponse::new(201, json!({ "id": "usr_1000", "customer_id": id }))
            }
            ("GET", ["customers", id, "payment-methods"]) => {
                list(self.methods.with("customer_id", id))
            }
            // An account number in the body, which nothing of the answer repeats.
            (
                "POST",
                [
                    "customers",
                    customer,
                    "payment-methods",
                    kind @ ("card" | "bank"),
                ],
            ) => {
                let id = self.methods.next("pm_");
                let method = json!({ "id": id, "customer_id": customer, "type": kind });
                self.methods.add(&id, method.clone());
                EmulatedResponse::new(201, method)
            }
            (_, ["customers", _, "card-form", "credentials"])
            | (_, ["card-form", "credentials"]) => EmulatedResponse::ok(
                json!({ "token": format!("cf_{:016x}", fastrand::u64(..)), "expires_at": rfc3339() }),
            ),
            _ => unknown(),
        }
    }

    fn invoices(&mut self, call: &Call, segments: &[&str]) -> EmulatedResponse {
        match (call.method(), segments) {
            ("GET", ["invoices"]) => list(self.invoices.all()),
            ("POST", ["invoices"]) => {
                let response = create(&mut self.invoices, "inv_", call, &["customer_id", "amount"]);
                self.open(&response, "invoices");
                response
            }
            ("GET", ["invoices", id]) => show(&self.invoices, id),
            ("PUT" | "PATCH", ["invoices", id]) => change(&mut self.invoices, id, call),
            ("DELETE", ["invoices", id]) => match self.invoices.remove(id) {
                Some(_) => EmulatedResponse::empty(204),
                None => not_found(),
            },
            (_, ["invoices", id, ..]) if self.invoices.get(id).is_none() => not_found(),
            ("GET" | "POST", ["invoices", id, link @ ("payment-link" | "pdf-link")]) => {
                EmulatedResponse::ok(json!({ "url": format!("https://pay.invalid/{link}/{id}") }))
            }
            _ => unknown(),
        }
    }

    /// What was created is open.
    fn open(&mut self, created: &EmulatedResponse, what: &str) {
        let id = created.body.as_ref().and_then(|body| body["id"].as_str());
        let records = match what {
            "invoices" => &mut self.invoices,
            _ => &mut self.requests,
        };
        if let Some(row) = id.and_then(|id| records.get_mut(id)) {
            row["status"] = "open".into();
        }
    }

    fn payments(&mut self, call: &Call, segments: &[&str]) -> EmulatedResponse {
        match (call.method(), segments) {
            ("POST", ["payment" | "payments", "request"]) => {
                let response = create(&mut self.requests, "req_", call, &["customer_id", "amount"]);
                self.open(&response, "requests");
                if response.status < 300 {
                    self.pay(call, "request");
                }
                response
            }
            ("GET", ["payment" | "payments", "request", id]) => show(&self.requests, id),
            ("POST", ["payments"]) => self.charge(call),
            ("GET", ["payments" | "transactions"]) => list(self.payments.all()),
            ("GET", ["payments" | "transactions", id]) => show(&self.payments, id),
            _ => unknown(),
        }
    }

    /// A charge with a key that was used before is that charge.
    fn charge(&mut self, call: &Call) -> EmulatedResponse {
        let mut missing = Vec::new();
        for name in [
            "amount",
            "customer_id",
            "payment_method_id",
            "idempotency_key",
        ] {
            if call.field(name).is_none() {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            return invalid(&missing);
        }
        let key = call.text(&["idempotency_key"]).unwrap_or_default();
        if let Some(earlier) = self.payments.with("idempotency_key", &key).first() {
            return EmulatedResponse::ok(earlier.clone());
        }
        EmulatedResponse::new(201, self.pay(call, "charge"))
    }

    fn pay(&mut self, call: &Call, kind: &str) -> Value {
        let id = self.payments.next("pay_");
        let of = |name: &str| call.field(name).cloned().unwrap_or_default();
        let payment = json!({
            "id": id,
            "kind": kind,
            "amount": of("amount"),
            "customer_id": of("customer_id"),
            "idempotency_key": of("idempotency_key"),
            "status": "succeeded",
            "payout_id": "po_1000",
            "created_at": rfc3339(),
        });
        self.payments.add(&id, payment.clone());
        payment
    }

    /// One payout, of everything that was paid.
    fn payouts(&self, call: &Call, segments: &[&str]) -> EmulatedResponse {
        let amounts = self.payments.all();
        let total: f64 = amounts
            .iter()
            .filter_map(|row| row["amount"].as_f64())
            .sum();
        let payout = json!({ "id": "po_1000", "amount": total, "status": "paid" });
        match (call.method(), segments) {
            ("GET", ["payouts"]) => list(vec![payout]),
            ("GET", ["payouts", "po_1000"]) => EmulatedResponse::ok(payout),
            ("GET", ["payouts", "po_1000", "transactions"]) => list(self.payments.all()),
            ("GET", ["payouts", _] | ["payouts", _, "transactions"]) => not_found(),
            _ => unknown(),
        }
    }

    /// The `secret_key` of the request comes back to its receiver as a Bearer.
    fn webhooks(&mut self, call: &Call, segments: &[&str]) -> EmulatedResponse {
        match (call.method(), segments) {
            ("GET", ["webhooks"]) => list(self.webhooks.all()),
            ("POST", ["webhooks"]) => {
                let response = create(&mut self.webhooks, "wh_", call, &["url"]);
                let id = response.body.as_ref().and_then(|body| body["id"].as_str());
                if let Some(Value::Object(row)) = id.and_then(|id| self.webhooks.get_mut(id)) {
                    row.remove("secret_key");
                }
                response
            }
            ("GET", ["webhooks", "events"]) => list(vec![
                "payment.succeeded".into(),
                "payment.failed".into(),
                "payout.paid".into(),
            ]),
            ("POST", ["webhooks", "retry"]) => EmulatedResponse::empty(202),
            ("GET", ["webhooks", id]) => show(&self.webhooks, id),
            ("DELETE", ["webhooks", id]) => match self.webhooks.remove(id) {
                Some(_) => EmulatedResponse::empty(204),
                None => not_found(),
            },
            _ => unknown(),
        }
    }

    /// A browser's token.
    fn checkout(&self, call: &Call) -> EmulatedResponse {
        let Some(invoice) = call.text(&["invoice_id"]) else {
            return invalid(&["invoice_id"]);
        };
        if self.invoices.get(&invoice).is_none() {
            return not_found();
        }
        let token = format!("browser-{:032x}", fastrand::u128(..));
        EmulatedResponse::ok(json!({ "token": token, "expires_at": unix_time() + 900 }))
    }
}

fn create(records: &mut Records, prefix: &str, call: &Call, required: &[&str]) -> EmulatedResponse {
    let missing = required.iter().filter(|name| call.field(name).is_none());
    let missing: Vec<&str> = missing.copied().collect();
    if !missing.is_empty() {
        return invalid(&missing);
    }
    let id = records.next(prefix);
    let mut row = match &call.json {
        Value::Object(object) => Value::Object(object.clone()),
        _ => json!({}),
    };
    row["id"] = id.clone().into();
    row["created_at"] = rfc3339().into();
    records.add(&id, row.clone());
    EmulatedResponse::new(201, row)
}

fn change(records: &mut Records, id: &str, call: &Call) -> EmulatedResponse {
    let Some(Value::Object(row)) = records.get_mut(id) else {
        return not_found();
    };
    if let Value::Object(changes) = &call.json {
        row.extend(changes.clone());
        row.insert("id".into(), id.into());
    }
    EmulatedResponse::ok(Value::Object(row.clone()))
}

fn show(records: &Records, id: &str) -> EmulatedResponse {
    records
        .get(id)
        .map_or_else(not_found, |row| EmulatedResponse::ok(row.clone()))
}

fn list(rows: Vec<Value>) -> EmulatedResponse {
    EmulatedResponse::ok(json!({ "data": rows }))
}

fn failure(status: u16, code: &str, message: &str) -> EmulatedResponse {
    EmulatedResponse::new(status, json!({ "code": code, "message": message }))
}

fn invalid(missing: &[&str]) -> EmulatedResponse {
    let errors: Vec<Value> = missing
        .iter()
        .map(|name| json!({ "field": name, "message": "is required" }))
        .collect();
    EmulatedResponse::new(
        400,
        json!({ "code": "validation_error", "message": "the request is invalid", "validation_errors": errors }),
    )
}

fn not_found() -> EmulatedResponse {
    failure(
        404,
        "not_found",
        "there is no such object in this environment",
    )
}

fn unknown() -> EmulatedResponse {
    EmulatedResponse::unknown(json!({ "code": "not_found", "message": "there is no such path" }))
}
