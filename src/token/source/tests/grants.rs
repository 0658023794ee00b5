//! Order of grants, and what becomes of the refresh token.

use super::*;

const CLIENT: &str = "client_credentials";

/// Which grants three flights use: the first brings `r1`, the second offers it and is answered `said`,
/// the client credentials that may follow bring no refresh token, and the third one shows what was kept.
async fn three_flights(said: Said) -> Vec<String> {
    let rig = rig("refresh: grant, timeout: 1s", move |call: &Call| {
        match (call.number, call.grant.as_str()) {
            (1, _) => with_refresh(),
            (2, _) => said.clone(),
            _ => lives(300),
        }
    });
    drop(rig.renew().await);
    pass(20.0).await;
    drop(rig.renew().await);
    rig.grants()
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_possibly_used_refresh_token_is_dropped_in_the_same_flight() {
    for (name, said) in [
        ("refused", refuses(400, "invalid_grant")),
        ("refused with 401", refuses(401, "invalid_token")),
        ("an error", Said::Respond(500, "oops".into())),
        ("refused by a page", Said::Respond(401, "<html>".into())),
        ("no token", Said::Respond(200, "<html>".into())),
        ("nothing that is text", Said::Respond(200, "\0\u{1}".into())),
        (
            "no header value",
            respond(&json!({ "access_token": "a\nb" })),
        ),
        ("timed out", Said::Never),
        ("broke off", Said::Fails(Failure::Broken)),
    ] {
        let grants = three_flights(said).await;
        assert_eq!(grants, [CLIENT, "r1", CLIENT, CLIENT], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_was_never_sent_is_kept() {
    for failure in [
        Failure::NoConnection(Cause::Refused),
        Failure::NoConnection(Cause::TlsExpired),
    ] {
        let grants = three_flights(Said::Fails(failure)).await;
        assert_eq!(grants, [CLIENT, "r1", CLIENT, "r1"], "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_keeps_the_refresh_token_and_ends_the_flight() {
    let said = Said::RetryAfter(429, Duration::from_secs(15));
    assert_eq!(three_flights(said).await, [CLIENT, "r1", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_may_be_refused_is_dropped_whatever_wait_is_asked_for() {
    let wait = |status, error: &str| {
        let body = json!({ "error": error }).to_string();
        Said::RespondAfter(status, Duration::from_secs(15), body)
    };
    let grants = three_flights(wait(403, "invalid_grant")).await;
    assert_eq!(grants, [CLIENT, "r1", CLIENT, CLIENT]);
    for said in [
        Said::RetryAfter(403, Duration::from_secs(15)),
        wait(403, "firewall"),
        wait(429, "invalid_grant"),
        wait(503, "invalid_grant"),
    ] {
        let grants = three_flights(said.clone()).await;
        assert_eq!(grants, [CLIENT, "r1", CLIENT], "{said:?}");
    }
    assert_eq!(
        three_flights(wait(403, "slow_down")).await,
        [CLIENT, "r1", "r1"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_in_trouble_that_asks_for_a_pause_may_have_used_the_refresh_token_up() {
    let said = Said::RetryAfter(503, Duration::from_secs(15));
    assert_eq!(three_flights(said).await, [CLIENT, "r1", CLIENT]);
}

#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_replaces_the_old_one() {
    let rig = rig("refresh: grant", in_turn([with_refresh()]));
    for _ in 0..3 {
        drop(rig.renew().await);
    }
    assert_eq!(rig.grants(), [CLIENT, "r1", "r2", "r3"]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_is_used_ahead_of_expiry_too() {
    let rig = rig("refresh: grant", in_turn([with_refresh()]));
    for _ in 0..8 {
        rig.obtain().await.unwrap();
        pass(100.0).await;
    }
    assert_eq!(rig.grants(), [CLIENT, "r1", "r2", "r3"]);
}

/// How long the first refresh token, never replaced, is offered: the last call that had it, in seconds.
async fn offered_until(keys: &str, refresh_expires_in: Value) -> f64 {
    let rig = rig(keys, move |call: &Call| {
        let mut body = json!({ "access_token": "t{n}", "expires_in": 100 });
        if call.number == 1 {
            body["refresh_token"] = json!("first");
            body["refresh_expires_in"] = refresh_expires_in.clone();
        }
        respond(&body)
    });
    for _ in 0..200 {
        rig.obtain().await.unwrap();
        pass(10.0).await;
    }
    let calls = rig.calls.lock().unwrap();
    let offered = calls.iter().filter(|call| call.grant == "first");
    offered
        .map(|call| call.at.as_secs_f64())
        .fold(0.0, f64::max)
}

#[tokio::test(start_paused = true)]
async fn an_old_refresh_token_keeps_its_own_deadline() {
    for (keys, stated, least, most) in [
        // As the response says.
        ("refresh: grant", json!(1000), 900.0, 1000.0),
        // As the configuration says, where the response does not.
        (
            "refresh: grant, refresh_lifetime: 600s",
            Value::Null,
            500.0,
            600.0,
        ),
        (
            "refresh: grant, refresh_lifetime: 600s",
            json!(1000),
            900.0,
            1000.0,
        ),
        // Until it is refused, where nobody says.
        ("refresh: grant", Value::Null, 1800.0, 2000.0),
        // A stated zero or less means that it is not used.
        ("refresh: grant, refresh_lifetime: 600s", json!(0), 0.0, 0.0),
        ("refresh: grant", json!(-5), 0.0, 0.0),
        ("refresh: none", json!(1000), 0.0, 0.0),
    ] {
        let last = offered_until(keys, stated.clone()).await;
        assert!((least..=most).contains(&last), "{keys}, {stated}: {last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_waiters_offers_a_refresh_token_once() {
    let rig = rig(
        "refresh: grant",
        in_turn([with_refresh(), after(1.0, with_refresh())]),
    );
    let sent = rig.source.obtain().await.unwrap().generation;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let source = rig.source.clone();
        tasks.spawn(async move { word(&source.recover(sent).await) });
    }
    assert!(tasks.join_all().await.iter().all(|word| word == "t2"));
    assert_eq!(rig.grants(), [CLIENT, "r1"]);
}

/// A 401 on a route that refuses whatever it is replayed with.
async fn refuse(rig: &Rig, route: &str) -> String {
    let sent = rig.source.obtain().await.unwrap().generation;
    let recovery = rig.source.recover_on(route, sent).await;
    if let Recovery::Replay(token) = &recovery {
        let handle = rig.source.handle();
        handle.replay_refused(token.generation, &route.into());
    }
    word(&recovery)
}

fn routes_told_of(rig: &Rig) -> usize {
    rig.source.snapshot(Instant::now()).refused_routes.len()
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_whose_token_is_refused_too_gives_way_to_client_credentials() {
    let rig = rig("refresh: grant", in_turn([with_refresh()]));
    assert_eq!(refuse(&rig, "a").await, "t2");
    // Only one grant was tried: nothing is known of the route yet.
    assert_eq!(routes_told_of(&rig), 0);
    // Whoever comes next, on whatever route.
    let sent = rig.source.obtain().await.unwrap().generation;
    assert_eq!(word(&rig.source.recover_on("b", sent).await), "t3");
    assert_eq!(rig.grants(), [CLIENT, "r1", CLIENT]);
    // The refresh token that came with it is another one.
    assert_eq!(word(&rig.source.recover_on("b", 3).await), "t4");
    assert_eq!(rig.grants(), [CLIENT, "r1", CLIENT, "r3"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_replayed_shows_what_a_refresh_token_is_worth_too() {
    let rig = rig("refresh: grant", in_turn([with_refresh()]));
    for sent in 1..4 {
        rig.obtain().await.unwrap();
        rig.source.renew(sent);
        pass(1.0).await;
    }
    assert_eq!(rig.grants(), [CLIENT, "r1", CLIENT]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_brings_the_refused_token_again_is_dropped_in_the_same_flight() {
    let rig = rig("refresh: grant", |call: &Call| match call.number {
        1 | 2 => {
            respond(&json!({ "access_token": "same", "expires_in": 300, "refresh_token": "r{n}" }))
        }
        _ => with_refresh(),
    });
    assert_eq!(word(&rig.renew().await), "t3");
    assert_eq!(rig.grants(), [CLIENT, "r1", CLIENT]);
    assert_eq!(rig.outcome(FetchOutcome::Unchanged), 1);
    assert_eq!(routes_told_of(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_lacks_a_scope_costs_a_refresh_token_in_five_minutes() {
    for brought in [with_refresh(), {
        let body = json!({ "access_token": "same", "expires_in": 3600, "refresh_token": "r{n}" });
        respond(&body)
    }] {
        let rig = rig("refresh: grant", in_turn([brought]));
        for _ in 0..6000 {
            refuse(&rig, "a").await;
            pass(0.1).await;
        }
        assert_eq!(routes_told_of(&rig), 1);
        let grants = rig.grants();
        let dropped = grants.iter().skip(1).filter(|grant| *grant == CLIENT);
        assert!(dropped.count() <= 2, "{grants:?}");
        // One call in ten seconds, and one more where a refresh token is dropped.
        assert!(grants.len() <= 1 + 60 + 2 + 1, "{}", grants.len());
        assert_eq!(rig.source.snapshot(Instant::now()).contentions, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn several_routes_that_lack_a_scope_are_no_contention_where_tokens_are_refreshed() {
    let rig = rig("refresh: grant", in_turn([with_refresh()]));
    for _ in 0..60 {
        for route in ["a", "b", "c"] {
            refuse(&rig, route).await;
        }
        pass(1.0).await;
    }
    assert_eq!(routes_told_of(&rig), 3);
    assert_eq!(rig.source.snapshot(Instant::now()).contentions, 0);
    assert!(rig.count() <= 1 + 6 + 5, "{:?}", rig.times());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_brings_an_expired_token_is_dropped_in_the_same_flight() {
    for expires_in in [json!(0), json!(-56), json!("0")] {
        let body =
            json!({ "access_token": "t{n}", "expires_in": expires_in, "refresh_token": "r{n}" });
        let grants = three_flights(respond(&body)).await;
        assert_eq!(grants, [CLIENT, "r1", CLIENT, CLIENT]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_gave_way_to_client_credentials_is_kept_where_these_bring_nothing() {
    for said in [
        Said::Respond(500, "oops".into()),
        refuses(401, "invalid_client"),
        Said::Never,
        lives(0),
    ] {
        let rig = rig(
            "refresh: grant, timeout: 1s, wait: 900ms",
            move |call: &Call| match call.number {
                3 => said.clone(),
                _ => with_refresh(),
            },
        );
        assert_eq!(refuse(&rig, "a").await, "t2");
        assert_eq!(word(&rig.source.recover_on("a", 2).await), "unavailable");
        pass(60.0).await;
        assert_eq!(word(&rig.source.recover_on("b", 2).await), "t4");
        assert_eq!(rig.grants(), [CLIENT, "r1", CLIENT, "r2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_already_leaves_no_refresh_token() {
    let body = json!({ "access_token": "t{n}", "expires_in": 0, "refresh_token": "r{n}" });
    let rig = rig("refresh: grant, wait: 10s", in_turn([respond(&body)]));
    assert!(rig.obtain().await.is_err());
    assert!(rig.grants().iter().all(|grant| grant == CLIENT));
    assert!(rig.count() > 2, "{:?}", rig.times());
    assert!(rig.gaps().iter().all(|gap| *gap >= 1.0), "{:?}", rig.gaps());
}
