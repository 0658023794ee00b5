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
    grain: u32,
    share: Cell<Share>,
}

impl Limit {
    fn asked(asked: f64) -> Self {
        Self {
            asked: Cell::new(asked),
            in_use: Cell::new(0),
            grain: 1,
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

    fn grain(&self) -> u32 {
        self.grain
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

/// The same where somebody waits for more.
const fn awaited(part: u32, others: u32) -> Part {
    Part {
        is_awaited: true,
        ..self::part(part, others)
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
        self.hear_from(0, at, members, parts)
    }

    /// The same of a store that does not know of all members for so many milliseconds.
    fn hear_from(&mut self, settles_in: u64, at: u64, members: u64, parts: &[Part]) -> u32 {
        let heard = Heard {
            epoch: String::new(),
            members,
            freezes: 0,
            is_described: true,
            settles_in: (settles_in > 0).then_some(Duration::from_millis(settles_in)),
            parts: parts.to_vec(),
        };
        self.shares.heard(&heard, self.at(at));
        self.divided(at, CALLER.0)
    }

    /// Whether the store is to hear of it soon, and when that is.
    fn hurry(&self, at: u64) -> Option<u128> {
        let hurry = self.shares.hurry(self.at(at));
        hurry.map(|pause| pause.as_millis())
    }

    /// Whether callers find what it is due, and how soon the store is to hear of it.
    fn state(&mut self, at: u64) -> (bool, Option<u128>) {
        self.divided(at, CALLER.0);
        (self.shares.are_ready(), self.hurry(at))
    }

    fn divided(&mut self, at: u64, kind: LimitKind) -> u32 {
        let limits = [(kind, CALLER.1, &self.limit as &dyn Divisible)];
        self.shares.divide(limits.into_iter(), self.at(at));
        self.limit.share.get().millionths() / 1000
    }
}

#[test]
fn an_instance_has_what_it_is_given_and_half_of_the_reserve_where_that_is_less() {
    let mut rig = Rig::new();
    assert_eq!(rig.divided(0, CALLER.0), 0, "before it knows anything");
    assert_eq!(rig.shares.of_calls(), Share::FIRST);
    assert_eq!(rig.tell(0, 0.0), [told(1000, 0, 1000), None]);
    assert_eq!(rig.hear(0, 5, &[part(200, 4000)]), 100);
    assert_eq!(rig.tell(500, 0.4)[1], told(400, 0, 400));
    assert_eq!(rig.hear(500, 5, &[part(200, 4000), part(400, 0)]), 400);
    // Others ask for it, too: what is theirs is done without at once, and the store told soon.
    assert_eq!(rig.tell(1000, 0.4)[1], told(400, 400, 1000));
    assert_eq!(rig.hurry(1000), None);
    assert_eq!(
        rig.hear(1000, 5, &[part(200, 4000), awaited(400, 1200)]),
        250
    );
    assert_eq!(rig.hurry(1000), Some(100));
    assert_eq!(rig.tell(1100, 0.4)[1], told(400, 250, 250));
    assert_eq!(rig.hear(1100, 5, &[part(200, 4000), part(250, 1200)]), 250);
    assert_eq!(rig.hurry(1100), None);
    // A reserve that others wait for is given up in small parts, too.
    let _told = rig.tell(1600, 0.4);
    let parts = [awaited(200, 5000), part(250, 1200)];
    assert_eq!(rig.hear(1600, 6, &parts), 250);
    assert_eq!(rig.hurry(1600), Some(100));
}

#[test]
fn one_that_is_alone_asks_for_all_of_every_limit_and_others_find_that_it_has_it() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    assert_eq!(
        rig.hear_from(1300, 0, 1, &[part(0, 0)]),
        0,
        "alone, perhaps"
    );
    assert_eq!(rig.hurry(0), Some(1302));
    assert_eq!(rig.tell(1302, 0.0)[1], None);
    assert_eq!(rig.hear(1302, 1, &[part(1000, 0)]), 500);
    assert_eq!(rig.state(1303), (false, Some(100)));
    assert_eq!(rig.tell(1402, 0.0)[1], told(2, 0, 1000));
    assert_eq!(rig.hear(1402, 1, &[part(1000, 0), part(1000, 0)]), 1000);
    assert_eq!(rig.state(1403), (true, None));
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
    // Of token calls all have the same meanwhile.
    assert!(rig.shares.is_away());
    assert_eq!(rig.shares.of_calls(), Share::one_of(4));
}

#[test]
fn one_that_was_started_without_the_store_has_a_quarter_and_keeps_its_fair_part_when_that_is_back()
{
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    rig.shares.unheard();
    assert_eq!(
        (rig.divided(0, CALLER.0), rig.shares.are_ready()),
        (0, false)
    );
    rig.shares.assume();
    assert_eq!(rig.divided(0, CALLER.0), 250);
    assert!(rig.state(1).0);
    let _told = rig.tell(500, 0.8);
    rig.shares.unheard();
    assert_eq!(rig.divided(500, CALLER.0), 250);
    // Of four that are as busy it is the last one that is heard of.
    let back = rig.tell(1000, 0.8);
    assert_eq!(back, [told(1000, 500, 1000), told(800, 250, 800)]);
    let parts = [part(500, 3000), part(250, 2400)];
    assert_eq!(rig.hear_from(800, 1000, 4, &parts), 250);
    assert_eq!(rig.hurry(1000), Some(802));
    let next = rig.tell(1802, 0.8);
    assert_eq!(next, [told(1000, 250, 250), told(800, 250, 250)]);
    assert_eq!(rig.hear(1802, 4, &[part(250, 3000), part(250, 2400)]), 250);
    // A caller that comes while the store is there finds the reserve.
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    rig.shares.unheard();
    rig.shares.assume();
    let _told = rig.tell(500, 0.0);
    assert_eq!(rig.hear_from(800, 500, 2, &[part(500, 1000)]), 250);
    assert_eq!(rig.tell(600, 0.8)[1], told(800, 0, 800));
    // After it was granted something, what was heard last holds.
    assert_eq!(rig.hear(1300, 2, &[part(500, 1000), part(0, 0)]), 250);
    rig.shares.unheard();
    rig.shares.assume();
    assert_eq!(rig.divided(1400, CALLER.0), 250);
}

#[test]
fn without_the_store_one_request_is_let_through_where_a_quarter_is_none() {
    for (limit, units) in [(1, 1), (2, 1), (3, 1), (4, 1), (8, 2), (50, 12)] {
        for is_asked in [false, true] {
            let mut rig = Rig::new();
            rig.limit.grain = Share::grain(limit);
            let asked = f64::from(u8::from(is_asked));
            let _told = rig.tell(0, asked);
            rig.shares.unheard();
            rig.shares.assume();
            let _told = rig.tell(500, asked);
            rig.divided(500, CALLER.0);
            assert_eq!(
                rig.limit.share.get().units(limit),
                units,
                "{limit} {is_asked}"
            );
        }
    }
}

#[test]
fn one_that_joins_is_ready_with_its_part_of_the_reserve_and_asks_for_it_until_then() {
    let mut rig = Rig::new();
    rig.limit.grain = Share::grain(40);
    let _told = rig.tell(0, 0.0);
    assert_eq!(rig.hear(0, 4, &[part(0, 3000)]), 0);
    assert_eq!(rig.state(0), (false, Some(100)));
    let _told = rig.tell(100, 0.0);
    assert_eq!(rig.hear(100, 4, &[part(100, 3000)]), 50);
    assert_eq!(rig.state(100), (false, Some(100)));
    let _told = rig.tell(200, 0.0);
    assert_eq!(rig.hear(200, 4, &[part(250, 3000)]), 125);
    // Five in a second, which come one after the other.
    assert_eq!(rig.state(200), (false, Some(200)));
    assert_eq!(rig.state(400), (true, None));
    // Once it has been ready it asks as often as the others.
    let _told = rig.tell(700, 0.0);
    assert_eq!(rig.hear(700, 3, &[part(250, 2000)]), 125);
    assert_eq!(rig.state(700), (true, None));
    // Where others do not do without what it is due it does not go on like that.
    let mut rig = Rig::new();
    let _told = rig.tell(2999, 0.0);
    assert_eq!(rig.hear(2999, 4, &[part(0, 3000)]), 0);
    assert_eq!(rig.state(2999), (false, Some(100)));
    assert_eq!(rig.state(3000), (false, None));
    // Without limits of callers there is nothing to wait for.
    let mut shares = Shares::new(rig.began);
    shares.look(std::iter::empty(), rig.began);
    shares.divide(std::iter::empty(), rig.began);
    assert!(shares.are_ready());
}

#[test]
fn who_has_the_name_and_no_key_in_common_is_no_member() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    assert_eq!(rig.hear(0, 3, &[part(500, 1000)]), 250);
    assert_eq!((rig.shares.members(), rig.shares.strangers()), (2, 1));
    let _told = rig.tell(500, 0.0);
    assert_eq!(rig.hear(500, 2, &[part(1000, 0)]), 500);
    assert_eq!((rig.shares.members(), rig.shares.strangers()), (1, 1));
    let _told = rig.tell(1000, 0.0);
    assert_eq!(rig.hear(1000, 1, &[part(1000, 0)]), 500);
    assert_eq!((rig.shares.members(), rig.shares.strangers()), (1, 0));
}

#[test]
fn the_last_grain_is_left_at_once_to_who_waits_for_it_where_nobody_calls_any_more() {
    let mut rig = Rig::new();
    rig.limit.grain = Share::grain(1);
    let _told = rig.tell(0, 1.0);
    assert_eq!(rig.hear(0, 2, &[part(500, 1000), part(1000, 0)]), 1000);
    let _told = rig.tell(500, 1.0);
    let awaited = [part(500, 1000), awaited(1000, 1000)];
    assert_eq!(rig.hear(500, 2, &awaited), 1000, "it is its turn");
    let _told = rig.tell(2600, 0.0);
    assert_eq!(rig.hear(2600, 2, &[part(500, 1000), part(1000, 0)]), 1000);
    // That turn has not been used up either.
    let _told = rig.tell(3100, 0.0);
    assert_eq!(rig.hear(3100, 2, &awaited), 250);
    assert_eq!(rig.hurry(3100), Some(100));
}

#[test]
fn whoever_is_heard_first_after_the_store_has_lost_all_is_not_alone() {
    let mut rig = Rig::new();
    let _told = rig.tell(0, 0.0);
    assert_eq!(rig.hear(0, 4, &[part(250, 3000)]), 125);
    let _told = rig.tell(500, 0.0);
    assert_eq!(rig.hear_from(800, 500, 1, &[part(250, 0)]), 125);
    assert_eq!(rig.shares.members(), 4);
    assert_eq!(rig.tell(1000, 0.0)[1], None);
    assert_eq!(rig.hear_from(800, 1000, 5, &[part(250, 4000)]), 100);
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
