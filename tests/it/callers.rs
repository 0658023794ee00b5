//! Who may call, for which account and how much: in every form in which a request can arrive.

use std::net::SocketAddr;

use http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::support::caller::{Caller, Reply, basic};
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::upstream::{Upstream, answer, full};

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
