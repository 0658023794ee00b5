use super::*;
use crate::token::Detail;

const REFUSED: Failure = Failure::Rejected(Detail::Is(""), None);

/// How long the policy stays away after a failure.
fn pause(policy: &mut RenewalPolicy, failure: Failure) -> u64 {
    let now = Instant::now();
    let none = NotAcquired {
        failure,
        pause: None,
    };
    policy.back_off(none, now).duration_since(now).as_secs()
}

#[test]
fn another_kind_of_trouble_begins_its_pauses_anew() {
    let mut policy = RenewalPolicy::default();
    for _ in 0..8 {
        assert!(pause(&mut policy, Failure::TimedOut) <= 30);
    }
    assert_eq!([(); 3].map(|()| pause(&mut policy, REFUSED)), [5, 10, 20]);
    let limited = Failure::RateLimited(None);
    assert_eq!([(); 3].map(|()| pause(&mut policy, limited)), [1, 2, 4]);
    assert_eq!(pause(&mut policy, REFUSED), 5);
}

#[test]
fn a_token_ends_every_pause_and_other_credentials_end_that_of_a_refusal() {
    let mut policy = RenewalPolicy::default();
    pause(&mut policy, REFUSED);
    pause(&mut policy, REFUSED);
    policy.forget_refusal();
    assert!(policy.backing_off.is_none());
    assert_eq!(pause(&mut policy, REFUSED), 5);
    policy.succeeded();
    assert!(policy.backing_off.is_none());
    assert_eq!(pause(&mut policy, REFUSED), 5);
    policy.succeeded();
    pause(&mut policy, Failure::RateLimited(None));
    policy.forget_refusal();
    assert!(policy.backing_off.is_some());
    assert_eq!(pause(&mut policy, Failure::RateLimited(None)), 2);
}
