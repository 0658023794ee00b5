//! The emulations against the presets: neither may know an operation that the other does not.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::Request;
use serde_json::Value;

use super::call::{Call, EmulatedResponse};
use super::provider::Emulation;
use super::*;
use bursar_config::{Authorization, Config, Route};

const LIFETIME: Duration = Duration::from_secs(60);

fn dialect(name: &str) -> &'static Dialect {
    DIALECTS
        .into_iter()
        .find(|dialect| dialect.name == name)
        .unwrap()
}

/// A request that shows whatever any operation may want to see besides a token.
fn call(method: &str, path: &str, token: &str) -> Call {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("merchantid", "8123456")
        .header("payoutmerchantid", "1111594");
    let (head, ()) = request.body(()).unwrap().into_parts();
    Call::new(head, b"", 0)
}

/// An operation of a preset, with the scopes that Bursar asks for.
struct Known {
    method: String,
    path: String,
    scopes: String,
    /// For everything below a path; there need not be an operation of that very name.
    is_wide: bool,
}

fn routes(name: &str) -> Vec<Known> {
    let text = format!(
        "providers: {{p: {{preset: {name}, environment: sandbox, client_id: a, client_secret: b}}}}"
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    let provider = &config.providers[0];
    let row = |route: &Route| {
        let methods = route.methods.clone().unwrap();
        let path = route.path.as_str().to_owned();
        let (Authorization::Bursar(set) | Authorization::CallerOrBursar(set)) = route.authorization
        else {
            panic!("{path} has no scopes");
        };
        let scopes = provider.scope_sets[set].to_string();
        methods.into_iter().map(move |method| Known {
            method: method.to_string(),
            path: path.replace("**", "x").replace('*', "x"),
            scopes: scopes.clone(),
            is_wide: path.contains("**"),
        })
    };
    preset_routes(provider).into_iter().flat_map(row).collect()
}

fn preset_routes(provider: &bursar_config::Provider) -> Vec<&Route> {
    let known = provider.known.iter();
    known.flat_map(|known| &known.routes).collect()
}

fn respond(
    emulation: &mut dyn Emulation,
    scopes: &str,
    (method, path): (&str, &str),
) -> EmulatedResponse {
    let token = emulation.issuing().issue(scopes);
    emulation.respond(&call(method, path, &token))
}

#[test]
fn every_operation_of_the_presets_is_emulated_and_takes_the_token_that_bursar_brings() {
    for dialect in DIALECTS {
        let mut emulation = (dialect.emulation)(LIFETIME);
        for known in routes(dialect.name) {
            let asked = (&*known.method, &*known.path);
            let response = respond(&mut *emulation, &known.scopes, asked);
            let shown = format!(
                "{} {asked:?} ({}): {response:?}",
                dialect.name, known.scopes
            );
            assert!(!response.is_unknown || known.is_wide, "{shown}");
            assert!(!matches!(response.status, 401 | 403), "{shown}");
        }
    }
}

#[test]
fn payu_refuses_whatever_token_has_another_scope() {
    let mut emulation = (dialect("payu").emulation)(LIFETIME);
    let all = routes("payu");
    let scopes: BTreeSet<&str> = all.iter().map(|known| &*known.scopes).collect();
    for known in &all {
        let (method, path) = (&*known.method, &*known.path);
        let method = if method == "HEAD" { "GET" } else { method };
        let operation = payu::OPERATIONS.iter().find(|operation| {
            let pattern = bursar_base::path::Pattern::parse(operation.path).unwrap();
            operation.method.is_none_or(|own| own == method)
                && pattern.matches(payu::newer_spelling(path))
        });
        for &other in &scopes {
            let has = |wanted: &&str| other.split(' ').any(|scope| scope == *wanted);
            let sets = operation.unwrap().scopes;
            let is_enough = sets.iter().any(|set| set.iter().all(has));
            let response = respond(&mut *emulation, other, (method, path));
            let is_refused = matches!(response.status, 401 | 403);
            assert_eq!(is_refused, !is_enough, "{method} {path} with {other}");
        }
    }
}

#[test]
fn no_provider_answers_without_a_token_or_at_a_path_that_it_does_not_have() {
    for (name, path, refusal) in [
        (
            "paylater",
            "/api/paylater/merchant-portal/v2/web-checkout/status",
            r#"{"error":"Invalid API Key"}"#,
        ),
        (
            "payu",
            "/api/v1/merchants/1",
            r#"{"status":"Unauthorized"}"#,
        ),
        (
            "alternative_payments",
            "/invoices",
            r#"{"code":"unauthorized","message":"missing or expired access_token"}"#,
        ),
        (
            "quidkey",
            "/api/v1/payment-links",
            r#"{"error":{"code":"INVALID_TOKEN","message":"the token is expired or unknown","metadata":{"errors":[]}},"success":false}"#,
        ),
    ] {
        let mut emulation = (dialect(name).emulation)(LIFETIME);
        let refused = emulation.respond(&call("GET", path, "unknown"));
        let body = refused.body.unwrap_or(Value::Null).to_string();
        assert_eq!((refused.status, &*body), (401, refusal), "{name}");
        let token = emulation.issuing().issue("");
        for path in ["/", "/nowhere", "/api/v9/x"] {
            let response = emulation.respond(&call("GET", path, &token));
            assert!(
                response.is_unknown && response.status == 404,
                "{name} {path}: {response:?}"
            );
        }
    }
}

#[test]
fn revocation_ends_the_clients_tokens_and_not_a_persons() {
    let mut issuing = issuing::Issuing::new("x", LIFETIME);
    let (client, person) = (issuing.issue("a"), issuing.issue_to_user("b", LIFETIME));
    assert_eq!(issuing.scopes(Some(&client)), Some(("a", false)));
    assert_eq!(issuing.revoke_all(), 1);
    assert_eq!(issuing.scopes(Some(&client)), None);
    assert_eq!(issuing.scopes(Some(&person)), Some(("b", true)));
}

fn post(path: &str, headers: [(&str, &str); 2], body: &str) -> Call {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    Call::new(head, body.as_bytes(), body.len())
}

#[test]
fn quidkey_knows_a_key_where_its_guides_have_one_and_repeats_everything_else() {
    let mut emulation = (dialect("quidkey").emulation)(LIFETIME);
    let token = format!("Bearer {}", emulation.issuing().issue(""));
    let headers = [("authorization", &*token), ("idempotency-key", "k-1")];
    for (path, is_keyed) in [
        ("/api/v1/payment-requests", true),
        ("/api/v1/payment-requests:redirect", true),
        ("/api/v1/payment-links", true),
        ("/api/v1/embedded/payment-requests", false),
        ("/api/v1/merchants/m/transactions/tx_1001/refunds", false),
    ] {
        let mut ask = || {
            let response = emulation.respond(&post(path, headers, r#"{"amount":1}"#));
            let data = &response.body.unwrap()["data"];
            [&data["payment_token"], &data["id"]].map(Value::clone)
        };
        let (first, second) = (ask(), ask());
        assert_ne!(first, [Value::Null, Value::Null], "{path}");
        assert_eq!(first == second, is_keyed, "{path}: {first:?} {second:?}");
    }
}

#[test]
fn payus_user_token_is_of_a_merchant_that_is_there_and_needs_its_scope_for_bank_details() {
    let mut emulation = (dialect("payu").emulation)(LIFETIME);
    let client = emulation
        .issuing()
        .issue("send_sign_in_otp verify_sign_in_otp refer_merchant");
    let client = format!("Bearer {client}");
    let headers = [
        ("authorization", &*client),
        ("content-type", "application/json"),
    ];
    let created = r#"{"merchant[mobile]":"900"}"#;
    let created = emulation.respond(&post("/api/v3/merchants", headers, created));
    let created = created.body.unwrap()["merchant"]["mid"].clone();
    for (scope, identity, status) in [
        ("user_profile", "1", 401),
        ("user_profile create_bank_details", "1", 200),
        ("create_bank_details", "900", 200),
    ] {
        let otp = format!(
            r#"{{"otp[identity]":"{identity}","otp[scope]":"{scope}","otp[code]":"5154"}}"#
        );
        let sent = emulation.respond(&post("/api/v1/otps/send_otp", headers, &otp));
        assert_eq!(sent.status, 200);
        let token = emulation.respond(&post("/api/v1/otps/verify_otp", headers, &otp));
        let token = token.body.unwrap();
        assert_eq!(token["mid"] == created, identity == "900", "{token}");
        let merchant = format!("/api/v1/merchants/{}", token["mid"].as_str().unwrap());
        let user = format!("Bearer {}", token["access_token"].as_str().unwrap());
        let headers = [("authorization", &*user), headers[1]];
        let bank = emulation.respond(&post(&format!("{merchant}/add_bank_detail"), headers, "{}"));
        assert_eq!(bank.status, status, "{scope}");
        let penny = emulation.respond(&post(&format!("{merchant}/verify_penny"), headers, "{}"));
        assert_eq!(penny.status, 200, "{scope}");
    }
}
