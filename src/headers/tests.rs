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
    clean_request(&mut headers);
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
        ("Trailer", "X-Sum"),
        ("Idempotency-Key", "k"),
    ]);
    assert_eq!(left, ["idempotency-key", "trailer"]);
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
fn cookie_crumbs_are_joined() {
    let mut headers = map(&[("Cookie", "a=1"), ("Cookie", "b=2")]);
    join_cookies(&mut headers);
    assert_eq!(headers, map(&[("Cookie", "a=1; b=2")]));
}

#[test]
fn our_own_via_is_found_wherever_it_stands() {
    for (value, is_ours) in [
        ("1.1 bursar", true),
        ("1.0 fred, 1.1 BURSAR (2.0)", true),
        ("HTTP/1.1 bursar", true),
        ("1.1 bursary", false),
        ("bursar", false),
        ("1.1 fred (bursar)", false),
    ] {
        let headers = map(&[("via", value)]);
        assert_eq!(Said::read(&headers).is_loop, is_ours, "{value}");
    }
    for values in [["1.1 a", "1.1 bursar"], ["1.1 bursar", "1.1 a"]] {
        let headers = map(&values.map(|value| ("via", value)));
        assert!(Said::read(&headers).is_loop, "{values:?}");
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
        assert_eq!(Said::read(&map(fields)).account, account, "{fields:?}");
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
        clean_request(&mut headers);
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer ours"));
        prop_assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1);
        for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
            prop_assert!(!headers.contains_key(name), "{name} survived");
        }
        prop_assert!(!headers.keys().any(|name| name.as_str().starts_with("proxy-")));
    }
}
