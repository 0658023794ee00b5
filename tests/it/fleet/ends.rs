//! The end of an instance in the middle of a token call: neither its lease nor its token is left behind.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::instances::KEY;
use crate::support::acme;
use crate::support::caller::Caller;
use crate::support::idp::{Idp, TokenCall, token};
use crate::support::program::Program;
use crate::support::store::{Server, Store};
use crate::support::upstream::{Upstream, answer};

/// Of a token call; a lease lasts longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Long before a lease would end by itself.
const SOON: Duration = Duration::from_secs(8);

struct Rig {
    store: Store,
    api: Upstream,
    idp: Idp,
}

impl Rig {
    /// A token endpoint that takes so long for its first response. None: there is no store here.
    async fn start(first: Duration) -> Option<Self> {
        let store = Server::redis().await?.start().await;
        let idp = Idp::start(move |call: TokenCall| async move {
            if call.number == 1 {
                sleep(first).await;
            }
            token(&format!("token-{}", call.number))
        });
        Some(Self {
            store,
            api: Upstream::start(|_| async { answer(200, "fine") }).await,
            idp: idp.await,
        })
    }

    async fn instance(&self) -> Program {
        let seconds = TIMEOUT.as_secs();
        let lines = format!("token.timeout: {seconds}s\ntoken.wait: {seconds}s");
        let acme = acme(&self.api.url(), &self.idp.url(), &lines);
        let fleet = format!("fleet: {{url: '{}', keys: ['{KEY}']}}", self.store.url());
        Program::start(&format!("drain_delay: 0s\n{fleet}\n{acme}"), "debug").await
    }

    /// An instance begins a token call and is told to end.
    async fn ends_in_a_call(&self) {
        let one = self.instance().await;
        self.idp.reached_by(1).await;
        one.signal("TERM").await;
        assert_eq!(one.ended().await.0, Some(0));
    }

    /// Another one has a token, and soon.
    async fn another_has_a_token(&self) {
        let two = self.instance().await;
        let begun = Instant::now();
        let reply = Caller::connect(two.listen).await.send("GET", "/", "").await;
        assert_eq!(reply.status, 200, "{}", two.logged());
        assert!(begun.elapsed() < SOON, "{}", two.logged());
    }
}

#[tokio::test]
async fn a_token_that_comes_while_its_instance_ends_is_published() {
    let Some(rig) = Rig::start(Duration::from_millis(700)).await else {
        return;
    };
    rig.ends_in_a_call().await;
    rig.another_has_a_token().await;
    assert_eq!(rig.idp.calls(), 1);
}

#[tokio::test]
async fn a_lease_whose_call_takes_longer_than_its_instance_is_given_up() {
    let Some(rig) = Rig::start(TIMEOUT).await else {
        return;
    };
    let begun = Instant::now();
    rig.ends_in_a_call().await;
    assert!(begun.elapsed() < SOON, "it waits for the call");
    rig.another_has_a_token().await;
    assert_eq!(rig.idp.calls(), 2);
}
