//! Shares of one instance, by the replies that it gets.

use std::cell::Cell;

use super::*;

const CALLER: (LimitKind, &str) = (LimitKind::PerSecond, "shop");

/// A limit that is asked for as much as the test says.
struct Limit {
    asked: Cell<f64>,
    share: Cell<Share>,
}

impl Divisible for Limit {
    fn demand(&self, _over: Duration) -> f64 {
        self.asked.take()
    }

    fn least_demand(&self) -> f64 {
        0.002
    }

    fn share(&self) -> Share {
        self.share.get()
    }

    fn divide(&self, share: Share, _now: Instant) {
        self.share.set(share);
    }
}

/// An instance with one limit.
struct Rig {
    shares: Shares,
    limit: Limit,
    began: Instant,
}

impl Rig {
    fn new() -> Self {
        let began = Instant::now();
        Self {
            shares: Shares::new(began),
            limit: Limit {
                asked: Cell::new(0.0),
                share: Cell::new(Share::WHOLE),
            },
            began,
        }
    }

    /// The demand that the fleet is told of at that time, and what was held; None: it is told of nothing.
    fn tell(&mut self, at: u64, asked: f64) -> Option<(u32, u32)> {
        self.limit.asked.set(asked);
        let limits = [(CALLER.0, CALLER.1, &self.limit as &dyn Divisible)];
        let now = self.began + Duration::from_millis(at);
        self.shares.look(limits.into_iter(), now);
        let demands = self.shares.demands();
        demands.first().map(|demand| (demand.demand, demand.held))
    }

    /// The share after that reply.
    fn hear(&mut self, at: u64, members: u64, part: Option<u64>) -> f64 {
        self.hear_from(false, at, members, part)
    }

    /// The same of a store that may have just come back.
    fn hear_from(&mut self, is_back: bool, at: u64, members: u64, part: Option<u64>) -> f64 {
        let heard = Heard {
            epoch: String::new(),
            members,
            freezes: 0,
            is_described: true,
            is_back,
            parts: part.into_iter().collect(),
        };
        let now = self.began + Duration::from_millis(at);
        self.shares.heard(&heard, now);
        self.divided(at)
    }

    fn divided(&self, at: u64) -> f64 {
        let limits = [(CALLER.0, CALLER.1, &self.limit as &dyn Divisible)];
        let now = self.began + Duration::from_millis(at);
        self.shares.divide(limits.into_iter(), now);
        self.limit.share.get().fraction()
    }
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-6
}

#[test]
fn an_instance_has_what_it_is_given_and_a_reserve_where_that_is_less() {
    let mut rig = Rig::new();
    assert!(close(rig.divided(0), 0.0625), "before it knows anything");
    assert_eq!(rig.tell(0, 0.0), None);
    assert!(close(rig.hear(0, 1, None), 0.5), "alone, perhaps");
    assert!(close(rig.hear(1000, 1, None), 1.0), "alone");
    assert!(close(rig.hear(1500, 5, None), 0.05), "one of five");
    assert_eq!(rig.tell(2000, 0.4), Some((400_000, 0)));
    assert!(close(rig.hear(2000, 5, Some(700_000)), 0.7));
    assert_eq!(rig.tell(2500, 0.4), Some((400_000, 700_000)));
    assert!(!rig.shares.has_shrunk());
    assert!(close(rig.hear(2500, 5, Some(1000)), 0.05));
    // Others wait for what it does without.
    assert!(rig.shares.has_shrunk());
    assert_eq!(rig.tell(2600, 0.0).map(|(_, held)| held), Some(1000));
}

#[test]
fn what_was_heard_last_holds_while_nothing_is_heard() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 1.0);
    let _share = rig.hear(0, 4, Some(300_000));
    assert_eq!(rig.tell(60_000, 1.0), Some((1_000_000, 300_000)));
    rig.shares.unheard();
    assert!(close(rig.divided(60_000), 0.3));
    // Token calls are every instance's own meanwhile.
    let limits = [(LimitKind::Calls, "acme", &rig.limit as &dyn Divisible)];
    rig.shares.divide(limits.into_iter(), rig.began);
    assert!(close(rig.limit.share.get().fraction(), 0.25));
    // One that never heard anything cannot know how many there are.
    let mut rig = Rig::new();
    let _told = rig.tell(0, 1.0);
    rig.shares.unheard();
    assert!(close(rig.divided(0), 0.5));
    assert!(close(rig.hear(10_000, 100, Some(0)), 0.0025));
}

#[test]
fn whoever_is_heard_first_after_the_store_has_lost_all_is_not_alone() {
    let mut rig = Rig::new();
    assert!(close(rig.hear(0, 4, None), 0.0625));
    assert!(close(rig.hear_from(true, 5000, 1, None), 0.0625));
    assert!(close(rig.hear_from(true, 5400, 3, None), 0.0625));
    assert!(close(rig.hear_from(true, 5800, 5, None), 0.05));
    // Those who have not come back by then are gone.
    assert!(close(rig.hear(7500, 2, None), 0.125));
}

#[test]
fn demand_fades_and_what_is_asked_for_seldom_is_not_forgotten_at_once() {
    let mut rig = Rig::new();
    let demand = |told: Option<(u32, u32)>| told.map(|(demand, _)| demand);
    assert_eq!(demand(rig.tell(0, 7.0)), Some(1_000_000));
    assert_eq!(demand(rig.tell(500, 0.0)), Some(500_000));
    assert_eq!(demand(rig.tell(1000, 0.3)), Some(300_000));
    assert_eq!(demand(rig.tell(9000, 0.0)), Some(2000));
    assert_eq!(demand(rig.tell(10_900, 0.0)), Some(2000));
    assert_eq!(demand(rig.tell(11_000, 0.0)), None);
}

#[test]
fn a_limit_that_is_not_configured_any_more_is_given_back() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 1.0);
    let _share = rig.hear(0, 2, Some(500_000));
    rig.shares.look(std::iter::empty(), rig.began);
    assert!(rig.shares.demands().is_empty());
    // It has its reserve if it comes back.
    assert!(close(rig.divided(5000), 0.125));
}

#[test]
fn of_too_many_limits_the_fleet_is_told_of_those_that_are_asked_for_most() {
    let mut shares = Shares::new(Instant::now());
    let limit = |asked: u32| Limit {
        asked: Cell::new(f64::from(asked) / 1000.0),
        share: Cell::new(Share::WHOLE),
    };
    let limits: Vec<(String, Limit)> = (1..=300).map(|at| (at.to_string(), limit(at))).collect();
    let all = limits
        .iter()
        .map(|(name, limit)| (LimitKind::InFlight, &**name, limit as &dyn Divisible));
    shares.look(all, Instant::now());
    let demands = shares.demands();
    let told: Vec<u32> = demands
        .iter()
        .map(|demand| demand.of.parse().unwrap())
        .collect();
    assert_eq!(told, (45..=300).rev().collect::<Vec<u32>>());
}
