//! A fleet with a user that may do what the book says and no more, by TLS, on a cluster, and with a wrong password.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::instances::{Callers, Fleet, KEY, Kind, Provider, assert_all_fine};
use crate::support::store::cluster::Cluster;
use crate::support::store::resp::Value;
use crate::support::store::sentinel::{MASTER, Watched};
use crate::support::store::{Launch, Server, Store};
use crate::support::tls::Authority;
use crate::support::{PATIENCE, becomes_true};

const LIFETIME: Duration = Duration::from_secs(4);

/// The line of an access control list that the book has.
fn line() -> String {
    let page = std::fs::read_to_string("docs/src/operations/fleet.md").unwrap();
    let mut lines = page.lines();
    let line = lines.find_map(|line| line.strip_prefix("user bursar on >PASSWORD "));
    line.unwrap().to_owned()
}

/// Three instances share tokens, renew them and take new ones after a 401.
async fn works(fleet: &str) -> (Provider, Fleet) {
    let provider = Provider::of(Kind::Rotating, LIFETIME).await;
    let file = provider.yaml(fleet, "token.refresh: grant");
    let fleet = Fleet::start(&[file.clone(), file.clone(), file]).await;
    let callers = Callers::start(&fleet);
    fleet.agree_soon().await;
    let before = provider.calls();
    tokio::time::sleep(2 * LIFETIME).await;
    // Between two renewals: it would take a token that is given just then, too, and a request is sent twice at most.
    let renewed = provider.calls();
    assert!(becomes_true(PATIENCE, async || provider.calls() > renewed).await);
    fleet.agree_soon().await;
    provider.revoke();
    tokio::time::sleep(LIFETIME).await;
    fleet.agree_soon().await;
    let calls = provider.calls() - before;
    assert!((3..=7).contains(&calls), "{calls} token calls");
    assert_all_fine(&callers.stop().await);
    (provider, fleet)
}

/// What the user was refused.
async fn refused(store: &Store) -> Vec<String> {
    let mut operator = store.connect_as_operator().await;
    let log = operator.call(&["ACL", "LOG"]).await;
    let entry = |entry: &Value| {
        entry
            .parts()
            .iter()
            .map(Value::text)
            .collect::<Vec<_>>()
            .join(" ")
    };
    log.parts().iter().map(entry).collect()
}

#[test]
fn the_permissions_of_the_book_are_what_scripts_call() {
    let mut called = BTreeSet::new();
    for file in std::fs::read_dir("crates/fleet/src/scripts").unwrap() {
        let script = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let calls = script.split("redis.call('").skip(1);
        let commands = calls.filter_map(|rest| rest.split('\'').next());
        called.extend(commands.map(str::to_lowercase));
    }
    let line = line();
    let allowed: BTreeSet<_> = line
        .split(' ')
        .filter_map(|word| word.strip_prefix('+'))
        .collect();
    let connection = BTreeSet::from(["eval", "evalsha", "subscribe"]);
    let called: BTreeSet<&str> = called.iter().map(String::as_str).collect();
    assert_eq!(allowed, called.union(&connection).copied().collect());
    assert!(Path::new("crates/fleet/src/scripts/publish.lua").exists());
}

#[tokio::test]
async fn a_user_with_the_permissions_of_the_book_is_refused_nothing() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let authority = Arc::new(Authority::new());
    let launch = server
        .launch()
        .user("bursar", "p@ss/w%rd", &line())
        .tls(&authority);
    let store = launch.start().await;
    let fleet = format!(
        "url: '{}', tls: {{ca: '{}'}}, keys: ['{KEY}'], name: production",
        store.url(),
        store.ca().display()
    );
    let (provider, _fleet) = works(&fleet).await;
    assert!(!provider.refresh_tokens().is_empty());
    let refused = refused(&store).await;
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test]
async fn a_fleet_works_on_a_cluster_with_the_permissions_of_the_book() {
    for server in Server::all().await {
        let rules = format!("{} +cluster|slots +asking +wait", line());
        let user = |launch: Launch| launch.user("bursar", "password", &rules);
        let cluster = Cluster::start(&server, 3, user).await;
        let urls = cluster.urls().join("', '");
        works(&format!(
            "cluster: ['{urls}'], keys: ['{KEY}'], name: production"
        ))
        .await;
        for node in &cluster.nodes {
            let refused = refused(node).await;
            assert!(refused.is_empty(), "{refused:#?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_an_outage_that_the_log_names_and_ends_when_it_is_right() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server
        .launch()
        .user("bursar", "right", &line())
        .start()
        .await;
    let url = store.url().replace("right", "wrong-s3cret");
    let provider = Provider::start(LIFETIME).await;
    let file = provider.yaml(
        &format!("url: '{url}', keys: ['{KEY}'], name: production"),
        "",
    );
    let fleet = Fleet::start(&[file.clone(), file]).await;
    fleet.store_is_lost().await;
    let callers = Callers::start(&fleet);
    tokio::time::sleep(2 * LIFETIME).await;
    for program in &fleet.programs {
        let log = program.logged();
        assert!(log.contains("password"), "{log}");
        assert!(!log.contains("wrong-s3cret"), "{log}");
    }
    let mut operator = store.connect_as_operator().await;
    operator
        .call(&["ACL", "SETUSER", "bursar", ">wrong-s3cret"])
        .await;
    // Tried seldom, because somebody has to do something first.
    fleet.agree_within(Duration::from_secs(20)).await;
    assert_all_fine(&callers.stop().await);
}

#[tokio::test]
async fn with_sentinels_the_log_names_the_server_that_is_connected_or_that_refuses_the_password() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let watched = Watched::start(&server, 1, |launch| launch.password("right")).await;
    let url = watched.urls().remove(0);
    let provider = Provider::start(LIFETIME).await;
    let file = |password: &str| {
        let sentinel = format!("urls: ['{url}'], master: {MASTER}, password: {password}");
        provider.yaml(&format!("sentinel: {{{sentinel}}}, keys: ['{KEY}']"), "")
    };
    let logs = async |password: &str, words: [&str; 2]| {
        let fleet = Fleet::start(&[file(password)]).await;
        let is_logged = || {
            let log = fleet.programs[0].logged();
            let mut lines = log.lines();
            lines.any(|line| words.iter().all(|word| line.contains(word)))
        };
        let is_logged = becomes_true(PATIENCE, async || is_logged()).await;
        assert!(is_logged, "{words:?}: {}", fleet.programs[0].logged());
    };
    let primary = format!(r#""server":"{}""#, watched.servers[0].address);
    logs("right", ["can be used", &primary]).await;
    logs("wrong", ["wrong_password", &primary]).await;
    let sentinel = watched.sentinels[0].address;
    let mut operator = watched.sentinels[0].connect().await;
    let command = ["ACL", "SETUSER", "default", "resetpass", ">another"];
    operator.call(&command).await;
    let sentinel = format!(r#""server":"Sentinel {sentinel}""#);
    logs("right", ["wrong_password", &sentinel]).await;
}

#[tokio::test]
async fn instances_begin_and_serve_without_the_store() {
    let Some(server) = Server::valkey().await else {
        return;
    };
    let mut store = server.start().await;
    store.kill().await;
    let provider = Provider::start(LIFETIME).await;
    let file = provider.yaml(&format!("url: '{}', keys: ['{KEY}']", store.url()), "");
    let fleet = Fleet::start(&[file.clone(), file]).await;
    fleet.store_is_lost().await;
    let callers = Callers::start(&fleet);
    tokio::time::sleep(LIFETIME).await;
    assert!(store.start_again().await, "{}", store.log());
    fleet.agree_soon().await;
    assert_all_fine(&callers.stop().await);
}
