//! One token for all instances: however many ask, and whoever ends it.

use std::time::Duration;

use tokio::task::JoinSet;

use super::instances::{Callers, Fleet, KEY, Kind, OTHER_KEY, Provider, assert_all_fine, show};
use crate::support::caller::Caller;
use crate::support::metrics::Scrape;
use crate::support::program::Program;
use crate::support::store::Server;
use crate::support::{CLIENT_SECRET, PATIENCE, becomes_true, eventually};

const INSTANCES: usize = 5;
/// Callers of each instance.
const COLD: usize = 200;
/// Fewer than the renewals that 401s may cause in a minute.
const REVOCATIONS: usize = 8;
/// Longer than the test.
const LIFETIME: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_thousand_callers_of_five_new_instances_cost_one_token_call() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let provider = Provider::start(LIFETIME).await;
    let file = provider.yaml(&format!("url: '{}', keys: ['{KEY}']", store.url()), "");
    let start = || Program::start(&file, "info,bursar::access=off");
    let programs: [Program; INSTANCES] =
        tokio::join!(start(), start(), start(), start(), start()).into();
    let mut callers = JoinSet::new();
    for listen in programs.iter().map(|program| program.listen) {
        for _ in 0..COLD {
            callers.spawn(async move {
                let mut caller = Caller::connect(listen).await;
                caller.send("GET", "/", "").await.status.as_u16()
            });
        }
    }
    let statuses = callers.join_all().await;
    let failed = statuses.iter().filter(|status| **status != 200).count();
    let logs: Vec<String> = programs.iter().map(Program::logged).collect();
    assert_eq!(failed, 0, "{}", logs.join("\n--\n"));
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn a_revocation_costs_one_token_call_and_no_caller_sees_it() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let provider = Provider::start(LIFETIME).await;
    let fleet_at = format!("url: '{}', keys: ['{KEY}']", store.url());
    let file = provider.yaml(&fleet_at, "");
    let fleet = Fleet::start(&vec![file; INSTANCES]).await;
    fleet.agree_soon().await;
    let before = provider.calls();
    let callers = Callers::start(&fleet);
    for round in 1..=REVOCATIONS {
        let old = fleet.fingerprints().await;
        provider.revoke();
        eventually(|| async {
            let new = fleet.fingerprints().await;
            new.iter().all(|one| *one == new[0] && *one != old[0])
        })
        .await;
        assert_eq!(provider.calls() - before, round);
    }
    assert_all_fine(&callers.stop().await);
    let mut pushed = 0.0;
    for program in &fleet.programs {
        let scrape = Scrape::of(program.admin).await;
        pushed += scrape.value("bursar_fleet_push_delay_seconds_count", &[]);
        show(&format!(
            "pushes within 100 ms: {} of {}",
            scrape.value("bursar_fleet_push_delay_seconds_bucket", &[("le", "0.1")]),
            scrape.value("bursar_fleet_push_delay_seconds_count", &[]),
        ));
    }
    assert!(pushed > 0.0);
}

#[tokio::test]
async fn a_token_that_the_store_loses_alone_is_written_again_by_who_has_it() {
    /// Shorter than anything sealed.
    const GARBAGE: &str = "garbage";
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let provider = Provider::start(LIFETIME).await;
    let file = provider.yaml(&format!("url: '{}', keys: ['{KEY}']", store.url()), "");
    let _fleet = Fleet::start(&vec![file.clone(); 2]).await;
    let mut operator = store.connect_as_operator().await;
    let pattern = "bursar:bursar:{????????????????????????????????}";
    let names = operator.call(&["KEYS", pattern]).await;
    let name = names.parts()[0].text();
    let mut is_sealed = async || {
        let found = operator.call(&["HGET", &name, "v"]).await;
        found.text().len() > GARBAGE.len()
    };
    // It is published while its requests go on.
    assert!(becomes_true(PATIENCE, &mut is_sealed).await);
    let mut vandal = store.connect_as_operator().await;
    for lost in [&["DEL", &*name][..], &["HSET", &name, "v", GARBAGE]] {
        vandal.call(lost).await;
        assert!(becomes_true(PATIENCE, &mut is_sealed).await, "{lost:?}");
    }
    let _new = Fleet::start(&[file]).await;
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn another_key_costs_no_token_call() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let provider = Provider::start(LIFETIME).await;
    let file = |keys: &str| {
        let line = format!("url: '{}', keys: [{keys}]", store.url());
        provider.yaml(&line, "")
    };
    let both = format!("'{OTHER_KEY}', '{KEY}'");
    let fleet = Fleet::start(&vec![file(&format!("'{KEY}', '{OTHER_KEY}'")); 2]).await;
    let mut operator = store.connect_as_operator().await;
    let mut values = async || {
        let pattern = "bursar:bursar:{????????????????????????????????}";
        let names = operator.call(&["KEYS", pattern]).await;
        let mut count = 0;
        for name in names.parts() {
            let value = operator.call(&["HEXISTS", &name.text(), "v"]).await;
            count += u32::from(value.text() == "1");
        }
        count
    };
    assert!(becomes_true(PATIENCE, async || values().await == 1).await);
    for program in &fleet.programs {
        program.rewrite(&file(&both));
        program.reload().await;
    }
    assert!(becomes_true(PATIENCE, async || values().await == 2).await);
    let _new = Fleet::start(&[file(&format!("'{OTHER_KEY}'"))]).await;
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn instances_whose_new_token_ends_the_one_before_have_one_token_while_they_have_different_secrets()
 {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let provider = Provider::of(Kind::SingleActive, Duration::from_secs(4)).await;
    let fleet_at = format!("url: '{}', keys: ['{KEY}']", store.url());
    let old = provider.yaml(&fleet_at, "token.single_active: true");
    let new = old.replace(CLIENT_SECRET, "another-secret");
    assert_ne!(old, new);
    let fleet = Fleet::start(&[old.clone(), new, old]).await;
    fleet.agree_soon().await;
    let callers = Callers::start(&fleet);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_all_fine(&callers.stop().await);
    let calls = provider.calls();
    assert!((2..=4).contains(&calls), "{calls} token calls");
}

/// Long enough for instances that end each other's tokens to use up the renewals that 401s may cause.
const CHANGED_FOR: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_secret_that_is_changed_at_one_instance_after_the_other_ends_no_token() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let provider = Provider::of(Kind::SingleActive, LIFETIME).await;
    let line = format!("url: '{}', keys: ['{KEY}']", store.url());
    let old = provider.yaml(&line, "token.single_active: true");
    let new = old.replace(CLIENT_SECRET, "n3w-secret");
    assert_ne!(old, new);
    let fleet = Fleet::start(&vec![old; 3]).await;
    fleet.agree_soon().await;
    let callers = Callers::start(&fleet);
    let program = &fleet.programs[1];
    program.rewrite(&new);
    program.reload().await;
    tokio::time::sleep(CHANGED_FOR).await;
    assert!(fleet.agrees().await);
    provider.revoke();
    tokio::time::sleep(CHANGED_FOR).await;
    fleet.agree_soon().await;
    assert_all_fine(&callers.stop().await);
    assert_eq!(provider.calls(), 2);
}
