//! Trouble with the store: no request fails for it, budgets hold, and once it is over the instances agree again.
//!
//! Callers send all the time at three instances. Every trouble lasts longer than a token, so that each instance has to
//! obtain one without the store.

use std::time::Duration;

use super::instances::{
    AGREED, Callers, Fleet, KEY, Kind, OTHER_KEY, Provider, assert_all_fine, show,
};
use crate::support::program::Program;
use crate::support::relay::{Network, Relay};
use crate::support::store::resp::Connection;
use crate::support::store::sentinel::{MASTER, Watched};
use crate::support::store::{Server, Store};

/// Of a token.
const LIFETIME: Duration = Duration::from_secs(4);
/// Of the trouble.
const TROUBLE: Duration = Duration::from_secs(6);
/// Of all instances together; what is below is more than three instances need on their own.
const CALLS_PER_MINUTE: usize = 60;

/// Three instances with callers.
struct Trouble {
    provider: Provider,
    fleet: Fleet,
    callers: Callers,
}

impl Trouble {
    /// In a fleet that these lines are of.
    async fn at(fleet: &str) -> Self {
        Self::with(&[fleet; 3]).await
    }

    /// The same, lines for each instance.
    async fn with(fleets: &[&str]) -> Self {
        let provider = Provider::start(LIFETIME).await;
        let lines = format!("token.calls_per_minute: {CALLS_PER_MINUTE}");
        let files: Vec<String> = fleets
            .iter()
            .map(|fleet| provider.yaml(fleet, &lines))
            .collect();
        let fleet = Fleet::start(&files).await;
        let callers = Callers::start(&fleet);
        Self {
            provider,
            fleet,
            callers,
        }
    }

    /// What happened.
    fn story(&self) -> String {
        let logs = self.fleet.programs.iter().map(Program::logged);
        let logs: Vec<String> = logs.collect();
        format!(
            "{:.1?}\n{}",
            self.provider.call_times(),
            logs.join("\n--\n")
        )
    }

    /// The trouble ends: the instances find the store and agree soon, and from then on one of them asks for all. Says how it
    /// went.
    async fn ends(self, what: &str) {
        self.ends_within(AGREED, what).await;
    }

    /// The same, where it takes longer until they agree.
    async fn ends_within(self, patience: Duration, what: &str) {
        let agreed = self.fleet.agree_within(patience).await;
        let before = self.provider.calls();
        tokio::time::sleep(2 * LIFETIME).await;
        let renewals = self.provider.calls() - before;
        // A token is renewed after two thirds of so short a life; three instances on their own would ask three times as
        // often.
        assert!(
            (2..=5).contains(&renewals),
            "{what}: {renewals} token calls\n{}",
            self.story()
        );
        let (requests, slowest) = assert_all_fine(&self.callers.stop().await);
        let calls = self.provider.calls_in_a_minute();
        assert!(
            calls <= CALLS_PER_MINUTE,
            "{what}: {calls} token calls in a minute"
        );
        show(&format!("{what}: {:.1?}", self.provider.call_times()));
        show(&format!(
            "| {what} | {requests} requests, none failed, the slowest took {slowest:.1?} | {calls} token calls | agreed after {agreed:.1?} |"
        ));
    }
}

/// The lines of a fleet with that store.
fn at(store: &Store) -> String {
    format!("url: '{}', keys: ['{KEY}']", store.url())
}

/// Trouble with a store that is reached over a network.
async fn behind_a_network(store: &Store) -> (Relay, Trouble) {
    let relay = Relay::to(store.address).await;
    let url = store.url_at(relay.address);
    let trouble = Trouble::at(&format!("url: '{url}', keys: ['{KEY}']")).await;
    (relay, trouble)
}

#[tokio::test]
async fn a_store_that_is_stopped_fails_no_request() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let trouble = Trouble::at(&at(&store)).await;
    store.stop().await;
    tokio::time::sleep(TROUBLE).await;
    trouble.fleet.store_is_lost().await;
    store.go_on().await;
    trouble.ends("stopped for 6 s").await;
}

#[tokio::test]
async fn a_store_that_is_killed_and_starts_again_empty_fails_no_request() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let mut store = server.start().await;
    let trouble = Trouble::at(&at(&store)).await;
    store.kill().await;
    tokio::time::sleep(TROUBLE).await;
    trouble.fleet.store_is_lost().await;
    assert!(store.start_again().await, "{}", store.log());
    trouble.ends("killed, started empty").await;
}

#[tokio::test]
async fn a_store_that_is_killed_and_starts_again_with_what_it_had_fails_no_request() {
    let Some(server) = Server::valkey().await else {
        return;
    };
    let mut store = server.launch().keeping_data().start().await;
    let trouble = Trouble::at(&at(&store)).await;
    store.kill().await;
    tokio::time::sleep(TROUBLE).await;
    assert!(store.start_again().await, "{}", store.log());
    trouble.ends("killed, started with its data").await;
}

#[tokio::test]
async fn a_store_that_forgets_everything_is_told_again() {
    let Some(server) = Server::valkey().await else {
        return;
    };
    let store = server.start().await;
    let trouble = Trouble::at(&at(&store)).await;
    let before = trouble.provider.calls();
    store.flush().await;
    // By a heartbeat, long before the next renewal.
    let is_there = async || {
        let names = store.names().await;
        names
            .iter()
            .any(|(name, _)| !name.windows(9).any(|part| part == b"{members}"))
    };
    crate::support::eventually(is_there).await;
    assert!(trouble.provider.calls() <= before + 1);
    trouble.ends("FLUSHALL").await;
}

#[tokio::test]
async fn a_failover_by_sentinel_fails_no_request() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let mut watched = Watched::start(&server, 3, |launch| launch.password("s3cret")).await;
    let urls = watched.urls().join("', '");
    let fleet = format!(
        "sentinel: {{urls: ['{urls}'], master: {MASTER}, password: s3cret}}, keys: ['{KEY}']"
    );
    let trouble = Trouble::at(&fleet).await;
    watched.fail_over().await;
    trouble.ends("failover by Sentinel").await;
}

#[tokio::test]
async fn a_full_store_fails_no_request() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server
        .launch()
        .line("maxmemory-policy noeviction")
        .start()
        .await;
    let trouble = Trouble::at(&at(&store)).await;
    let mut operator = store.connect_as_operator().await;
    operator.call(&["CONFIG", "SET", "maxmemory", "1"]).await;
    tokio::time::sleep(TROUBLE).await;
    operator.call(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // What a connected store refuses is tried every 5 seconds.
    let tried = Duration::from_secs(5);
    trouble.ends_within(AGREED + tried, "full").await;
}

#[tokio::test]
async fn garbage_in_the_store_is_nothing_and_is_replaced() {
    for server in Server::all().await {
        let store = server.start().await;
        let trouble = Trouble::at(&at(&store)).await;
        let mut operator = store.connect_as_operator().await;
        let until = tokio::time::Instant::now() + TROUBLE;
        while tokio::time::Instant::now() < until {
            spoil(&store, &mut operator).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        trouble.ends(&format!("garbage in {}", server.name)).await;
    }
}

/// Writes something else into everything that is there: another type, bytes, numbers that cannot be, much of it.
async fn spoil(store: &Store, operator: &mut Connection) {
    let garbage = [
        "",
        "0",
        "-1",
        "1e999",
        "nan",
        "99999999999999999999",
        "\u{1f4b6}\0\r\n",
    ];
    for (name, _) in store.names().await {
        let word = garbage[fastrand::usize(..garbage.len())].as_bytes();
        match fastrand::u8(..5) {
            0 => drop(operator.call(&[&b"SET"[..], &name, word]).await),
            1 => drop(operator.call(&[&b"DEL"[..], &name]).await),
            2 => {
                operator.call(&[&b"DEL"[..], &name]).await;
                operator.call(&[&b"RPUSH"[..], &name, word]).await;
            }
            _ => {
                let fields = operator.call(&[&b"HKEYS"[..], &name]).await;
                for field in fields.parts() {
                    let field = field.text();
                    let long = vec![b'x'; 100_000];
                    let word = if fastrand::u8(..5) == 0 { &long } else { word };
                    operator
                        .call(&[&b"HSET"[..], &name, field.as_bytes(), word])
                        .await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_slow_network_fails_no_request_and_costs_no_token_call() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let (relay, trouble) = behind_a_network(&store).await;
    trouble.fleet.agree_soon().await;
    relay.set(Network::Delays(Duration::from_millis(500)));
    let before = trouble.provider.calls();
    tokio::time::sleep(3 * LIFETIME).await;
    let renewals = trouble.provider.calls() - before;
    assert!(renewals <= 4, "{renewals} token calls");
    relay.set(Network::FINE);
    trouble.ends("slow by 500 ms").await;
}

#[tokio::test]
async fn a_network_that_loses_everything_or_cuts_every_connection_fails_no_request() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let (relay, trouble) = behind_a_network(&store).await;
    for _ in 0..20 {
        relay.cut();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    relay.set(Network::LosesEverything);
    tokio::time::sleep(TROUBLE).await;
    relay.set(Network::Refuses);
    tokio::time::sleep(Duration::from_secs(1)).await;
    relay.set(Network::FINE);
    trouble.ends("no network for 7 s").await;
}

#[tokio::test]
async fn an_instance_with_another_key_serves_by_itself() {
    let Some(server) = Server::valkey().await else {
        return;
    };
    let store = server.start().await;
    let stranger = format!("url: '{}', keys: ['{OTHER_KEY}']", store.url());
    let own = at(&store);
    let trouble = Trouble::with(&[&own, &own, &stranger]).await;
    tokio::time::sleep(2 * LIFETIME).await;
    let all = trouble.fleet.fingerprints().await;
    assert!(all[0] != all[2], "{all:?}");
    let (requests, slowest) = assert_all_fine(&trouble.callers.stop().await);
    let calls = trouble.provider.calls_in_a_minute();
    assert!(calls <= CALLS_PER_MINUTE);
    show(&format!(
        "| one has another key | {requests} requests, none failed, the slowest took {slowest:.1?} | {calls} token calls | – |"
    ));
}

#[tokio::test]
async fn keys_are_replaced_one_instance_after_the_other_without_a_failure_or_a_further_token_call()
{
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let keys = |keys: &str| format!("url: '{}', keys: [{keys}]", store.url());
    let old = keys(&format!("'{KEY}'"));
    let trouble = Trouble::at(&old).await;
    let lines = format!("token.calls_per_minute: {CALLS_PER_MINUTE}");
    let before = trouble.provider.calls();
    let begun = tokio::time::Instant::now();
    for step in [
        format!("'{KEY}', '{OTHER_KEY}'"),
        format!("'{OTHER_KEY}', '{KEY}'"),
        format!("'{OTHER_KEY}'"),
    ] {
        for program in &trouble.fleet.programs {
            program.rewrite(&trouble.provider.yaml(&keys(&step), &lines));
            program.reload().await;
            let outcome = &program.json("/status").await["last_reload"]["outcome"];
            assert_eq!(outcome, "ok");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        trouble.fleet.agree_soon().await;
    }
    let renewals = trouble.provider.calls() - before;
    let lives = begun.elapsed().as_secs_f64() / (0.7 * LIFETIME.as_secs_f64());
    assert!(
        renewals as f64 <= lives + 1.0,
        "{renewals} token calls in {lives:.1} lives"
    );
    trouble.ends("another key in three steps").await;
}

/// Where a new token ends the one before, instances that go on without each other would end each other's tokens.
#[tokio::test]
async fn while_the_store_is_away_only_one_instance_asks_for_tokens_that_end_each_other() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let mut store = server.start().await;
    let provider = Provider::of(Kind::SingleActive, LIFETIME).await;
    let file = provider.yaml(&at(&store), "token.single_active: true");
    let fleet = Fleet::start(&[file.clone(), file.clone(), file]).await;
    let callers = Callers::start(&fleet);
    fleet.agree_soon().await;
    tokio::time::sleep(2 * LIFETIME).await;
    assert_all_fine(&callers.stop().await);

    store.kill().await;
    fleet.store_is_lost().await;
    let before = provider.calls();
    let callers = Callers::start(&fleet);
    tokio::time::sleep(3 * LIFETIME).await;
    let sent = callers.stop().await;
    let calls = provider.calls() - before;
    assert!((3..=6).contains(&calls), "{calls} token calls");
    let count = |instance, is_fine: bool| {
        let sent = sent.iter();
        let of = sent.filter(|sent| sent.instance == instance && (sent.status == 200) == is_fine);
        of.count()
    };
    let whole: Vec<usize> = (0..3).filter(|at| count(*at, false) == 0).collect();
    assert_eq!(whole.len(), 1, "{whole:?}");
    // The others have lost the token when it was replaced, and say so.
    let failed: Vec<_> = sent.iter().filter(|sent| sent.status != 200).collect();
    for sent in &failed {
        let is_held = sent.status == 503 && sent.body.contains("fleet.on_outage");
        assert!(is_held || sent.status == 401, "{sent:?}");
    }
    assert!(failed.iter().any(|sent| sent.status == 503));

    assert!(store.start_again().await, "{}", store.log());
    fleet.agree_soon().await;
    let callers = Callers::start(&fleet);
    tokio::time::sleep(2 * LIFETIME).await;
    let (requests, _) = assert_all_fine(&callers.stop().await);
    show(&format!(
        "| killed, with `single_active` | one of three serves, {calls} token calls, {} of the others' requests refused | {requests} requests afterwards, none failed |",
        failed.len()
    ));
}
