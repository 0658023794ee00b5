//! Shares of one instance by the replies that it gets, and of many in random histories.

mod histories;
mod store;

use std::cell::Cell;

use super::*;
use bursar_fleet::Part;

const CALLER: (LimitKind, &str) = (LimitKind::PerSecond, "shop");

/// A limit that is asked for as much as the test says.
struct Limit {
    asked: Cell<f64>,
    in_use: Cell<u32>,
    share: Cell<Share>,
}

impl Limit {
    fn asked(asked: f64) -> Self {
        Self {
            asked: Cell::new(asked),
            in_use: Cell::new(0),
            share: Cell::new(Share::NONE),
        }
    }
}

impl Divisible for Limit {
    fn demand(&self, _over: Duration) -> f64 {
        self.asked.take()
    }

    fn least_demand(&self) -> f64 {
        0.002
    }

    fn in_use(&self) -> u32 {
        self.in_use.get()
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

/// What the store is told of the reserve or of a limit, in thousandths.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    demand: u32,
    held: u32,
    want: u32,
}

const fn told(demand: u32, held: u32, want: u32) -> Option<Told> {
    Some(Told { demand, held, want })
}

/// What the store replies, in thousandths.
const fn part(part: u32, others: u32) -> Part {
    Part {
        part: part * 1000,
        others: others * 1000,
        is_awaited: false,
    }
}

impl Rig {
    fn new() -> Self {
        let began = Instant::now();
        Self {
            shares: Shares::new(began),
            limit: Limit::asked(0.0),
            began,
        }
    }

    fn at(&self, at: u64) -> Instant {
        self.began + Duration::from_millis(at)
    }

    /// What the store is told at that time of the reserve, and of the limit.
    fn tell(&mut self, at: u64, asked: f64) -> [Option<Told>; 2] {
        self.limit.asked.set(asked);
        let limits = [(CALLER.0, CALLER.1, &self.limit as &dyn Divisible)];
        let now = self.at(at);
        self.shares.look(limits.into_iter(), now);
        let demands = self.shares.demands(now);
        let mut told = demands.iter().map(|demand| Told {
            demand: demand.demand / 1000,
            held: demand.held / 1000,
            want: demand.want / 1000,
        });
        [told.next(), told.next()]
    }

    /// The share, in thousandths, after that reply.
    fn hear(&mut self, at: u64, members: u64, parts: &[Part]) -> u32 {
        self.hear_from(false, at, members, parts)
    }

    /// The same of a store that may have just come back.
    fn hear_from(&mut self, is_back: bool, at: u64, members: u64, parts: &[Part]) -> u32 {
        let heard = Heard {
            epoch: String::new(),
            members,
            freezes: 0,
            is_described: true,
            is_back,
            parts: parts.to_vec(),
        };
        self.shares.heard(&heard, self.at(at));
        self.divided(at, CALLER.0)
    }

    fn divided(&self, at: u64, kind: LimitKind) -> u32 {
        let limits = [(kind, CALLER.1, &self.limit as &dyn Divisible)];
        self.shares.divide(limits.into_iter(), self.at(at));
        self.limit.share.get().millionths() / 1000
    }
}

#[test]
fn an_instance_has_what_it_is_given_and_half_of_the_reserve_where_that_is_less() {
    let mut rig = Rig::new();
    assert_eq!(rig.divided(0, CALLER.0), 0, "before it knows anything");
    assert_eq!(rig.divided(0, LimitKind::Calls), 62);
    assert_eq!(rig.tell(0, 0.0), [told(1000, 0, 1000), None]);
    assert_eq!(rig.hear(0, 5, &[part(200, 4000)]), 100);
    assert_eq!(rig.tell(500, 0.4)[1], told(400, 0, 400));
    assert_eq!(rig.hear(500, 5, &[part(200, 4000), part(400, 0)]), 400);
    // Others ask for it, too: what is theirs is done without at once, and the store told soon.
    assert_eq!(rig.tell(1000, 0.4)[1], told(400, 400, 1000));
    assert!(!rig.shares.has_shrunk());
    assert_eq!(rig.hear(1000, 5, &[part(200, 4000), part(400, 1200)]), 250);
    assert!(rig.shares.has_shrunk());
    assert_eq!(rig.tell(1100, 0.4)[1], told(400, 250, 250));
    assert_eq!(rig.hear(1100, 5, &[part(200, 4000), part(250, 1200)]), 250);
    assert!(!rig.shares.has_shrunk());
}

#[test]
fn one_that_is_alone_asks_for_all_of_every_limit_and_others_find_that_it_has_it() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    assert_eq!(
        rig.hear_from(true, 0, 1, &[part(0, 0)]),
        0,
        "alone, perhaps"
    );
    assert_eq!(rig.tell(500, 0.0)[1], None);
    assert_eq!(rig.hear(500, 1, &[part(1000, 0)]), 500);
    assert_eq!(rig.tell(1000, 0.0)[1], told(2, 0, 0));
    assert_eq!(rig.hear(1000, 1, &[part(1000, 0), part(0, 0)]), 500);
    assert_eq!(rig.tell(1500, 0.0)[1], told(2, 0, 1000));
    assert_eq!(rig.hear(1500, 1, &[part(1000, 0), part(1000, 0)]), 1000);
    let both = rig.tell(2000, 0.0);
    assert_eq!(both, [told(1000, 1000, 1000), told(2, 1000, 1000)]);
    // Another one has come, who asks for nothing yet.
    let parts = [part(1000, 1000), part(1000, 0)];
    assert_eq!(rig.hear(2000, 2, &parts), 1000);
    assert_eq!(
        rig.tell(2500, 0.0),
        [told(1000, 500, 500), told(0, 1000, 0)]
    );
    assert_eq!(rig.hear(2500, 2, &[part(500, 1000), part(0, 0)]), 250);
}

#[test]
fn what_is_under_way_counts_until_it_has_ended() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 1.0);
    assert_eq!(rig.hear(0, 2, &[part(500, 1000), part(1000, 0)]), 1000);
    rig.limit.in_use.set(900_000);
    let _told = rig.tell(500, 1.0);
    assert_eq!(rig.hear(500, 2, &[part(500, 1000), part(1000, 1000)]), 500);
    assert_eq!(rig.tell(600, 1.0)[1], told(1000, 900, 500));
    assert_eq!(rig.hear(600, 2, &[part(500, 1000), part(500, 1000)]), 500);
    // What was let through by the reserve keeps as much of it.
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    assert_eq!(rig.hear(0, 2, &[part(500, 1000)]), 250);
    rig.limit.in_use.set(240_000);
    assert_eq!(rig.tell(500, 0.24), [told(1000, 500, 500), told(240, 0, 0)]);
    assert_eq!(rig.hear(500, 10, &[part(500, 9000), part(0, 9000)]), 50);
    assert_eq!(rig.tell(1000, 0.24)[0], told(1000, 480, 100));
}

#[test]
fn what_was_heard_last_holds_while_nothing_is_heard() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 1.0);
    assert_eq!(rig.hear(0, 4, &[part(250, 3000), part(300, 2000)]), 300);
    let _told = rig.tell(60_000, 1.0);
    rig.shares.unheard();
    assert_eq!(rig.divided(60_000, CALLER.0), 300);
    // Token calls are every instance's own meanwhile.
    assert_eq!(rig.divided(60_000, LimitKind::Calls), 250);
    // One that never heard anything cannot know how many there are.
    let mut rig = Rig::new();
    let _told = rig.tell(0, 1.0);
    rig.shares.unheard();
    assert_eq!(rig.divided(0, CALLER.0), 250);
    assert_eq!(rig.tell(500, 0.0)[0], told(1000, 500, 1000));
}

#[test]
fn whoever_is_heard_first_after_the_store_has_lost_all_is_not_alone() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    assert_eq!(rig.hear(0, 4, &[part(250, 3000)]), 125);
    let _told = rig.tell(500, 0.0);
    assert_eq!(rig.hear_from(true, 500, 1, &[part(250, 0)]), 125);
    assert_eq!(rig.shares.members(), 4);
    assert_eq!(rig.tell(1000, 0.0)[1], None);
    assert_eq!(rig.hear_from(true, 1000, 5, &[part(250, 4000)]), 100);
    // Those who have not come back by then are gone.
    let _told = rig.tell(2500, 0.0);
    assert_eq!(rig.hear(2500, 2, &[part(500, 1000)]), 250);
    assert_eq!(rig.shares.members(), 2);
}

#[test]
fn demand_fades_and_what_is_asked_for_seldom_is_not_forgotten_at_once() {
    let mut rig = Rig::new();
    let mut demand = |at, asked| rig.tell(at, asked)[1].as_ref().map(|told| told.demand);
    assert_eq!(demand(0, 7.0), Some(1000));
    assert_eq!(demand(500, 0.0), Some(500));
    assert_eq!(demand(1000, 0.3), Some(300));
    assert_eq!(demand(9000, 0.0), Some(2));
    assert_eq!(demand(10_900, 0.0), Some(2));
    assert_eq!(demand(11_000, 0.0), None);
}

#[test]
fn a_limit_that_is_not_configured_any_more_is_given_back() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 1.0);
    assert_eq!(rig.hear(0, 2, &[part(500, 1000), part(1000, 0)]), 1000);
    rig.shares.look(std::iter::empty(), rig.began);
    assert_eq!(rig.shares.demands(rig.began).len(), 1);
    // It has its reserve if it comes back.
    assert_eq!(rig.divided(5000, CALLER.0), 250);
}

#[test]
fn of_too_many_limits_the_fleet_is_told_of_those_that_are_asked_for_most() {
    let mut shares = Shares::new(Instant::now());
    let limit = |asked: u32| Limit::asked(f64::from(asked) / 1000.0);
    let limits: Vec<(String, Limit)> = (1..=300).map(|at| (at.to_string(), limit(at))).collect();
    let all = limits
        .iter()
        .map(|(name, limit)| (LimitKind::InFlight, &**name, limit as &dyn Divisible));
    shares.look(all, Instant::now());
    let demands = shares.demands(Instant::now());
    assert_eq!(demands[0].kind, LimitKind::Reserve);
    let told: Vec<u32> = demands[1..]
        .iter()
        .map(|demand| demand.of.parse().unwrap())
        .collect();
    assert_eq!(told, (45..=300).rev().collect::<Vec<u32>>());
}
