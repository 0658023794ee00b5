//! Renewal: when a token is asked for, and until when it is used.

use std::collections::HashMap;

use super::*;

#[tokio::test(start_paused = true)]
async fn used_tokens_are_renewed_at_their_margin_each_a_little_earlier_or_later() {
    let rigs = rigs(50, "", in_turn([lives(300)]));
    for rig in &rigs {
        rig.obtain().await.unwrap();
    }
    pass(299.0).await;
    let times = rigs[0].times();
    let (first, renewals) = times.split_at(50);
    assert!(first.iter().all(|at| *at == 0.0));
    // The margin of 60 s, up to a tenth of it on top, and 5 ms between two flights.
    assert_eq!(renewals.len(), 50);
    assert!(
        renewals.iter().all(|at| (234.0..=240.3).contains(at)),
        "{renewals:?}"
    );
    let spread = renewals[49] - renewals[0];
    assert!(spread > 2.0, "no jitter: all within {spread} s");
}

#[tokio::test(start_paused = true)]
async fn renewal_makes_no_request_wait() {
    let rig = rig("", in_turn([lives(300), after(9.0, lives(300))]));
    rig.obtain().await.unwrap();
    let mut seen = HashMap::new();
    for _ in 0..3000 {
        pass(0.1).await;
        let before = Instant::now();
        *seen.entry(rig.obtain().await.unwrap()).or_insert(0) += 1;
        assert_eq!(Instant::now(), before);
    }
    assert_eq!(rig.count(), 2);
    assert!(seen["t1"] > 2300 && seen["t2"] > 400, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unused_token_is_not_renewed_until_somebody_asks_for_it() {
    let rig = rig("", in_turn([lives(300)]));
    rig.wants_token_at_startup();
    rig.until(270.0).await;
    assert_eq!(rig.times(), [0.0]);
    // It is used in its last minute: this request takes it, and the next one finds a new one.
    assert_eq!(rig.read().as_deref(), Some("t1"));
    pass(0.1).await;
    assert_eq!(rig.read().as_deref(), Some("t2"));
    assert_eq!(rig.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unused_token_that_expired_stays_so_until_somebody_asks_for_it() {
    let rig = rig("", in_turn([lives(300)]));
    rig.wants_token_at_startup();
    rig.until(100_000.0).await;
    assert_eq!(rig.count(), 1);
    assert_eq!(rig.obtain().await.unwrap(), "t2");
}

#[tokio::test(start_paused = true)]
async fn a_valid_token_is_used_while_renewal_fails_and_never_after_its_end() {
    let rig = rig("", in_turn([lives(300), Said::Respond(500, "oops".into())]));
    rig.obtain().await.unwrap();
    for second in 1..299 {
        rig.until(f64::from(second)).await;
        assert_eq!(rig.read().as_deref(), Some("t1"), "at {second} s");
    }
    rig.until(298.999).await;
    assert_eq!(rig.read().as_deref(), Some("t1"));
    // Its last second is not trusted.
    rig.until(299.0).await;
    assert_eq!(rig.read(), None);
    let failed = rig.obtain().await;
    assert!(
        matches!(failed, Err(Failure::ErrorStatus(500, _))),
        "{failed:?}"
    );
    assert!(rig.count() > 5, "renewal was given up: {:?}", rig.times());
}

#[tokio::test(start_paused = true)]
async fn expiry_counts_from_the_instant_the_request_was_sent() {
    let rig = rig("wait: 9s", in_turn([after(4.0, lives(20))]));
    assert_eq!(rig.obtain().await.unwrap(), "t1");
    assert_eq!(
        (rig.start.elapsed(), rig.remaining()),
        (Duration::from_secs(4), Duration::from_secs(16))
    );
}

#[tokio::test(start_paused = true)]
async fn every_token_has_the_lifetime_of_its_own_reply() {
    let replies = [lives(100), lives("1000"), lives(Value::Null), lives(50.5)];
    let rig = rig("default_lifetime: 200s", in_turn(replies));
    for (token, lifetime) in [("t1", 100.0), ("t2", 1000.0), ("t3", 200.0), ("t4", 50.5)] {
        assert_eq!(rig.obtain().await.unwrap(), token);
        assert_eq!(rig.remaining().as_secs_f64(), lifetime);
        // Its renewal would be next; the 401 comes before that.
        drop(rig.renew().await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_absurd_lifetime_is_clamped_to_a_year() {
    for lifetime in [json!(1e300), json!(u64::MAX), json!("1e18")] {
        let rig = rig("", in_turn([lives(lifetime)]));
        rig.obtain().await.unwrap();
        assert_eq!(rig.remaining().as_secs(), 365 * 24 * 3600);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_token_again_is_used_to_its_real_end_and_asked_for_only_then() {
    // Doorkeeper with `reuse_access_token`: what remains of the same token, until it is over.
    let rig = rig("", |call: &Call| {
        let (token, age) = (call.at.as_secs() / 300, call.at.as_secs() % 300);
        respond(&json!({ "access_token": format!("t{token}"), "expires_in": 300 - age }))
    });
    for second in 0..=605 {
        rig.until(f64::from(second)).await;
        rig.obtain().await.unwrap();
    }
    let times = rig.times();
    assert_eq!(times.len(), 7, "{times:?}");
    assert!((234.0..=240.1).contains(&times[1]), "{times:?}");
    // `expires_in` is whole seconds, so the source's ends are up to a second later than the server's. In the last
    // second it is asked for, and a second later there is the next one.
    assert!(
        (299.0..=300.1).contains(&times[2])
            && (300.0..=301.1).contains(&times[3])
            && times[6] >= 600.0,
        "{times:?}"
    );
    assert_eq!(rig.outcome(FetchOutcome::Unchanged), 2);
    assert_eq!(rig.outcome(FetchOutcome::Ok), 3);
    assert_eq!(
        rig.source
            .snapshot(Instant::now())
            .token
            .unwrap()
            .generation,
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_over_when_it_comes_is_asked_for_again_once_a_second() {
    for (name, respond) in [
        ("zero", lives(0)),
        ("negative", lives(-20)),
        ("over on its way", after(0.002, lives(0.001))),
    ] {
        let rig = rig("", in_turn([respond]));
        for _ in 0..4 {
            assert_eq!(rig.obtain().await, Err(Failure::AlreadyExpired), "{name}");
        }
        assert!((4..=25).contains(&rig.count()), "{name}: {:?}", rig.times());
        assert!(
            rig.gaps().iter().all(|gap| *gap >= 1.0),
            "{name}: {:?}",
            rig.gaps()
        );
        assert_eq!(rig.read(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_accounts_start_at_two_hundred_a_second() {
    let rigs = rigs(
        10_000,
        "calls_per_minute: 24000",
        in_turn([after(0.05, lives(3600))]),
    );
    for rig in &rigs {
        rig.wants_token_at_startup();
    }
    pass(70.0).await;
    let times = rigs[0].times();
    assert_eq!(times.len(), 10_000);
    let mut by_second = HashMap::new();
    for at in &times {
        *by_second
            .entry(Duration::from_secs_f64(*at).as_secs())
            .or_insert(0) += 1;
    }
    assert!(
        by_second.values().all(|calls| *calls <= 201),
        "{by_second:?}"
    );
    // And no slower than that, so that the last one is ready within a minute and a bit.
    assert!(by_second[&0] > 100, "{by_second:?}");
    assert!(rigs.iter().all(|rig| rig.source.ever_had_a_token()));
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_has_64_start_up_calls_at_once_and_requests_go_past_them() {
    for is_awaited in [false, true] {
        let rigs = rigs(100, "wait: 30s", in_turn([after(8.0, lives(3600))]));
        for rig in &rigs {
            rig.wants_token_at_startup();
        }
        pass(6.0).await;
        assert_eq!(rigs[0].times().len(), 64);
        if is_awaited {
            for rig in &rigs {
                let source = rig.source.clone();
                tokio::spawn(async move { source.obtain().await });
            }
            pass(0.5).await;
            assert_eq!(rigs[0].times().len(), 100, "whatever a request waits for");
        }
        pass(3.0).await;
        assert_eq!(rigs[0].times().len(), 100, "as some end, others begin");
        pass(10.0).await;
        assert!(rigs.iter().all(|rig| rig.source.ever_had_a_token()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_account_holds_up_no_others_start() {
    let rigs = rigs(100, "", |call: &Call| {
        if call.number == 1 {
            Said::Never
        } else {
            lives(3600)
        }
    });
    for rig in &rigs {
        rig.wants_token_at_startup();
    }
    pass(1.0).await;
    let ready = rigs.iter().filter(|rig| rig.source.ever_had_a_token());
    assert_eq!(ready.count(), 99);
}

#[tokio::test(start_paused = true)]
async fn fewer_scopes_than_asked_for_are_shown() {
    let respond =
        respond(&json!({ "access_token": "t", "expires_in": 300, "scope": "links.read" }));
    let rig = rig("scopes: [links.write, links.read]", in_turn([respond]));
    rig.obtain().await.unwrap();
    let token = rig.source.snapshot(Instant::now()).token.unwrap();
    assert_eq!(token.missing_scopes, "links.write");
}

#[tokio::test(start_paused = true)]
async fn only_a_token_that_is_wanted_is_told_as_failing() {
    let is_failing = |rig: &Rig| rig.source.snapshot(Instant::now()).is_renewal_failing;
    let fails = || Said::Respond(500, "oops".into());
    // Used, so it is to be renewed, which fails, or succeeds in the end.
    let in_vain = rig("", in_turn([lives(300), fails()]));
    let recovers = rig("", in_turn([lives(300), fails(), lives(3000)]));
    for rig in [&in_vain, &recovers] {
        rig.obtain().await.unwrap();
        assert!(!is_failing(rig));
    }
    in_vain.until(298.0).await;
    assert!(is_failing(&in_vain) && !is_failing(&recovers));
    // Never used, and at its end: nobody misses it.
    let idle = rig("", in_turn([lives(300), fails()]));
    idle.wants_token_at_startup();
    idle.until(100_000.0).await;
    assert!(!is_failing(&idle));
    // Until somebody asks, and for a while after that.
    assert!(idle.obtain().await.is_err());
    assert!(is_failing(&idle));
    pass(299.0).await;
    assert!(is_failing(&idle));
    pass(2.0).await;
    assert!(!is_failing(&idle));
}

#[tokio::test(start_paused = true)]
async fn a_first_token_that_cannot_be_had_at_the_start_is_told_as_failing() {
    let rig = rig("", in_turn([Said::Respond(500, "oops".into())]));
    assert!(!rig.source.snapshot(Instant::now()).is_renewal_failing);
    rig.wants_token_at_startup();
    rig.until(100_000.0).await;
    assert!(rig.source.snapshot(Instant::now()).is_renewal_failing);
}
