//! What a line says, and what it leaves out.

use serde_json::{Value, json};

use super::*;
use crate::line_writer::MAX_LINE_BYTES;

fn line<'a>() -> Line<'a> {
    Line {
        at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_190_405_000_042),
        is_own: true,
        request_id: 0xab,
        client: [10, 0, 0, 255].into(),
        claimed_caller: Some("till"),
        form: "absolute",
        host: Some("Api.Test"),
        correlation: Correlation {
            reference: Some("order-\"17"),
            reference_dropped: None,
            caller_request_id: Some("r-1"),
            trace_id: Some(0xcd),
        },
        caller: "check\"out",
        provider: "payu",
        account: None,
        route: Some("POST /a\\b"),
        method: "POST",
        path: "/caf\u{e9}/\u{7}\u{9b}31m\u{2028}",
        status: 502,
        reason: Some("upstream_protocol"),
        detail: Some("broken"),
        cause: Some("reset"),
        upstream_host: Some("secure.payu.in:443"),
        upstream_address: Some(([203, 0, 113, 9], 443).into()),
        token: Some((7, Fingerprint::of("token"))),
        replayed: true,
        total: Duration::from_nanos(12_034_567_891),
        token_wait: Duration::ZERO,
        upstream: Duration::from_micros(5),
        request_bytes: u64::MAX,
        response_bytes: 0,
    }
}

#[test]
fn a_line_is_one_json_object_whatever_its_text() {
    let mut out = Vec::new();
    line().write_json(&mut out);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    let text = std::str::from_utf8(&out).unwrap();
    assert_eq!(plain_json(text), text, "nothing steers a terminal");
    let read: Value = serde_json::from_slice(&out).unwrap();
    let expected = json!({
        "timestamp": "2026-11-20T16:00:05.000042Z", "level": "WARN", "target": "bursar::access", "message": "request",
        "request_id": "000000000000000000000000000000ab",
        "reference": "order-\"17", "reference_dropped": null, "caller_request_id": "r-1",
        "trace_id": "000000000000000000000000000000cd", "client": "10.0.0.255", "caller": "check\"out", "claimed_caller": "till", "provider": "payu", "account": null,
        "route": "POST /a\\b", "form": "absolute", "host": "Api.Test", "method": "POST", "path": "/caf\u{e9}/\u{7}\u{9b}31m\u{2028}", "status": 502, "reason": "upstream_protocol", "detail": "broken", "cause": "reset",
        "upstream_host": "secure.payu.in:443", "upstream_address": "203.0.113.9:443",
        "token_generation": 7, "token_fingerprint": Fingerprint::of("token").as_str(), "replayed": true,
        "total_ms": 12_034.567, "token_wait_ms": 0.0, "upstream_ms": 0.005,
        "request_bytes": u64::MAX, "response_bytes": 0,
    });
    assert_eq!(read, expected);
}

#[test]
fn the_longest_line_is_short_enough_and_says_what_is_missing() {
    for char in ["a", "\"", "\u{1}", "\u{9b}", "語"] {
        let long = char.repeat(100_000);
        let identifier = char.repeat(256 / char.len());
        let line = Line {
            correlation: Correlation {
                reference: Some(&identifier),
                reference_dropped: Some("not_visible_ascii"),
                caller_request_id: Some(&identifier),
                ..line().correlation
            },
            caller: &long,
            claimed_caller: Some(&long),
            host: Some(&long),
            upstream_host: Some(&long),
            client: std::net::Ipv6Addr::from([0xffff; 8]).into(),
            provider: &long,
            account: Some(&long),
            route: Some(&long),
            method: &"M".repeat(100_000),
            path: &long,
            ..line()
        };
        let mut out = Vec::new();
        line.write_json(&mut out);
        assert!(out.len() <= MAX_LINE_BYTES, "{}", out.len());
        let read: Value = serde_json::from_slice(&out).unwrap();
        for field in [
            "caller",
            "claimed_caller",
            "provider",
            "account",
            "route",
            "host",
            "upstream_host",
            "method",
            "path",
        ] {
            let text = read[field].as_str().unwrap();
            assert!(text.ends_with("00 bytes]"), "{field} {text:?}");
        }
        assert_eq!(read["status"], 502);
        let mut out = Vec::new();
        line.write_text(&mut out);
        assert!(out.len() <= MAX_LINE_BYTES, "{}", out.len());
    }
}

#[test]
fn only_errors_of_bursar_s_own_are_warnings() {
    for (is_own, status, is_warning) in [
        (true, 503, true),
        (true, 499, false),
        (true, 407, false),
        (false, 503, false),
    ] {
        let line = Line {
            is_own,
            status,
            ..line()
        };
        let mut out = Vec::new();
        line.write_json(&mut out);
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["level"] == "WARN", is_warning, "{read}");
        assert_eq!(read["level"] == "INFO", !is_warning, "{read}");
    }
}

#[test]
fn an_address_is_written_as_people_write_it() {
    for address in [
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "::1",
        "fd00::1:2",
    ] {
        let mut out = Vec::new();
        write_address(&mut out, address.parse().unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), address);
    }
}

#[test]
fn what_is_not_known_is_null() {
    let mut out = Vec::new();
    let line = Line {
        correlation: Correlation::default(),
        token: None,
        reason: None,
        detail: None,
        claimed_caller: None,
        host: None,
        cause: None,
        upstream_host: None,
        upstream_address: None,
        ..line()
    };
    line.write_json(&mut out);
    let read: Value = serde_json::from_slice(&out).unwrap();
    for field in [
        "reason",
        "cause",
        "upstream_host",
        "upstream_address",
        "token_generation",
        "token_fingerprint",
        "account",
        "reference",
        "reference_dropped",
        "caller_request_id",
        "trace_id",
        "detail",
        "claimed_caller",
        "host",
        "cause",
    ] {
        assert!(read.get(field).is_some(), "{field}");
        assert_eq!(read[field], Value::Null, "{field}");
    }
}

#[test]
fn a_person_gets_one_line_without_control_characters() {
    let mut out = Vec::new();
    line().write_text(&mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.ends_with(" 000000000000000000000000000000ab\n"),
        "{text}"
    );
    assert_eq!(
        text.chars()
            .filter(|character| character.is_control())
            .count(),
        1
    );
    assert!(text.contains("  WARN 502 payu POST Api.Test/caf\\u{e9}/\\u{7}\\u{9b}31m\\u{2028} check\"out 10.0.0.255 upstream_protocol broken reset claimed till at secure.payu.in:443 reference order-\"17 caller's id r-1 trace 000000000000000000000000000000cd token 7 replayed 12034.6 ms"), "{text}");
    let mut out = Vec::new();
    let tunnel = Line {
        form: AUTHORITY,
        host: Some("api.test"),
        path: "api.test:443",
        status: 407,
        ..line()
    };
    tunnel.write_text(&mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("  INFO 407 payu POST api.test:443 check"),
        "{text}"
    );
}
