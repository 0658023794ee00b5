//! Single flight: who waits for whom.

use super::*;

async fn all_of(rig: &Rig, waiters: usize) -> Vec<Result<String, Missing>> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..waiters {
        let source = rig.source.clone();
        tasks.spawn(async move { source.obtain().await.map(|token| text(&token)) });
    }
    tasks.join_all().await
}

#[tokio::test(start_paused = true)]
async fn one_flight_serves_sixty_waiters() {
    let rig = rig("", in_turn([after(1.0, lives(300))]));
    let tokens = all_of(&rig, 60).await;
    assert!(
        tokens
            .iter()
            .all(|token| token.as_deref().ok() == Some("t1"))
    );
    assert_eq!(rig.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_share_a_failure() {
    let rig = rig("", in_turn([after(1.0, Said::Respond(500, String::new()))]));
    let results = all_of(&rig, 60).await;
    assert_eq!(results.len(), 60);
    for result in results {
        let failure = result.unwrap_err().failure;
        assert!(matches!(failure, Failure::ErrorStatus(500, _)), "{failure}");
    }
    assert_eq!(rig.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn different_keys_do_not_wait_for_each_other() {
    let rigs = rigs(2, "", |call: &Call| {
        if call.number == 1 {
            Said::Never
        } else {
            lives(300)
        }
    });
    let hanging = rigs[0].source.clone();
    tokio::spawn(async move { hanging.obtain().await.map(drop) });
    tokio::task::yield_now().await;
    let before = Instant::now();
    assert_eq!(rigs[1].obtain().await.unwrap(), "t2");
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_cancels_nothing() {
    let rig = rig("", in_turn([after(1.0, lives(300))]));
    let patience = Duration::from_millis(100);
    assert!(tokio::time::timeout(patience, rig.obtain()).await.is_err());
    pass(1.0).await;
    assert_eq!(rig.read().as_deref(), Some("t1"));
    assert_eq!(rig.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_it_may_and_the_flight_goes_on() {
    let rig = rig("wait: 3s", in_turn([after(8.0, lives(300))]));
    assert_eq!(rig.obtain().await, Err(Failure::TimedOut));
    assert_eq!(rig.start.elapsed(), Duration::from_secs(3));
    pass(6.0).await;
    assert_eq!(rig.read().as_deref(), Some("t1"));
    assert_eq!(rig.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_no_longer_than_its_timeout() {
    let rig = rig("timeout: 2s", in_turn([Said::Never]));
    assert_eq!(rig.obtain().await, Err(Failure::TimedOut));
    assert_eq!(rig.start.elapsed(), Duration::from_secs(2));
    assert_eq!(rig.outcome(FetchOutcome::Unavailable), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_through_a_short_back_off() {
    let rig = rig("", in_turn([Said::Fails(Failure::Broken), lives(300)]));
    assert_eq!(rig.obtain().await, Err(Failure::Broken));
    assert_eq!(rig.obtain().await.as_deref(), Ok("t2"));
    assert!(rig.start.elapsed() < Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_flight_wedges_nothing() {
    let rig = rig("", in_turn([after(0.1, Said::Panics), lives(300)]));
    let results = all_of(&rig, 10).await;
    assert!(results.iter().all(Result::is_err));
    assert_eq!(rig.count(), 1);
    assert_eq!(rig.obtain().await.as_deref(), Ok("t2"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_renewal_leaves_the_token_that_is_there() {
    let rig = rig("", in_turn([lives(300), Said::Panics, lives(300)]));
    rig.obtain().await.unwrap();
    rig.until(290.0).await;
    assert_eq!((rig.count(), rig.read().as_deref()), (2, Some("t1")));
    rig.until(301.0).await;
    assert_eq!(rig.obtain().await.as_deref(), Ok("t3"));
}
