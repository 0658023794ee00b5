//! Fields are shown in order.

use std::num::NonZeroU32;
use std::time::SystemTime;

use super::payments::Payment;
use super::tokens::Refused;
use super::*;
use crate::exchange;
use crate::upstream::ServerHealth;
use bursar_telemetry::metrics::Cause;

/// As a map of [`serde_json`] has them, which sorts them.
fn sorted(shown: &impl Serialize) -> String {
    let value = serde_json::to_value(shown).unwrap();
    format!("{value:#}")
}

fn server() -> ServerHealth {
    ServerHealth {
        provider: "acme".into(),
        host: "api.test:443".into(),
        cause: Some(Cause::Refused),
        since: SystemTime::UNIX_EPOCH,
        last: SystemTime::UNIX_EPOCH,
    }
}

fn token() -> Token {
    let refused = Refused {
        forbidden: 1,
        last: String::new(),
        route: "x".into(),
        since: String::new(),
        unauthorized: 0,
        why: String::new(),
    };
    Token {
        account: "default".to_owned(),
        age_seconds: Some(1.5),
        contention: None,
        environment: Some("sandbox"),
        expires_at: None,
        expires_in_seconds: Some(60.0),
        fingerprint: None,
        generation: 1,
        last_error: None,
        last_error_at: None,
        last_outcome: Some("ok"),
        last_outcome_at: None,
        margin_seconds: None,
        missing_scopes: None,
        provider: "acme".into(),
        refused_routes: vec![refused],
        remarks: Vec::new(),
        renewal_is_failing: false,
        scopes: String::new(),
        secret_in_use: "client_secret",
    }
}

#[test]
fn keys_are_shown_in_the_order_of_the_alphabet() {
    let status = Status {
        at: String::new(),
        certificates: vec![Certificate::example()],
        draining: false,
        fleet: Some(Fleet::example()),
        freezes: vec![Freeze::of((
            "acme",
            exchange::Frozen {
                by_command: None,
                in_file: None,
            },
        ))],
        frozen: vec!["acme".into()],
        held_providers: Vec::new(),
        instance: "bursar-0:3128".to_owned(),
        journal_is_failing: false,
        last_hour: vec![Minute::example()],
        last_reload: Some(LastReload {
            at: String::new(),
            outcome: "ok",
            problems: vec!["x".to_owned()],
        }),
        payments_in_doubt: Some(PaymentsInDoubt {
            count: Some(1),
            oldest: vec![Payment::example()],
        }),
        recent_refusals: vec![Refusal::default()],
        reloads: Reloads { ok: 1, rejected: 1 },
        replay_memory_used_bytes: 0,
        started: String::new(),
        token_endpoints: vec![TokenEndpoint {
            calls_are_held: false,
            calls_per_minute: NonZeroU32::MIN,
            calls_that_waited: 0,
            provider: "acme".into(),
        }],
        tokens: vec![token()],
        upstreams: vec![UpstreamServer::of(server())],
        version: "0",
    };
    let shown = serde_json::to_string_pretty(&status).unwrap();
    assert_eq!(shown, sorted(&status));
    let bad = Health {
        frozen: true,
        ..Health::bad("down".to_owned())
    };
    let readiness = Readiness {
        providers: [("good".into(), Health::good()), ("bad".into(), bad)].into(),
        ready: true,
        why: None,
    };
    let shown = serde_json::to_string_pretty(&readiness).unwrap();
    assert_eq!(shown, sorted(&readiness));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let expected = serde_json::json!({
        "good": {"healthy": true},
        "bad": {"frozen": true, "healthy": false, "why": "down"},
    });
    assert_eq!(shown["providers"], expected);
}
