//! Spellings of paths that some server takes for a token endpoint, or for another path.

use super::*;

/// Some server reads an `o`.
const IN_PLACE_OF_O: [&str; 18] = [
    "%6f",
    "%6F",
    "%256f",
    "%25256f",
    "%%36%66",
    "%u006f",
    "%U006F",
    "%c1%af",
    "%e0%81%af",
    "%f0%80%81%af",
    "%ef%bd%8f",
    "%ef%bc%af",
    "%uff4f",
    "O",
    "o%c2%ad",
    "o%e2%80%8b",
    "%o",
    "o%ff",
];

/// Some server reads a slash, or what amounts to one.
const IN_PLACE_OF_SLASH: [&str; 33] = [
    "//",
    "/./",
    "/x/../",
    "/%2e/",
    "/x/%2e%2e/",
    "%2f",
    "%2F",
    "%252f",
    "%5c",
    "\\",
    "%c0%af",
    "%c0%2f",
    "%e0%80%af",
    "%ef%bc%8f",
    "%e2%88%95",
    "%e2%81%84",
    "%u2215",
    "%u002f",
    "%uff0f",
    "/;/",
    "/;x=1/",
    "/%20/",
    "/x/..%2f",
    "/x/..%252f",
    "/x%5c..%5c",
    "/x/..;/",
    "/x/%c0%ae%c0%ae/",
    "/x/%ef%bc%8e%ef%bc%8e/",
    "/x/%252e%252e/",
    "/x/%u002e%u002e/",
    "/x/..%00/",
    "/x/..%20/",
    "/%e2%80%a4/",
];

/// Some server drops it.
const AT_THE_END: [&str; 42] = [
    "/",
    "//",
    "/.",
    "/x/..",
    "%2f",
    "%5c",
    ";",
    ";x",
    "%3b",
    "%3bx",
    "%253bx",
    "%00",
    "%00.png",
    "%2500",
    "%20",
    "%09",
    "%0a",
    "%0d%0a",
    "%c2%a0",
    "%3f",
    "%3fx",
    "%253fx",
    "%23x",
    ".",
    "..",
    "%2e",
    ".json",
    "%2ejson",
    "::$DATA",
    "::$data",
    "%3a%3a$DATA",
    ":$i30",
    ":x",
    "%ef%bc%9f",
    "/%20",
    "/;x",
    "%c0%80",
    "%",
    "%zz",
    "%ff",
    "/%ff",
    "//x/../",
];

/// Spellings of a path with an `o` in it that some server reads as that path.
fn spellings(path: &str) -> Vec<String> {
    let (parent, last) = path.rsplit_once('/').unwrap();
    let mut all = vec![path.to_owned(), path.to_uppercase()];
    all.extend(IN_PLACE_OF_O.map(|text| format!("{parent}/{}", last.replacen('o', text, 1))));
    all.extend(IN_PLACE_OF_SLASH.map(|text| format!("{parent}{text}{last}")));
    all.extend(AT_THE_END.map(|text| format!("{path}{text}")));
    all.extend(
        ["/x/..", "/index.php", "/(S(abc))", "/x%2f..", "/.", "/;x"]
            .map(|before| format!("{before}{path}")),
    );
    all
}

#[test]
fn no_spelling_of_any_presets_token_endpoint_is_routed() {
    let routes = routes(
        "
providers:
  paylater: {preset: paylater, environment: sandbox, client_id: a, client_secret: b}
  payu: {preset: payu, environment: sandbox, client_id: a, client_secret: b, paths: [/**], token: {scopes: [all]}}
  ap: {preset: alternative_payments, environment: sandbox, client_id: a, client_secret: b, paths: [/**], token: {scopes: []}}
  quidkey: {preset: quidkey, environment: sandbox, client_id: a, client_secret: b, paths: [/**]}
",
    );
    for (host, path) in [
        (
            "connect.uat.paylaterapp.com",
            "/auth/realms/api/protocol/openid-connect/token",
        ),
        ("uat-accounts.payu.in", "/oauth/token"),
        ("uatoneapi.payu.in", "/oauth/token"),
        ("uatoneapi.payu.in", "/oauth/revoke"),
        ("public-api.demo.alternativepayments.io", "/oauth/token"),
        ("uatoneapi.payu.in", "/oauth/oauth/token"),
        ("core-dev.quidkey.com", "/api/v1/oauth2/token"),
        ("core-dev.quidkey.com", "/api/v1/oauth2/revoke"),
    ] {
        let all = spellings(path);
        assert!(all.len() > 90, "{}", all.len());
        for spelling in all {
            let found = find(&routes, &format!("POST {host} {spelling}"));
            assert_eq!(found, Err(Error::TokenEndpoint), "{host} {spelling}");
        }
    }
}

#[test]
fn an_empty_segment_that_dots_take_away_hides_no_token_endpoint() {
    let routes = routes(CONFIG);
    for path in ["/v2//../token", "/v2//x/../../token", "/v2/x//../token"] {
        let found = find(&routes, &format!("POST api.acme.example {path}"));
        assert_eq!(found, Err(Error::TokenEndpoint), "{path}");
    }
}

#[test]
fn a_token_endpoint_at_the_root_closes_no_other_path() {
    let routes = routes(&CONFIG.replace("/v2/Token", "/"));
    for path in ["/", "//", "/a/../", "/.", "/;x", "/%20"] {
        let found = find(&routes, &format!("POST api.acme.example {path}"));
        assert_eq!(found, Err(Error::TokenEndpoint), "{path}");
    }
    for path in [
        "/.x",
        "/:x",
        "/.well-known/x",
        "/index.php",
        "/index.php/",
        "/x/",
        "/%e9t%e9",
    ] {
        let found = find(&routes, &format!("POST api.acme.example {path}"));
        assert!(found.is_ok(), "{path}: {found:?}");
    }
}

#[test]
fn what_servers_may_read_as_another_path_is_refused() {
    let routes = routes(CONFIG);
    for path in [
        "/r/..%2fx",
        "/r/..%252fx",
        "/r/..%00/x",
        "/r/%252e%252e/x",
        "/r/%c0%ae%c0%ae/x",
        "/r/%ef%bc%8e%ef%bc%8e/x",
        "/r/%u002e%u002e/x",
        "/r/..;/x",
        "/r/a%00",
        // Another route where it is decoded twice, split or cut off.
        "/r/%2578",
        "/r%252fy",
        "/r%5cy",
        "/r/x%20",
        "/r/x%3fy",
        "/r/x;y",
        "/r/x.",
        "/r/%ef%bd%98",
    ] {
        let found = find(&routes, &format!("GET api.acme.example {path}"));
        assert_eq!(found, Err(Error::Ambiguous), "{path}");
    }
    for path in [
        "/a/%7Eb;v=1//./c%2Fd/",
        "/a/%2e/b%2fc",
        "/a/../b%20c",
        "/a%2Fb",
        "/a%252Fb",
        "/r/a%20b",
        "/r/Jos%C3%A9",
        "/r/y;v=1",
        "/r/y::x",
        "/a/../b",
        "/r/a%2eb",
    ] {
        let found = find(&routes, &format!("GET api.acme.example {path}"));
        assert!(found.is_ok(), "{path}: {found:?}");
    }
}

/// A payment that is a GET, and what is none beside it.
const PAYOUT: &str = "
providers:
  acme:
    hosts: [api.test]
    client_id: a
    client_secret: b
    token: {url: https://login.test/t}
    routes:
      - {methods: [GET], path: /v1/payout, moves_money: true, replay: never}
      - {methods: [GET], path: /v1/payout/status, moves_money: false}
      - {methods: [GET], path: \"/v1/payout/*\", moves_money: true}
      - {methods: [POST], path: /v1/Search, moves_money: false}
      - {methods: [POST], path: \"/index.php/**\", moves_money: false}
      - {methods: [POST], path: \"/pay/*\", replay: if_keyed, idempotency_header: X-Key}
      - {methods: [POST], path: /pay, idempotency_field: /key}
";

#[test]
fn every_spelling_of_a_payment_is_one_or_refused() {
    let routes = routes(PAYOUT);
    for method in ["GET", "HEAD"] {
        let mut payments = 0;
        for spelling in spellings("/v1/payout") {
            // A method of its own at many APIs.
            if spelling.ends_with(":x") || spelling.ends_with(":$i30") {
                continue;
            }
            let request = format!("{method} api.test {spelling}");
            if find(&routes, &request) == Err(Error::Ambiguous) {
                continue;
            }
            assert_eq!(payment(&routes, &request), "$ Never none", "{request}");
            payments += 1;
        }
        assert!(payments > 50, "{payments}");
    }
}

#[test]
fn what_looks_like_a_payment_is_one_and_has_the_scopes_of_its_own_route() {
    let routes = routes(PAYOUT);
    for (request, expected) in [
        ("HEAD /v1/payout", "$ Never none"),
        ("GET /V1/Payout.json", "$ Never none"),
        ("GET /index.php/v1/payout.json", "$ Never none"),
        ("GET /shop/INDEX.PHP/v1/payout", "$ Never none"),
        ("GET /a.php/b.php/v1/payout", "$ Never none"),
        ("GET /v1/payout/7", "$ Always none"),
        ("GET /v1/Payout/7.pdf", "$ Always none"),
        // The more specific route says that it is none.
        ("GET /v1/payout/status", "- Always none"),
        ("GET /v1/PAYOUT/Status", "- Always none"),
        ("GET /v1/payouts", "- Always none"),
        ("GET /v1/payout-list.json", "- Always none"),
        ("GET /x/v1/payout", "- Always none"),
        ("GET /v1/.payout", "- Always none"),
        ("OPTIONS /v1/payout", "- Always none"),
        // And what only looks like one that is none is one by its method.
        ("POST /v1/Search", "- Always none"),
        ("POST /v1/Search.json", "$ Always none"),
        ("GET /v1/payout:status", "- Always none"),
        ("POST /index.php/x", "- Always none"),
        ("POST /Pay/7", "$ IfKeyed x-key"),
        ("POST /pay.json", "$ Always none"),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let request = format!("{method} api.test {path}");
        assert_eq!(payment(&routes, &request), expected, "{request}");
    }
    let routes = self::routes(&PAYOUT.replace("replay: never", "scopes: [payout]"));
    for (request, expected) in [
        ("GET api.test /v1/payout", "GET /v1/payout [payout]"),
        ("HEAD api.test /v1/payout", "default []"),
        ("GET api.test /v1/payout.json", "default []"),
    ] {
        let found = find(&routes, request).unwrap();
        assert_eq!(found, format!("api.test {expected}"));
    }
}
