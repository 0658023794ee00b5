//! Token keys of instances on a real store, with a real token endpoint.

use std::path::Path;
use std::time::Duration;

use bursar_testkit::idp::{Idp, TokenCall, reply, token};
use bursar_testkit::store::{Server, Store};
use bursar_testkit::{becomes_true, soon};
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::token::Tokens;
use crate::upstream::egress::Egress;
use bursar_config::Config;
use bursar_fleet::Description;
use bursar_fleet::store::{Event, Events};
use bursar_telemetry::metrics::Metrics;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const PATIENCE: Duration = Duration::from_secs(10);

struct Rig {
    store: Store,
    idp: Idp,
}

/// An instance that renews nothing by itself.
struct Member {
    shared: Arc<FleetTokens>,
    tokens: Tokens,
    events: Events,
}

impl Rig {
    /// An endpoint that refuses the client with any secret but `right` and `next`. None: there is no store here.
    async fn choosy() -> Option<Self> {
        let store = Server::redis().await?.start().await;
        let idp = Idp::start(|call: TokenCall| async move {
            match call.field("client_secret").as_deref() {
                Some("right" | "next") => token(&format!("token-{}", call.number)),
                _ => reply(401, &json!({"error": "invalid_client"})),
            }
        });
        Some(Self {
            store,
            idp: idp.await,
        })
    }

    /// Tokens of two seconds, each with a refresh token; one call meets a limit. None: there is no store here.
    async fn start(limited: Option<usize>) -> Option<Self> {
        let store = Server::redis().await?.start().await;
        let idp = Idp::start(move |call: TokenCall| async move {
            let number = call.number;
            if limited == Some(number) {
                return reply(429, &json!({"error": "slow_down"}));
            }
            let body = json!({
                "access_token": format!("token-{number}"),
                "refresh_token": format!("refresh-{number}"),
                "expires_in": 2,
            });
            reply(200, &body)
        });
        Some(Self {
            store,
            idp: idp.await,
        })
    }

    async fn member(&self) -> Member {
        self.member_with("b", "refresh: grant").await
    }

    /// With that secret, and further keys of `token`.
    async fn member_with(&self, secret: &str, token: &str) -> Member {
        let yaml = format!(
            "fleet: {{url: '{}', keys: ['{KEY}']}}\nproviders: {{acme: {{hosts: [api.test], client_id: a, client_secret: {secret}, token: {{url: '{}', {token}}}}}}}",
            self.store.url(),
            self.idp.url()
        );
        let config = Config::parse(&yaml, Path::new("")).unwrap();
        let metrics = Metrics::new(&config).unwrap();
        let settings = config.fleet.as_ref().unwrap();
        let series = metrics.fleet.clone().unwrap();
        let (fleet, mut events) = Fleet::start(settings, Description::default(), series).unwrap();
        soon(async { while events.next().await.unwrap() != Event::Up {} }).await;
        let shared = FleetTokens::new(fleet);
        let egress = Egress::new(&config.egress, &metrics);
        let tokens = Tokens::asleep(&config, &metrics, &egress, Some(shared.clone()));
        Member {
            shared,
            tokens,
            events,
        }
    }

    /// The grants of all calls: `client_credentials`, or the refresh token that was offered.
    fn grants(&self) -> Vec<String> {
        let grant = |body: Option<&Bytes>| {
            let mut fields = form_urlencoded::parse(body.unwrap());
            let token = fields.find(|(name, _)| name == "refresh_token");
            token.map_or_else(
                || "client_credentials".to_owned(),
                |(_, token)| token.into(),
            )
        };
        let calls = self.idp.seen();
        calls.iter().map(|call| grant(call.body.as_ref())).collect()
    }
}

impl Member {
    /// A token, as a request obtains one.
    async fn obtain(&self) -> bool {
        self.tokens.source(0, 0, 0).obtain().await.is_ok()
    }

    /// Whether there is no token that can be used.
    fn has_none(&self) -> bool {
        let source = self.tokens.source(0, 0, 0);
        source.read(Instant::now()).is_none()
    }

    /// Waits until what was obtained is published.
    async fn has_published(&self) {
        let is_told =
            async || self.shared.fleet().leases_held() == 0 && self.shared.flights.are_none();
        assert!(becomes_true(PATIENCE, is_told).await);
    }

    /// Hears what was published, until that is a token.
    async fn hears_a_token(&mut self) {
        loop {
            if let Event::Message { payload, .. } = soon(self.events.next()).await.unwrap() {
                self.shared.message(&payload);
                let is_value = payload.starts_with(b"value");
                if is_value {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refresh_token_whose_call_met_a_limit_is_offered_again() {
    let Some(rig) = Rig::start(Some(2)).await else {
        return;
    };
    let member = rig.member().await;
    assert!(member.obtain().await);
    member.has_published().await;
    assert!(becomes_true(PATIENCE, async || member.has_none()).await);
    assert!(becomes_true(PATIENCE, async || member.obtain().await).await);
    let offered = ["client_credentials", "refresh-1", "refresh-1"];
    assert_eq!(rig.grants(), offered);
}

#[tokio::test]
async fn a_refresh_token_is_used_by_who_heard_of_it_without_interruption_and_by_nobody_else() {
    for (is_interrupted, grant) in [(true, "client_credentials"), (false, "refresh-1")] {
        let Some(rig) = Rig::start(None).await else {
            return;
        };
        let one = rig.member().await;
        let mut other = rig.member().await;
        // As whoever follows the store does when it is reached.
        other.shared.interrupted();
        assert!(one.obtain().await);
        other.hears_a_token().await;
        if is_interrupted {
            other.shared.interrupted();
        }
        assert!(becomes_true(PATIENCE, async || other.has_none()).await);
        assert!(other.obtain().await);
        assert_eq!(rig.grants(), ["client_credentials", grant]);
    }
}

const SINGLE_ACTIVE: &str = "client_auth: body, single_active: true";
const SIDE_BY_SIDE: &str = "client_auth: body";

#[tokio::test]
async fn where_a_new_token_ends_the_one_before_instances_with_different_secrets_have_one_token() {
    for (token, calls) in [(SINGLE_ACTIVE, 1), (SIDE_BY_SIDE, 2)] {
        let Some(rig) = Rig::choosy().await else {
            return;
        };
        let one = rig.member_with("right", token).await;
        let other = rig.member_with("next", token).await;
        assert!(one.obtain().await);
        one.has_published().await;
        assert!(other.obtain().await);
        assert_eq!(rig.idp.calls(), calls, "{token}");
    }
}

#[tokio::test]
async fn a_refused_secret_keeps_those_from_asking_who_have_it_and_nobody_else() {
    let Some(rig) = Rig::choosy().await else {
        return;
    };
    let wrong = rig.member_with("wrong", SINGLE_ACTIVE).await;
    assert!(!wrong.obtain().await);
    wrong.has_published().await;
    let like_it = rig.member_with("wrong", SINGLE_ACTIVE).await;
    assert!(!like_it.obtain().await);
    assert_eq!(rig.idp.calls(), 1);
    let right = rig.member_with("right", SINGLE_ACTIVE).await;
    assert!(right.obtain().await);
    assert_eq!(rig.idp.calls(), 2);
}

#[tokio::test]
async fn a_token_says_to_those_who_can_open_it_which_secret_it_was_obtained_with() {
    let Some(rig) = Rig::choosy().await else {
        return;
    };
    let one = rig.member_with("right", SINGLE_ACTIVE).await;
    assert!(one.obtain().await);
    one.has_published().await;
    for (secret, is_told) in [("right", false), ("wrong", true)] {
        let other = rig.member_with(secret, SINGLE_ACTIVE).await;
        let key = other.shared.keys.load().values().next().cloned();
        let key = key.unwrap().upgrade().unwrap();
        assert!(other.obtain().await);
        assert_eq!(key.is_told_of_another_secret(), is_told, "{secret}");
    }
}

#[tokio::test]
async fn who_waits_for_another_instances_token_is_told_that_and_not_that_the_endpoint_is_slow() {
    let Some(store) = Server::redis().await else {
        return;
    };
    let latch = bursar_testkit::Latch::closed();
    let rig = Rig {
        store: store.start().await,
        idp: Idp::held(&latch).await,
    };
    let one = rig.member_with("b", "client_auth: body").await;
    let other = rig.member_with("b", "client_auth: body, wait: 500ms").await;
    let asking = Arc::clone(one.tokens.source(0, 0, 0));
    let asking = tokio::spawn(async move { asking.obtain().await.is_ok() });
    rig.idp.reached_by(1).await;
    let missing = other.tokens.source(0, 0, 0).obtain().await.unwrap_err();
    assert_eq!(missing.failure, crate::token::Failure::LeaseLost);
    latch.open();
    assert!(asking.await.unwrap());
}

#[tokio::test]
async fn who_obtained_the_last_token_waits_for_a_store_that_was_lost_just_now_before_going_on_alone()
 {
    let Some(mut rig) = Rig::start(None).await else {
        return;
    };
    let token = "client_auth: body, single_active: true, wait: 1s";
    let member = rig.member_with("b", token).await;
    assert!(member.obtain().await);
    member.has_published().await;
    assert!(becomes_true(PATIENCE, async || member.has_none()).await);
    let lost = Instant::now();
    rig.store.kill().await;
    let fleet = member.shared.fleet();
    assert!(becomes_true(PATIENCE, async || fleet.state().down.is_some()).await);
    let is_obtained = member.obtain().await;
    // A machine that stood still shows nothing.
    if lost.elapsed() < outage::RECONNECT {
        assert_eq!((is_obtained, rig.idp.calls()), (false, 1));
    }
    assert!(becomes_true(PATIENCE, async || member.obtain().await).await);
    assert!(lost.elapsed() >= outage::RECONNECT);
}
