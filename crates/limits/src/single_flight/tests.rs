use std::time::Duration;

use tokio::task::JoinSet;

use super::*;

#[tokio::test]
async fn all_who_join_get_the_leaders_one_result() {
    let mut flight = SingleFlight::<u32>::default();
    assert!(flight.join().is_none());
    let (leader, first) = flight.lead(());
    let mut joined = JoinSet::new();
    joined.spawn(first.wait());
    for _ in 0..9 {
        joined.spawn(flight.join().unwrap().0.wait());
    }
    flight.end();
    leader.finish(7);
    assert_eq!(joined.join_all().await, [Ok(7); 10]);
}

#[tokio::test]
async fn nobody_joins_a_flight_that_has_ended_though_its_result_is_still_to_come() {
    let mut flight = SingleFlight::<u32>::default();
    let (leader, joiner) = flight.lead(());
    flight.end();
    assert!(flight.join().is_none());
    let (_second, _) = flight.lead(());
    leader.finish(1);
    assert_eq!(joiner.wait().await, Ok(1));
    // The first one's result is none of the second one's.
    let (waiting, ()) = flight.join().unwrap();
    let now = Instant::now();
    assert_eq!(waiting.wait_until(now).await, Err(NoResult::TimedOut));
}

#[tokio::test]
async fn who_joins_shares_what_the_leader_left_there() {
    let mut flight = SingleFlight::<(), &str>::default();
    let (_leader, _) = flight.lead("urgent");
    assert_eq!(flight.join().unwrap().1, &"urgent");
}

#[tokio::test]
async fn a_leader_that_is_dropped_strands_nobody_and_the_next_one_leads() {
    let mut flight = SingleFlight::<u32>::default();
    let (leader, first) = flight.lead(());
    let (second, ()) = flight.join().unwrap();
    drop(leader);
    assert_eq!(first.wait().await, Err(NoResult::Abandoned));
    assert_eq!(second.wait().await, Err(NoResult::Abandoned));
    assert!(flight.join().is_none());
    let (leader, joiner) = flight.lead(());
    leader.finish(2);
    assert_eq!(joiner.wait().await, Ok(2));
}

#[tokio::test]
async fn a_leader_that_panics_is_as_one_that_is_dropped() {
    let mut flight = SingleFlight::<u32>::default();
    let (leader, joiner) = flight.lead(());
    let led = tokio::spawn(async move {
        let _leader = leader;
        panic!("a bug, for a test");
    });
    assert_eq!(joiner.wait().await, Err(NoResult::Abandoned));
    let _: Result<(), _> = led.await;
    assert!(flight.join().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_joiner_that_waits_no_longer_cancels_nothing() {
    let mut flight = SingleFlight::<u32>::default();
    let (leader, patient) = flight.lead(());
    let (hasty, ()) = flight.join().unwrap();
    let start = Instant::now();
    let soon = start + Duration::from_secs(1);
    assert_eq!(hasty.wait_until(soon).await, Err(NoResult::TimedOut));
    assert_eq!(Instant::now(), soon);
    let (late, ()) = flight.join().unwrap();
    leader.finish(3);
    assert_eq!(
        patient.wait_until(soon + Duration::from_secs(1)).await,
        Ok(3)
    );
    assert_eq!(late.wait().await, Ok(3));
}

#[tokio::test]
async fn keys_do_not_share_their_results_and_there_are_so_many_at_most() {
    let mut flights = SingleFlights::<u8, char, u8>::new(2);
    let (leader, one) = flights.lead(1, 10).unwrap();
    let (other, two) = flights.lead(2, 20).unwrap();
    assert_eq!(flights.lead(3, 30).unwrap_err(), Full);
    assert_eq!(
        flights.under_way().map(|of| u32::from(*of)).sum::<u32>(),
        30
    );
    // To join needs no room.
    assert!(flights.join(&1).is_some() && flights.join(&3).is_none());
    flights.end(&1);
    leader.finish('a');
    other.finish('b');
    assert_eq!((one.wait().await, two.wait().await), (Ok('a'), Ok('b')));
    assert!(flights.lead(3, 30).is_ok());
}

#[tokio::test]
async fn flights_without_a_leader_take_no_room() {
    let mut flights = SingleFlights::<u8, char>::new(2);
    let (abandoned, _) = flights.lead(1, ()).unwrap();
    let (_leader, _) = flights.lead(2, ()).unwrap();
    assert_eq!(flights.lead(3, ()).unwrap_err(), Full);
    drop(abandoned);
    assert_eq!(flights.under_way().count(), 1);
    let (_leader, _) = flights.lead(3, ()).unwrap();
    assert_eq!(flights.lead(4, ()).unwrap_err(), Full);
}
