use std::sync::Arc;

use super::*;

const PAUSE: Duration = Duration::from_secs(10);

type Shared = Arc<CircuitBreaker>;

fn breaker(threshold: u32) -> (Shared, IntGauge) {
    let gauge = IntGauge::new("open", "open").unwrap();
    (
        Arc::new(CircuitBreaker::new(threshold, gauge.clone())),
        gauge,
    )
}

/// Leave for somebody who waits.
fn acquire(breaker: &Shared, now: Instant) -> Result<Permit<Shared>, Open> {
    CircuitBreaker::acquire(breaker.clone(), now, true)
}

fn fail(permit: Permit<Shared>, now: Instant) -> bool {
    permit.failed(now, |_| PAUSE.into())
}

fn open(until: Instant) -> State {
    State::Open(Open {
        until: Some(Until {
            background: until,
            awaited: until,
        }),
    })
}

#[test]
fn where_somebody_waits_a_half_open_try_goes_sooner() {
    let (breaker, _) = breaker(1);
    let now = Instant::now();
    let pause = Pause {
        background: PAUSE,
        awaited: PAUSE / 10,
    };
    assert!(acquire(&breaker, now).unwrap().failed(now, |_| pause));
    let held = Open {
        until: Some(pause.from(now)),
    };
    assert_eq!(acquire(&breaker, now).unwrap_err(), held);
    assert_eq!(held.retry_after(now), PAUSE / 10);
    let later = now + PAUSE / 10;
    assert_eq!(breaker.state(later, true), State::HalfOpen);
    assert_eq!(breaker.state(later, false), State::Open(held));
    assert_eq!(breaker.state(now + PAUSE, false), State::HalfOpen);
}

#[test]
fn it_opens_at_failures_in_a_row_and_lets_one_through_at_a_time() {
    let (breaker, gauge) = breaker(3);
    let start = Instant::now();
    let closed = || acquire(&breaker, start).unwrap();
    let under_way = closed();
    assert!(!fail(closed(), start));
    assert!(!fail(closed(), start));
    assert!(!closed().succeeded());
    for opens in [false, false, true] {
        assert_eq!(breaker.state(start, true), State::Closed);
        assert_eq!(fail(closed(), start), opens);
    }
    let until = start + PAUSE;
    assert_eq!(breaker.state(start, true), open(until));
    let held = acquire(&breaker, start).unwrap_err();
    assert_eq!((held.retry_after(start), gauge.get()), (PAUSE, 1));
    // One that was under way changes nothing.
    assert!(!fail(under_way, start + PAUSE / 2));
    assert_eq!(breaker.state(until, true), State::HalfOpen);
    let half_open = acquire(&breaker, until).unwrap();
    let held = acquire(&breaker, until).unwrap_err();
    assert_eq!(held, Open { until: None });
    assert_eq!(held.retry_after(until), HALF_OPEN_TIME);
    assert!(!fail(half_open, until));
    assert_eq!(breaker.state(until, true), open(until + PAUSE));
    let half_open = acquire(&breaker, until + PAUSE).unwrap();
    assert!(half_open.succeeded());
    assert_eq!(breaker.state(until, true), State::Closed);
    assert_eq!((breaker.is_open(), gauge.get()), (false, 0));
}

#[test]
fn a_half_open_try_that_is_dropped_makes_way_for_the_next_one_and_wakes_who_waits() {
    let (breaker, gauge) = breaker(1);
    let now = Instant::now();
    let dropped_when_closed = acquire(&breaker, now).unwrap();
    assert!(fail(acquire(&breaker, now).unwrap(), now));
    let changed = breaker.subscribe();
    drop(dropped_when_closed);
    assert_eq!(changed.has_changed().ok(), Some(false));
    let later = now + PAUSE;
    let half_open = acquire(&breaker, later).unwrap();
    assert!(acquire(&breaker, later).is_err());
    assert_eq!(changed.has_changed().ok(), Some(false));
    drop(half_open);
    assert_eq!(changed.has_changed().ok(), Some(true));
    assert_eq!(
        (breaker.state(later, true), gauge.get()),
        (State::HalfOpen, 1)
    );
}

#[test]
fn who_waits_is_woken_where_it_opens_where_it_closes_and_by_each_half_open_result() {
    let (breaker, _) = breaker(2);
    let mut changed = breaker.subscribe();
    let mut is_news = || {
        let is_news = changed.has_changed().unwrap();
        changed.mark_unchanged();
        is_news
    };
    let now = Instant::now();
    let later = now + PAUSE;
    fail(acquire(&breaker, now).unwrap(), now);
    assert!(!is_news());
    fail(acquire(&breaker, now).unwrap(), now);
    assert!(is_news());
    fail(acquire(&breaker, later).unwrap(), later);
    assert!(is_news());
    acquire(&breaker, later + PAUSE).unwrap().succeeded();
    assert!(is_news());
    acquire(&breaker, later + PAUSE).unwrap().succeeded();
    assert!(!is_news());
}

#[test]
fn its_gauge_does_not_stay_up_without_it() {
    let (breaker, gauge) = breaker(1);
    let now = Instant::now();
    assert!(fail(acquire(&breaker, now).unwrap(), now));
    assert_eq!(gauge.get(), 1);
    drop(breaker);
    assert_eq!(gauge.get(), 0);
}
