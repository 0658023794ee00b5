//! Situations in which Bursar itself responds, for other reasons than a connection that cannot be had.

use serde_json::json;

use super::places::{Situation, get, request};
use super::{ADMIN_TOKEN, FLEET_KEY, GUESS, PASSWORD};
use crate::support::acme;
use crate::support::balancer::Place;
use crate::support::caller::basic;
use crate::support::idp::{Idp, reply};
use crate::support::raw::RawUpstream;
use crate::support::upstream::{Upstream, answer};

const PAYU: &str = "  payu: {preset: payu, environment: sandbox, client_id: payu-id, client_secret: s3cret+of/acme=, merchant_id: '8123456'}\n";

/// An API that answers, and its tokens.
async fn good(name: &'static str, lines: &str) -> Situation {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), lines);
    Situation::new(name, yaml).with(api).with(idp)
}

/// The same with lines at the top of the file.
async fn below(name: &'static str, top: &str, lines: &str) -> Situation {
    let mut situation = good(name, lines).await;
    situation.yaml = format!("{top}\n{}", situation.yaml);
    situation
}

pub(super) async fn all() -> Vec<Situation> {
    let mut all = of_callers().await;
    all.extend(of_requests().await);
    all.extend(of_destinations().await);
    all.extend(of_tokens().await);
    all.extend(of_payments().await);
    all.extend(of_fleets().await);
    all.extend(of_waiting().await);
    all
}

async fn of_callers() -> Vec<Situation> {
    let callers = format!(
        "callers: {{shop: {{password: {PASSWORD}, allow: [{{provider: acme, paths: [/orders/**]}}]}}}}"
    );
    let as_shop = |password: &str| format!("Proxy-Authorization: {}\r\n", basic("shop", password));
    let guessed = request("GET", "api.test/orders", &as_shop(GUESS));
    let elsewhere = request("GET", "api.test/refunds", &as_shop(PASSWORD));
    let many = format!(
        "callers: {{shop: {{password: {PASSWORD}, allow: [acme], limits: {{per_second: 1}}}}}}"
    );
    vec![
        below("caller_unauthenticated", &callers, "")
            .await
            .asking(guessed),
        below("connect_unauthenticated", &callers, "")
            .await
            .asking(connect("api.test:443")),
        below("not_in_allow", &callers, "").await.asking(elsewhere),
        below("caller_limit_exceeded", &many, "")
            .await
            .asking(request("GET", "api.test/orders", &as_shop(PASSWORD)))
            .until("caller_limit_exceeded"),
    ]
}

fn connect(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

async fn of_requests() -> Vec<Situation> {
    let Place { listen, .. } = Place::any();
    let idp = Idp::counting().await;
    let own = acme(&format!("http://{listen}"), &idp.url(), "");
    let own = own.replace("[api.test]", &format!("[api.test, '{listen}']"));
    let own = format!("listen: {listen}\nadmin: 127.0.0.1:0\n{own}");
    vec![
        good("bad_request", "")
            .await
            .asking("GET http://api.test/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        good("method_not_allowed", "")
            .await
            .asking(request("TRACE", "api.test/a", "")),
        below("headers_too_large", "limits: {headers: 10}", "")
            .await
            .asking(request("GET", "api.test/a", &"X-Note: a\r\n".repeat(10))),
        Situation {
            first: Some(connect("api.test:80")),
            ..good("misdirected", "")
                .await
                .asking("GET /a HTTP/1.1\r\nHost: other.test\r\n\r\n".to_owned())
        },
        below("target_too_long", "limits: {target_size: 1KiB}", "")
            .await
            .asking(get(&format!("api.test/{}", "x".repeat(2000)))),
        good("request_timeout", "timeouts: {idle: 500ms}")
            .await
            .asking(
                "POST http://api.test/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"
                    .to_owned(),
            ),
        Situation::new("loop", own).with(idp),
        good(
            "caller_token_missing",
            "routes: [{methods: [GET], path: /mine, authorization: caller}]",
        )
        .await
        .asking(get("api.test/mine")),
    ]
}

async fn of_destinations() -> Vec<Situation> {
    let with_payu = async |name, asked: String| {
        let mut situation = good(name, "").await;
        situation.yaml.push_str(PAYU);
        // Nobody asks the real one.
        situation.is_live = false;
        situation.asking(asked)
    };
    vec![
        good("host_unknown", "").await.asking(get("api.tset/a")),
        with_payu("other_environment", connect("partner.payu.in:443")).await,
        with_payu("token_host", connect("uat-accounts.payu.in:443")).await,
        with_payu("scopes_unknown", get("uatoneapi.payu.in/new-thing")).await,
        with_payu(
            "token_endpoint_protected",
            get("uat-accounts.payu.in/oauth/token"),
        )
        .await,
        good("outside_paths", "paths: [/v1/**]")
            .await
            .asking(get("api.test/admin")),
        good("connect_not_allowed", "")
            .await
            .asking(connect("api.test:443")),
    ]
}

/// A token endpoint that answers with that.
async fn answering(
    name: &'static str,
    status: u16,
    kind: &'static str,
    body: &'static str,
) -> Situation {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::start(move |_| async move {
        let mut response = answer(status, body);
        response
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
        response
    });
    let idp = idp.await;
    let yaml = acme(&api.url(), &idp.url(), "token.wait: 2s");
    Situation::new(name, yaml).with(api).with(idp)
}

async fn of_tokens() -> Vec<Situation> {
    let json = "application/json";
    let html = "<html>Service Unavailable</html>";
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let limited = Idp::start(|_| async { reply(429, &json!({"retry_after": 120})) }).await;
    let limited_yaml = acme(&api.url(), &limited.url(), "token.wait: 2s");
    let nobody = acme(&api.url(), "http://127.0.0.1:9/token", "token.wait: 2s");
    vec![
        answering(
            "credentials_rejected",
            401,
            json,
            "{\"error\": \"invalid_client\"}",
        )
        .await,
        answering("token_error_status", 503, "text/html", html).await,
        answering(
            "token_request_refused",
            400,
            json,
            "{\"error\": \"unsupported_grant_type\"}",
        )
        .await,
        answering("no_token", 200, "text/html", "<html>Please log in</html>").await,
        Situation::new("rate_limited", limited_yaml).with(limited),
        Situation::new("token_refused", nobody).with(api),
    ]
}

/// With a store that nobody runs.
async fn of_fleets() -> Vec<Situation> {
    let fleet =
        |more: &str| format!("fleet: {{url: 'redis://127.0.0.1:9', keys: ['{FLEET_KEY}']{more}}}");
    let held = below("fleet_hold", &fleet(", on_outage: hold"), "token.wait: 2s").await;
    let starting = below("not_known_yet", &fleet(""), "").await;
    let starting = starting.asking(request("POST", "api.test/payments", ""));
    let mut both = vec![held.until("token_unavailable"), starting.until("frozen")];
    for situation in &mut both {
        situation.awaited = "the fleet's store cannot be used";
    }
    both
}

/// A provider that never responds, and what comes meanwhile.
async fn of_waiting() -> Vec<Situation> {
    let silent = async |name, top: &str| {
        let api = RawUpstream::start(|_, raw| async move {
            std::future::pending::<()>().await;
            drop(raw);
        });
        let (api, idp) = (api.await, Idp::counting().await);
        let yaml = format!("{top}\n{}", acme(&api.url(), &idp.url(), ""));
        Situation::new(name, yaml).with(api).with(idp)
    };
    vec![
        Situation {
            under_way: Some(get("api.test/slow")),
            ..silent("overloaded", "limits: {requests: 1}").await
        },
        Situation {
            leaves: true,
            ..silent("caller_left", "").await
        },
    ]
}

async fn of_payments() -> Vec<Situation> {
    let admin = format!("admin_token: {ADMIN_TOKEN}");
    let order = "Bursar-Reference: order-17\r\n";
    let pay = || request("POST", "api.test/payments", order);
    let mut frozen = below("frozen", &admin, "").await.asking(pay());
    frozen.before = &[&["freeze", "acme"]];
    let broken = RawUpstream::start(|_, mut raw| async move {
        // `check --live` only connects.
        if raw.try_read_message().await.is_ok() {
            raw.reset();
        }
    });
    let broken = broken.await;
    let idp = Idp::counting().await;
    let yaml = format!(
        "journal: {{path: journal}}\n{}",
        acme(&broken.url(), &idp.url(), "")
    );
    let mut in_doubt = Situation::new("upstream_protocol", yaml)
        .with(broken)
        .with(idp)
        .asking(pay());
    in_doubt.is_listed = true;
    let silent = RawUpstream::start(|_, raw| async move {
        std::future::pending::<()>().await;
        drop(raw);
    });
    let (silent, idp) = (silent.await, Idp::counting().await);
    let lines = "timeouts: {head: 500ms}";
    let yaml = format!(
        "journal: {{path: journal}}\n{}",
        acme(&silent.url(), &idp.url(), lines)
    );
    let mut waiting = Situation::new("upstream_timeout", yaml)
        .with(silent)
        .with(idp)
        .asking(pay());
    waiting.is_listed = true;
    let idp = Idp::counting().await;
    let yaml = acme("http://127.0.0.1:9", &idp.url(), "breaker: {}");
    let held = Situation::new("upstream_unavailable", yaml)
        .with(idp)
        .until("upstream_unavailable");
    vec![frozen, in_doubt, waiting, held]
}
