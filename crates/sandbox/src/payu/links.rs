//! PayU's payment links: always 200, and `status` says whether it worked.
//!
//! Modelled on the reference's pages of each operation and its OpenAPI. A customer pays as soon as a link is there.

use serde_json::{Value, json};

use crate::call::{Call, EmulatedResponse, Records};
use crate::issuing::rfc3339;

pub(crate) struct Links {
    links: Records,
}

impl Links {
    pub(crate) fn new() -> Self {
        let mut links = Records::default();
        links.add("INV1000", link("INV1000", 10.0));
        Self { links }
    }

    /// None: there is no such operation.
    pub(crate) fn respond(&mut self, call: &Call, segments: &[&str]) -> Option<EmulatedResponse> {
        // The tables of the same pages call it `mid`.
        if call
            .header("merchantid")
            .or_else(|| call.header("mid"))
            .is_none()
        {
            return Some(failure("merchantId is missing"));
        }
        let response = match (call.method(), segments) {
            ("POST", [_]) => self.create(call),
            ("GET", [_]) => {
                let links = self.links.all();
                success(Value::Null, json!({ "total": links.len(), "paymentLinks": links }))
            }
            ("GET", [_, id]) => self.with(id, |link| success(Value::Null, link.clone())),
            ("PUT", [_, id]) => self.with(id, |link| update(link, call)),
            ("DELETE", [_, id]) => self.with(id, |link| {
                end(link);
                success("Payment link cancelled".into(), link.clone())
            }),
            ("POST", [_, id, "share"]) => self.with(id, |_| {
                success("Payment link shared".into(), Value::Null)
            }),
            ("GET", [_, id, "txns" | "transactions"]) => self.with(id, |link| {
                let transactions = json!([{
                    "mihpayid": format!("4039937{}", link["invoiceNumber"].as_str().unwrap_or_default()),
                    "amount": link["totalAmountCollected"],
                    "status": "success",
                }]);
                success(Value::Null, json!({ "transactions": transactions }))
            }),
            _ => return None,
        };
        Some(response)
    }

    fn create(&mut self, call: &Call) -> EmulatedResponse {
        let Some(amount) = call.amount("subAmount") else {
            return failure("subAmount is required");
        };
        let id = match call.text(&["invoiceNumber"]) {
            Some(id) => id,
            None => self.links.next("INV"),
        };
        if self.links.get(&id).is_some() {
            return failure("Invoice number already exists");
        }
        let created = link(&id, amount);
        self.links.add(&id, created.clone());
        success("paymentLink generated".into(), created)
    }

    fn with(
        &mut self,
        id: &str,
        then: impl FnOnce(&mut Value) -> EmulatedResponse,
    ) -> EmulatedResponse {
        match self.links.get_mut(id) {
            Some(link) => then(link),
            None => failure("Invoice number does not exist"),
        }
    }
}

fn update(link: &mut Value, call: &Call) -> EmulatedResponse {
    if call.field("active") == Some(&Value::Bool(false)) {
        end(link);
    }
    for name in ["expiryDate", "description"] {
        if let Some(value) = call.field(name) {
            link[name] = value.clone();
        }
    }
    success("Payment link updated".into(), link.clone())
}

fn end(link: &mut Value) {
    link["active"] = false.into();
    link["status"] = "inactive".into();
}

fn link(id: &str, amount: f64) -> Value {
    json!({
        "invoiceNumber": id,
        "paymentLink": format!("https://pay.invalid/{id}"),
        "subAmount": amount,
        "tax": 0,
        "shippingCharge": 0,
        "totalAmount": amount,
        "totalAmountCollected": amount,
        "active": true,
        "status": "active",
        "isPartialPaymentAllowed": false,
        "createdOn": rfc3339(),
    })
}

fn success(message: Value, result: Value) -> EmulatedResponse {
    EmulatedResponse::ok(
        json!({ "status": 0, "message": message, "result": result, "errorCode": null, "guid": null }),
    )
}

/// It is 200 all the same.
fn failure(message: &str) -> EmulatedResponse {
    EmulatedResponse::ok(
        json!({ "status": -1, "message": message, "result": null, "errorCode": null, "guid": null }),
    )
}
