//! An instance's own quota, and what it says and hears of the fleet's.

use std::num::NonZeroU32;

use super::*;
use bursar_telemetry::metrics::Metrics;

fn limiter(calls_per_minute: u32) -> EndpointLimiter {
    let yaml = "providers: {acme: {hosts: [api.test], client_id: a, client_secret: bcdefghijklmnopq, token: {url: 'https://a.test/'}}}";
    let config = bursar_config::Config::parse(yaml, std::path::Path::new("")).unwrap();
    let series = Metrics::new(&config).unwrap().tokens.endpoint("acme");
    let calls = NonZeroU32::new(calls_per_minute).unwrap();
    EndpointLimiter::new(&"acme".into(), calls, series, None)
}

/// Calls that can be made at that instant.
fn calls(limiter: &EndpointLimiter, now: Instant) -> usize {
    let made = (0..1000).map_while(|_| limiter.try_take(Priority::Recovery, now).ok());
    made.count()
}

/// What the store is asked, and how many calls it is told of.
fn request(limiter: &EndpointLimiter, now: Instant) -> (CallRequest, u32) {
    limiter.state().request(Priority::Request, now)
}

#[test]
fn a_share_makes_its_part_of_the_calls_and_a_smaller_one_than_a_call_takes_longer() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let limiter = limiter(60);
    limiter.divide(Share::one_of(5), true, start);
    assert_eq!(calls(&limiter, start), 3);
    let minute: usize = (1..60).map(|second| calls(&limiter, after(second))).sum();
    assert!((8..=9).contains(&minute), "{minute}");
    limiter.divide(Share::one_of(1000), true, after(3600));
    assert_eq!(calls(&limiter, after(3600)), 1);
    assert_eq!(calls(&limiter, after(3600 + 990)), 0);
    assert_eq!(calls(&limiter, after(3600 + 1001)), 1);
}

#[test]
fn an_instance_goes_on_alone_where_all_were_and_tells_of_what_it_did() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let limiter = limiter(60);
    limiter.divide(Share::one_of(5), false, start);
    let (asked, told) = request(&limiter, start);
    let quota = Quota::of(NonZeroU32::new(60).unwrap(), Share::WHOLE);
    let most = quota.tolerances[2];
    assert_eq!(
        (asked.interval, asked.longest),
        (quota.interval, Duration::from_secs(20))
    );
    assert_eq!(
        (asked.ahead, asked.unreported, told),
        (Duration::ZERO, Duration::ZERO, 0)
    );
    assert!(asked.tolerance < most);
    // All have used up what there is; a fifth of what comes is this one's.
    let reply = |is_taken, ahead| CallReply {
        is_taken,
        wait: Duration::from_secs(1),
        ahead,
    };
    let full = most + quota.interval;
    assert!(
        limiter
            .hear(
                reply(true, full),
                Asked {
                    asked: start,
                    told: 0
                },
                Priority::Request,
                start
            )
            .is_ok()
    );
    assert_eq!(
        request(&limiter, after(10)).0.ahead,
        full - Duration::from_secs(10)
    );
    let alone: usize = (0..60).map(|second| calls(&limiter, after(second))).sum();
    assert!((8..=9).contains(&alone), "{alone}");
    // Those that are not long past are told of, once.
    let (asked, told) = request(&limiter, after(60));
    let count = asked.unreported.div_duration_f64(quota.interval);
    assert_eq!((asked.ahead, told as usize), (Duration::ZERO, alone));
    assert!((1.0..=3.0).contains(&count), "{count}");
    let asked = after(60);
    let question = Asked { asked, told };
    let waits = limiter.hear(reply(false, full), question, Priority::Request, asked);
    let Err(Wait::Quota(until)) = waits else {
        panic!("it was let through");
    };
    let waits = until.duration_since(after(61));
    assert!(waits <= MIN_ASKING, "{waits:?}");
    assert_eq!(request(&limiter, after(60)).0.unreported, Duration::ZERO);
    let wait = limiter.wait(after(60));
    assert_eq!(wait, (Failure::QuotaExhausted, full - quota.tolerances[1]));
}

#[test]
fn what_a_slow_store_is_told_never_delays_the_next_call() {
    const TRIP: Duration = Duration::from_millis(500);
    let start = Instant::now();
    let limiter = limiter(60);
    let mut due = start;
    for second in 0..60 {
        let asked = start + Duration::from_secs(second);
        let (request, told) = request(&limiter, asked);
        let runs = asked + TRIP;
        assert!(runs + request.ahead <= due.max(runs), "{second}");
        due = due.max(runs) + request.interval;
        let reply = CallReply {
            is_taken: true,
            wait: Duration::ZERO,
            ahead: due - runs,
        };
        let question = Asked { asked, told };
        let heard = limiter.hear(reply, question, Priority::Request, runs + TRIP);
        assert!(heard.is_ok());
    }
}

#[test]
fn a_store_that_says_nonsense_delays_no_call_for_longer_than_a_quota_can() {
    let start = Instant::now();
    let limiter = limiter(60);
    let reply = CallReply {
        is_taken: false,
        wait: Duration::from_secs(1 << 40),
        ahead: Duration::from_secs(1 << 40),
    };
    let question = Asked {
        asked: start,
        told: 0,
    };
    let Err(Wait::Quota(until)) = limiter.hear(reply, question, Priority::Request, start) else {
        panic!("it was let through");
    };
    assert!(until <= start + Duration::from_secs(20) + MIN_ASKING);
    let (_, wait) = limiter.wait(start);
    assert!(wait <= Duration::from_secs(20), "{wait:?}");
}

#[test]
fn a_call_that_was_taken_and_not_made_is_the_next_ones_for_a_second() {
    let start = Instant::now();
    let limiter = limiter(4);
    for (later, is_there) in [(0, true), (900, true), (1000, false)] {
        let at = start + Duration::from_secs(60 * later);
        limiter
            .state()
            .pace
            .change(Duration::from_secs(15), Duration::ZERO, at);
        let taken = limiter.try_take(Priority::Request, at).ok().unwrap();
        let permit = CallPermit {
            limiter: &limiter,
            _place: None,
            taken,
            is_after_outage: false,
            began: at,
        };
        permit.give_back();
        let next = limiter.try_take(Priority::Request, at + Duration::from_millis(later));
        assert_eq!(next.is_ok(), is_there, "{later}");
        assert!(limiter.try_take(Priority::Request, at).is_err());
    }
}

#[test]
fn calls_that_were_made_count_under_a_greater_share_and_another_quota() {
    let start = Instant::now();
    let limiter = limiter(60);
    limiter.divide(Share::one_of(5), true, start);
    assert_eq!(calls(&limiter, start), 3);
    limiter.divide(Share::WHOLE, true, start);
    assert_eq!(calls(&limiter, start), 12);
    limiter.divide(Share::one_of(5), true, start);
    assert_eq!(calls(&limiter, start), 0);
    limiter.change_quota(NonZeroU32::new(30).unwrap());
    assert_eq!(calls(&limiter, Instant::now()), 0);
}
