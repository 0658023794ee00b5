//! Every operation that the presets know: what it costs to call it, and what is beside it.
//!
//! One row is one operation, at its host in the sandbox and in production. For each, one request goes to a
//! provider that answers 401 and then 200: the token endpoint is asked for the row's scopes, the row's merchant
//! header comes along, and the request is sent again.

use std::path::Path as FilePath;
use std::sync::atomic::{AtomicUsize, Ordering};

use bursar::exchange::route::{Payment, RouteQuery, Routes};
use bursar_base::path::Path;
use bursar_config::Config;
use bursar_http::target::{Form, Target};
use http::Request;

use crate::support::caller::{Caller, Reply};
use crate::support::idp::{Idp, token};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Body, Upstream, answer, full};

/// Methods, the host in the sandbox, the host in production (`-`: none), paths | scopes | merchant header | whether
/// it moves money | its key.
const PAYLATER: &str = "
POST connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout ||| money |
POST connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout/refund ||| money |
GET  connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout/status |||  |
GET  connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout/transactions |||  |
GET  connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/v2/web-checkout/shopper |||  |
POST connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/web-checkout ||| money |
GET,HEAD,POST connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/web-checkout/refund ||| money |
POST connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/web-checkout/refund/partial ||| money |
POST connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/request-to-pay ||| money |
GET  connect.uat.paylaterapp.com connect.paylaterapp.com /api/paylater/merchant-portal/web-checkout/transactions/7 |||  |
";

const PAYU: &str = "
POST     uatoneapi.payu.in   oneapi.payu.in  /payment-links | create_payment_links | merchantid 8123456 | money |
GET,HEAD uatoneapi.payu.in   oneapi.payu.in  /payment-links /payment-links/I1 /payment-links/I1/txns /payment-links/I1/transactions | read_payment_links | merchantid 8123456 | |
PUT      uatoneapi.payu.in   oneapi.payu.in  /payment-links/I1 | update_payment_links | merchantid 8123456 | money |
DELETE   uatoneapi.payu.in   oneapi.payu.in  /payment-links/I1 | update_payment_links | merchantid 8123456 | money |
POST     uatoneapi.payu.in   oneapi.payu.in  /payment-links/I1/share | read_payment_links | merchantid 8123456 | |
POST     uat-partner.payu.in partner.payu.in /payment-links /api/payment-links /api/payment-links/ | create_payment_links | merchantid 8123456 | money |
GET      test-partner.payu.in partner.payu.in /api/payment-links /api/payment-links/I1 /api/payment-links/I1/txns | read_payment_links | merchantid 8123456 | |
PUT      uat-partner.payu.in partner.payu.in /api/payment-links/I1 | update_payment_links | merchantid 8123456 | money |
POST     uat-partner.payu.in partner.payu.in /api/payment-links/I1/share | read_payment_links | merchantid 8123456 | |
POST     uat-partner.payu.in partner.payu.in /api/v1/otps/send_otp | send_sign_in_otp | | |
POST     test-partner.payu.in partner.payu.in /api/v1/otps/verify_otp | verify_sign_in_otp | | |
POST     uat-partner.payu.in partner.payu.in /api/v3/merchants | refer_merchant | | |
GET      uat-partner.payu.in partner.payu.in /api/v3/merchants/7 /api/v1/merchants/7 | refer_merchant | | |
PUT      uat-partner.payu.in partner.payu.in /api/v3/merchants/7/update | refer_merchant | | |
POST     uat-partner.payu.in partner.payu.in /api/v1/merchants/7/verify | refer_merchant | | |
POST     uat-partner.payu.in partner.payu.in /api/v1/merchants/7/verify_penny | user_token | | |
POST     uat-partner.payu.in partner.payu.in /api/v1/merchants/7/add_bank_detail /api/v3/merchants/7/add_bank_detail | create_bank_details | | |
GET,POST,DELETE test-partner.payu.in partner.payu.in /api/v3/merchants/kyc_document /api/v3/merchants/7/kyc_document /api/v3/merchants/7/kyc_document/8 | refer_merchant | | |
GET      uat-partner.payu.in partner.payu.in /api/v1/merchants/7/generate_merged_document_for_esign | client_manage_agreement refer_merchant | | |
POST     uat-partner.payu.in partner.payu.in /api/v1/merchants/7/send_signatory_otp/8 /api/v1/merchants/7/esign_merged_document/8 | client_manage_agreement refer_merchant | | |
GET      uat-partner.payu.in partner.payu.in /api/v1/merchants/7/credential | read_merchant_reseller | | |
POST     uat-partner.payu.in partner.payu.in /api/v1/partners/merchant_rates | refer_merchant | | |
GET      uat-partner.payu.in partner.payu.in /api/v1/partners/merchant_rates/fetch_rates | refer_merchant | | |
GET,POST uatoneapi.payu.in   oneapi.payu.in  /v3/merchants/7 /api/v3/merchants/7/agreement | client_manage_agreement | | |
POST     uatoneapi.payu.in   payout.payumoney.com /payout/payment /payout/v2/payment /payout/payment/cancel | create_payout_transactions | payoutmerchantid 1111594 | money |
GET,POST uatoneapi.payu.in   payout.payumoney.com /payout/merchant/getAccountDetail /payout/payment/listTransactions /payout/payment/verifyAccount | create_payout_transactions | payoutmerchantid 1111594 | |
POST     uat-onepayuonboarding.payu.in onboarding.payu.in /api/v3/product_accounts | refer_child_merchant | | |
GET      uat-onepayuonboarding.payu.in onboarding.payu.in /api/v3/product_accounts | fetch_child_merchants | | |
POST     test-partnerapilayer.payu.in - /apilayer/partner/payments | partner_payments | | money |
POST     - api.payu.in /partner/payments | partner_payments | | money |
POST     uat-api.payu.in - /apilayer/partner/payment-link/payment | partner_payment_links | | money |
GET      uat-api.payu.in - /apilayer/partner/payment-link/metadata | partner_payment_links | | |
";

const ALTERNATIVE_PAYMENTS: &str = "
POST public-api.demo.alternativepayments.io public-api.alternativepayments.io /payment/request /payments/request | | | money |
GET  public-api.demo.alternativepayments.io public-api.alternativepayments.io /payment/request/7 /payments /payments/7 /transactions /payouts /invoices/7/pdf-link | | | |
POST public-api.demo.alternativepayments.io public-api.alternativepayments.io /payments | | | money | /idempotency_key
POST public-api.demo.alternativepayments.io public-api.alternativepayments.io /invoices /invoices/7/payment-link | | | money |
DELETE public-api.demo.alternativepayments.io public-api.alternativepayments.io /invoices/7 | | | money |
POST public-api.demo.alternativepayments.io public-api.alternativepayments.io /customers /customers/7/payment-methods/bank | | | |
DELETE public-api.demo.alternativepayments.io public-api.alternativepayments.io /customers/7 /webhooks/7 | | | |
POST public-api.demo.alternativepayments.io public-api.alternativepayments.io /webhooks /webhooks/retry /checkout-auth/init /v1/checkout-auth/init | | | |
GET  public-api.demo.alternativepayments.io public-api.alternativepayments.io /webhooks /webhooks/events | | | |
";

const QUIDKEY: &str = "
POST  core-dev.quidkey.com core.quidkey.com /api/v1/payment-requests /api/v1/payment-requests:redirect /api/v1/payment-links | | | money | idempotency-key
PATCH core-tst.quidkey.com core.quidkey.com /api/v1/payment-requests/t7 | | | money |
GET   core-dev.quidkey.com core.quidkey.com /api/v1/payment-links /api/v1/payment-links/7 | | | |
POST,PATCH core-dev.quidkey.com core.quidkey.com /api/v1/embedded/payment-requests | | | money |
POST  core-dev.quidkey.com core.quidkey.com /api/v1/merchants/7/transactions/8/refunds /api/v1/refund-session | | | money |
PUT   core-dev.quidkey.com core.quidkey.com /api/v1/merchants/7/transactions/8/status | | | money |
POST  core-dev.quidkey.com core.quidkey.com /api/v1/merchants/7/transactions /api/v1/bank-predictions | | | |
POST  core-dev.quidkey.com core.quidkey.com /api/v1/webhooks /api/v1/webhooks/secret | | | |
";

/// One operation in one environment.
struct Row {
    environment: &'static str,
    method: &'static str,
    host: &'static str,
    path: &'static str,
    scopes: &'static str,
    merchant: Option<(&'static str, &'static str)>,
    moves_money: bool,
    key: &'static str,
}

fn rows(table: &'static str) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty()) {
        let [request, scopes, merchant, money, key] = line
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let words: Vec<_> = request.split_whitespace().collect();
        for (environment, host) in [("sandbox", words[1]), ("production", words[2])] {
            for method in words[0].split(',').filter(|_| host != "-") {
                rows.extend(words[3..].iter().map(|path| Row {
                    environment,
                    method,
                    host,
                    path,
                    scopes,
                    merchant: merchant.split_once(' '),
                    moves_money: money == "money",
                    key,
                }));
            }
        }
    }
    rows
}

/// A provider by its preset; `keys` are further ones, in flow style.
fn yaml(preset: &str, environment: &str, keys: &str) -> String {
    format!(
        "providers: {{p: {{preset: {preset}, environment: {environment}, client_id: i, client_secret: s{keys}}}}}"
    )
}

const MERCHANT: &str = ", merchant_id: '8123456', payout_merchant_id: '1111594'";

fn merchant(preset: &str) -> &'static str {
    if preset == "payu" { MERCHANT } else { "" }
}

/// What the configuration says of a request's money and key, as [`Row`] has it.
fn payment_of(config: &Config, method: &str, host: &str, path: &str) -> (bool, String) {
    let routes = Routes::new(config);
    let target = Target {
        form: Form::Absolute,
        host,
        port: 80,
        path,
        is_complete: true,
    };
    let path = Path::new(path);
    let wish = RouteQuery {
        method: &method.parse().unwrap(),
        account: None,
    };
    let site = routes.match_host(&target, &path).unwrap();
    let Payment {
        moves_money,
        idempotency_header,
        idempotency_field,
        ..
    } = site.route(wish, &path, None).unwrap().payment;
    let field = idempotency_field.map(|field| {
        let found = field.text_in(br#"{"idempotency_key":"k"}"#);
        assert_eq!(found.as_deref(), Some("k"));
        "/idempotency_key"
    });
    let key = idempotency_header.map(|name| name.as_str()).or(field);
    (moves_money, key.unwrap_or_default().to_owned())
}

async fn send(proxy: &Proxy, method: &str, host: &str, path: &str) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{host}{path}"))
        .body(full(""))
        .unwrap();
    Caller::connect(proxy.listen).await.request(request).await
}

/// A provider that does not like the first token.
async fn refusing_once() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |_| {
        let status = match count.fetch_add(1, Ordering::SeqCst) {
            0 => 401,
            _ => 200,
        };
        async move { answer(status, "") }
    })
    .await
}

async fn every_operation_is_as_the_table_says(preset: &str, table: &'static str) {
    for row in rows(table) {
        let Row {
            method, host, path, ..
        } = row;
        let shown = format!("{} {method} {host} {path}", row.environment);
        let config = yaml(preset, row.environment, merchant(preset));
        let config = Config::parse(&config, FilePath::new("")).unwrap();
        let payment = payment_of(&config, method, host, path);
        assert_eq!(payment, (row.moves_money, row.key.to_owned()), "{shown}");

        let (api, idp) = (refusing_once().await, Idp::counting().await);
        let keys = format!(
            ", upstream: '{}', token: {{url: '{}', refresh: none}}{}",
            api.url(),
            idp.url(),
            merchant(preset)
        );
        let proxy = Proxy::start(&yaml(preset, row.environment, &keys)).await;
        let reply = send(&proxy, method, host, path).await;
        assert_eq!(reply.status, 200, "{shown} {reply:?}");
        let [first, second] = api.seen().try_into().unwrap();
        for (seen, token) in [(first, "Bearer token-1"), (second, "Bearer token-2")] {
            assert_eq!(seen.target, path, "{shown}");
            assert_eq!(seen.all("authorization"), [token], "{shown}");
            for name in ["merchantid", "mid", "payoutmerchantid", "pid"] {
                let wanted = row.merchant.filter(|(wanted, _)| *wanted == name);
                let wanted: Vec<_> = wanted.into_iter().map(|(_, id)| id).collect();
                assert_eq!(seen.all(name), wanted, "{shown}");
            }
        }
        for call in idp.seen() {
            let body = call.body.unwrap();
            let mut fields = form_urlencoded::parse(&body);
            let scope = fields.find(|(name, _)| name == "scope");
            let scope = scope.map_or(String::new(), |(_, scope)| scope.into_owned());
            assert_eq!(scope, row.scopes, "{shown}");
        }
    }
}

#[tokio::test]
async fn paylaters_operations_are_as_the_table_says() {
    every_operation_is_as_the_table_says("paylater", PAYLATER).await;
}

#[tokio::test]
async fn payus_operations_are_as_the_table_says() {
    every_operation_is_as_the_table_says("payu", PAYU).await;
}

#[tokio::test]
async fn the_operations_of_alternative_payments_are_as_the_table_says() {
    every_operation_is_as_the_table_says("alternative_payments", ALTERNATIVE_PAYMENTS).await;
}

#[tokio::test]
async fn quidkeys_operations_are_as_the_table_says() {
    every_operation_is_as_the_table_says("quidkey", QUIDKEY).await;
}

/// Requests beside the operations: what they are answered, and the scopes of their token where that is 200.
const NEIGHBOURS: [(&str, &str, &str); 47] = [
    (
        "payu",
        "POST uat-partner.payu.in /api/v1/otps",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /api/v1/otp",
        "route_not_allowed",
    ),
    (
        "payu",
        "GET uat-partner.payu.in /api/v1/otps/send_otp",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /api/v1/otps/send_otp/1",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /api/v2/otps/send_otp",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uatoneapi.payu.in /api/v1/otps/send_otp",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /api/v1/otps/send_otp/",
        "send_sign_in_otp",
    ),
    (
        "payu",
        "POST uat-partner.payu.in //api/v1/otps/send_otp",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /api/v1/otps/send%5Fotp",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /api/v1/otps/../otps/send_otp",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /API/V1/otps/send_otp",
        "route_not_allowed",
    ),
    (
        "payu",
        "GET uat-partner.payu.in /payment-links/1/transactions",
        "read_payment_links",
    ),
    (
        "payu",
        "GET uatoneapi.payu.in /payment-links/1/transactions/2",
        "route_not_allowed",
    ),
    (
        "payu",
        "GET uatoneapi.payu.in /payment-links/1/transactions/",
        "read_payment_links",
    ),
    (
        "payu",
        "GET uatoneapi.payu.in /payment-links//1/transactions",
        "route_not_allowed",
    ),
    (
        "payu",
        "GET uatoneapi.payu.in //payment-links",
        "route_not_allowed",
    ),
    (
        "payu",
        "DELETE uatoneapi.payu.in /payment-links",
        "route_not_allowed",
    ),
    (
        "payu",
        "DELETE uatoneapi.payu.in /payment-links/1/transactions",
        "route_not_allowed",
    ),
    (
        "payu",
        "PATCH uatoneapi.payu.in /payment-links/1",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /payout/v2/payment",
        "route_not_allowed",
    ),
    (
        "payu",
        "PUT uatoneapi.payu.in /payout/v2/payment",
        "route_not_allowed",
    ),
    (
        "payu",
        "GET uatoneapi.payu.in /payout/v2/payment",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uatoneapi.payu.in /payout/v2/payments",
        "route_not_allowed",
    ),
    (
        "payu",
        "DELETE uat-partner.payu.in /api/v1/merchants/7/verify_penny",
        "refer_merchant",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /api/v1/merchants/7/send_signatory_otp",
        "refer_merchant",
    ),
    (
        "payu",
        "GET uat-onepayuonboarding.payu.in /api/v3/merchants",
        "route_not_allowed",
    ),
    (
        "payu",
        "GET uat-onepayuonboarding.payu.in /app/account/signup",
        "route_not_allowed",
    ),
    (
        "payu",
        "DELETE uat-onepayuonboarding.payu.in /api/v3/product_accounts",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST test-partnerapilayer.payu.in /partner/payments",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST test-partnerapilayer.payu.in /apilayer/partner/payments/7",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST uat-api.payu.in /apilayer/partner/payments",
        "route_not_allowed",
    ),
    (
        "payu",
        "POST api.payu.in /partner/payments",
        "destination_not_allowed",
    ),
    (
        "payu",
        "POST payout.payumoney.com /payout/payment",
        "destination_not_allowed",
    ),
    (
        "payu",
        "POST apitest.payu.in /payment-links",
        "destination_not_allowed",
    ),
    (
        "payu",
        "POST uat-partner.payu.in /oauth/token",
        "token_endpoint_protected",
    ),
    (
        "payu",
        "POST uat-onepayuonboarding.payu.in /OAuth//token;x",
        "token_endpoint_protected",
    ),
    (
        "payu",
        "POST uat-accounts.payu.in /api/v1/otps/send_otp",
        "destination_not_allowed",
    ),
    (
        "quidkey",
        "POST core-dev.quidkey.com /api/v1/oauth2/token",
        "token_endpoint_protected",
    ),
    (
        "quidkey",
        "GET core-dev.quidkey.com /api/v1/oauth2/healthcheck",
        "token_endpoint_protected",
    ),
    (
        "quidkey",
        "GET core-dev.quidkey.com /api/v1/oauth2/healthcheck/x",
        "token_endpoint_protected",
    ),
    (
        "quidkey",
        "GET core-dev.quidkey.com /api/v1/oauth2",
        "token_endpoint_protected",
    ),
    (
        "quidkey",
        "GET core-dev.quidkey.com /api/v1/x/../OAUTH2/anything",
        "token_endpoint_protected",
    ),
    (
        "quidkey",
        "POST core-dev.quidkey.com /oauth2/anything",
        "token_endpoint_protected",
    ),
    ("quidkey", "GET core-dev.quidkey.com /api/v1/oauth2x", ""),
    (
        "quidkey",
        "POST core.quidkey.com /api/v1/payment-links",
        "destination_not_allowed",
    ),
    (
        "paylater",
        "POST connect.uat.paylaterapp.com /auth/admin",
        "route_not_allowed",
    ),
    (
        "paylater",
        "POST connect.uat.paylaterapp.com /api/paylater/merchant-portal/v2/request-to-pay",
        "",
    ),
];

/// An endpoint whose tokens say which scopes they were asked for.
async fn telling() -> Idp {
    Idp::start(|call| async move {
        let scopes = call.field("scope").unwrap_or_default();
        token(&format!("of-{}", scopes.replace(' ', "+")))
    })
    .await
}

#[tokio::test]
async fn what_is_beside_the_operations_gets_what_the_table_says() {
    for preset in ["payu", "quidkey", "paylater"] {
        let (api, idp) = (
            Upstream::start(|_| async { answer(200, "") }).await,
            telling().await,
        );
        let keys = format!(
            ", upstream: '{}', token: {{url: '{}', refresh: none, encoding: form}}",
            api.url(),
            idp.url()
        );
        let proxy = Proxy::start(&yaml(preset, "sandbox", &keys)).await;
        for (_, request, expected) in NEIGHBOURS.iter().filter(|(of, ..)| *of == preset) {
            let words: Vec<_> = request.split(' ').collect();
            let before = api.count();
            let reply = send(&proxy, words[0], words[1], words[2]).await;
            let seen = api.seen();
            if reply.status == 200 {
                let token = format!("Bearer of-{expected}");
                assert_eq!(seen[before].all("authorization"), [token], "{request}");
            } else {
                assert_eq!(reply.problem()["reason"], *expected, "{request} {reply:?}");
                assert_eq!(seen.len(), before, "{request}");
            }
        }
    }
}

/// What came of a request: the token, the merchant headers.
async fn outcome(keys: &str, request: Request<Body>) -> Vec<String> {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        telling().await,
    );
    let keys = format!(
        ", upstream: '{}', token: {{url: '{}'}}{keys}",
        api.url(),
        idp.url()
    );
    let proxy = Proxy::start(&yaml("payu", "sandbox", &keys)).await;
    let reply = Caller::connect(proxy.listen).await.request(request).await;
    if reply.status != 200 {
        return vec![reply.problem()["reason"].to_string()];
    }
    let seen = api.only();
    let mut outcome = vec![seen.all("authorization").concat()];
    for (name, value) in &seen.headers {
        let name = name.as_str();
        if name.replace(['-', '_'], "").ends_with("id") {
            outcome.push(format!("{name}={}", value.to_str().unwrap()));
        }
    }
    outcome
}

fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(full("")).unwrap()
}

#[tokio::test]
async fn the_operator_chooses_between_the_scopes_that_payu_names() {
    for (keys, method, url, scopes) in [
        (
            "kyc_documents: client_manage_kyc_details",
            "POST",
            "http://uat-partner.payu.in/api/v3/merchants/7/kyc_document",
            "client_manage_kyc_details",
        ),
        (
            "kyc_documents: client_manage_kyc_details",
            "GET",
            "http://uat-partner.payu.in/api/v3/merchants/kyc_document/info",
            "client_manage_kyc_details",
        ),
        (
            "kyc_documents: refer_merchant",
            "POST",
            "http://uat-partner.payu.in/api/v3/merchants/7/kyc_document",
            "refer_merchant",
        ),
        (
            "bank_details: refer_merchant",
            "POST",
            "http://uat-partner.payu.in/api/v1/merchants/7/add_bank_detail",
            "refer_merchant",
        ),
        (
            "bank_details: create_bank_details",
            "POST",
            "http://uat-partner.payu.in/api/v3/merchants/7/add_bank_detail",
            "create_bank_details",
        ),
        (
            "cancel_payment_link: create_payment_links",
            "DELETE",
            "http://uatoneapi.payu.in/payment-links/7",
            "create_payment_links",
        ),
        (
            "cancel_payment_link: create_payment_links",
            "PUT",
            "http://uatoneapi.payu.in/payment-links/7",
            "update_payment_links",
        ),
        (
            "cancel_payment_link: update_payment_links",
            "DELETE",
            "http://uatoneapi.payu.in/payment-links/7",
            "update_payment_links",
        ),
    ] {
        let keys = format!(", operation_scopes: {{{keys}}}");
        let found = outcome(&keys, request(method, url, &[])).await;
        assert_eq!(
            found,
            [format!("Bearer of-{scopes}")],
            "{keys} {method} {url}"
        );
    }
}

#[test]
fn other_scopes_operations_and_presets_are_refused_with_what_there_is() {
    for (preset, keys, expected) in [
        (
            "payu",
            "operation_scopes: {kyc_documents: all}",
            "operation_scopes.kyc_documents: must be one of refer_merchant, client_manage_kyc_details",
        ),
        (
            "payu",
            "operation_scopes: {bank_details: user_token}",
            "operation_scopes.bank_details: must be one of create_bank_details, refer_merchant",
        ),
        (
            "payu",
            "operation_scopes: {cancel_payment_link: delete}",
            "operation_scopes.cancel_payment_link: must be one of update_payment_links, create_payment_links",
        ),
        (
            "payu",
            "operation_scopes: {refunds: x}",
            "operation_scopes.refunds: is not a known key; known here: kyc_documents, bank_details, cancel_payment_link",
        ),
        (
            "quidkey",
            "operation_scopes: {kyc_documents: refer_merchant}",
            "operation_scopes: has no effect here; only the payu preset",
        ),
        (
            "quidkey",
            "payout_merchant_id: '7'",
            "payout_merchant_id: has no effect here; only the payu preset",
        ),
    ] {
        let yaml = yaml(preset, "sandbox", &format!(", {keys}"));
        let problems = Config::parse(&yaml, FilePath::new("")).unwrap_err();
        let [problem] = &problems[..] else {
            panic!("{keys}: {problems:?}");
        };
        assert!(
            problem
                .to_string()
                .contains(&format!("providers.p.{expected}")),
            "{keys}: {problem}"
        );
    }
}

#[tokio::test]
async fn a_merchants_header_goes_where_it_is_wanted_and_the_callers_own_comes_first() {
    const LINK: &str = "http://uatoneapi.payu.in/payment-links";
    const PAYOUT: &str = "http://uatoneapi.payu.in/payout/v2/payment";
    const PARTNER: &str = "http://uat-partner.payu.in/api/v3/merchants";
    for (url, headers, expected) in [
        (LINK, &[][..], &["merchantid=8123456"][..]),
        (LINK, &[("merchantId", "1")], &["merchantid=1"]),
        (LINK, &[("mid", "1")], &["mid=1"]),
        (
            LINK,
            &[("payoutMerchantId", "1")],
            &["payoutmerchantid=1", "merchantid=8123456"],
        ),
        (PAYOUT, &[], &["payoutmerchantid=1111594"]),
        (
            PAYOUT,
            &[("payoutmerchantid", "1")],
            &["payoutmerchantid=1"],
        ),
        (PAYOUT, &[("pid", "1")], &["pid=1"]),
        (PARTNER, &[], &[]),
        (PARTNER, &[("mid", "1")], &["mid=1"]),
    ] {
        let found = outcome(MERCHANT, request("POST", url, headers)).await;
        assert_eq!(found[1..], *expected, "{url} {headers:?}");
    }
}

#[tokio::test]
async fn with_several_accounts_nobody_names_another_merchant_in_whatever_spelling() {
    let spellings = [
        "merchantId",
        "MERCHANTID",
        "mid",
        "merchant-id",
        "merchant_id",
        "m_id",
        "payoutMerchantId",
        "payout-merchant-id",
        "payout_merchant_id",
        "pid",
        "Payout_MerchantID",
    ];
    let mut headers: Vec<_> = spellings.iter().map(|name| (*name, "222")).collect();
    headers.push(("bursar-account", "one"));
    let accounts = ", accounts: {one: {client_id: a, client_secret: b, merchant_id: '111', payout_merchant_id: '11'}, two: {client_id: a, client_secret: b, merchant_id: '222', payout_merchant_id: '22'}, three: {client_id: a, client_secret: b}}";
    for (url, account, expected) in [
        (
            "http://uatoneapi.payu.in/payment-links",
            "one",
            &["merchantid=111"][..],
        ),
        (
            "http://uatoneapi.payu.in/payout/v2/payment",
            "one",
            &["payoutmerchantid=11"],
        ),
        ("http://uat-partner.payu.in/api/v3/merchants", "one", &[]),
        ("http://uatoneapi.payu.in/payment-links", "three", &[]),
        ("http://uatoneapi.payu.in/payout/v2/payment", "three", &[]),
    ] {
        headers.pop();
        headers.push(("bursar-account", account));
        let found = outcome(accounts, request("POST", url, &headers)).await;
        assert_eq!(found[1..], *expected, "{url} {account}");
    }
}

#[tokio::test]
async fn where_any_account_has_an_id_of_either_kind_nobody_names_a_merchant_of_the_other_kind() {
    const LINK: &str = "http://uatoneapi.payu.in/payment-links";
    const PAYOUT: &str = "http://uatoneapi.payu.in/payout/v2/payment";
    for (id, url, expected) in [
        ("merchant_id: '111'", PAYOUT, &[][..]),
        ("merchant_id: '111'", LINK, &["merchantid=111"]),
        ("payout_merchant_id: '11'", LINK, &[]),
        ("payout_merchant_id: '11'", PAYOUT, &["payoutmerchantid=11"]),
    ] {
        let accounts = format!(
            ", accounts: {{one: {{client_id: a, client_secret: b, {id}}}, two: {{client_id: a, client_secret: b}}}}"
        );
        let headers = ["mid", "Merchant_Id", "pid", "payout-merchant-id"].map(|name| (name, "222"));
        let headers = [&headers[..], &[("bursar-account", "one")]].concat();
        let found = outcome(&accounts, request("POST", url, &headers)).await;
        assert_eq!(found[1..], *expected, "{id} {url}");
    }
}

/// The token says whose it is, and the headers beside it are its owner's.
#[tokio::test]
async fn beside_the_callers_own_token_no_merchant_is_named_and_none_replaced() {
    const OWN: &str = "routes: [{path: /own/**, authorization: caller}, {path: /payment-links, authorization: caller}]";
    const TWO: &str = "accounts: {one: {client_id: a, client_secret: b, merchant_id: '111', payout_merchant_id: '11'}, two: {client_id: a, client_secret: b}}";
    let one = format!("{MERCHANT}, {OWN}");
    let two = format!(", {OWN}, {TWO}");
    for url in [
        "http://uatoneapi.payu.in/own/x",
        "http://uatoneapi.payu.in/payment-links",
        "http://uat-partner.payu.in/api/v1/merchants/7/verify_penny",
    ] {
        for (keys, account) in [(&one, None), (&two, Some(("bursar-account", "one")))] {
            for own in [&[][..], &[("merchantid", "1"), ("pid", "2")]] {
                let mut headers = vec![("authorization", "Bearer mine")];
                headers.extend(account.iter().chain(own));
                let mut found = outcome(keys, request("POST", url, &headers)).await;
                found.sort();
                let own = own.iter().map(|(name, id)| format!("{name}={id}"));
                let expected: Vec<_> = [String::from("Bearer mine")]
                    .into_iter()
                    .chain(own)
                    .collect();
                assert_eq!(found, expected, "{url} {keys}");
            }
        }
    }
}

/// What operators wrote before the preset knew these operations and hosts.
#[tokio::test]
async fn a_file_with_routes_of_its_own_goes_on_meaning_the_same() {
    const OLD: &str = ", merchant_id: '8123456', routes: [
        {methods: [POST], path: /api/v1/otp, scopes: [send_sign_in_otp]},
        {methods: [POST], path: /api/v1/otps/send_otp, scopes: [old_otp]},
        {path: '/api/v3/merchants/*/kyc_document/**', scopes: [client_manage_kyc_details]},
        {methods: [POST], path: '/api/v1/merchants/*/verify_penny', scopes: [old_penny]},
        {methods: [POST], path: /payout/v2/payment, scopes: [old_payout], moves_money: true}]";
    const OTP: &str = "Bearer of-send_sign_in_otp";
    for (method, url, headers, expected) in [
        (
            "POST",
            "http://uat-partner.payu.in/api/v1/otp",
            &[][..],
            &[OTP, "merchantid=8123456"][..],
        ),
        (
            "POST",
            "http://uatoneapi.payu.in/api/v1/otp",
            &[],
            &[OTP, "merchantid=8123456"],
        ),
        (
            "POST",
            "http://uat-partner.payu.in/api/v1/otps/send_otp",
            &[],
            &["Bearer of-old_otp"],
        ),
        (
            "GET",
            "http://uat-partner.payu.in/api/v3/merchants/7/kyc_document",
            &[],
            &["Bearer of-client_manage_kyc_details"],
        ),
        // Bursar's token goes where a route says nothing of the caller's.
        (
            "POST",
            "http://uat-partner.payu.in/api/v1/merchants/7/verify_penny",
            &[("authorization", "Bearer mine")],
            &["Bearer of-old_penny"],
        ),
        (
            "POST",
            "http://uatoneapi.payu.in/payout/v2/payment",
            &[("payoutmerchantid", "7")],
            &["Bearer of-old_payout", "payoutmerchantid=7"],
        ),
        (
            "POST",
            "http://uatoneapi.payu.in/api/v3/merchants",
            &[],
            &["Bearer of-refer_merchant"],
        ),
    ] {
        let found = outcome(OLD, request(method, url, headers)).await;
        assert_eq!(found, expected, "{method} {url}");
    }
}

#[tokio::test]
async fn a_host_that_the_preset_does_not_know_has_the_scopes_that_files_had_there() {
    for hosts in ["payu.internal", "'*.internal'"] {
        let keys = format!(", hosts: [{hosts}]");
        for (method, path, scopes) in [
            ("PUT", "/api/v3/merchants/11ea/update", "refer_merchant"),
            ("POST", "/api/v3/merchants", "refer_merchant"),
            ("GET", "/api/v1/merchants/11ea", "refer_merchant"),
            ("POST", "/payment-links", "create_payment_links"),
        ] {
            let url = format!("http://payu.internal{path}");
            let found = outcome(&keys, request(method, &url, &[])).await;
            assert_eq!(
                found,
                [format!("Bearer of-{scopes}")],
                "{keys} {method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn whoever_names_a_host_that_the_preset_has_for_a_few_paths_has_it() {
    const OWN: &str = "
  mine: {hosts: [payout.payumoney.com, '*.onboarding.payu.in'], client_id: a, client_secret: b, token: {url: 'https://accounts.payu.in/oauth/token', scopes: [own]}}
passthrough: [{host: api.payu.in}]
";
    let yaml = yaml("payu", "production", "").replace("providers: {p: ", "providers:\n  p: ");
    let yaml = yaml.strip_suffix('}').unwrap();
    let config = Config::parse(&format!("{yaml}{OWN}"), FilePath::new("")).unwrap();
    let hosts = |name: &str| {
        let provider = config
            .providers
            .iter()
            .find(|provider| &*provider.name == name)
            .unwrap();
        let hosts = provider.hosts.iter().map(ToString::to_string);
        hosts.collect::<Vec<_>>()
    };
    assert_eq!(
        hosts("p"),
        ["partner.payu.in", "oneapi.payu.in", "onboarding.payu.in"]
    );
    assert_eq!(
        hosts("mine"),
        ["payout.payumoney.com", "*.onboarding.payu.in"]
    );
    // One that is named with all of its paths has them.
    let named = yaml.replace(
        "{preset",
        "{hosts: [api.payu.in], token: {scopes: [own]}, preset",
    );
    let config = Config::parse(&named, FilePath::new("")).unwrap();
    assert_eq!(
        payment_of(&config, "POST", "api.payu.in", "/other"),
        (true, String::new())
    );
    let both = format!(
        "{yaml}\n  q: {{preset: payu, environment: production, client_id: a, client_secret: b}}"
    );
    let problems = Config::parse(&both, FilePath::new("")).unwrap_err();
    assert!(
        problems[0]
            .message
            .contains("is already a host of the provider p"),
        "{problems:?}"
    );
}
