//! What of a provider's part of the file goes together, and what does not.

use std::path::Path;

use super::{Config, assert_problem};

/// A provider by its preset, with further keys in flow style.
fn preset(name: &str, keys: &str) -> String {
    format!(
        "providers: {{p: {{preset: {name}, environment: sandbox, client_id: 'a', client_secret: 'hR7wq2', {keys}}}}}"
    )
}

/// What is warned of, as text.
fn warnings(text: &str) -> Vec<String> {
    let config = Config::parse(text, Path::new("")).unwrap();
    config.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_presets_refresh_endpoint_gets_no_refresh_token_of_another_server() {
    let own = "url: 'https://login.inside:8443/api/v1/oauth2/token'";
    assert_problem(
        &preset("quidkey", &format!("token: {{{own}}}")),
        "token.refresh_url: is missing; `token.url` names another server than the preset, whose refresh endpoint must not get this one's refresh tokens; write the URL of its own, or `refresh: none`",
    );
    for token in [
        format!("{own}, refresh_url: 'https://login.inside:8443/refresh'"),
        format!("{own}, refresh: none"),
        format!("{own}, refresh: grant"),
        // The preset's own server, in whatever spelling.
        "url: 'https://Core-Dev.Quidkey.com.:443/oauth2/token'".to_owned(),
    ] {
        let text = preset("quidkey", &format!("token: {{{token}}}"));
        let config = Config::parse(&text, Path::new("")).unwrap();
        let urls: Vec<_> = config.providers[0].token.urls().collect();
        let are_of_one = urls.windows(2).all(|pair| {
            let host = |at: usize| {
                pair[at]
                    .host()
                    .unwrap()
                    .trim_end_matches('.')
                    .to_lowercase()
            };
            host(0) == host(1)
        });
        assert!(are_of_one, "{token}: {urls:?}");
    }
}

#[test]
fn a_merchants_id_that_cannot_be_one_is_an_error() {
    for key in ["merchant_id", "payout_merchant_id"] {
        for (id, expected) in [
            ("''", "is empty"),
            ("\"81\\t23\"", "holds a control character"),
            ("\"81\\x0123\"", "holds a control character"),
            ("' 8123456'", "begins or ends with white space"),
            ("\"8123456\\n\"", "ends with a line break"),
            ("\"\\ufeff8123456\"", "begins with a byte-order mark"),
            ("\"8123456\\u200b\"", "holds an invisible character"),
            ("<mid>", "is a placeholder in angle brackets"),
            (
                "changeme",
                "is a placeholder; put the value itself in its place",
            ),
            (
                "$PAYU_MERCHANT_ID",
                "is the name of a variable without braces",
            ),
        ] {
            let text = preset("payu", &format!("{key}: {id}"));
            assert_problem(&text, &format!("providers.p.{key}: {expected}"));
        }
        let told = warnings(&preset("payu", &format!("{key}: '8123456é'")));
        let [told] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(
            told.contains(&format!(
                "providers.p.{key}: holds a character that is not printable ASCII"
            )),
            "{told}"
        );
        assert!(warnings(&preset("payu", &format!("{key}: '8123456'"))).is_empty());
    }
}

#[test]
fn a_colon_in_an_id_is_warned_of_where_it_ends_the_id() {
    let with = |token: &str, accounts: &str| {
        format!(
            "providers: {{p: {{hosts: [a.example], {accounts}, token: {{url: 'https://a.example/t', {token}}}}}}}"
        )
    };
    let own = "client_id: 'a:b', client_secret: hR7wq2";
    let listed = "accounts: {one: {client_id: 'a:b', client_secret: hR7wq2}, two: {client_id: ab, client_secret: hR7wq2}}";
    for (accounts, key) in [
        (own, "providers.p.client_id: "),
        (listed, "providers.p.accounts.one.client_id: "),
    ] {
        let told = warnings(&with("client_auth: basic", accounts));
        let [told] = &told[..] else {
            panic!("{told:?}")
        };
        let expected = "holds a colon, where a server takes the id to end (RFC 7617 section 2)";
        assert!(told.contains(&format!("{key}{expected}")), "{told}");
        for token in ["client_auth: basic_form", "client_auth: body"] {
            assert!(warnings(&with(token, accounts)).is_empty(), "{token}");
        }
    }
}

#[test]
fn a_header_that_never_reaches_a_provider_holds_no_key() {
    for name in [
        "Connection",
        "Keep-Alive",
        "TE",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Key",
        "Proxy-Connection",
        "Expect",
        "Bursar-Account",
        "Bursar-Reference",
        "Bursar-Request-Id",
        "bursar_reference",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X_Original_URL",
        "Content_Length",
    ] {
        let keys =
            format!("token: {{scopes: [a]}}, routes: [{{path: /x, idempotency_header: {name}}}]");
        assert_problem(
            &preset("payu", &keys),
            "routes[0].idempotency_header: is a header that does not reach the provider",
        );
    }
    for name in ["Via", "Content-Length", "Authorization", "Cookie", "Host"] {
        let keys =
            format!("token: {{scopes: [a]}}, routes: [{{path: /x, idempotency_header: {name}}}]");
        assert_problem(
            &preset("payu", &keys),
            "routes[0].idempotency_header: is a header that holds no key of a request",
        );
    }
    for name in [
        "X-Request-Id",
        "Trailer",
        "Keep_Alive",
        "Bursar-Idempotency-Key",
    ] {
        let keys =
            format!("token: {{scopes: [a]}}, routes: [{{path: /x, idempotency_header: {name}}}]");
        assert!(warnings(&preset("payu", &keys)).is_empty(), "{name}");
    }
}

#[test]
fn a_trace_header_holds_a_key_only_where_it_is_forwarded() {
    for name in [
        "traceparent",
        "X-B3-TraceId",
        "X_B3_TraceId",
        "x-datadog-trace-id",
        "Correlation-Context",
        "correlation_context",
        "X-Amzn-Trace-Id",
        "ot-tracer-traceid",
    ] {
        let keys =
            format!("token: {{scopes: [a]}}, routes: [{{path: /x, idempotency_header: {name}}}]");
        assert_problem(
            &preset("payu", &keys),
            "routes[0].idempotency_header: is a trace header, which reaches the provider only with `trace: forward`",
        );
        let keys = format!("trace: forward, {keys}");
        assert!(warnings(&preset("payu", &keys)).is_empty(), "{name}");
    }
    let keys = "token: {scopes: [a]}, routes: [{path: /x, idempotency_header: correlation_id}]";
    assert!(warnings(&preset("payu", keys)).is_empty());
}

#[test]
fn a_key_that_no_document_has_is_not_the_presets() {
    for (path, is_keyed) in [
        ("{methods: [POST], path: /api/v1/payment-requests", true),
        (
            "{methods: [PATCH], path: '/api/v1/payment-requests/*'",
            false,
        ),
    ] {
        let text = preset("quidkey", &format!("routes: [{path}, replay: if_keyed}}]"));
        let parsed = Config::parse(&text, Path::new(""));
        assert_eq!(parsed.is_ok(), is_keyed, "{path}: {parsed:?}");
    }
}
