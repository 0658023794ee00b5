//! Token keys of instances on a real store, with a real token endpoint.

use std::path::Path;
use std::time::Duration;

use bursar_testkit::idp::{Idp, TokenCall, reply};
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
        let yaml = format!(
            "fleet: {{url: '{}', keys: ['{KEY}']}}\nproviders: {{acme: {{hosts: [api.test], client_id: a, client_secret: b, token: {{url: '{}', refresh: grant, wait: 5s}}}}}}",
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
