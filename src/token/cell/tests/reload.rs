//! A configuration follows another one.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_key_that_stays_has_one_flight_and_is_renewed_by_the_later_cell() {
    let mut rig = rig("margin: 10s", in_turn([after(1.0, lives(100))]));
    let old = rig.cell.clone();
    let waiting = tokio::spawn({
        let old = old.clone();
        async move { old.obtain().await.map(|lease| text(&lease)).unwrap() }
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
    assert_eq!(old.obtain().await.map(|lease| text(&lease)).unwrap(), "t1");
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
    rig.cell.retire();
    rig.until(150.0).await;
    assert_eq!((rig.read(), rig.count()), (None, 1));
    assert_eq!(rig.obtain().await.unwrap(), "t2");
    rig.until(500.0).await;
    assert_eq!(rig.count(), 2);
}
