use http::header::AUTHORIZATION;
use proptest::prelude::*;

use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn clean(fields: &[(&str, &str)]) -> Vec<String> {
    let mut headers = map(fields);
    clean_request(&mut headers, false);
    let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
    left.sort();
    left
}

#[test]
fn every_connection_line_is_walked() {
    let left = clean(&[
        ("Connection", "close, X-One"),
        ("Connection", "x-two , keep-alive"),
        ("X-One", "1"),
        ("X-Two", "2"),
        ("X-Three", "3"),
        ("Keep-Alive", "timeout=5"),
    ]);
    assert_eq!(left, ["x-three"]);
}

#[test]
fn what_a_request_must_not_carry_on_is_removed() {
    let left = clean(&[
        ("Authorization", "Bearer mine"),
        ("Authorization", "Basic YTpi"),
        ("Proxy-Authorization", "Basic YTpi"),
        ("Proxy-Foo", "x"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X_HTTP_Method_Override", "DELETE"),
        ("Transfer_Encoding", "chunked"),
        ("Content_Length", "5"),
        ("Proxy_Authorization", "Basic YTpi"),
        ("Bursar-Account", "red"),
        ("Bursar_Account", "red"),
        ("Bursar-Reference", "order-17"),
        ("Bursar_Reference", "order-17"),
        ("Bursar-Request-Id", "r"),
        ("Bursar_Request_Id", "r"),
        ("Trailer", "X-Sum"),
        ("Idempotency-Key", "k"),
        ("X-Request-Id", "r"),
    ]);
    assert_eq!(left, ["idempotency-key", "trailer", "x-request-id"]);
}

#[test]
fn connection_cannot_take_the_length_away() {
    assert_eq!(
        clean(&[("Connection", "content-length"), ("Content-Length", "5")]),
        ["content-length"]
    );
}

#[test]
fn a_length_beside_a_transfer_encoding_is_removed_from_answers() {
    let mut headers = map(&[
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "50"),
        ("ETag", "x"),
    ]);
    clean_response(&mut headers);
    assert_eq!(headers, map(&[("ETag", "x")]));
}

#[test]
fn only_java_that_waits_for_its_100_has_to_use_http1() {
    let needs = |version, expect, agent: &str| {
        let mut head = http::Request::new(()).into_parts().0;
        head.version = version;
        head.headers = map(&[("Expect", expect), ("User-Agent", agent)]);
        (needs_http1(&head), needs_continue(&head))
    };
    let java = "Java-http-client/17.0.15";
    let (http1, http2) = (Version::HTTP_11, Version::HTTP_2);
    assert_eq!(needs(http2, "100-Continue", java), (true, false));
    assert_eq!(needs(http1, "100-Continue", java), (false, true));
    assert_eq!(needs(http2, "100-continue", java), (false, false));
    // It spells it like that and sends its body without waiting.
    assert_eq!(needs(http2, "100-Continue", "GuzzleHttp/7"), (false, false));
}

#[test]
fn cookie_crumbs_are_joined() {
    let mut headers = map(&[("Cookie", "a=1"), ("Cookie", "b=2")]);
    join_cookies(&mut headers);
    assert_eq!(headers, map(&[("Cookie", "a=1; b=2")]));
}

/// What callers' tracers send, and how gateways may have spelt it.
const TRACE: [&str; 15] = [
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-sampled",
    "uber-trace-id",
    "uberctx-user",
    "x-cloud-trace-context",
    "x-amzn-trace-id",
    "x_b3_traceid",
    "x-amzn_trace_id",
    "sentry_trace",
    "correlation_context",
    "ot_baggage_user",
];

#[test]
fn the_trace_of_a_caller_ends_unless_it_is_forwarded() {
    // Their look-alikes go on.
    let others = [
        "x-request-id",
        "trace",
        "b33",
        "x-b3",
        "uber",
        "traceparent2",
    ];
    let fields = || {
        map(&[TRACE.as_slice(), &others]
            .concat()
            .iter()
            .map(|name| (*name, "1"))
            .collect::<Vec<_>>())
    };
    for forwards in [false, true] {
        let (mut head, mut trailers) = (fields(), fields());
        let cleaned = clean_request(&mut head, forwards);
        cleaned.clean_trailers(&mut trailers);
        for left in [head, trailers] {
            for name in TRACE {
                assert_eq!(left.contains_key(name), forwards, "{name}");
            }
            assert!(
                others.iter().all(|name| left.contains_key(*name)),
                "{left:?}"
            );
        }
    }
    let mut foreign = fields();
    clean_foreign_request(&mut foreign);
    assert_eq!(foreign, fields(), "its server is no provider");
}

#[test]
fn this_instance_is_found_in_via_wherever_it_stands_and_no_other_is() {
    let (own, other) = (Via::unique(), Via::unique());
    let mut sent = HeaderMap::new();
    own.append(&mut sent, Version::HTTP_11);
    let element = sent[VIA].to_str().unwrap().to_owned();
    let name = element.strip_prefix("1.1 ").unwrap();
    assert!(name.starts_with("bursar-"), "{name}");
    for (value, is_ours) in [
        (element.clone(), true),
        (format!("2 {name}"), true),
        (
            format!("1.0 fred, HTTP/1.1 {} (2.0)", name.to_uppercase()),
            true,
        ),
        (format!("1.1 fred,{element},1.1 mary"), true),
        (format!("1.1\t{name}"), true),
        (format!("1.1 fred (for {name}, perhaps)"), true),
        ("1.1 bursar".to_owned(), false),
        ("1.1 bursar-".to_owned(), false),
        ("1.1 bursar-0123456789abcdef".to_owned(), false),
        (String::new(), false),
    ] {
        let headers = map(&[("via", "1.1 a"), ("via", &value), ("via", "1.1 b")]);
        assert_eq!(
            ControlFields::read(&headers, &own).is_loop,
            is_ours,
            "{value}"
        );
        assert!(!ControlFields::read(&headers, &other).is_loop, "{value}");
    }
}

#[test]
fn an_account_that_is_not_named_once_and_legibly_is_no_account() {
    for (fields, account) in [
        (&[][..], None),
        (&[("bursar-account", "red")], Some("red")),
        (&[("bursar-account", "r\u{e9}d")], Some("")),
        (
            &[("bursar-account", "red"), ("bursar-account", "red")],
            Some(""),
        ),
    ] {
        assert_eq!(
            ControlFields::read(&map(fields), &Via::unique()).account,
            account,
            "{fields:?}"
        );
    }
}

/// All that is ever taken out, as it is spelt usually.
const UNWANTED: [&str; 38] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "authorization",
    "expect",
    "bursar-account",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-x",
    "content_length",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "uber-trace-id",
    "uberctx-user",
    "x-cloud-trace-context",
    "x-amzn-trace-id",
    "x-b3-sampled",
    "x-datadog-trace-id",
    "x-ot-span-context",
    "ot-tracer-traceid",
    "ot-baggage-user",
    "correlation-context",
    "sentry-trace",
    "newrelic",
    "elastic-apm-traceparent",
    "grpc-trace-bin",
];

#[test]
fn no_name_that_is_taken_out_is_ordinary_however_it_is_spelt() {
    let is_other = |name: &str| must_not_go_on(name, false) || ends_at_bursar(name);
    let mut spellings = 0;
    for name in UNWANTED {
        let hyphens = name.matches(['-', '_']).count();
        for spelling in 0..1_u32 << hyphens {
            let mut at = 0;
            let spelt = name.replace(['-', '_'], "\0");
            let spelt: String = spelt
                .chars()
                .map(|char| match char {
                    '\0' => {
                        at += 1;
                        if spelling >> (at - 1) & 1 == 0 {
                            '-'
                        } else {
                            '_'
                        }
                    }
                    char => char,
                })
                .collect();
            let is_taken_out = is_hop_by_hop(&spelt) || is_other(&spelt);
            assert_eq!(is_unwanted(&spelt, is_other), is_taken_out, "{spelt}");
            spellings += usize::from(is_taken_out);
        }
    }
    assert!(spellings > UNWANTED.len());
}

#[test]
fn what_is_learnt_of_a_response_is_so_after_connection_took_its_own_away() {
    for (fields, has_date, has_location) in [
        (&[("date", "now")][..], true, false),
        (&[("date", "now"), ("connection", "date")], false, false),
        (&[("date", "now"), ("connection", "close")], true, false),
        (&[("location", "/")], false, true),
        (&[("content-location", "/"), ("date", "now")], true, true),
        (&[], false, false),
    ] {
        let mut headers = map(fields);
        let cleaned = clean_response(&mut headers);
        assert_eq!(cleaned.has_date, has_date, "{fields:?}");
        assert_eq!(headers.contains_key(DATE), has_date, "{fields:?}");
        assert_eq!(cleaned.has_location, has_location, "{fields:?}");
    }
}

proptest! {
    #[test]
    fn no_header_of_a_caller_removes_or_repeats_the_authorization(
        names in prop::collection::vec("authorization|AUTHORIZATION|Connection|proxy-[a-z]{1,5}|te|x-[a-z]{1,3}|keep-alive|content-length", 0..8),
        connection in "[, ]{0,2}(authorization|Authorization|via|x-[a-z]{1,3}|close|keep-alive)?(, ?(authorization|host|upgrade))?",
    ) {
        let mut headers = HeaderMap::new();
        for name in &names {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("v"));
        }
        headers.append(CONNECTION, HeaderValue::from_str(&connection).unwrap());
        clean_request(&mut headers, false);
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer ours"));
        prop_assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1);
        for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
            prop_assert!(!headers.contains_key(name), "{name} survived");
        }
        prop_assert!(!headers.keys().any(|name| name.as_str().starts_with("proxy-")));
    }
}

#[test]
fn no_response_of_a_provider_says_that_it_is_bursars() {
    for (field, is_kept) in [
        (
            "bursar; error=http_request_denied; details=\"frozen\"",
            false,
        ),
        ("cdn; received-status=502, Bursar", false),
        ("\"bursar\";error=loop", false),
        ("cdn; details=\"bursar\"", true),
        ("bursars", true),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("proxy-status", HeaderValue::from_str(field).unwrap());
        clean_response(&mut headers);
        assert_eq!(headers.contains_key("proxy-status"), is_kept, "{field}");
    }
}
