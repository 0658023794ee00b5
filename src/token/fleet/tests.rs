//! Token keys of instances on a real store, with a real token endpoint.

use std::path::Path;
use std::time::Duration;

use bursar_testkit::idp::{Idp, TokenCall, reply, token};
use bursar_testkit::store::{Server, Store};
use bursar_testkit::{Latch, becomes_true, soon};
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::token::{Recovery, Supply as _, Tokens};
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
    /// An endpoint that answers once the latch is open. None: there is no store here.
    async fn held(latch: &Latch) -> Option<Self> {
        Some(Self {
            store: Server::redis().await?.start().await,
            idp: Idp::held(latch).await,
        })
    }

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

    /// A token of two seconds, and then tokens of ten minutes, each with a refresh token; one call meets a limit. None:
    /// there is no store here.
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
                "expires_in": if number == 1 { 2 } else { 600 },
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
        self.tokens.source(0, 0, 0).obtain(None).await.is_ok()
    }

    /// Whether there is no token that can be used.
    fn has_none(&self) -> bool {
        let source = self.tokens.source(0, 0, 0);
        source.read(Instant::now()).is_none()
    }

    fn key(&self) -> Arc<FleetKey> {
        let keys = self.shared.keys.load();
        keys.values().next().and_then(Weak::upgrade).unwrap()
    }

    /// What comes of a 401 on the token that there is.
    async fn recover(&self) -> Recovery {
        let source = self.tokens.source(0, 0, 0);
        let sent = source.read(Instant::now()).unwrap().generation;
        source.recover(sent, &"route".into(), None).await
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
        assert!(other.obtain().await);
        assert_eq!(other.key().is_told_of_another_secret(), is_told, "{secret}");
    }
}

#[tokio::test]
async fn who_waits_for_another_instances_token_is_told_that_and_not_that_the_endpoint_is_slow() {
    let latch = Latch::closed();
    let Some(rig) = Rig::held(&latch).await else {
        return;
    };
    let one = rig.member_with("b", "client_auth: body").await;
    let other = rig.member_with("b", "client_auth: body, wait: 500ms").await;
    let asking = one.tokens.source(0, 0, 0).clone();
    let asking = tokio::spawn(async move { asking.obtain(None).await.is_ok() });
    rig.idp.reached_by(1).await;
    let missing = other.tokens.source(0, 0, 0).obtain(None).await.unwrap_err();
    assert_eq!(missing.failure, crate::token::Failure::LeaseLost);
    latch.open();
    assert!(asking.await.unwrap());
}

#[tokio::test]
async fn who_waits_for_another_instances_token_has_it_once_it_is_told_even_if_the_store_has_lost_it()
 {
    let latch = Latch::closed();
    let Some(rig) = Rig::held(&latch).await else {
        return;
    };
    let one = rig.member_with("b", SIDE_BY_SIDE).await;
    let mut other = rig.member_with("b", SIDE_BY_SIDE).await;
    let asking = [&one, &other].map(|member| member.tokens.source(0, 0, 0).clone());
    let [asking, waiting] = asking.map(|source| async move { source.obtain(None).await.map(drop) });
    let asking = tokio::spawn(asking);
    rig.idp.reached_by(1).await;
    let waiting = tokio::spawn(waiting);
    let source = other.tokens.source(0, 0, 0);
    assert!(becomes_true(PATIENCE, async || source.calls.is_leased_by_another()).await);
    latch.open();
    asking.await.unwrap().unwrap();
    one.has_published().await;
    let mut operator = rig.store.connect_as_operator().await;
    operator.call(&["FLUSHALL"]).await;
    other.hears_a_token().await;
    waiting.await.unwrap().unwrap();
    assert!(other.shared.flights.are_none());
    assert_eq!(rig.idp.calls(), 1);
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

#[tokio::test]
async fn a_token_whose_message_waited_to_be_read_is_as_old_as_the_store_says() {
    const WAITED: u64 = 60;
    let Some(rig) = Rig::choosy().await else {
        return;
    };
    let one = rig.member_with("right", SIDE_BY_SIDE).await;
    let mut other = rig.member_with("right", SIDE_BY_SIDE).await;
    assert!(one.obtain().await);
    let payload = loop {
        if let Event::Message { payload, .. } = soon(other.events.next()).await.unwrap() {
            break payload;
        }
    };
    // As if it had been published a minute earlier.
    let mut words: Vec<&[u8]> = payload.splitn(6, |byte| *byte == b' ').collect();
    let at: u64 = std::str::from_utf8(words[4]).unwrap().parse().unwrap();
    let at = (at - WAITED * 1000).to_string();
    words[4] = at.as_bytes();
    let payload = words.join(&b' ');
    let entry = format!(
        "bursar:bursar:{{{}}}",
        other.key().names().all().next().unwrap()
    );
    let mut operator = rig.store.connect_as_operator().await;
    operator.call(&["HSET", &entry, "i", &at]).await;
    // By now it knows the store's clock.
    other.shared.compare().await;
    let state = other.key().state.clone();
    state.token.store(None);
    other.shared.message(&payload);
    let token = async || state.token.load_full();
    assert!(becomes_true(PATIENCE, async || token().await.is_some()).await);
    let age = token().await.unwrap().issued.elapsed();
    assert!(age >= Duration::from_secs(WAITED), "{age:?}");
}

#[tokio::test]
async fn where_tokens_cannot_be_shared_nobody_waits_for_anothers_lease_but_asks_for_itself() {
    let latch = Latch::closed();
    let Some(rig) = Rig::held(&latch).await else {
        return;
    };
    // Longer than the refusal takes to be found out.
    let patient = "client_auth: body, wait: 20s, timeout: 20s";
    let one = rig.member_with("b", patient).await;
    let other = rig.member_with("b", patient).await;
    let asking = [&one, &other].map(|member| member.tokens.source(0, 0, 0).clone());
    let [asking, asking_too] =
        asking.map(|source| async move { source.obtain(None).await.is_ok() });
    let asking = tokio::spawn(asking);
    rig.idp.reached_by(1).await;
    let mut operator = rig.store.connect_as_operator().await;
    operator.call(&["ACL", "SETUSER", "default", "-hdel"]).await;
    let fleet = other.shared.fleet();
    assert!(becomes_true(PATIENCE, async || fleet.state().refuses.is_some()).await);
    let asking_too = tokio::spawn(asking_too);
    // While the first one still has its lease.
    rig.idp.reached_by(2).await;
    latch.open();
    assert!(asking.await.unwrap() && asking_too.await.unwrap());
}

/// As many as 401s may cause in a minute.
const RENEWALS: usize = 10;

#[tokio::test]
async fn renewals_that_401s_cause_at_one_instance_count_at_all() {
    let Some(rig) = Rig::choosy().await else {
        return;
    };
    let one = rig.member_with("right", SIDE_BY_SIDE).await;
    assert!(one.obtain().await);
    one.has_published().await;
    let mut other = rig.member_with("right", SIDE_BY_SIDE).await;
    assert!(other.obtain().await);
    for _ in 0..RENEWALS {
        assert!(matches!(one.recover().await, Recovery::Replay(_)));
        other.hears_a_token().await;
    }
    let recovery = other.recover().await;
    assert!(
        matches!(recovery, Recovery::RenewedTooOften),
        "{recovery:?}"
    );
    assert_eq!(rig.idp.calls(), 1 + RENEWALS);
}

#[tokio::test]
async fn a_token_that_was_obtained_without_the_store_is_not_this_instances_alone_once_the_store_has_it()
 {
    let Some(mut rig) = Rig::start(None).await else {
        return;
    };
    let member = rig.member_with("b", SINGLE_ACTIVE).await;
    assert!(member.obtain().await);
    member.has_published().await;
    assert!(becomes_true(PATIENCE, async || member.has_none()).await);
    rig.store.kill().await;
    assert!(becomes_true(PATIENCE, async || member.obtain().await).await);
    let (key, fleet) = (member.key(), member.shared.fleet());
    let fingerprint = key.current_fingerprint();
    assert!(key.known().is_alone_with(fingerprint));
    assert!(rig.store.start_again().await);
    assert!(becomes_true(PATIENCE, async || fleet.state().down.is_none()).await);
    member.shared.compare().await;
    assert!(key.known().number_of(fingerprint).is_some());
    assert!(!key.known().is_alone_with(fingerprint));
}

/// Fewer leases of others than one flight waits for, by two.
const LEASES: usize = 6;

#[tokio::test]
async fn a_flight_that_has_waited_for_others_asks_the_endpoint_all_the_same_when_the_store_is_of_no_use()
 {
    let Some(rig) = Rig::start(None).await else {
        return;
    };
    let member = rig.member_with("b", SINGLE_ACTIVE).await;
    assert!(member.obtain().await);
    member.has_published().await;
    assert!(becomes_true(PATIENCE, async || member.has_none()).await);
    let mut operator = rig.store.connect_as_operator().await;
    let key = member.key();
    let names = key.names();
    let entry = format!("bursar:bursar:{{{}}}", names.all().next().unwrap());
    let ends = bursar_base::clock::wall() + Duration::from_secs(10);
    let ends = ends.duration_since(std::time::UNIX_EPOCH).unwrap();
    let ends = ends.as_millis().to_string();
    operator
        .call(&["HSET", &entry, "h", "another", "l", &ends])
        .await;
    let source = member.tokens.source(0, 0, 0).clone();
    let obtaining = tokio::spawn({
        let source = source.clone();
        async move { source.obtain(None).await.map(drop) }
    });
    for _ in 0..LEASES {
        assert!(becomes_true(PATIENCE, async || source.calls.is_leased_by_another()).await);
        key.known().changed.notify_waiters();
    }
    operator
        .call(&["ACL", "SETUSER", "default", "-hmget"])
        .await;
    key.known().changed.notify_waiters();
    obtaining.await.unwrap().unwrap();
    assert_eq!(rig.idp.calls(), 2);
}
