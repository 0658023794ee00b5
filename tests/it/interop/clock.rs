//! The wall clock jumps by an hour, either way, while the real program runs.

use tokio::time::Instant;

use super::*;
use crate::support::idp::{Idp, reply};
use crate::support::metrics::Scrape;
use crate::support::proxy::Program;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

const LABELS: [(&str, &str); 1] = [("provider", "acme")];
/// Of a token; it is renewed after four fifths of that.
const LIFETIME: u32 = 10;

/// How far the expiry that is shown is from now, in seconds of the real clock.
async fn expiry(program: &Program) -> f64 {
    let shown = Scrape::of(program.admin)
        .await
        .value("bursar_token_expiry_timestamp_seconds", &LABELS);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    shown - now.as_secs_f64()
}

async fn generation(program: &Program) -> f64 {
    let scrape = Scrape::of(program.admin).await;
    scrape.value("bursar_token_generation", &LABELS)
}

#[tokio::test]
async fn a_clock_that_jumps_by_an_hour_changes_no_token() {
    if !Needs::Faketime.are_met().await {
        return;
    }
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::start(|call| async move {
        let token = format!("token-{}", call.number);
        reply(
            200,
            &serde_json::json!({ "access_token": token, "expires_in": LIFETIME }),
        )
    });
    let idp = idp.await;
    let library = output(&["sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1"]).await;
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    let set = |step: &str| std::fs::write(&clock, format!("{step}\n")).unwrap();
    set("+0");
    let environment = [
        ("LD_PRELOAD", library.lines().next().unwrap()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
    ];
    let started = Instant::now();
    let program = Program::start_with(&acme(&api.url(), &idp.url(), ""), &environment).await;
    let mut caller = Caller::connect(program.listen).await;
    for step in [0.0, 3600.0, -3600.0] {
        set(&format!("{step:+}"));
        // What is shown follows the clock.
        let follows = || async { (expiry(&program).await - step).abs() < 60.0 };
        eventually(follows).await;
        let before = (generation(&program).await, idp.calls());
        assert_eq!(caller.send("GET", "/a", "").await.status, 200);
        // The token is used, and renewed when its time has come and not before.
        within("a renewal", async {
            while generation(&program).await <= before.0 {
                assert_eq!(caller.send("GET", "/a", "").await.status, 200);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert!(idp.calls() <= before.1 + 2, "{} calls", idp.calls());
    }
    // Each token was used for at least seven seconds.
    let most = started.elapsed().as_secs() / 7 + 2;
    assert!(idp.calls() as u64 <= most, "{} calls", idp.calls());
    assert!(api.count() > 10);
}
