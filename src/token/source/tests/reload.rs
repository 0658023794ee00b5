//! A configuration follows another one.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_key_that_stays_has_one_flight_and_is_renewed_by_the_later_cell() {
    let mut rig = rig("margin: 10s", in_turn([after(1.0, lives(100))]));
    let old = rig.source.clone();
    let waiting = tokio::spawn({
        let old = old.clone();
        async move { old.obtain().await.map(|token| text(&token)).unwrap() }
    });
    rig.until(0.5).await;
    drop(rig.reload());
    assert_eq!(rig.obtain().await.unwrap(), "t1");
    assert_eq!(waiting.await.unwrap(), "t1");
    drop(old);
    rig.until(95.0).await;
    assert_eq!((rig.read().unwrap(), rig.count()), ("t2".to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_request_of_an_earlier_configuration_fetches_is_renewed_by_the_later_cell() {
    let mut rig = rig("margin: 10s", in_turn([lives(100)]));
    let old = rig.reload();
    assert_eq!(old.obtain().await.map(|token| text(&token)).unwrap(), "t1");
    drop(old);
    assert_eq!(rig.read().unwrap(), "t1");
    rig.until(95.0).await;
    assert_eq!((rig.read().unwrap(), rig.count()), ("t2".to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_forgotten_by_a_reload() {
    let mut rig = rig(
        "wait: 1s",
        in_turn([refuses(401, "invalid_client"), lives(100)]),
    );
    assert!(rig.obtain().await.is_err());
    rig.reload();
    assert!(rig.obtain().await.is_err());
    rig.until(5.5).await;
    assert_eq!((rig.read().unwrap(), rig.count()), ("t2".to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_gone_is_not_renewed_but_still_serves_what_is_under_way() {
    let rig = rig("margin: 10s", in_turn([lives(100)]));
    assert_eq!(rig.obtain().await.unwrap(), "t1");
    rig.source.retire();
    rig.until(150.0).await;
    assert_eq!((rig.read(), rig.count()), (None, 1));
    assert_eq!(rig.obtain().await.unwrap(), "t2");
    rig.until(500.0).await;
    assert_eq!(rig.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_forgotten_where_the_account_gets_another_secret() {
    let of = |secrets| {
        let script = |call: &Call| match call.secret.as_str() {
            "new" => lives(100),
            _ => refuses(401, "invalid_client"),
        };
        rigs_of(1, secrets, "wait: 1s", script).pop().unwrap()
    };
    let rig = of("client_secret: old");
    assert!(rig.obtain().await.is_err());
    let next = of("client_secret: old, next_client_secret: new");
    let source = (next.make)(0, rig.source.state.clone());
    assert!(source.key.is_same_as(&rig.source.key));
    let source = source.succeed(&rig.source);
    let before = Instant::now();
    assert_eq!(
        source.obtain().await.map(|token| text(&token)).unwrap(),
        "t2"
    );
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_waits_for_its_turn_is_known_to_wait_after_a_reload() {
    let mut rigs = rigs(2, "calls_per_minute: 1, wait: 1s", in_turn([lives(3600)]));
    rigs[0].obtain().await.unwrap();
    let old = rigs[1].source.clone();
    let waiting = tokio::spawn(async move { old.obtain().await.map(drop) });
    pass(0.5).await;
    drop(rigs[1].reload());
    assert_eq!(rigs[1].obtain().await, Err(Failure::QuotaExhausted));
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn another_budget_holds_for_calls_that_wait_already_and_is_no_new_one() {
    let rigs = rigs(4, "calls_per_minute: 1, wait: 1s", in_turn([lives(3600)]));
    let limiter = &rigs[0].source.limiter;
    let per_minute = |calls| limiter.change_quota(std::num::NonZeroU32::new(calls).unwrap());
    rigs[0].obtain().await.unwrap();
    for calls in [2, 1, 3, 1] {
        per_minute(calls);
        assert_eq!(
            rigs[1].obtain().await,
            Err(Failure::QuotaExhausted),
            "{calls}"
        );
    }
    assert_eq!(limiter.snapshot().calls_per_minute.get(), 1);
    per_minute(600);
    rigs[1].obtain().await.unwrap();
    rigs[2].obtain().await.unwrap();
    assert_eq!(rigs[0].count(), 3);
}
