//! Cost of a provider's 401 in token calls.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_401_on_a_generation_renews() {
    let rig = rig("", in_turn([lives(300)]));
    for token in ["t2", "t3", "t4"] {
        assert_eq!(word(&rig.renew().await), token);
    }
    assert_eq!(rig.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_401s_share_one_flight() {
    let rig = rig("", in_turn([lives(300), after(1.0, lives(300))]));
    let sent = rig.source.obtain().await.unwrap().generation;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let source = rig.source.clone();
        tasks.spawn(async move { word(&source.recover(sent).await) });
    }
    assert!(tasks.join_all().await.iter().all(|word| word == "t2"));
    assert_eq!(rig.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_on_an_old_generation_is_replayed_with_the_newer_one_without_a_call() {
    let rig = rig("", in_turn([lives(300)]));
    drop(rig.renew().await);
    for _ in 0..20 {
        assert_eq!(word(&rig.source.recover(1).await), "t2");
    }
    assert_eq!(rig.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_token_again_is_not_replayed_and_not_asked_for_in_ten_seconds() {
    let same = respond(&json!({ "access_token": "same", "expires_in": 300 }));
    let rig = rig("", in_turn([same]));
    assert_eq!(word(&rig.renew().await), "unchanged");
    for _ in 0..9 {
        pass(1.0).await;
        assert_eq!(word(&rig.renew().await), "too young");
    }
    assert_eq!(rig.count(), 2);
    pass(1.0).await;
    assert_eq!(word(&rig.renew().await), "unchanged");
    assert_eq!(rig.count(), 3);
    // It is the same token, and so the same generation; requests use it all the same.
    assert_eq!(
        rig.source
            .snapshot(Instant::now())
            .token
            .unwrap()
            .generation,
        1
    );
    assert_eq!(rig.read().as_deref(), Some("same"));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_lacks_a_scope_costs_one_call_in_ten_seconds() {
    let rig = rig("", in_turn([lives(3600)]));
    for _ in 0..600 {
        if let Recovery::Replay(token) = rig.renew().await {
            rig.source.replay_refused(token.generation);
        }
        pass(0.1).await;
    }
    // The first token, its renewal, and one more every ten seconds.
    assert_eq!(rig.count(), 7, "{:?}", rig.times());
}

#[tokio::test(start_paused = true)]
async fn a_replay_refused_says_nothing_of_a_token_that_no_401_asked_for() {
    let rig = rig("", in_turn([lives(300)]));
    rig.obtain().await.unwrap();
    rig.until(250.0).await;
    // Renewed ahead; a request that was sent with the first token is replayed with this one, in vain.
    assert_eq!(word(&rig.source.recover(1).await), "t2");
    rig.source.replay_refused(2);
    assert_eq!(word(&rig.source.recover(2).await), "t3");
}

#[tokio::test(start_paused = true)]
async fn two_instances_that_revoke_each_other_renew_at_most_ten_times_a_minute() {
    let rig = rig("", in_turn([lives(3600)]));
    let mut words = Vec::new();
    for _ in 0..118 {
        words.push(word(&rig.renew().await));
        pass(0.5).await;
    }
    assert_eq!(
        words.iter().filter(|word| *word == "too young").count(),
        108
    );
    assert_eq!(rig.count(), 11);
    // A minute after the first renewal there may be another one.
    rig.until(60.0).await;
    assert_eq!(word(&rig.renew().await), "t12");
    assert_eq!(word(&rig.renew().await), "too young");
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_fails_leaves_the_token_in_use() {
    let script = [lives(300), Said::Respond(500, String::new()), lives(300)];
    let rig = rig("", in_turn(script));
    assert_eq!(word(&rig.renew().await), "unavailable");
    assert_eq!(rig.read().as_deref(), Some("t1"));
}

#[tokio::test(start_paused = true)]
async fn renewing_without_waiting_serves_the_next_request() {
    let rig = rig("", in_turn([lives(300), after(1.0, lives(300))]));
    let token = rig.source.obtain().await.unwrap();
    for _ in 0..5 {
        rig.source.renew(token.generation);
    }
    pass(1.5).await;
    assert_eq!(rig.read().as_deref(), Some("t2"));
    assert_eq!(rig.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_joins_the_flight_that_renews_ahead() {
    let script = [lives(300), after(20.0, lives(300))];
    let rig = rig("timeout: 30s, wait: 30s", in_turn(script));
    let sent = rig.source.obtain().await.unwrap().generation;
    rig.until(245.0).await;
    assert_eq!(rig.count(), 2);
    assert_eq!(word(&rig.source.recover(sent).await), "t2");
    assert_eq!(rig.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_waits_for_the_token_after_one_that_is_over() {
    // Doorkeeper with `reuse_access_token` says `expires_in: 0` in the last second of a token.
    let rig = rig("", in_turn([lives(300), lives(0), lives(300)]));
    assert_eq!(word(&rig.renew().await), "t3");
    assert_eq!(rig.times(), [0.0, 0.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn a_401_waits_no_longer_than_a_request_may() {
    let rig = rig("", in_turn([lives(300), lives(0)]));
    assert_eq!(word(&rig.renew().await), "unavailable");
    assert!(rig.start.elapsed() <= Duration::from_secs(5));
}

/// Whether instances are thought to revoke each other's tokens, and how often that was counted.
fn contention(rig: &Rig) -> (bool, u64) {
    let snapshot = rig.source.snapshot(Instant::now());
    (snapshot.is_contended, snapshot.contentions)
}

#[tokio::test(start_paused = true)]
async fn young_tokens_refused_one_after_the_other_are_taken_for_instances_that_revoke_each_other() {
    let rig = rig("", in_turn([lives(3600)]));
    for (count, expected) in [
        (1, (false, 0)),
        (2, (false, 0)),
        (3, (true, 1)),
        (4, (true, 2)),
    ] {
        assert_eq!(word(&rig.renew().await), format!("t{}", count + 1));
        assert_eq!(contention(&rig), expected);
        pass(20.0).await;
    }
    // It is over where nothing of the kind happens for five minutes.
    pass(300.0).await;
    assert_eq!(contention(&rig), (false, 2));
}

#[tokio::test(start_paused = true)]
async fn neither_old_tokens_nor_missing_scopes_are_taken_for_that() {
    let old = rig("", in_turn([lives(3600)]));
    for _ in 0..5 {
        old.obtain().await.unwrap();
        pass(301.0).await;
        drop(old.renew().await);
    }
    assert_eq!(contention(&old), (false, 0));
    let scope = rig("", in_turn([lives(3600)]));
    for _ in 0..600 {
        if let Recovery::Replay(token) = scope.renew().await {
            scope.source.replay_refused(token.generation);
        }
        pass(0.1).await;
    }
    assert_eq!(contention(&scope), (false, 0));
}

/// A 401 on a route; what its replay is answered is up to the test.
/// The provider refuses a route whatever the token.
async fn refuse(rig: &Rig, route: &str) -> String {
    let sent = rig.source.obtain().await.unwrap().generation;
    let recovery = rig.source.recover_on(route, sent).await;
    if let Recovery::Replay(token) = &recovery {
        let handle = rig.source.handle();
        handle.replay_refused(token.generation, &route.into());
    }
    word(&recovery)
}

/// A provider takes a token on a route.
fn take(rig: &Rig, route: &str, generation: u64) {
    let refusals = &rig.source.state.refusals;
    refusals.accepted(&route.into(), generation, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_route_with_both_answers_costs_one_call_in_ten_seconds_and_is_no_contention() {
    let rig = rig("", in_turn([lives(3600)]));
    for _ in 0..600 {
        refuse(&rig, "a").await;
        let generation = rig.source.obtain().await.unwrap().generation;
        take(&rig, "a", generation);
        pass(0.1).await;
    }
    assert_eq!(rig.count(), 7, "{:?}", rig.times());
    assert_eq!(contention(&rig), (false, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_route_is_no_contention_where_tokens_live_for_a_minute() {
    let rig = rig("", in_turn([lives(60)]));
    for _ in 0..600 {
        refuse(&rig, "a").await;
        pass(1.0).await;
    }
    assert_eq!(contention(&rig), (false, 0));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_to_an_older_token_changes_nothing() {
    let rig = rig("", in_turn([lives(3600)]));
    assert_eq!(refuse(&rig, "a").await, "t2");
    take(&rig, "a", 1);
    assert_eq!(refuse(&rig, "a").await, "too young");
    assert_eq!(rig.source.snapshot(Instant::now()).refused_routes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_route_does_not_keep_another_routes_401_from_renewing() {
    let rig = rig("", in_turn([lives(3600)]));
    assert_eq!(refuse(&rig, "a").await, "t2");
    assert_eq!(refuse(&rig, "a").await, "too young");
    // A second later the token is revoked for real, and the other route finds out.
    pass(1.0).await;
    assert_eq!(word(&rig.source.recover_on("b", 2).await), "t3");
    // The first 401 on the new generation renews, once.
    assert_eq!(refuse(&rig, "a").await, "t4");
    assert_eq!(refuse(&rig, "a").await, "too young");
    assert_eq!(rig.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn several_refused_routes_cost_one_renewal_each_and_then_one_in_ten_seconds_together() {
    let rig = rig("", in_turn([lives(3600)]));
    for _ in 0..60 {
        for route in ["a", "b", "c"] {
            refuse(&rig, route).await;
        }
        pass(1.0).await;
    }
    // The first token, one for each route, and one every ten seconds from then on.
    assert_eq!(rig.count(), 1 + 3 + 5, "{:?}", rig.times());
    assert_eq!(contention(&rig), (false, 0));
    // So a revocation is mended at once.
    let sent = rig.source.obtain().await.unwrap().generation;
    assert_eq!(word(&rig.source.recover_on("d", sent).await), "t10");
}

#[tokio::test(start_paused = true)]
async fn many_routes_that_are_refused_leave_renewals_for_tokens_that_are_revoked() {
    let rig = rig("", in_turn([lives(3600)]));
    for route in 0..100 {
        refuse(&rig, &route.to_string()).await;
    }
    assert_eq!(rig.count(), 9);
    pass(10.0).await;
    let sent = rig.source.obtain().await.unwrap().generation;
    assert_eq!(word(&rig.source.recover_on("b", sent).await), "t10");
    // And what is remembered of them has an end.
    assert!(rig.source.snapshot(Instant::now()).refused_routes.len() <= 64);
}

#[tokio::test(start_paused = true)]
async fn what_was_learnt_is_forgotten_five_minutes_after_the_last_of_it() {
    let rig = rig("", in_turn([lives(3600)]));
    refuse(&rig, "a").await;
    take(&rig, "a", 2);
    assert!(
        rig.source
            .snapshot(Instant::now())
            .refused_routes
            .is_empty()
    );
    assert_eq!(refuse(&rig, "a").await, "too young");
    pass(310.0).await;
    take(&rig, "a", 2);
    assert!(!rig.source.state.refusals.any());
    assert_eq!(refuse(&rig, "a").await, "t3");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_not_replayed_is_learnt_about_by_its_next_request() {
    let rig = rig("", in_turn([lives(3600)]));
    rig.source.obtain().await.unwrap();
    for _ in 0..50 {
        let sent = rig.source.obtain().await.unwrap().generation;
        rig.source.renew(sent);
        pass(1.0).await;
    }
    // One in ten seconds; two until it is known.
    assert!(rig.count() <= 1 + 5, "{:?}", rig.times());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_taken_since_is_renewed_without_a_replay_too() {
    let rig = rig("", in_turn([lives(3600)]));
    rig.source.obtain().await.unwrap();
    for sent in 1..5 {
        rig.source.renew(sent);
        pass(1.0).await;
        take(&rig, "default", sent + 1);
    }
    assert_eq!(rig.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn where_the_same_token_comes_back_other_routes_ask_for_themselves() {
    let same = respond(&json!({ "access_token": "same", "expires_in": 300 }));
    let rig = rig("", in_turn([same.clone(), same, lives(300)]));
    assert_eq!(refuse(&rig, "a").await, "unchanged");
    assert_eq!(refuse(&rig, "a").await, "too young");
    // Revoked since: now the endpoint has another one.
    assert_eq!(refuse(&rig, "b").await, "t3");
}

#[tokio::test(start_paused = true)]
async fn a_reload_leaves_a_refused_route_alone_for_ten_seconds_at_most() {
    let mut rig = rig("", in_turn([lives(3600)]));
    refuse(&rig, "a").await;
    drop(rig.reload());
    assert_eq!(refuse(&rig, "a").await, "too young");
    pass(10.0).await;
    assert_eq!(refuse(&rig, "a").await, "t3");
    pass(700.0).await;
    drop(rig.reload());
    assert!(
        rig.source
            .snapshot(Instant::now())
            .refused_routes
            .is_empty()
    );
}
