use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn at(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(number).into()
}

fn is_now(all: &Arc<FailedAttempts>, address: IpAddr, now: Instant) -> bool {
    matches!(all.attempt(address, now), Turn::Now)
}

#[test]
fn after_each_failure_the_next_attempt_waits_for_longer_up_to_a_bound_and_another_address_does_not()
{
    let all = Arc::<FailedAttempts>::default();
    let mut now = Instant::now();
    for millis in [100, 200, 400, 800, 1600, 3000, 3000, 3000] {
        assert!(is_now(&all, at(1), now));
        all.fail(at(1), now);
        let opens = now + WINDOW + Duration::from_millis(millis);
        // However often it is tried.
        for _ in 0..3 {
            match all.attempt(at(1), opens - MILLISECOND) {
                Turn::At(instant, _waiting) => assert_eq!(instant, opens),
                other => panic!("{other:?}"),
            }
        }
        assert!(is_now(&all, at(2), opens - MILLISECOND));
        now = opens;
    }
    assert_eq!(all.fail(at(1), now), 9);
    assert_eq!(all.fail(at(1), now + MEMORY), 1);
}

#[test]
fn of_attempts_at_a_time_all_are_looked_at_in_a_window_however_many_fail_and_none_until_the_next() {
    let all = Arc::<FailedAttempts>::default();
    let begin = Instant::now();
    let (mut now, mut looked_at) = (begin, 0);
    // Twenty in each millisecond, none of which waits for what comes of it.
    while now < begin + Duration::from_secs(60) {
        for _ in 0..20 {
            if is_now(&all, at(1), now) {
                all.fail(at(1), now);
                looked_at += 1;
            }
        }
        now += MILLISECOND;
    }
    // Of 1,200,000, in 24 windows of 100 ms.
    assert_eq!(looked_at, 48_000);
}

#[test]
fn who_tries_every_50_ms_is_looked_at_soon_beside_somebody_who_guesses_all_the_time() {
    let all = Arc::<FailedAttempts>::default();
    let begin = Instant::now();
    let (mut now, mut last) = (begin, begin);
    while now < begin + Duration::from_secs(60) {
        if is_now(&all, at(1), now) {
            all.fail(at(1), now);
        }
        let is_tried = now.duration_since(begin).as_millis() % 50 == 7;
        if is_tried && is_now(&all, at(1), now) {
            last = now;
        }
        assert!(now - last <= LAST_PAUSE + WINDOW, "{:?}", now - begin);
        now += MILLISECOND;
    }
}

#[test]
fn no_more_than_so_many_wait_of_one_address_and_in_all() {
    let all = Arc::<FailedAttempts>::default();
    let now = Instant::now();
    let later = now + WINDOW;
    let attempt = |number| {
        all.fail(at(number), now);
        all.attempt(at(number), later)
    };
    let mut waiting: Vec<_> = (0..MAX_WAITING_OF_ONE).map(|_| attempt(1)).collect();
    assert!(waiting.iter().all(|turn| matches!(turn, Turn::At(..))));
    assert!(matches!(attempt(1), Turn::Never));
    for number in 2.. {
        let turn = attempt(number);
        if matches!(turn, Turn::Never) {
            break;
        }
        waiting.push(turn);
    }
    assert_eq!(waiting.len(), MAX_WAITING);
    waiting.clear();
    assert!(matches!(attempt(1), Turn::At(..)));
    assert_eq!(all.addresses().waiting, 0);
}

#[test]
fn addresses_are_forgotten_where_there_are_too_many_but_none_that_waits() {
    let all = Arc::<FailedAttempts>::default();
    let now = Instant::now();
    all.fail(at(0), now);
    let first = all.attempt(at(0), now + WINDOW);
    let later = |number: usize| now + Duration::from_millis(number.try_into().unwrap());
    for number in 1..2 * MAX_ADDRESSES {
        all.fail(at(number.try_into().unwrap()), later(number));
    }
    assert_eq!(all.addresses().by_owner.len(), MAX_ADDRESSES);
    let end = later(2 * MAX_ADDRESSES);
    assert_eq!(all.fail(at(1), end), 1);
    assert_eq!(all.fail(at(0), end), 2);
    drop(first);
}
