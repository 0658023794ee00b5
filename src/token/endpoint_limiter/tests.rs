//! Shares of a quota.

use std::num::NonZeroU32;

use super::*;
use bursar_telemetry::metrics::Metrics;

fn limiter(calls_per_minute: u32) -> EndpointLimiter {
    let yaml = "providers: {acme: {hosts: [api.test], client_id: a, client_secret: bcdefghijklmnopq, token: {url: 'https://a.test/'}}}";
    let config = bursar_config::Config::parse(yaml, std::path::Path::new("")).unwrap();
    let series = Metrics::new(&config).unwrap().tokens.endpoint("acme");
    let calls = NonZeroU32::new(calls_per_minute).unwrap();
    EndpointLimiter::new(&"acme".into(), calls, series)
}

/// Calls that can be made at that instant.
fn calls(limiter: &EndpointLimiter, now: Instant) -> usize {
    let made = (0..1000).map_while(|_| limiter.try_take(Priority::Recovery, now).ok());
    made.count()
}

#[test]
fn a_share_makes_its_part_of_the_calls_and_a_smaller_one_than_a_call_takes_longer() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let limiter = limiter(60);
    limiter.divide(Share::one_of(5), start);
    assert_eq!(calls(&limiter, start), 3);
    let minute: usize = (1..60).map(|second| calls(&limiter, after(second))).sum();
    assert!((8..=9).contains(&minute), "{minute}");
    limiter.divide(Share::one_of(1000), after(3600));
    assert_eq!(calls(&limiter, after(3600)), 1);
    assert_eq!(calls(&limiter, after(3600 + 990)), 0);
    assert_eq!(calls(&limiter, after(3600 + 1001)), 1);
}

#[test]
fn calls_that_were_made_count_as_so_many_under_any_share() {
    let start = Instant::now();
    let limiter = limiter(60);
    limiter.divide(Share::FIRST, start);
    assert_eq!(calls(&limiter, start), 1);
    limiter.divide(Share::WHOLE, start);
    assert_eq!(calls(&limiter, start), 14);
    for _ in 0..3 {
        limiter.divide(Share::one_of(20), start);
        assert_eq!(calls(&limiter, start), 0);
        limiter.divide(Share::WHOLE, start);
        assert_eq!(calls(&limiter, start), 0);
    }
    assert_eq!(calls(&limiter, start + Duration::from_secs(60)), 15);
}

#[test]
fn calls_of_the_minute_before_count_and_older_ones_no_more_whatever_the_share_was_meanwhile() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    for (idle, made) in [(10, 0), (59, 0), (60, 3)] {
        let limiter = limiter(60);
        assert_eq!(calls(&limiter, start), 15);
        limiter.divide(Share::one_of(1000), start);
        limiter.divide(Share::one_of(5), after(idle));
        assert_eq!(calls(&limiter, after(idle)), made, "{idle}");
    }
    // An instance that may not make one in a minute does not get one for each change.
    let limiter = limiter(60);
    limiter.divide(Share::one_of(1000), start);
    assert_eq!(calls(&limiter, start), 1);
    limiter.divide(Share::one_of(1001), after(600));
    assert_eq!(calls(&limiter, after(600)), 0);
}

#[test]
fn calls_that_wait_are_asked_for_and_so_are_those_that_were_made() {
    let limiter = limiter(120);
    let over = Duration::from_secs(1);
    assert_eq!(calls(&limiter, Instant::now()), 30);
    let demand = || (limiter.demand(over) * 120.0).round();
    assert!((demand() - 1800.0).abs() < 0.1);
    assert!(demand().abs() < 0.1);
    let waiting = Waiting::new(&limiter);
    assert!((demand() - 60.0).abs() < 0.1);
    drop(waiting);
    assert!(demand().abs() < 0.1);
}
