//! Freeze and thaw in a fleet: real processes on real stores.

use std::path::Path;
use std::time::Duration;

use bursar_base::clock;
use bursar_base::decision::Decision;
use bursar_config::Config;
use bursar_fleet::store::Events;
use bursar_fleet::{Description, Fleet, NumberedDecision, Written};
use bursar_telemetry::metrics::FleetSeries;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::instances::OTHER_KEY;
use crate::support::acme;
use crate::support::becomes_true;
use crate::support::caller::{Caller, Reply};
use crate::support::idp::Idp;
use crate::support::metrics::Scrape;
use crate::support::program::{Program, Said, run_by_ann};
use crate::support::relay::{Network, Relay};
use crate::support::store::cluster::Cluster;
use crate::support::store::resp;
use crate::support::store::sentinel::{MASTER, Watched};
use crate::support::store::{Server, Store};
use crate::support::upstream::{Upstream, answer};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const TOKEN: &str = "0123456789-admin-token";
const HASH: &str = "bursar:bursar:{members}:decisions";
/// Everybody hears of a decision within this.
const A_SECOND: Duration = Duration::from_secs(1);
/// The same where the store was away or has lost what it had: each instance finds out.
const AGREED: Duration = Duration::from_secs(8);

struct Rig {
    api: Upstream,
    idp: Idp,
}

impl Rig {
    async fn start() -> Self {
        let api = Upstream::start(|_| async { answer(200, "fine") }).await;
        let idp = Idp::counting().await;
        Self { api, idp }
    }

    /// One with a journal of its own.
    async fn instance_at(&self, fleet: &str) -> Program {
        self.instance_in("journal", fleet).await
    }

    /// One with that journal.
    async fn instance_in(&self, journal: &str, fleet: &str) -> Program {
        let yaml = self.yaml(journal, fleet, KEY);
        Program::start(&yaml, "info,bursar::access=off").await
    }

    fn yaml(&self, journal: &str, fleet: &str, keys: &str) -> String {
        let acme = acme(&self.api.url(), &self.idp.url(), "");
        format!(
            "admin_token: {TOKEN}\njournal: {{path: {journal}}}\nfleet: {{{fleet}, keys: [{keys}]}}\n{acme}"
        )
    }

    async fn instances(&self, count: usize, fleet: &str) -> Vec<Program> {
        let mut programs = Vec::new();
        for _ in 0..count {
            programs.push(self.instance_at(fleet).await);
        }
        for program in &programs {
            is_open(program).await;
        }
        programs
    }
}

fn at(store: &Store) -> String {
    format!("url: '{}'", store.url())
}

async fn pay(program: &Program) -> Reply {
    let mut caller = Caller::connect(program.listen).await;
    caller.send("POST", "/x", "").await
}

/// What a payment is refused with; empty where it passes.
async fn refusal(program: &Program) -> String {
    let reply = pay(program).await;
    match reply.status.as_u16() {
        200 => String::new(),
        _ => reply.problem()["reason"].as_str().unwrap().to_owned(),
    }
}

async fn is_open(program: &Program) {
    let opens = becomes_true(AGREED, async || refusal(program).await.is_empty());
    assert!(opens.await, "{}", program.logged());
}

/// Waits until payments are as expected at all of them.
async fn all_become(programs: &[Program], expected: &str, within: Duration) {
    let begun = Instant::now();
    for program in programs {
        let left = within.saturating_sub(begun.elapsed());
        let becomes = becomes_true(left, async || refusal(program).await == expected);
        assert!(becomes.await, "not {expected:?}: {}", program.logged());
    }
}

async fn bursar(program: &Program, arguments: &[&str]) -> Said {
    run_by_ann(program, TOKEN, arguments).await
}

async fn decide(program: &Program, arguments: &[&str]) -> String {
    let said = bursar(program, arguments).await;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");
    said.out
}

async fn decide_alone(program: &Program, verb: &str) -> String {
    let said = bursar(program, &[verb, "acme"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("This instance only:"), "{}", said.out);
    said.out
}

async fn freeze_of(program: &Program) -> Value {
    program.json("/status").await["freezes"][0].clone()
}

async fn store_is_up(program: &Program, is_up: bool) {
    let expected = if is_up { 1.0 } else { 0.0 };
    let becomes = becomes_true(AGREED, async || {
        let scrape = Scrape::of(program.admin).await;
        scrape.get("bursar_fleet_store_up", &[]) == Some(expected)
    });
    assert!(becomes.await, "{}", program.logged());
}

async fn end(program: Program) {
    program.signal("TERM").await;
    assert_eq!(program.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_at_one_of_five_holds_at_all_within_a_second_with_who_when_and_why_until_a_thaw_at_another()
 {
    for server in Server::all().await {
        let (rig, store) = (Rig::start().await, server.start().await);
        let programs = rig.instances(5, &at(&store)).await;
        let text = decide(&programs[0], &["freeze", "acme", "--reason", "Störung #17"]).await;
        all_become(&programs, "frozen", A_SECOND).await;
        assert!(text.starts_with("acme is frozen: "), "{text}");
        let expected = freeze_of(&programs[0]).await;
        for program in &programs {
            let freeze = freeze_of(program).await;
            assert_eq!(freeze, expected);
            let by = freeze["by"].as_str().unwrap();
            assert!(by.starts_with("ann@") && by.len() > 4, "{by}");
            assert_eq!(freeze["reason"], "Störung #17");
            assert_eq!(freeze["provider"], "acme");
            let since = humantime::parse_rfc3339(freeze["since"].as_str().unwrap()).unwrap();
            assert!(since.elapsed().unwrap() < Duration::from_secs(60));
            assert_eq!(program.json("/status").await["frozen"], json!(["acme"]));
            let scrape = Scrape::of(program.admin).await;
            assert_eq!(
                scrape.value("bursar_provider_frozen", &[("provider", "acme")]),
                1.0
            );
            let said = program.logged();
            let mut said = said.lines().filter(|line| line.contains("that move money"));
            let said = said.next_back().unwrap();
            assert!(said.contains("Störung #17") && said.contains(by), "{said}");
        }
        // Everybody tells of the first one.
        let again = decide(&programs[4], &["freeze", "acme"]).await;
        assert!(again.contains("was frozen before and still is"), "{again}");
        assert!(again.contains(": Störung #17\n"), "{again}");
        let new = rig.instance_at(&at(&store)).await;
        assert_eq!(refusal(&new).await, "frozen");
        let text = decide(&programs[3], &["thaw", "acme"]).await;
        assert!(text.starts_with("acme is thawed"), "{text}");
        all_become(&programs, "", A_SECOND).await;
        all_become(&[new], "", A_SECOND).await;
        let dump = store.dump().await;
        for text in ["St\u{f6}rung", "ann@", "acme"] {
            let is_in = |dump: &[u8]| dump.windows(text.len()).any(|at| at == text.as_bytes());
            assert!(!is_in(&dump), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_whose_message_is_lost_is_heard_of_within_a_second_all_the_same() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, store) = (Rig::start().await, server.start().await);
    let programs = rig.instances(2, &at(&store)).await;
    decide(&programs[0], &["thaw", "acme"]).await;
    // An instance of the same fleet decides in another store, and its row is brought here without a message.
    let other_store = server.start().await;
    let other = rig.instance_at(&at(&other_store)).await;
    is_open(&other).await;
    decide(&other, &["freeze", "acme"]).await;
    let mut copied = other_store.connect_as_operator().await;
    let row = copied.call(&["HGETALL", HASH]).await;
    let fields: Vec<&[u8]> = (row.parts().iter())
        .map(|part| match part {
            resp::Value::Bytes(bytes) => bytes.as_slice(),
            other => panic!("{other:?}"),
        })
        .collect();
    let set = [&[b"HSET".as_slice(), HASH.as_bytes()], fields.as_slice()].concat();
    store.connect_as_operator().await.call(&set).await;
    all_become(&programs, "frozen", A_SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_frozen_outlasts_a_restart_with_the_store_and_without_it() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, mut store) = (Rig::start().await, server.start().await);
    let fleet = at(&store);
    let journals = tempfile::tempdir().unwrap();
    let journal = |name: &str| journals.path().join(name).display().to_string();
    let one = rig.instance_in(&journal("one"), &fleet).await;
    let other = rig.instance_in(&journal("other"), &fleet).await;
    is_open(&one).await;
    is_open(&other).await;
    let programs = [one, other];
    decide(&programs[0], &["freeze", "acme", "--reason", "first"]).await;
    all_become(&programs, "frozen", A_SECOND).await;
    let expected = freeze_of(&programs[0]).await;
    // The one that was only told has it in its journal, too.
    let [one, other] = programs;
    end(other).await;
    store.kill().await;
    let alone = rig.instance_in(&journal("other"), &fleet).await;
    assert_eq!(refusal(&alone).await, "frozen");
    assert_eq!(freeze_of(&alone).await, expected);
    // All end, and the store has nothing when they begin again: what one of them knows holds for all.
    end(one).await;
    end(alone).await;
    assert!(store.start_again().await);
    let known = rig.instance_in(&journal("one"), &fleet).await;
    assert_eq!(refusal(&known).await, "frozen");
    let new = rig.instance_at(&fleet).await;
    all_become(&[new], "frozen", AGREED).await;
    decide(&known, &["thaw", "acme"]).await;
    all_become(&[known], "", AGREED).await;
    // It was away meanwhile, and its journal says something else.
    let late = rig.instance_in(&journal("other"), &fleet).await;
    is_open(&late).await;
    assert_eq!(late.json("/status").await["freezes"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_wait_at_most_two_seconds_after_a_start_for_a_store_that_does_not_respond() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, store) = (Rig::start().await, server.start().await);
    store.stop().await;
    let program = rig.instance_at(&at(&store)).await;
    let begun = Instant::now();
    let reply = pay(&program).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.problem()["reason"], "frozen");
    assert_eq!(reply.problem()["request_sent"], "no");
    assert_eq!(reply.all("retry-after"), ["1"]);
    let scrape = Scrape::of(program.admin).await;
    assert_eq!(
        scrape.value("bursar_provider_frozen", &[("provider", "acme")]),
        0.0
    );
    assert_eq!(program.json("/status").await["frozen"], json!([]));
    let mut caller = Caller::connect(program.listen).await;
    is_open(&program).await;
    assert!(
        begun.elapsed() < Duration::from_millis(2500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(caller.send("GET", "/x", "").await.text(), "fine");
    let warned = "this instance's own journal says counts";
    assert!(program.logged().contains(warned), "{}", program.logged());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_keeps_the_last_state_and_a_command_reaches_this_instance_only_until_it_is_over()
{
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, mut store) = (
        Rig::start().await,
        server.launch().keeping_data().start().await,
    );
    let journals = tempfile::tempdir().unwrap();
    let journal = journals.path().join("third").display().to_string();
    let mut programs = rig.instances(2, &at(&store)).await;
    programs.push(rig.instance_in(&journal, &at(&store)).await);
    is_open(&programs[2]).await;
    decide(&programs[0], &["freeze", "acme"]).await;
    all_become(&programs, "frozen", A_SECOND).await;
    store.kill().await;
    for program in &programs {
        store_is_up(program, false).await;
    }
    all_become(&programs, "frozen", A_SECOND).await;
    // A thaw in the outage holds here, and everywhere when it is over.
    decide_alone(&programs[1], "thaw").await;
    assert_eq!(refusal(&programs[1]).await, "");
    assert_eq!(refusal(&programs[0]).await, "frozen");
    assert!(store.start_again().await);
    all_become(&programs, "", AGREED).await;
    // So does a freeze.
    store.kill().await;
    store_is_up(&programs[2], false).await;
    let text = decide_alone(&programs[2], "freeze").await;
    assert!(text.starts_with("acme is frozen: "), "{text}");
    assert_eq!(refusal(&programs[2]).await, "frozen");
    assert_eq!(refusal(&programs[1]).await, "");
    assert!(store.start_again().await);
    all_become(&programs, "frozen", AGREED).await;
    // Of two in one outage the later one holds.
    store.kill().await;
    for program in &programs {
        store_is_up(program, false).await;
    }
    decide_alone(&programs[0], "thaw").await;
    sleep(Duration::from_millis(100)).await;
    decide_alone(&programs[1], "freeze").await;
    sleep(Duration::from_millis(100)).await;
    decide_alone(&programs[2], "thaw").await;
    // Whatever restarts in between.
    end(programs.pop().unwrap()).await;
    programs.push(rig.instance_in(&journal, &at(&store)).await);
    assert!(store.start_again().await);
    all_become(&programs, "", AGREED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_the_store_may_have_without_a_response_is_said_to_be_perhaps_at_the_others()
{
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, store) = (Rig::start().await, server.start().await);
    let relay = Relay::to(store.address).await;
    let far = format!("url: '{}'", store.url_at(relay.address));
    let programs = [
        rig.instance_at(&far).await,
        rig.instance_at(&at(&store)).await,
    ];
    for program in &programs {
        is_open(program).await;
    }
    // The store knows the scripts from then on.
    for verb in ["freeze", "thaw"] {
        decide(&programs[0], &[verb, "acme"]).await;
    }
    all_become(&programs, "", A_SECOND).await;
    // Enough to read the store, and too much for the write that comes after that.
    relay.set(Network::Delays(Duration::from_millis(1700)));
    let said = bursar(&programs[0], &["freeze", "acme"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.contains("may have reached the other instances")
            && !said.out.contains("This instance only"),
        "{said:?}"
    );
    all_become(&programs, "frozen", AGREED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_store_thaws_nothing_and_a_new_instance_begins_frozen() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, mut store) = (Rig::start().await, server.start().await);
    let programs = rig.instances(2, &at(&store)).await;
    decide(&programs[0], &["freeze", "acme", "--reason", "kept"]).await;
    all_become(&programs, "frozen", A_SECOND).await;
    let mut operator = store.connect_as_operator().await;
    for losing in [&["FLUSHALL"][..], &["DEL", HASH], &["SET", HASH, "garbage"]] {
        operator.call(losing).await;
        // It finds nothing, or what the others have written again; no payment passes in either case.
        let new = rig.instance_at(&at(&store)).await;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            assert_eq!(refusal(&new).await, "frozen", "{losing:?}");
        }
        assert_eq!(freeze_of(&new).await["reason"], "kept");
        all_become(&programs, "frozen", A_SECOND).await;
    }
    drop(operator);
    store.kill().await;
    assert!(store.start_again().await);
    for program in &programs {
        store_is_up(program, true).await;
    }
    let new = rig.instance_at(&at(&store)).await;
    all_become(&[new], "frozen", AGREED).await;
    decide(&programs[1], &["thaw", "acme"]).await;
    all_become(&programs, "", A_SECOND).await;
    // Nor does it freeze anything again.
    store.flush().await;
    sleep(A_SECOND).await;
    all_become(&programs, "", A_SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freezes_and_thaws_at_the_same_time_end_in_one_state_everywhere() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, store) = (Rig::start().await, server.start().await);
    let programs = rig.instances(3, &at(&store)).await;
    for _ in 0..5 {
        let said = tokio::join!(
            bursar(&programs[0], &["freeze", "acme"]),
            bursar(&programs[1], &["thaw", "acme"]),
            bursar(&programs[2], &["freeze", "acme"]),
            bursar(&programs[0], &["thaw", "acme"]),
        );
        for said in [said.0, said.1, said.2, said.3] {
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        let agree = becomes_true(A_SECOND, async || {
            let mut states = Vec::new();
            for program in &programs {
                states.push((freeze_of(program).await, refusal(program).await));
            }
            states.iter().all(|state| *state == states[0])
        });
        assert!(agree.await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_holds_across_a_failover_and_in_a_cluster() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let rig = Rig::start().await;
    let mut watched = Watched::start(&server, 1, |launch| launch).await;
    let fleet = format!(
        "sentinel: {{urls: [{}], master: {}}}",
        watched.urls().join(", "),
        MASTER
    );
    let programs = rig.instances(2, &fleet).await;
    decide(&programs[0], &["freeze", "acme"]).await;
    all_become(&programs, "frozen", A_SECOND).await;
    watched.fail_over().await;
    for program in &programs {
        store_is_up(program, true).await;
    }
    all_become(&programs, "frozen", A_SECOND).await;
    let new = rig.instance_at(&fleet).await;
    all_become(&[new], "frozen", AGREED).await;
    let thawed = becomes_true(AGREED, async || {
        bursar(&programs[1], &["thaw", "acme"]).await.code == Some(0)
    });
    assert!(thawed.await);
    all_become(&programs, "", A_SECOND).await;
    let cluster = Cluster::start(&server, 3, |launch| launch).await;
    let fleet = format!("cluster: [{}]", cluster.urls().join(", "));
    let programs = rig.instances(3, &fleet).await;
    decide(&programs[2], &["freeze", "acme"]).await;
    all_become(&programs, "frozen", A_SECOND).await;
    decide(&programs[1], &["thaw", "acme"]).await;
    all_become(&programs, "", A_SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_for_a_time_ends_at_all_instances_and_at_one_that_comes_later() {
    for server in Server::all().await {
        let (rig, store) = (Rig::start().await, server.start().await);
        let mut programs = rig.instances(2, &at(&store)).await;
        let begun = Instant::now();
        decide(&programs[0], &["freeze", "acme", "--for", "4s"]).await;
        all_become(&programs, "frozen", A_SECOND).await;
        let expected = freeze_of(&programs[0]).await;
        assert!(expected["until"].is_string());
        programs.push(rig.instance_at(&at(&store)).await);
        assert_eq!(refusal(&programs[2]).await, "frozen");
        let told = becomes_true(AGREED, async || {
            let others = [freeze_of(&programs[1]).await, freeze_of(&programs[2]).await];
            others.iter().all(|other| *other == expected)
        });
        assert!(told.await, "{}", programs[1].logged());
        all_become(&programs, "", AGREED).await;
        assert!(begun.elapsed() >= Duration::from_secs(4));
        // Whoever comes afterwards finds nothing frozen.
        programs.push(rig.instance_at(&at(&store)).await);
        is_open(&programs[3]).await;
        assert_eq!(freeze_of(&programs[3]).await, Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_for_a_time_that_an_instance_with_another_clock_made_ends_in_time_after_a_restart_too()
 {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, mut store) = (Rig::start().await, server.start().await);
    let fleet = at(&store);
    let journals = tempfile::tempdir().unwrap();
    let journal = journals.path().join("journal").display().to_string();
    let one = rig.instance_in(&journal, &fleet).await;
    is_open(&one).await;
    let other = member(&fleet).await;
    let hour = Duration::from_secs(3600);
    // Its clock is behind.
    let theirs = clock::wall() - 3 * hour;
    freeze_as(&other, theirs, Duration::from_secs(8)).await;
    let begun = Instant::now();
    let one = [one];
    all_become(&one, "frozen", A_SECOND).await;
    let [one] = one;
    end(one).await;
    let one = rig.instance_in(&journal, &fleet).await;
    assert_eq!(refusal(&one).await, "frozen");
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(refusal(&one).await, "frozen");
    let one = [one];
    all_become(&one, "", AGREED).await;
    assert!(begun.elapsed() >= Duration::from_secs(8));
    // It is ahead; and without the store the journal alone says when it ends.
    let theirs = clock::wall() + 3 * hour;
    freeze_as(&other, theirs, Duration::from_secs(4)).await;
    all_become(&one, "frozen", A_SECOND).await;
    let [one] = one;
    end(one).await;
    store.kill().await;
    let one = rig.instance_in(&journal, &fleet).await;
    assert_eq!(refusal(&one).await, "frozen");
    all_become(&[one], "", AGREED).await;
}

/// A member of the fleet that decides whatever a test wants.
async fn member(fleet: &str) -> (Fleet, Events) {
    let yaml = format!(
        "fleet: {{{fleet}, keys: [{KEY}]}}
providers: {{a: {{hosts: [a.test], client_id: a, client_secret: b, token: {{url: 'https://b.test/'}}}}}}"
    );
    let config = Config::parse(&yaml, Path::new("")).unwrap();
    let series = FleetSeries::new(&prometheus::Registry::new()).unwrap();
    let settings = config.fleet.unwrap();
    let (fleet, events) = Fleet::start(&settings, Description::default(), series).unwrap();
    fleet.first_connection(AGREED).await;
    (fleet, events)
}

/// Freezes for a time from now on by the store's clock, which is another one by its own.
async fn freeze_as(member: &(Fleet, Events), now: std::time::SystemTime, time: Duration) {
    let fleet = &member.0;
    let read = fleet.freezes().await.unwrap();
    let by_store = read.at(Instant::now());
    let decision = NumberedDecision {
        number: by_store,
        decision: Decision {
            is_frozen: true,
            since: now,
            until: Some(now + time),
            by: None,
            reason: None,
        },
        ends: Some(read.at(Instant::now() + time)),
    };
    let written = fleet.write_freeze(&read, "acme", &decision).await.unwrap();
    assert_eq!(written, Written::Yes);
}

/// Payments at an instance, one after the other for as long; what they are refused with.
async fn refusals(program: &Program, within: Duration) -> Vec<String> {
    let begun = Instant::now();
    let mut all = Vec::new();
    while begun.elapsed() < within {
        all.push(refusal(program).await);
        sleep(Duration::from_millis(5)).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_instance_waits_for_those_who_know_what_an_older_copy_of_the_store_does_not() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, store) = (Rig::start().await, server.start().await);
    let programs = rig.instances(1, &at(&store)).await;
    decide(&programs[0], &["thaw", "acme"]).await;
    let mut operator = store.connect_as_operator().await;
    let resp::Value::Bytes(copy) = operator.call(&["DUMP", HASH]).await else {
        panic!("there is nothing");
    };
    decide(&programs[0], &["freeze", "acme"]).await;
    programs[0].signal("STOP").await;
    let restore: [&[u8]; 5] = [b"RESTORE", HASH.as_bytes(), b"0", &copy, b"REPLACE"];
    operator.call(&restore).await;
    let new = rig.instance_at(&at(&store)).await;
    let first = refusals(&new, Duration::from_millis(300)).await;
    programs[0].signal("CONT").await;
    let then = refusals(&new, Duration::from_secs(3)).await;
    let passed = first.iter().chain(&then).filter(|said| said.is_empty());
    assert_eq!(passed.count(), 0, "{}", new.logged());
}

#[tokio::test]
async fn what_is_frozen_is_so_at_an_instance_that_starts_with_the_new_key_alone() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (store, rig) = (server.start().await, Rig::start().await);
    let old = rig.instance_at(&at(&store)).await;
    is_open(&old).await;
    decide(&old, &["freeze", "acme"]).await;
    for keys in [
        &*format!("{KEY}, {OTHER_KEY}"),
        &*format!("{OTHER_KEY}, {KEY}"),
        OTHER_KEY,
    ] {
        old.rewrite(&rig.yaml("journal", &at(&store), keys));
        old.reload().await;
    }
    let yaml = rig.yaml("journal", &at(&store), OTHER_KEY);
    let new = Program::start(&yaml, "info,bursar::access=off").await;
    for refusal in refusals(&new, 3 * A_SECOND).await {
        assert_eq!(refusal, "frozen");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stood_still_sends_no_payment_before_it_has_read_what_was_frozen_meanwhile()
 {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, store) = (Rig::start().await, server.start().await);
    let programs = rig.instances(2, &at(&store)).await;
    let mut callers = Vec::new();
    for _ in 0..4 {
        callers.push(Caller::connect(programs[1].listen).await);
    }
    programs[1].signal("STOP").await;
    decide(&programs[0], &["freeze", "acme"]).await;
    // For longer than what was known before is believed.
    sleep(Duration::from_millis(3500)).await;
    let mut payments = tokio::task::JoinSet::new();
    for mut caller in callers {
        payments.spawn(async move { caller.send("POST", "/x", "").await.status.as_u16() });
    }
    // They wait in the kernel.
    sleep(Duration::from_millis(100)).await;
    programs[1].signal("CONT").await;
    assert_eq!(payments.join_all().await, [503; 4]);
    all_become(&programs, "frozen", AGREED).await;
    decide(&programs[1], &["thaw", "acme"]).await;
    all_become(&programs, "", AGREED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stood_still_in_an_outage_goes_by_what_it_knew_as_soon_as_it_finds_that_it_goes_on()
 {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, mut store) = (Rig::start().await, server.start().await);
    let programs = rig.instances(1, &at(&store)).await;
    let program = &programs[0];
    store.kill().await;
    store_is_up(program, false).await;
    program.signal("STOP").await;
    // For longer than what was known before is believed.
    sleep(Duration::from_millis(3500)).await;
    program.signal("CONT").await;
    let begun = Instant::now();
    is_open(program).await;
    // It would wait for a store that responds late for longer.
    assert!(
        begun.elapsed() < Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
    assert!(program.logged().contains("this process has stood still"));
}

#[tokio::test]
async fn a_provider_that_is_frozen_elsewhere_and_not_configured_here_is_no_label_here() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (rig, store) = (Rig::start().await, server.start().await);
    let one = rig.instances(1, &at(&store)).await.remove(0);
    let acme = acme(&rig.api.url(), &rig.idp.url(), "");
    let other = format!(
        "admin_token: {TOKEN}\njournal: {{path: journal}}\nfleet: {{{}, keys: [{KEY}]}}\n{}",
        at(&store),
        acme.replace("  acme:", "  beta:")
    );
    let other = Program::start(&other, "info").await;
    is_open(&other).await;
    decide(&other, &["freeze", "beta"]).await;
    decide(&other, &["thaw", "beta"]).await;
    decide(&one, &["freeze", "acme"]).await;
    all_become(&[one], "frozen", AGREED).await;
    let scrape = Scrape::of(other.admin).await;
    assert_eq!(
        scrape.value("bursar_provider_frozen", &[("provider", "beta")]),
        0.0
    );
    assert_eq!(
        scrape.get("bursar_provider_frozen", &[("provider", "acme")]),
        None
    );
}
