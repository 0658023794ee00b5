mod spellings;

use std::path::Path as FilePath;

use http::{HeaderMap, HeaderName};

use super::*;
use bursar_config::ReplayRule;
use bursar_http::target::Form;

const CONFIG: &str = "
providers:
  paylater: {preset: paylater, environment: sandbox, client_id: a, client_secret: b}
  payu: {preset: payu, environment: sandbox, client_id: a, client_secret: b}
  quidkey: {preset: quidkey, environment: production, client_id: a, client_secret: b}
  acme:
    hosts: [api.acme.example, \"*.eu.acme.example\", \"ported.example:8443\", \"one.eu.acme.example\"]
    client_id: a
    client_secret: b
    token: {url: https://login.acme.example/v2/Token, scopes: [all]}
    routes:
      - {path: /r/**, scopes: [many]}
      - {path: /r/*, scopes: [one]}
      - {path: /r/x, scopes: [x]}
      - {path: /r/x, methods: [POST], scopes: [post]}
";

fn routes(text: &str) -> Routes {
    Routes::new(&Config::parse(text, FilePath::new("")).unwrap())
}

/// `METHOD host:port path` to `origin route scopes`.
fn find(routes: &Routes, request: &str) -> Result<String, Error> {
    let words: Vec<&str> = request.split(' ').collect();
    let (host, port) = words[1].rsplit_once(':').unwrap_or((words[1], "80"));
    let target = Target {
        is_complete: false,
        form: Form::Absolute,
        host,
        port: port.parse().unwrap(),
        path: words[2],
    };
    let path = Path::new(target.path);
    let matched = routes.match_host(&target, &path)?;
    let destination = matched.route(
        RouteQuery {
            method: &words[0].parse().unwrap(),
            account: None,
        },
        &path,
        None,
    )?;
    let origin = destination.origin.authority.as_str();
    let scopes = match destination.authorization {
        Authorization::Bursar(set) => destination.provider.scope_sets[set].to_string(),
        Authorization::Caller => "caller".to_owned(),
        Authorization::CallerOrBursar(set) => {
            format!("caller or {}", destination.provider.scope_sets[set])
        }
    };
    Ok(format!("{origin} {} [{scopes}]", destination.route))
}

#[test]
fn requests_find_their_route() {
    let routes = routes(CONFIG);
    for (request, found) in [
        ("GET api.acme.example /a", "api.acme.example default [all]"),
        (
            "GET API.Acme.Example:443 /a",
            "api.acme.example default [all]",
        ),
        (
            "GET x.y.eu.acme.example /a",
            "x.y.eu.acme.example default [all]",
        ),
        (
            "GET one.eu.acme.example /a",
            "one.eu.acme.example default [all]",
        ),
        (
            "GET ported.example:8443 /a",
            "ported.example:8443 default [all]",
        ),
        ("GET api.acme.example /r", "api.acme.example /r/** [many]"),
        ("GET api.acme.example /r/y", "api.acme.example /r/* [one]"),
        ("GET api.acme.example /r/x", "api.acme.example /r/x [x]"),
        (
            "POST api.acme.example /r/x",
            "api.acme.example POST /r/x [post]",
        ),
        (
            "POST uatoneapi.payu.in /payment-links/",
            "uatoneapi.payu.in POST /payment-links [create_payment_links]",
        ),
        (
            "GET uatoneapi.payu.in /payment-links/7",
            "uatoneapi.payu.in GET,HEAD /payment-links/* [read_payment_links]",
        ),
        (
            "POST uatoneapi.payu.in /payment-links/7/share",
            "uatoneapi.payu.in POST /payment-links/*/share [read_payment_links]",
        ),
        (
            "PUT uatoneapi.payu.in /payment-links/7",
            "uatoneapi.payu.in PUT /payment-links/* [update_payment_links]",
        ),
        (
            "POST uat-partner.payu.in /api/v3/merchants",
            "uat-partner.payu.in POST /api/v3/merchants [refer_merchant]",
        ),
        (
            "POST uatoneapi.payu.in /api/v3/merchants/7",
            "uatoneapi.payu.in GET,HEAD,POST,PUT,PATCH,DELETE /api/v3/merchants/** [client_manage_agreement]",
        ),
        (
            "POST uat-partner.payu.in /api/v3/merchants/7",
            "uat-partner.payu.in GET,HEAD,POST,PUT,PATCH,DELETE /api/v3/merchants/** [refer_merchant]",
        ),
        (
            "POST uat-onepayuonboarding.payu.in /api/v3/product_accounts",
            "uat-onepayuonboarding.payu.in POST /api/v3/product_accounts [refer_child_merchant]",
        ),
        (
            "POST core.quidkey.com /api/v1/payment-requests:redirect",
            "core.quidkey.com POST /api/v1/payment-requests:redirect []",
        ),
    ] {
        assert_eq!(find(&routes, request).as_deref(), Ok(found), "{request}");
    }
}

#[test]
fn what_leads_nowhere_is_told_apart() {
    let routes = routes(CONFIG);
    for (request, error) in [
        ("GET other.example /a", Error::UnknownHost),
        ("GET eu.acme.example /a", Error::UnknownHost),
        ("GET ported.example:80 /a", Error::UnknownHost),
        ("GET api.acme.example:8080 /a", Error::UnknownHost),
        ("GET oneapi.payu.in /payment-links", Error::UnknownHost),
        ("GET uat-accounts.payu.in /other", Error::UnknownHost),
        (
            "POST core.quidkey.com /api/v1/oauth2/healthcheck",
            Error::TokenEndpoint,
        ),
        (
            "POST core.quidkey.com //api/v1/OAuth2/x/../sessions/7",
            Error::TokenEndpoint,
        ),
        ("GET core.quidkey.com /api/v1/oauth2", Error::TokenEndpoint),
        (
            "GET uat-onepayuonboarding.payu.in /api/v3/other",
            Error::OutsidePaths,
        ),
        (
            "POST uat-api.payu.in /partner/payments",
            Error::OutsidePaths,
        ),
        ("POST api.payu.in /partner/payments", Error::UnknownHost),
        (
            "POST uatoneapi.payu.in /api/v1/otps/send_otp",
            Error::NoScopes,
        ),
        (
            "GET connect.uat.paylaterapp.com /auth/admin",
            Error::OutsidePaths,
        ),
        (
            "GET connect.uat.paylaterapp.com /api/../auth/admin",
            Error::OutsidePaths,
        ),
        (
            "GET connect.uat.paylaterapp.com /auth/../api/x",
            Error::OutsidePaths,
        ),
        ("DELETE uatoneapi.payu.in /payment-links", Error::NoScopes),
        ("GET api.acme.example /r/%78", Error::Ambiguous),
    ] {
        assert_eq!(find(&routes, request), Err(error), "{request}");
    }
}

#[test]
fn token_endpoints_are_protected_in_every_spelling() {
    let routes = routes(CONFIG);
    for request in [
        "POST uat-accounts.payu.in /oauth/token",
        "POST uatoneapi.payu.in //oauth//token",
        "POST uatoneapi.payu.in /OAuth/%74oken;x",
        "POST uatoneapi.payu.in /x/../oauth%2Ftoken/",
        "POST uatoneapi.payu.in /oauth/token.json",
        "POST uatoneapi.payu.in /oauth/revoke",
        "POST uatoneapi.payu.in /oauth\\token",
        "POST connect.uat.paylaterapp.com /auth/realms/api/protocol/openid-connect/token",
        "POST core.quidkey.com /api/v1/oauth2/refresh",
        "POST core.quidkey.com /api/v1/oauth2/revoke",
        "POST api.acme.example /v2/token",
        "POST login.acme.example /v2/TOKEN/",
    ] {
        assert_eq!(
            find(&routes, request),
            Err(Error::TokenEndpoint),
            "{request}"
        );
    }
}

#[test]
fn another_providers_token_endpoint_is_protected_by_either_name_of_its_host() {
    let routes = routes(
        "
providers:
  links: {hosts: [links.example], client_id: a, client_secret: b, token: {url: \"https://a/t\"}}
  gateway: {hosts: [gw.example], upstream: \"https://links.example\", client_id: a, client_secret: b, token: {url: \"https://a/t\"}}
  payouts: {hosts: [payouts.example], client_id: a, client_secret: b, token: {url: \"https://links.example./x/token\"}}
",
    );
    for host in ["links.example", "gw.example", "payouts.example"] {
        let request = format!("POST {host} /x/token");
        assert_eq!(find(&routes, &request), Err(Error::TokenEndpoint), "{host}");
    }
}

#[test]
fn an_operators_route_is_looked_at_before_the_presets() {
    let routes = routes(
        "
providers:
  payu:
    preset: payu
    environment: sandbox
    client_id: a
    client_secret: b
    routes: [{path: /payment-links, methods: [GET], scopes: [mine]}, {path: /otp, scopes: [otp]}]
",
    );
    let scopes = |request| find(&routes, request).unwrap();
    assert!(scopes("GET uatoneapi.payu.in /payment-links").ends_with("[mine]"));
    assert!(scopes("POST uatoneapi.payu.in /otp").ends_with("[otp]"));
    assert!(scopes("POST uatoneapi.payu.in /payment-links").ends_with("[create_payment_links]"));
}

/// The account that a request gets whose caller has these entries in `allow`, at a provider with the
/// accounts a, b and c.
fn account(allow: &str, named: Option<&str>) -> Result<String, Error> {
    let text = format!(
        "
callers: {{x: {{password: y, allow: {allow}}}}}
providers:
  acme:
    hosts: [api.acme.example]
    accounts: {{c: {{client_id: i, client_secret: s}}, a: {{client_id: i, client_secret: s}}, b: {{client_id: i, client_secret: s}}}}
    token: {{url: https://login.acme.example/t}}
  other:
    hosts: [other.example]
    client_id: i
    client_secret: s
    token: {{url: https://login.other.example/t}}
"
    );
    let config = Config::parse(&text, FilePath::new("")).unwrap();
    let routes = Routes::new(&config);
    let target = Target {
        is_complete: false,
        form: Form::Absolute,
        host: "api.acme.example",
        port: 80,
        path: "/r",
    };
    let path = Path::new(target.path);
    let query = RouteQuery {
        method: &Method::GET,
        account: named,
    };
    let allow = config.callers.as_ref().unwrap()[0].allow.as_slice();
    let destination = routes
        .match_host(&target, &path)?
        .route(query, &path, Some(allow))?;
    let name = &destination.provider.accounts[destination.account].name;
    Ok(name.to_string())
}

#[test]
fn the_entries_that_allow_a_request_decide_its_account() {
    use Error::{AccountMissing, AccountNotAllowed, NotAllowed};
    let bound = "[{provider: acme, account: b}]";
    let several = "[{provider: acme, accounts: [c, a]}]";
    let by_method = "[{provider: acme, account: a, methods: [POST]}, {provider: acme, account: c, methods: [GET]}]";
    let twice = "[{provider: acme, account: a}, {provider: acme, account: c}]";
    for (allow, named, expected) in [
        (bound, None, Ok("b")),
        (bound, Some("b"), Ok("b")),
        (bound, Some("a"), Err(AccountNotAllowed)),
        (bound, Some("nobody"), Err(AccountNotAllowed)),
        (bound, Some(""), Err(AccountNotAllowed)),
        (several, None, Err(AccountMissing)),
        (several, Some("a"), Ok("a")),
        (several, Some("c"), Ok("c")),
        (several, Some("b"), Err(AccountNotAllowed)),
        (several, Some("A"), Err(AccountNotAllowed)),
        ("[{provider: acme, accounts: [c]}]", None, Ok("c")),
        ("[acme]", None, Err(AccountMissing)),
        ("[acme]", Some("b"), Ok("b")),
        ("[acme]", Some("nobody"), Err(AccountNotAllowed)),
        (by_method, None, Ok("c")),
        (by_method, Some("a"), Err(AccountNotAllowed)),
        (twice, None, Err(AccountMissing)),
        (twice, Some("c"), Ok("c")),
        (twice, Some("b"), Err(AccountNotAllowed)),
        ("[other]", Some("a"), Err(NotAllowed)),
        ("[other]", Some("nobody"), Err(NotAllowed)),
        ("[]", None, Err(NotAllowed)),
    ] {
        let found = account(allow, named);
        assert_eq!(
            found.as_deref().map_err(|error| *error),
            expected,
            "{allow} {named:?}"
        );
    }
}

/// What `METHOD host path` means for money: `-` or `$`, its replay rule, and its key's header.
fn payment(routes: &Routes, request: &str) -> String {
    let words: Vec<&str> = request.split(' ').collect();
    let target = Target {
        is_complete: false,
        form: Form::Absolute,
        host: words[1],
        port: 443,
        path: words[2],
    };
    let path = Path::new(target.path);
    let method = words[0].parse().unwrap();
    let query = RouteQuery {
        method: &method,
        account: None,
    };
    let matched = routes.match_host(&target, &path).unwrap();
    let payment = matched.route(query, &path, None).unwrap().payment;
    let money = if payment.moves_money { '$' } else { '-' };
    let key = payment
        .idempotency_header
        .map_or("none", HeaderName::as_str);
    format!("{money} {:?} {key}", payment.replay)
}

/// What the presets know, as [`payment`] says it. PayLater's first version pays back on a GET; some clients
/// write the colon in Quidkey's path encoded; and what no route knows goes by its method.
const KNOWN: &str = "
POST connect.uat.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout = $ Always none
POST connect.uat.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout/refund = $ Always none
GET connect.uat.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout/status = - Always none
GET connect.uat.paylaterapp.com /api/paylater/merchant-portal/web-checkout/refund = $ Always none
HEAD connect.uat.paylaterapp.com /api/paylater/merchant-portal/web-checkout/refund = $ Always none
GET connect.uat.paylaterapp.com /api/paylater/merchant-portal/web-checkout/Refund.json = $ Always none
GET connect.uat.paylaterapp.com /api/paylater/merchant-portal/web-checkout//refund/ = $ Always none
GET connect.uat.paylaterapp.com /api/paylater/merchant-portal/web-checkout/%72efund;x = $ Always none
POST connect.uat.paylaterapp.com /api/paylater/merchant-portal/v2/request-to-pay = $ Always none
POST uatoneapi.payu.in /payment-links = $ Always none
PUT uatoneapi.payu.in /payment-links/7 = $ Always none
GET uatoneapi.payu.in /payment-links/7 = - Always none
POST uatoneapi.payu.in /payment-links/7/share = - Always none
POST uat-partner.payu.in /api/v3/merchants = - Always none
POST public-api.demo.alternativepayments.io /payment/request = $ Always none
POST public-api.demo.alternativepayments.io /invoices = $ Always none
DELETE public-api.demo.alternativepayments.io /customers/1 = - Always none
GET public-api.demo.alternativepayments.io /payouts = - Always none
POST core-dev.quidkey.com /api/v1/payment-requests:redirect = $ Always idempotency-key
POST core-dev.quidkey.com /api/v1/payment-requests%3Aredirect = $ Always idempotency-key
PATCH core-dev.quidkey.com /api/v1/payment-requests/t = $ Always none
POST core-dev.quidkey.com /api/v1/payment-links = $ Always idempotency-key
GET core-dev.quidkey.com /api/v1/payment-links = - Always none
POST core-dev.quidkey.com /api/v1/webhooks/secret = - Always none
POST api.acme.example /r = $ Always none
OPTIONS api.acme.example /r = - Always none
";

#[test]
fn presets_know_what_moves_money() {
    let mut text = CONFIG.replace("environment: production", "environment: sandbox");
    text.push_str("  ap: {preset: alternative_payments, environment: sandbox, client_id: a, client_secret: b}\n");
    let routes = routes(&text);
    for line in KNOWN.lines().filter(|line| !line.is_empty()) {
        let (request, expected) = line.split_once(" = ").unwrap();
        assert_eq!(payment(&routes, request), expected, "{request}");
    }
}

#[test]
fn what_a_route_does_not_say_is_as_the_preset_says() {
    let routes = routes(
        "
providers:
  quidkey:
    preset: quidkey
    environment: sandbox
    client_id: a
    client_secret: b
    routes:
      - {path: /api/v1/payment-links, scopes: [a]}
      - {path: /api/v1/payment-requests, replay: if_keyed, idempotency_header: X-Key}
      - {path: /api/v1/reports, methods: [POST], moves_money: false, replay: never}
",
    );
    for (request, expected) in [
        (
            "POST core-dev.quidkey.com /api/v1/payment-links",
            "$ Always idempotency-key",
        ),
        (
            "POST core-dev.quidkey.com /api/v1/payment-requests",
            "$ IfKeyed x-key",
        ),
        (
            "GET core-dev.quidkey.com /api/v1/payment-requests",
            "- IfKeyed x-key",
        ),
        ("POST core-dev.quidkey.com /api/v1/reports", "- Never none"),
    ] {
        assert_eq!(payment(&routes, request), expected, "{request}");
    }
}

#[test]
fn where_two_readings_of_a_path_differ_the_one_that_moves_money_counts() {
    let routes = routes(
        "providers:
  acme:
    hosts: [api.test]
    client_id: a
    client_secret: b
    token: {url: https://login.test/t}
    routes:
      - {path: /reports/*, methods: [POST], moves_money: false}
      - {path: /pay/*, methods: [POST], replay: never}
",
    );
    for (path, expected) in [
        ("/reports/1", "- Always none"),
        // As it is written no route has it, so that it goes by its method.
        ("//reports/1", "$ Always none"),
        ("/pay/1", "$ Never none"),
        ("//pay/1", "$ Never none"),
    ] {
        let found = payment(&routes, &format!("POST api.test {path}"));
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn a_key_without_a_value_is_none() {
    let header = HeaderName::from_static("x-key");
    let payment = Payment {
        moves_money: true,
        replay: ReplayRule::IfKeyed,
        idempotency_header: Some(&header),
        idempotency_field: None,
    };
    let mut headers = HeaderMap::new();
    assert!(!payment.may_be_replayed(&headers));
    headers.insert("x-key", "".parse().unwrap());
    assert!(!payment.may_be_replayed(&headers));
    headers.insert("x-key", "1".parse().unwrap());
    assert!(payment.may_be_replayed(&headers));
}

#[test]
fn any_of_a_providers_paths_will_do() {
    let routes = routes(
        "providers: {acme: {hosts: [api.test], paths: [/a, /b/*], client_id: a, client_secret: b, token: {url: https://login.test/t}}}",
    );
    for (path, is_found) in [("/a", true), ("/b/1", true), ("/b", false), ("/c", false)] {
        let found = find(&routes, &format!("GET api.test {path}"));
        let expected = match is_found {
            true => Ok("api.test default []".to_owned()),
            false => Err(Error::OutsidePaths),
        };
        assert_eq!(found, expected, "{path}");
    }
}
