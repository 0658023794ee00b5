//! A store that goes back: its clock, its data, or a former primary that was away while another one took over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instances::{Callers, Fleet, KEY, Kind, Provider, assert_all_fine, show};
use crate::support::store::Server;
use crate::support::store::sentinel::{MASTER, Watched};
use crate::support::{PATIENCE, becomes_true, eventually};

/// Of a token.
const LIFETIME: Duration = Duration::from_secs(4);

/// Three instances, with further lines of the provider.
async fn instances(provider: &Provider, fleet: &str, lines: &str) -> Fleet {
    let file = provider.yaml(fleet, lines);
    Fleet::start(&[file.clone(), file.clone(), file]).await
}

/// Debian's libfaketime; none where it is not installed.
fn library() -> Option<String> {
    let directories = std::fs::read_dir("/usr/lib").ok()?;
    let paths = directories.filter_map(|entry| {
        let path = entry.ok()?.path().join("faketime/libfaketime.so.1");
        path.exists().then(|| path.display().to_string())
    });
    let found = paths.into_iter().next();
    let is_required = std::env::var_os("BURSAR_REQUIRE_PEERS").is_some();
    assert!(found.is_some() || !is_required, "there is no libfaketime");
    found
}

#[tokio::test]
async fn a_store_whose_clock_jumps_by_an_hour_either_way_fails_no_request() {
    let (Some(server), Some(library)) = (Server::valkey().await, library()) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    let set = |step: &str| std::fs::write(&clock, format!("{step}\n")).unwrap();
    set("+0");
    let launch = server.launch().env("LD_PRELOAD", &library);
    let launch = launch.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let launch = launch.env("FAKETIME_NO_CACHE", "1");
    let launch = launch.env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap());
    let store = launch.start().await;
    let mut operator = store.connect_as_operator().await;
    let mut ahead = async || {
        let time = operator.call(&["TIME"]).await;
        let time: f64 = time.parts()[0].text().parse().unwrap();
        time - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
    };
    let provider = Provider::start(LIFETIME).await;
    let url = store.url();
    let line = format!("url: '{url}', keys: ['{KEY}']");
    let fleet = instances(&provider, &line, "").await;
    let callers = Callers::start(&fleet);
    for (text, step) in [("+3600", 3600.0), ("+0", 0.0), ("-3600", -3600.0)] {
        set(text);
        let follows = becomes_true(PATIENCE, async || (ahead().await - step).abs() < 60.0);
        assert!(follows.await, "{text}");
        let before = provider.calls();
        // An instance that begins now has nothing but what the store tells of the token's age.
        let late = instances(&provider, &line, "").await;
        let late_callers = Callers::start(&late);
        tokio::time::sleep(2 * LIFETIME).await;
        fleet.agree_soon().await;
        late.agree_soon().await;
        let calls = provider.calls() - before;
        assert!(
            (2..=7).contains(&calls),
            "{text}: {calls} token calls {:.1?}",
            provider.call_times()
        );
        assert_all_fine(&late_callers.stop().await);
    }
    let (requests, slowest) = assert_all_fine(&callers.stop().await);
    show(&format!(
        "| its clock jumped by an hour, three times | {requests} requests, none failed, the slowest took {slowest:.1?} |"
    ));
}

#[tokio::test]
async fn a_store_that_is_set_back_to_an_old_copy_gets_the_newer_token_and_no_refresh_token_is_used_twice()
 {
    for server in Server::all().await {
        let mut store = server.launch().keeping_data().start().await;
        let provider = Provider::of(Kind::Rotating, LIFETIME).await;
        let line = format!("url: '{}', keys: ['{KEY}']", store.url());
        let fleet = instances(&provider, &line, "token.refresh: grant").await;
        let callers = Callers::start(&fleet);
        for _ in 0..4 {
            let before = provider.calls();
            let old = store.kept();
            eventually(|| async { provider.calls() > before }).await;
            fleet.agree_soon().await;
            store.kill().await;
            store.put_back(&old);
            assert!(store.start_again().await, "{}", store.log());
            fleet.agree_soon().await;
        }
        // What the store has lost with a token is not used at all, so there may be none yet.
        let enough = provider.refresh_tokens().len() + 2;
        eventually(|| async { provider.refresh_tokens().len() >= enough }).await;
        let used = provider.refresh_tokens();
        let distinct: BTreeSet<_> = used.iter().collect();
        assert_eq!(distinct.len(), used.len(), "{used:?}");
        let (requests, slowest) = assert_all_fine(&callers.stop().await);
        show(&format!(
            "| {} set back to an old copy, 4 times | {requests} requests, none failed, the slowest took {slowest:.1?}, {} refresh tokens, none twice |",
            server.name,
            used.len()
        ));
    }
}

#[tokio::test]
async fn a_former_primary_that_comes_back_takes_nobody_with_it() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let watched = Watched::start(&server, 3, |launch| launch).await;
    let urls = watched.urls().join("', '");
    let line = format!("sentinel: {{urls: ['{urls}'], master: {MASTER}}}, keys: ['{KEY}']");
    let provider = Provider::start(LIFETIME).await;
    let fleet = instances(&provider, &line, "").await;
    let callers = Callers::start(&fleet);
    let [former, next] = &watched.servers;
    former.stop().await;
    eventually(|| async { watched.primary().await == next.address }).await;
    fleet.agree_soon().await;
    former.go_on().await;
    let before = provider.calls();
    tokio::time::sleep(4 * LIFETIME).await;
    fleet.agree_soon().await;
    let calls = provider.calls() - before;
    assert!(
        (4..=8).contains(&calls),
        "{calls} token calls {:.1?}",
        provider.call_times()
    );
    let (requests, slowest) = assert_all_fine(&callers.stop().await);
    show(&format!(
        "| stopped, replaced, and back | {requests} requests, none failed, the slowest took {slowest:.1?} |"
    ));
}
