//! The quota of token calls, and what happens while the endpoint is down.

use super::*;

/// The most calls in any minute, given their times.
fn most_in_a_minute(times: &[f64]) -> usize {
    let within = |from: &f64| {
        let inside = |at: &&f64| **at >= *from && **at < from + 60.0;
        times.iter().filter(inside).count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

fn start_all(rigs: &[Rig]) {
    for rig in rigs {
        rig.wants_token_at_startup();
    }
}

fn down(status: u16) -> Said {
    Said::Respond(status, "oops".into())
}

#[tokio::test(start_paused = true)]
async fn no_minute_has_more_calls_than_the_budget_and_all_accounts_get_a_token() {
    for (quota, accounts, minutes) in [(1, 4, 5), (2, 9, 8), (10, 60, 9), (600, 3000, 7)] {
        let keys = format!("calls_per_minute: {quota}");
        let rigs = rigs(accounts, &keys, in_turn([after(0.05, lives(36000))]));
        start_all(&rigs);
        pass(60.0 * f64::from(minutes)).await;
        let times = rigs[0].times();
        assert_eq!(times.len(), accounts, "with {quota} a minute");
        assert!(most_in_a_minute(&times) <= quota, "{quota}: {times:?}");
        assert!(rigs.iter().all(|rig| rig.source.ever_had_a_token()));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_the_calls_stay_within_the_budget() {
    let script = |call: &Call| match call.number % 7 {
        0 => down(500),
        1 => refuses(401, "invalid_client"),
        2 => Said::Fails(Failure::NoConnection(Cause::Refused)),
        3 => lives(0),
        _ => lives(30),
    };
    let secrets = "client_secret: old, next_client_secret: new";
    let rigs = rigs_of(50, secrets, "calls_per_minute: 40, wait: 1s", script);
    start_all(&rigs);
    for second in 0..600 {
        for rig in rigs.iter().skip(second % 5).step_by(5) {
            let source = rig.source.clone();
            tokio::spawn(async move {
                if let Ok(token) = source.obtain().await {
                    drop(source.recover(token.generation).await);
                }
            });
        }
        pass(1.0).await;
    }
    let times = rigs[0].times();
    assert!(most_in_a_minute(&times) <= 40);
    assert!(times.len() > 200, "{}", times.len());
}

#[tokio::test(start_paused = true)]
async fn a_401_goes_before_requests_and_both_before_start_up() {
    let rigs = rigs(
        200,
        "calls_per_minute: 12, wait: 60s",
        in_turn([lives(3600)]),
    );
    let refused = rigs[0].source.obtain().await.unwrap();
    start_all(&rigs[1..]);
    pass(30.0).await;
    let ready = || {
        rigs.iter()
            .filter(|rig| rig.source.ever_had_a_token())
            .count()
    };
    let started = ready();
    // Each joins a flight that waits for its turn behind all others.
    let mut requests = tokio::task::JoinSet::new();
    for rig in &rigs[190..195] {
        let source = rig.source.clone();
        requests.spawn(async move { source.obtain().await.is_ok() });
    }
    pass(0.001).await;
    // More requests than the quota lets through now, but something is kept for this one.
    let before = Instant::now();
    let recovery = rigs[0].source.recover(refused.generation).await;
    assert!(matches!(recovery, Recovery::Replay(_)), "{recovery:?}");
    assert_eq!(Instant::now(), before);
    assert!(!requests.is_empty());
    assert!(requests.join_all().await.into_iter().all(|served| served));
    // No start-up came between them.
    assert_eq!(ready(), started + 5, "{:?}", rigs[0].times());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_budget_keeps_waiting_hears_so_in_time() {
    let rigs = rigs(9, "calls_per_minute: 1, wait: 5s", in_turn([lives(3600)]));
    rigs[0].obtain().await.unwrap();
    let missing = rigs[1].source.obtain().await.unwrap_err();
    assert_eq!(missing.failure, Failure::QuotaExhausted);
    assert_eq!(rigs[1].start.elapsed(), Duration::from_secs(5));
    assert!(
        (54..=55).contains(&missing.retry_after.as_secs()),
        "{missing:?}"
    );
    let failing = rigs[1].source.snapshot(Instant::now()).failing.unwrap();
    assert!(failing.contains("calls_per_minute"), "{failing}");
    assert_eq!(rigs[0].source.limiter.snapshot().exhausted, 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_is_probed_by_one_call_at_a_time() {
    let rigs = rigs(500, "", |call: &Call| match call.at.as_secs() {
        0..600 => after(1.0, down(503)),
        _ => lives(36000),
    });
    start_all(&rigs);
    pass(590.0).await;
    let times = rigs[0].times();
    // What was under way when it opened, and a probe every 15 s or so; 500 keys with a back-off of their
    // own would have made thousands.
    let late: Vec<f64> = times.into_iter().filter(|at| *at > 5.0).collect();
    assert!((10..150).contains(&late.len()), "{late:?}");
    let one_at_a_time = late.windows(2).all(|pair| pair[1] - pair[0] >= 1.0);
    assert!(one_at_a_time, "{late:?}");
    assert!(rigs[0].source.limiter.snapshot().is_open);
    pass(60.0).await;
    assert!(rigs.iter().all(|rig| rig.source.ever_had_a_token()));
    assert!(!rigs[0].source.limiter.snapshot().is_open);
}

#[tokio::test(start_paused = true)]
async fn a_request_during_an_outage_is_answered_at_once_without_a_call() {
    let rigs = rigs(30, "wait: 1ms", in_turn([down(500)]));
    for rig in &rigs[..5] {
        drop(rig.obtain().await);
    }
    let (before, calls) = (Instant::now(), rigs[0].count());
    if let Some(until) = rigs[0].source.limiter.open_until(before) {
        for rig in &rigs[6..] {
            let missing = rig.source.obtain().await.unwrap_err();
            assert_eq!(missing.failure, Failure::CircuitOpen);
            assert_eq!(missing.retry_after, until.awaited.duration_since(before));
        }
        assert_eq!((Instant::now(), rigs[0].count()), (before, calls));
    }
    assert!(rigs[0].source.limiter.snapshot().is_open);
}

#[tokio::test(start_paused = true)]
async fn answers_that_blame_the_account_do_not_hold_the_others() {
    for said in [
        refuses(401, "invalid_client"),
        refuses(400, "invalid_request"),
        Said::RetryAfter(429, Duration::from_secs(60)),
        Said::Respond(200, "<html>".into()),
    ] {
        let script = move |call: &Call| match call.number {
            1..20 => said.clone(),
            _ => lives(300),
        };
        let rigs = rigs(20, "wait: 1ms", script);
        for rig in &rigs[..19] {
            rig.obtain().await.unwrap_err();
        }
        assert_eq!(rigs[19].obtain().await.unwrap(), "t20");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_never_ends_well_is_followed_by_another() {
    let rigs = rigs(20, "", |call: &Call| match call.number {
        1..=5 => down(500),
        6 => Said::Panics,
        7 => Said::Never,
        _ => lives(300),
    });
    for rig in &rigs[..5] {
        tokio::spawn({
            let source = rig.source.clone();
            async move { source.obtain().await.map(drop) }
        });
    }
    pass(0.001).await;
    start_all(&rigs[5..]);
    pass(120.0).await;
    let ready = rigs.iter().filter(|rig| rig.source.ever_had_a_token());
    // All but those whose flight ended with the bug.
    assert!(ready.count() >= 14);
}
