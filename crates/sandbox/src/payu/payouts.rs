//! PayU's payouts: always 200, and `status` says whether it worked.
//!
//! Modelled on the reference's pages (`payoutMerchantId` in the header, `merchantRefId` unique, error codes of
//! smart-send).

use serde_json::{Value, json};

use crate::call::{Call, EmulatedResponse, Records};
use crate::issuing::rfc3339;

#[derive(Default)]
pub(crate) struct Payouts {
    transfers: Records,
}

impl Payouts {
    /// None: there is no such operation.
    pub(crate) fn respond(&mut self, call: &Call, segments: &[&str]) -> Option<EmulatedResponse> {
        if call
            .header("payoutmerchantid")
            .or_else(|| call.header("pid"))
            .is_none()
        {
            return Some(failure(1100, "INVALID_MERCHANT"));
        }
        let response = match (call.method(), segments) {
            ("POST", ["payout", "payment"] | ["payout", "v2", "payment"]) => self.pay(call),
            ("POST", ["payout", "payment", "cancel"]) => self.cancel(call),
            ("GET" | "POST", ["payout", "payment", "listTransactions"]) => {
                success(json!({ "transactionDetails": self.transfers.all() }))
            }
            ("GET" | "POST", ["payout", "payment", "verifyAccount"]) => success(json!({
                "accountExists": "YES",
                "beneficiaryName": call.text(&["beneName"]),
                "status": "Success",
                "error": "",
            })),
            ("GET" | "POST", ["payout", "merchant", ..]) => {
                success(json!({ "balance": 100_000, "lowBalance": false }))
            }
            _ => return None,
        };
        Some(response)
    }

    /// One transfer, or a list of them.
    fn pay(&mut self, call: &Call) -> EmulatedResponse {
        let transfers = match &call.json {
            Value::Array(transfers) => transfers.clone(),
            Value::Object(_) => vec![call.json.clone()],
            _ => Vec::new(),
        };
        let text = |transfer: &Value, name: &str| match &transfer[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if transfers.is_empty() {
            return failure(1104, "INVALID_AMOUNT");
        }
        for transfer in &transfers {
            if transfer["merchantRefId"].is_null() {
                return failure(1101, "INVALID_MERCHNAT_REF_ID");
            }
            if self
                .transfers
                .get(&text(transfer, "merchantRefId"))
                .is_some()
            {
                return failure(1103, "DUPLICATE_MERCHNAT_REF_ID");
            }
        }
        for transfer in transfers {
            let id = text(&transfer, "merchantRefId");
            let row = json!({
                "merchantRefId": id,
                "amount": transfer["amount"],
                "txnStatus": "SUCCESS",
                "createdOn": rfc3339(),
            });
            self.transfers.add(&id, row);
        }
        success(Value::Null)
    }

    fn cancel(&mut self, call: &Call) -> EmulatedResponse {
        let id = call.text(&["merchantRefId", "merchantRefIds"]);
        match id.and_then(|id| self.transfers.get_mut(&id)) {
            Some(transfer) => {
                transfer["txnStatus"] = "CANCELLED".into();
                success(Value::Null)
            }
            None => failure(1101, "INVALID_MERCHNAT_REF_ID"),
        }
    }
}

fn success(data: Value) -> EmulatedResponse {
    EmulatedResponse::ok(json!({ "status": 0, "msg": null, "code": null, "data": data }))
}

fn failure(code: u32, message: &str) -> EmulatedResponse {
    EmulatedResponse::ok(json!({ "status": 1, "msg": message, "code": code, "data": null }))
}
