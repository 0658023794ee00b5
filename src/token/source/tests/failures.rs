//! Pauses after failures: for how long nobody is asked.

use super::*;

/// Requests for a token, one a second.
async fn ask_every_second(rig: &Rig, seconds: u32) {
    for _ in 0..seconds {
        drop(rig.obtain().await);
        pass(1.0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn back_off_grows_from_a_fifth_of_a_second_to_half_a_minute() {
    let failures = [
        Said::Respond(500, "oops".into()),
        Said::Respond(403, "<html>a firewall</html>".into()),
        Said::Respond(200, String::new()),
        Said::Respond(
            200,
            r#"{"success":false,"data":{"access_token":"t"}}"#.into(),
        ),
        refuses(400, "invalid_request"),
        Said::Fails(Failure::NoConnection(Cause::Refused)),
        Said::Fails(Failure::Broken),
    ];
    for said in failures {
        let rig = rig("", in_turn([said]));
        rig.wants_token_at_startup();
        pass(3600.0).await;
        let gaps = rig.gaps();
        for (earlier, gap) in gaps.iter().enumerate() {
            let most = 30.0_f64.min(0.2 * 2.0_f64.powi(i32::try_from(earlier).unwrap()));
            // The renewal loop adds at most its pace and the clock's grain.
            assert!(*gap <= most + 0.01, "{gap} s after {earlier} failures");
        }
        // With full jitter the mean is half of the most.
        assert!((150..500).contains(&gaps.len()), "{}", gaps.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_account_costs_one_call_and_then_a_cool_down_that_grows_to_five_minutes() {
    for said in [
        refuses(401, "invalid_client"),
        refuses(400, "unauthorized_client"),
        refuses(400, "invalid_scope"),
        refuses(200, "invalid_client"),
        Said::Respond(403, r#"{"message":"Invalid credentials"}"#.into()),
        Said::Respond(401, "<html>who are you?</html>".into()),
    ] {
        let rig = rig("", in_turn([said]));
        ask_every_second(&rig, 1000).await;
        assert_eq!(
            rig.gaps(),
            [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
        );
        // Nobody waited: the time that passed is the pauses between the requests.
        assert_eq!(rig.start.elapsed().as_secs(), 1000);
        assert_eq!(rig.outcome(FetchOutcome::Rejected), 9);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_in_a_cool_down_hears_when_to_come_back() {
    let rig = rig("", in_turn([refuses(401, "invalid_client")]));
    drop(rig.obtain().await);
    pass(2.0).await;
    let missing = rig.source.obtain().await.unwrap_err();
    assert_eq!(missing.retry_after, Duration::from_secs(3));
    assert_eq!(missing.failure, rejected("invalid_client"));
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_cool_down_and_resets_it() {
    let refused = refuses(401, "invalid_client");
    let script = [refused.clone(), refused.clone(), lives(100), refused];
    let rig = rig("", in_turn(script));
    ask_every_second(&rig, 130).await;
    // Refused at 0 and 5, a token at 15; its renewal ahead is refused about 20 s before its end, and
    // 5 and 10 s after that: the count of failures began anew.
    let gaps = rig.gaps();
    assert_eq!(gaps[..2], [5.0, 10.0]);
    assert!((77.0..=81.0).contains(&gaps[2]), "{gaps:?}");
    assert!((5.0..=6.0).contains(&gaps[3]), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn no_call_comes_before_a_rate_limit_is_over() {
    let body = |status, retry_after: Value| {
        Said::Respond(status, json!({ "retry_after": retry_after }).to_string())
    };
    for (said, wait) in [
        (body(429, json!(30)), 30),
        (body(200, json!("45")), 45),
        (body(400, json!(7200)), 900),
        (Said::RetryAfter(429, Duration::from_secs(120)), 120),
        (Said::RetryAfter(403, Duration::from_secs(120)), 120),
        (Said::RetryAfter(429, Duration::from_secs(1_000_000)), 900),
        (
            Said::Respond(
                503,
                json!({ "error": "rate_limit_exceeded", "retry_after": 17 }).to_string(),
            ),
            17,
        ),
    ] {
        let rig = rig("", in_turn([said, lives(300)]));
        let missing = rig.source.obtain().await.unwrap_err();
        assert_eq!(missing.retry_after.as_secs(), wait);
        ask_every_second(&rig, u32::try_from(wait).unwrap()).await;
        assert_eq!(rig.count(), 1, "a call before {wait} s");
        assert_eq!(rig.obtain().await.as_deref(), Ok("t2"));
        assert_eq!(rig.outcome(FetchOutcome::RateLimited), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_in_trouble_is_not_called_before_the_pause_that_it_asks_for_is_over() {
    for (status, asked, wait) in [(503, 120, 120), (500, 7, 7), (502, 1_000_000, 900)] {
        let busy = Said::RetryAfter(status, Duration::from_secs(asked));
        let rig = rig("", in_turn([busy, lives(300)]));
        let missing = rig.source.obtain().await.unwrap_err();
        assert_eq!(missing.retry_after.as_secs(), wait);
        ask_every_second(&rig, u32::try_from(wait).unwrap()).await;
        assert_eq!(rig.count(), 1, "a call before {wait} s");
        assert_eq!(rig.obtain().await.as_deref(), Ok("t2"));
        assert_eq!(rig.outcome(FetchOutcome::Unavailable), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_that_an_endpoint_asks_for_holds_all_its_calls_once_it_is_known_to_fail() {
    let busy = Said::RetryAfter(503, Duration::from_secs(60));
    let rigs = rigs(20, "wait: 1ms", in_turn([busy]));
    for _ in 0..55 {
        for rig in &rigs {
            drop(rig.obtain().await);
        }
        pass(1.0).await;
    }
    assert_eq!(rigs[0].count(), 5);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_first_token_comes_within_5_s_where_somebody_asks() {
    for (keys, said) in [
        (1, Said::Respond(503, "down".into())),
        (10, Said::Fails(Failure::NoConnection(Cause::Refused))),
        (
            10,
            after(1.0, Said::Respond(200, "<html>maintenance".into())),
        ),
    ] {
        let outage = said.clone();
        let rigs = rigs(keys, "", move |call: &Call| match call.at.as_secs() {
            0..1000 => outage.clone(),
            _ => lives(3600),
        });
        // One request at a time for each key, as soon as the one before is refused.
        for rig in &rigs {
            let source = rig.source.clone();
            tokio::spawn(async move {
                while source.obtain().await.is_err() {
                    pass(0.1).await;
                }
            });
        }
        rigs[0].until(1000.0).await;
        let calls = rigs[0].count();
        assert!(calls < keys * 1500, "{calls} calls in 1000 s");
        rigs[0].until(1005.0).await;
        for rig in &rigs {
            assert!(rig.source.ever_had_a_token(), "{said:?}");
        }
    }
}

/// Asks again for as long as there is no token.
fn keep_asking(rig: &Rig) {
    let source = rig.source.clone();
    tokio::spawn(async move {
        while source.obtain().await.is_err() {
            pass(0.1).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_in_an_outage_does_not_hide_its_end() {
    for (at_first, last) in [(lives(1), 44.0), (Said::Never, 12.0)] {
        let rig = rig("", move |call: &Call| match call.at.as_secs_f64() {
            0.0 => at_first.clone(),
            at if at < last => Said::Never,
            _ => lives(3600),
        });
        keep_asking(&rig);
        pass(2.0).await;
        keep_asking(&rig);
        rig.until(last).await;
        let before = rig.source.snapshot(Instant::now()).token;
        assert!(before.is_none_or(|token| token.generation == 1));
        rig.until(last + 5.0).await;
        let token = rig.source.snapshot(Instant::now()).token;
        let lifetime = token.map(|token| token.lifetime.as_secs());
        assert_eq!(lifetime, Some(3600), "{last}: {:?}", rig.times());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_become_slow_gets_its_full_time_again() {
    for at_first in [lives(1), Said::Respond(500, "oops".into())] {
        let rig = rig("", move |call: &Call| match call.number {
            1 => at_first.clone(),
            2 => Said::Respond(500, "oops".into()),
            _ => after(9.0, lives(3600)),
        });
        keep_asking(&rig);
        pass(2.0).await;
        keep_asking(&rig);
        rig.until(90.0).await;
        let token = rig.source.snapshot(Instant::now()).token;
        assert_eq!(token.unwrap().lifetime.as_secs(), 3600);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_refresh_token_is_never_cut_short() {
    let rig = rig("refresh: grant", |call: &Call| match call.number {
        1 => with_refresh(),
        2 | 3 => Said::Fails(Failure::NoConnection(Cause::Refused)),
        _ => after(4.5, lives(300)),
    });
    rig.obtain().await.unwrap();
    // The renewal fails, so that the next call comes after an outage.
    assert_eq!(word(&rig.renew().await), "unavailable");
    pass(1.0).await;
    assert_eq!(word(&rig.renew().await), "t4");
    assert_eq!(rig.grants()[3], "r1");
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_no_time_is_still_followed_by_back_off() {
    let busy = Said::RetryAfter(503, Duration::ZERO);
    let rig = rig("", in_turn([busy]));
    rig.wants_token_at_startup();
    pass(600.0).await;
    assert!(rig.count() < 150, "{}", rig.count());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_for_401s_too() {
    let script = [
        lives(300),
        Said::RetryAfter(429, Duration::from_secs(60)),
        lives(300),
    ];
    let rig = rig("", in_turn(script));
    for _ in 0..10 {
        assert_eq!(word(&rig.renew().await), "unavailable");
    }
    assert_eq!(rig.count(), 2);
    pass(60.0).await;
    assert_eq!(word(&rig.renew().await), "t3");
}

#[tokio::test(start_paused = true)]
async fn each_outcome_is_counted_as_what_came_back() {
    use FetchOutcome::{Malformed, Ok, RateLimited, Rejected, Unavailable};
    let token = |token: &str| respond(&json!({ "access_token": token }));
    for (said, outcome) in [
        (lives(300), Ok),
        (refuses(401, "invalid_client"), Rejected),
        (Said::RetryAfter(429, Duration::from_secs(1)), RateLimited),
        (Said::Respond(502, "<html>".into()), Unavailable),
        (
            Said::Fails(Failure::NoConnection(Cause::TlsExpired)),
            Unavailable,
        ),
        (Said::Never, Unavailable),
        (Said::Respond(200, "<html>".into()), Malformed),
        (Said::Respond(200, String::new()), Malformed),
        (token(""), Malformed),
        (token("line\r\nbreak"), Malformed),
        (token("null\0"), Malformed),
        (lives(0), Malformed),
    ] {
        let rig = rig("timeout: 1s, wait: 500ms", in_turn([said]));
        drop(rig.obtain().await);
        pass(0.6).await;
        let counted = FetchOutcome::ALL.map(|outcome| (outcome.as_str(), rig.outcome(outcome)));
        let here = counted.iter().find(|(_, count)| *count > 0);
        assert_eq!(here.map(|(name, _)| *name), Some(outcome.as_str()));
    }
}
