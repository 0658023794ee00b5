//! Who may call, for which account and how much: in every form in which a request can arrive.

use std::net::SocketAddr;

use http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::support::caller::{Caller, Reply, basic};
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{Latch, PATIENCE, soon};

/// How a request arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Absolute,
    Gateway,
    Http2,
}

const FORMS: [Form; 3] = [Form::Absolute, Form::Gateway, Form::Http2];

impl Form {
    async fn connect(self, proxy: SocketAddr) -> Caller {
        match self {
            Self::Absolute | Self::Gateway => Caller::connect(proxy).await,
            Self::Http2 => Caller::connect_http2(proxy).await,
        }
    }

    fn request(self, fields: &[(&str, &str)]) -> Request<crate::support::upstream::Body> {
        let mut request = match self {
            Self::Absolute | Self::Http2 => Request::get("http://api.test/x"),
            Self::Gateway => Request::get("/x").header("host", "api.test"),
        };
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(full("")).unwrap()
    }

    /// One request on a connection of its own.
    async fn get(self, proxy: SocketAddr, fields: &[(&str, &str)]) -> Reply {
        let mut caller = self.connect(proxy).await;
        caller.request(self.request(fields)).await
    }
}

/// The password of `shop` wherever it has one.
const PASSWORD: &str = "p4ss:w0rd";

fn shop() -> (&'static str, String) {
    ("proxy-authorization", basic("shop", PASSWORD))
}

/// An API, and a token endpoint whose tokens are called after the client id.
struct Peers {
    api: Upstream,
    idp: Idp,
}

impl Peers {
    async fn start() -> Self {
        let idp = Idp::start(|call| async move {
            idp::token(&format!("token-of-{}", call.field("client_id").unwrap()))
        });
        Self {
            api: Upstream::start(|_| async { answer(200, "") }).await,
            idp: idp.await,
        }
    }

    /// A proxy in front of both, with a provider that has these accounts.
    async fn proxy(&self, callers: &str, accounts: &str) -> Proxy {
        Proxy::start(&self.yaml(callers, accounts)).await
    }

    fn yaml(&self, callers: &str, accounts: &str) -> String {
        format!(
            "{callers}\nproviders:\n  acme:\n    hosts: [api.test]\n    upstream: {}\n    token: {{url: \"{}\"}}\n{accounts}\n",
            self.api.url(),
            self.idp.url()
        )
    }

    /// What the last request carried.
    fn last(&self) -> HeaderMap {
        self.api.seen().pop().unwrap().headers
    }
}

const TWO_ACCOUNTS: &str = "    client_id: own\n    client_secret: s\n    accounts: {blue: {client_id: blue-id, client_secret: s}, red: {client_id: red-id, client_secret: s}}";

#[tokio::test]
async fn a_caller_uses_the_account_that_it_is_bound_to_or_names() {
    let peers = Peers::start().await;
    let callers = format!(
        "callers:
  shop: {{password: '{PASSWORD}', allow: [{{provider: acme, accounts: [red, default]}}]}}
  bound: {{password: a, allow: [{{provider: acme, account: blue}}]}}
  any: {{password: b, allow: [acme]}}"
    );
    let proxy = peers.proxy(&callers, TWO_ACCOUNTS).await;
    let bound = ("proxy-authorization", basic("bound", "a"));
    let any = ("proxy-authorization", basic("any", "b"));
    let name = |account| ("bursar-account", account);
    let mut lines = 0;
    for form in FORMS {
        for (caller, named, expected) in [
            (&bound, None, Some("blue")),
            (&bound, Some("blue"), Some("blue")),
            (&bound, Some("red"), None),
            (&shop(), Some("red"), Some("red")),
            (&shop(), Some("default"), Some("default")),
            (&shop(), Some("blue"), None),
            (&shop(), Some("nobody"), None),
            (&shop(), None, None),
            (&any, Some("blue"), Some("blue")),
            (&any, None, None),
        ] {
            let mut fields = vec![(caller.0, &*caller.1)];
            fields.extend(named.map(name));
            let before = peers.api.count();
            let reply = form.get(proxy.listen, &fields).await;
            lines += 1;
            let line = proxy.access_lines(lines).await.pop().unwrap();
            let Some(account) = expected else {
                assert_eq!(reply.status, 403, "{form:?} {fields:?}");
                let problem = reply.problem();
                assert_eq!(problem["reason"], "route_not_allowed");
                assert!(
                    problem["detail"]
                        .as_str()
                        .unwrap()
                        .contains("Bursar-Account")
                );
                assert_eq!(
                    (peers.api.count(), &line["account"]),
                    (before, &Value::Null)
                );
                continue;
            };
            assert_eq!(reply.status, 200, "{form:?} {fields:?}");
            assert_eq!(line["account"], account);
            let id = if account == "default" {
                "own".to_owned()
            } else {
                format!("{account}-id")
            };
            let headers = peers.last();
            assert_eq!(headers["authorization"], format!("Bearer token-of-{id}"));
            assert!(!headers.contains_key("bursar-account"), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_names_two_accounts_is_for_neither() {
    let peers = Peers::start().await;
    let proxy = peers.proxy("", TWO_ACCOUNTS).await;
    for form in FORMS {
        let fields = [("bursar-account", "red"), ("bursar-account", "red")];
        let reply = form.get(proxy.listen, &fields).await;
        assert_eq!(reply.problem()["reason"], "route_not_allowed");
        // Without authentication everybody may use them all.
        let reply = form.get(proxy.listen, &fields[..1]).await;
        assert_eq!(reply.status, 200);
        assert_eq!(form.get(proxy.listen, &[]).await.status, 403);
    }
}

#[tokio::test]
async fn every_account_has_tokens_series_and_a_state_of_its_own() {
    let peers = Peers::start().await;
    let proxy = peers.proxy("", TWO_ACCOUNTS).await;
    // Wanted at start, without a request.
    peers.idp.reached_by(3).await;
    for account in ["blue", "default", "red"] {
        let labels = [("provider", "acme"), ("account", account)];
        let fetches = [&labels[..], &[("outcome", "ok")]].concat();
        proxy
            .metric_becomes("bursar_token_fetches_total", &fetches, 1.0)
            .await;
        proxy
            .metric_becomes("bursar_token_generation", &labels, 1.0)
            .await;
    }
    let (_, status) = proxy.json("/status").await;
    let accounts: Vec<&Value> = status["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["account"])
        .collect();
    assert_eq!(accounts, ["blue", "default", "red"]);
    assert_eq!(peers.idp.calls(), 3);
}

#[tokio::test]
async fn readiness_names_the_account_in_trouble() {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::start(|call| async move {
        match &*call.field("client_id").unwrap() {
            "red-id" => idp::reply(401, &json!({"error": "invalid_client"})),
            id => idp::token(id),
        }
    });
    let peers = Peers {
        api,
        idp: idp.await,
    };
    let proxy = peers.proxy("", TWO_ACCOUNTS).await;
    let red = [("account", "red"), ("outcome", "rejected")];
    proxy
        .metric_becomes("bursar_token_fetches_total", &red, 1.0)
        .await;
    let blue = [("account", "blue"), ("outcome", "ok")];
    proxy
        .metric_becomes("bursar_token_fetches_total", &blue, 1.0)
        .await;
    let (code, body) = proxy.json("/readyz").await;
    assert_eq!(code, 200);
    let why = body["providers"]["acme"]["why"].as_str().unwrap();
    assert!(why.starts_with("account red: "), "{why}");
    let reply = Form::Absolute
        .get(proxy.listen, &[("bursar-account", "blue")])
        .await;
    assert_eq!(reply.status, 200);
    let reply = Form::Absolute
        .get(proxy.listen, &[("bursar-account", "red")])
        .await;
    assert_eq!(reply.problem()["reason"], "credentials_rejected");
}

#[tokio::test]
async fn each_account_has_its_merchant() {
    let peers = Peers::start().await;
    let provider = format!(
        "providers:
  payu:
    preset: payu
    environment: sandbox
    upstream: {}
    accounts:
      one: {{client_id: one, client_secret: s, merchant_id: '111'}}
      two: {{client_id: two, client_secret: s, merchant_id: '222'}}
    token: {{url: \"{}\", scopes: [all]}}
",
        peers.api.url(),
        peers.idp.url()
    );
    let proxy = Proxy::start(&provider).await;
    for (account, merchant) in [("one", "111"), ("two", "222")] {
        let request = Request::get("http://uatoneapi.payu.in/payment-links/x")
            .header("bursar-account", account)
            .body(full(""))
            .unwrap();
        let reply = Caller::connect(proxy.listen).await.request(request).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(peers.last()["merchantid"], merchant);
    }
    // Servers that take trailers for headers see no other one either.
    let chunked = "POST http://uatoneapi.payu.in/payment-links HTTP/1.1\r\nHost: a\r\nBursar-Account: one\r\n\
        Trailer: merchantId, Merchant_Id, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nmerchantId: 222\r\nMerchant_Id: 222\r\nX-Sum: s\r\n\r\n";
    let reply = Raw::connect(proxy.listen).await.ask(chunked).await;
    assert_eq!(reply.status(), 200);
    let trailers = peers.api.seen().last().unwrap().trailers.clone();
    let names: Vec<_> = trailers.unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["x-sum"]);
}

#[tokio::test]
async fn ten_thousand_accounts_start_at_once() {
    let peers = Peers::start().await;
    let accounts: String = (0..10_000)
        .map(|number| format!("      a{number}: {{client_id: id{number}, client_secret: s}}\n"))
        .collect();
    let proxy = soon(peers.proxy("", &format!("    accounts:\n{accounts}"))).await;
    let reply = Form::Gateway
        .get(proxy.listen, &[("bursar-account", "a9876")])
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(peers.last()["authorization"], "Bearer token-of-id9876");
}

/// Hashes of [`PASSWORD`], made with libargon2 and Perl's crypt.
const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=1$c29tZSBzYWx0IDEyMzQ1Ng$GGf0dqYV+OgO/c3CKWH7z/h6l1+sBs6rf82iDRK2m/c";
const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuumKxKh3CYLemG/HQI5Yhafiu.JiVrNjy";

/// The answer to credentials that are missing or wrong, with the right challenge.
#[track_caller]
fn assert_unauthenticated(reply: &Reply, form: Form) {
    let (status, challenge) = match form {
        Form::Absolute => (407, "proxy-authenticate"),
        Form::Gateway | Form::Http2 => (401, "www-authenticate"),
    };
    assert_eq!(reply.status, status, "{form:?} {reply:?}");
    assert!(reply.headers.contains_key(challenge), "{reply:?}");
    assert_eq!(reply.problem()["reason"], "caller_unauthenticated");
}

#[tokio::test]
async fn one_of_several_passwords_is_enough_hashed_or_not() {
    let peers = Peers::start().await;
    let callers = format!(
        "callers:
  shop: {{password: old, passwords: ['{ARGON2}', new], allow: [acme]}}
  bank: {{passwords: ['{BCRYPT}'], allow: [acme]}}"
    );
    let own = "    client_id: own\n    client_secret: s";
    let proxy = peers.proxy(&callers, own).await;
    for form in FORMS {
        for (name, password, passes) in [
            ("shop", "old", true),
            ("shop", "new", true),
            ("shop", PASSWORD, true),
            ("shop", "older", false),
            ("shop", ARGON2, false),
            ("bank", PASSWORD, true),
            ("bank", "old", false),
            ("nobody", PASSWORD, false),
        ] {
            let field = ("proxy-authorization", &*basic(name, password));
            let reply = form.get(proxy.listen, &[field]).await;
            if passes {
                assert_eq!(reply.status, 200, "{form:?} {name} {password}");
                assert!(!peers.last().contains_key("proxy-authorization"));
            } else {
                assert_unauthenticated(&reply, form);
            }
        }
        assert_unauthenticated(&form.get(proxy.listen, &[]).await, form);
    }
    // Right ones once each; of the wrong ones each time one of both kinds.
    proxy
        .metric_becomes("bursar_password_hashes_total", &[], 2.0 + 3.0 * 4.0 * 2.0)
        .await;
}

#[tokio::test]
async fn passwords_that_nobody_can_verify_in_time_are_503() {
    let peers = Peers::start().await;
    let callers = format!("callers: {{shop: {{password: '{BCRYPT}', allow: [acme]}}, fast: {{password: f, allow: [acme]}}}}")
        .replace("$2b$04", "$2b$10");
    let own = "    client_id: own\n    client_secret: s";
    let proxy = peers.proxy(&callers, own).await;
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..200 {
        let proxy = proxy.listen;
        flood.spawn(async move {
            let value = basic("shop", &number.to_string());
            let fields = [("proxy-authorization", &*value)];
            FORMS[number % 3].get(proxy, &fields).await
        });
    }
    // Those who need no hash do not notice.
    let value = basic("fast", "f");
    let reply = Form::Absolute
        .get(proxy.listen, &[("proxy-authorization", &*value)])
        .await;
    assert_eq!(reply.status, 200);
    let replies = soon(flood.join_all()).await;
    let refused = replies.iter().filter(|reply| reply.status == 503);
    for reply in refused.clone() {
        assert_eq!(reply.problem()["reason"], "overloaded");
        assert_eq!(reply.headers["retry-after"], "1");
    }
    let refused = refused.count();
    assert!(refused > 0);
    let hashes = (200 - refused) as f64;
    assert_eq!(
        proxy.metric("bursar_password_hashes_total", &[]).await,
        hashes
    );
}

#[tokio::test]
async fn callers_are_known_by_their_address_alone_or_beside_a_password() {
    let peers = Peers::start().await;
    let callers = format!(
        "callers:
  here: {{addresses: [127.0.0.0/8], allow: [acme]}}
  shop: {{password: '{PASSWORD}', addresses: [127.0.0.1], allow: [acme]}}
  away: {{password: '{PASSWORD}', addresses: [192.0.2.0/24], allow: [acme]}}"
    );
    let own = "    client_id: own\n    client_secret: s";
    let proxy = peers.proxy(&callers, own).await;
    let field = "proxy-authorization";
    let mut lines = 0;
    for form in FORMS {
        for (credentials, caller) in [
            (None, "here"),
            (Some((field, basic("shop", PASSWORD))), "shop"),
            (Some((field, basic("shop", "wrong"))), "anonymous"),
            (Some((field, basic("away", PASSWORD))), "anonymous"),
            (Some((field, basic("here", ""))), "anonymous"),
            (Some((field, "Bearer x".to_owned())), "anonymous"),
            // For the provider, and replaced.
            (Some(("authorization", "Bearer x".to_owned())), "here"),
        ] {
            let fields: Vec<_> = credentials
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            let reply = form.get(proxy.listen, &fields).await;
            lines += 1;
            let line = proxy.access_lines(lines).await.pop().unwrap();
            assert_eq!(line["caller"], caller, "{form:?} {fields:?}");
            if caller == "anonymous" {
                assert_unauthenticated(&reply, form);
            } else {
                assert_eq!(reply.status, 200);
                assert_eq!(peers.last()["authorization"], "Bearer token-of-own");
            }
        }
    }
}

#[tokio::test]
async fn an_empty_list_of_callers_or_of_what_they_may_do_allows_nothing() {
    let peers = Peers::start().await;
    let own = "    client_id: own\n    client_secret: s";
    let nobody = peers.proxy("callers: {}", own).await;
    let nothing = format!("callers: {{shop: {{password: '{PASSWORD}', allow: []}}}}");
    let nothing = peers.proxy(&nothing, own).await;
    let (name, value) = shop();
    for form in FORMS {
        assert_unauthenticated(&form.get(nobody.listen, &[(name, &value)]).await, form);
        let reply = form.get(nothing.listen, &[(name, &value)]).await;
        assert_eq!(reply.problem()["reason"], "route_not_allowed");
    }
    assert_eq!(peers.api.count(), 0);
}

#[tokio::test]
async fn requests_in_flight_count_until_the_answers_last_byte() {
    let latch = Latch::closed();
    let held = latch.clone();
    let api = Upstream::start(move |_| {
        let held = held.clone();
        async move {
            let (mut sender, body) = crate::support::upstream::stream();
            tokio::spawn(async move {
                sender.send_data("begun".into()).await.unwrap();
                held.wait().await;
                sender.send_data("done".into()).await.unwrap();
            });
            http::Response::new(body)
        }
    });
    let peers = Peers {
        api: api.await,
        idp: Idp::counting().await,
    };
    let callers = format!(
        "callers: {{shop: {{password: '{PASSWORD}', limits: {{in_flight: 3}}, allow: [acme]}}, other: {{password: o, allow: [acme]}}}}"
    );
    let proxy = peers
        .proxy(&callers, "    client_id: own\n    client_secret: s")
        .await;
    let (name, value) = shop();
    let mut answers = Vec::new();
    let mut connections = Vec::new();
    for form in FORMS {
        let mut caller = form.connect(proxy.listen).await;
        let answer = caller.begin(form.request(&[(name, &value)])).await.unwrap();
        assert_eq!(answer.status(), 200);
        answers.push(answer);
        connections.push(caller);
    }
    for form in FORMS {
        let reply = form.get(proxy.listen, &[(name, &value)]).await;
        assert_eq!(reply.status, 429);
        assert_eq!(reply.problem()["reason"], "caller_limit_exceeded");
        assert_eq!(reply.headers["retry-after"], "1");
    }
    assert_eq!(peers.api.count(), 3);
    // Nobody else's business.
    let mut other = Caller::connect(proxy.listen).await;
    let request = Form::Gateway.request(&[(name, &basic("other", "o"))]);
    assert_eq!(other.begin(request).await.unwrap().status(), 200);
    latch.open();
    for answer in answers {
        let reply = crate::support::caller::read(answer).await.unwrap();
        assert_eq!(reply.text(), "begundone");
    }
    // The record goes with the answer's last byte, which the caller may have a moment earlier.
    crate::support::eventually(|| async {
        Form::Http2
            .get(proxy.listen, &[(name, &value)])
            .await
            .status
            == 200
    })
    .await;
    let refused = [("reason", "caller_limit_exceeded")];
    assert!(proxy.metric("bursar_refusals_total", &refused).await >= 3.0);
}

#[tokio::test]
async fn requests_per_second_are_limited_for_each_caller() {
    let peers = Peers::start().await;
    let callers = format!(
        "callers: {{shop: {{password: '{PASSWORD}', limits: {{per_second: 1}}, allow: [acme]}}, other: {{password: o, limits: {{per_second: 1000}}, allow: [acme]}}}}"
    );
    let proxy = peers
        .proxy(&callers, "    client_id: own\n    client_secret: s")
        .await;
    let (name, value) = shop();
    let other = basic("other", "o");
    let begun = tokio::time::Instant::now();
    let mut passed = 0;
    for form in FORMS.repeat(3) {
        let reply = form.get(proxy.listen, &[(name, &value)]).await;
        if reply.status == 200 {
            passed += 1;
        } else {
            assert_eq!(reply.status, 429);
            assert_eq!(reply.problem()["reason"], "caller_limit_exceeded");
            assert_eq!(reply.headers["retry-after"], "1");
        }
        assert_eq!(form.get(proxy.listen, &[(name, &other)]).await.status, 200);
        // A wrong password uses nobody's limit up.
        let wrong = basic("shop", "wrong");
        assert_unauthenticated(&form.get(proxy.listen, &[(name, &wrong)]).await, form);
    }
    let seconds = begun.elapsed().as_secs();
    assert!(
        (1..=seconds + 1).contains(&passed),
        "{passed} in {seconds} s"
    );
    assert!(begun.elapsed() < PATIENCE);
}
