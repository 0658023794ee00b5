//! `bursar check --live` beside a running fleet, whose tokens it leaves as they are.

use std::time::Duration;

use super::instances::{Callers, Fleet, KEY, Kind, Provider, assert_all_fine};
use crate::support::program::{Said, run_in};
use crate::support::store::Server;

/// Longer than a test.
const LIFETIME: Duration = Duration::from_secs(3600);

async fn check(yaml: &str) -> Said {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("proxy.yaml"), yaml).unwrap();
    run_in(directory.path(), &["check", "--live"], &[]).await
}

#[tokio::test]
async fn check_live_shows_the_token_that_the_fleet_has_and_makes_no_call() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let mut store = server.start().await;
    let provider = Provider::of(Kind::SingleActive, LIFETIME).await;
    let line = format!("url: '{}', keys: ['{KEY}']", store.url());
    let file = provider.yaml(&line, "token.single_active: true");
    let fleet = Fleet::start(&[file.clone(), file.clone()]).await;
    fleet.agree_soon().await;
    let callers = Callers::start(&fleet);
    let calls = provider.calls();
    let said = check(&file).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let fingerprint = &fleet.fingerprints().await[0];
    let shown = format!("fingerprint {fingerprint}");
    assert!(
        said.out
            .contains("acme default: the fleet's token, for another 35")
            && said.out.contains(&shown),
        "{said:?}"
    );
    assert!(said.out.contains("the fleet's store") && said.out.contains(": can be used"));
    assert!(!said.out.contains("access-token-"));
    // Nobody can say which token the fleet has: it is left alone.
    store.kill().await;
    let said = check(&file).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.contains("acme default: not asked, because"),
        "{said:?}"
    );
    assert!(
        said.out.contains(": FAILED: no connection could be made"),
        "{said:?}"
    );
    assert_eq!(provider.calls(), calls);
    assert_all_fine(&callers.stop().await);
}

#[tokio::test]
async fn a_token_that_check_live_obtains_is_the_fleets() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let provider = Provider::of(Kind::SingleActive, LIFETIME).await;
    let line = format!("url: '{}', keys: ['{KEY}']", store.url());
    let file = provider.yaml(&line, "token.single_active: true");
    let said = check(&file).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("acme default: a token for 3600 s"),
        "{said:?}"
    );
    let fleet = Fleet::start(&[file.clone(), file]).await;
    fleet.agree_soon().await;
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn check_live_names_the_commands_that_the_stores_user_lacks() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let lacking =
        "resetkeys ~bursar:bursar:* resetchannels &bursar:bursar:* +@all -hset -zrem -evalsha";
    let launch = server.launch().user("bursar", "secret", lacking);
    let store = launch.start().await;
    let provider = Provider::start(LIFETIME).await;
    let file = provider.yaml(&format!("url: '{}', keys: ['{KEY}']", store.url()), "");
    let said = check(&file).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.contains(
            "FAILED: the user may not EVALSHA; the user may not HSET; the user may not ZREM\n"
        ),
        "{said:?}"
    );
    let mut operator = store.connect_as_operator().await;
    operator.call(&["ACL", "SETUSER", "bursar", "+@all"]).await;
    let said = check(&file).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}
