//! Random histories of a fleet: instances that come, leave and die, heartbeats that are lost, and a store that loses what
//! it had, stands still, comes back as an older copy, or whose clock jumps.
//!
//! The limits are real, and so are requests' permits; the store is a model, and so is time.

use std::num::NonZeroU32;
use std::sync::Arc;

use bursar_config as config;
use bursar_limits::caller_limits::{Limits, RequestPermit};
use proptest::prelude::*;

use super::super::*;
use super::store::{Sent, Store};

/// Time goes on in such steps, in milliseconds.
const STEP: i64 = 25;
const SHOP: &str = "shop";
/// Half above the limit, in millionths.
const MOST: u64 = 1_500_000;

#[derive(Debug, Clone, Copy)]
enum Event {
    Join,
    Leave(usize),
    Die(usize),
    /// That many requests are wanted under way at an instance.
    Demand(usize, u32),
    /// Its next heartbeat does not arrive.
    LoseRequest(usize),
    /// Its next heartbeat has no response.
    LoseReply(usize),
    Flush,
    /// The store stands still; perhaps another one, that lags behind, takes its place.
    Stall(i64, Option<i64>),
    ClockJump(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let at = 0_usize..6;
    prop_oneof![
        3 => Just(Event::Join),
        1 => at.clone().prop_map(Event::Leave),
        1 => at.clone().prop_map(Event::Die),
        12 => (at.clone(), 0_u32..30).prop_map(|(at, wanted)| Event::Demand(at, wanted.saturating_sub(8))),
        2 => at.clone().prop_map(Event::LoseRequest),
        2 => at.prop_map(Event::LoseReply),
        1 => Just(Event::Flush),
        1 => (100_i64..3000).prop_map(|stall| Event::Stall(stall, None)),
        1 => (1200_i64..3000, 0_i64..1000).prop_map(|(stall, lag)| Event::Stall(stall, Some(lag))),
        1 => (-20_000_i64..20_000).prop_map(Event::ClockJump),
        1 => (-2000_i64..2000).prop_map(Event::ClockJump),
    ]
}

/// A heartbeat under way.
struct Beat {
    sent: Sent,
    arrives: i64,
    returns: i64,
    heard: Option<Heard>,
    is_executed: bool,
    is_lost: bool,
    is_reply_lost: bool,
}

struct Instance {
    id: u32,
    shares: Shares,
    limits: Arc<Limits>,
    under_way: Vec<(i64, RequestPermit)>,
    wanted: u32,
    asks_again: i64,
    beat: Option<Beat>,
    next_beat: i64,
    hurried: i64,
    loses: Option<Event>,
    let_through: u32,
}

struct World {
    began: Instant,
    now: i64,
    ahead: i64,
    limit: u32,
    is_rate: bool,
    random: fastrand::Rng,
    store: Store,
    /// What the store was, for the last second.
    copies: Vec<Store>,
    stalled_until: i64,
    troubled: i64,
    last_id: u32,
    instances: Vec<Instance>,
    /// How long a request takes at most.
    longest: i64,
}

impl Instance {
    fn divisible(&self) -> impl Iterator<Item = (LimitKind, &'static str, &dyn Divisible)> {
        let limits = self.limits.divisible();
        limits.map(|(kind, limit)| (kind, SHOP, limit))
    }

    fn share(&self) -> Share {
        self.divisible().next().unwrap().2.share()
    }

    /// What it uses or may use, in millionths.
    fn most(&self) -> u64 {
        let (.., limit) = self.divisible().next().unwrap();
        u64::from(limit.in_use().max(self.share().millionths()))
    }
}

impl World {
    fn new(limit: u32, is_rate: bool, seed: u64) -> Self {
        Self {
            began: Instant::now(),
            now: 0,
            ahead: 1_000_000,
            limit,
            is_rate,
            random: fastrand::Rng::with_seed(seed),
            store: Store::default(),
            copies: Vec::new(),
            stalled_until: 0,
            troubled: -10_000,
            last_id: 0,
            instances: Vec::new(),
            longest: 3000,
        }
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_millis(u64::try_from(self.now).unwrap())
    }

    fn join(&mut self) {
        let limit = NonZeroU32::new(self.limit);
        let limits = Limits::new(config::Limits {
            in_flight: limit.filter(|_| !self.is_rate),
            per_second: limit.filter(|_| self.is_rate),
            connections: None,
        });
        let limits = limits.unwrap();
        let now = self.instant();
        for (_, limit) in limits.divisible() {
            limit.divide(Share::NONE, now);
        }
        self.last_id += 1;
        self.instances.push(Instance {
            id: self.last_id,
            shares: Shares::new(now),
            limits,
            under_way: Vec::new(),
            wanted: 0,
            asks_again: 0,
            beat: None,
            next_beat: self.now,
            hurried: self.now,
            loses: None,
            let_through: 0,
        });
    }

    fn place(&self, at: usize) -> Option<usize> {
        let count = self.instances.len();
        (count > 0).then(|| at % count)
    }

    fn happens(&mut self, event: Event) {
        // One trouble at a time: two of them may be longer than an instance may be silent.
        let is_trouble = matches!(
            event,
            Event::LoseRequest(_) | Event::LoseReply(_) | Event::Stall(..) | Event::ClockJump(_)
        );
        if is_trouble {
            if self.now < self.troubled + 4000 {
                return;
            }
            self.troubled = self.now;
        }
        match event {
            Event::Join if self.instances.len() < 6 => self.join(),
            Event::Join => {}
            Event::Leave(at) => {
                if let Some(at) = self.place(at) {
                    let left = self.instances.remove(at);
                    drop(left.under_way);
                    self.store.leave(left.id);
                }
            }
            Event::Die(at) => {
                if let Some(at) = self.place(at) {
                    self.instances.remove(at);
                }
            }
            Event::Demand(at, wanted) => {
                if let Some(at) = self.place(at) {
                    self.instances[at].wanted = wanted;
                }
            }
            Event::LoseRequest(at) | Event::LoseReply(at) => {
                if let Some(at) = self.place(at) {
                    self.instances[at].loses = Some(event);
                }
            }
            Event::Flush => {
                self.copies.clear();
                self.store.flush();
            }
            Event::Stall(long, lag) => {
                self.stalled_until = self.now + long;
                if let Some(lag) = lag {
                    let back = usize::try_from(lag / STEP).unwrap();
                    let copy = self.copies.len().saturating_sub(back + 1);
                    if let Some(copy) = self.copies.get(copy) {
                        self.store = copy.clone();
                    }
                }
                self.troubled = self.stalled_until;
            }
            Event::ClockJump(by) => self.ahead += by,
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        for at in 0..self.instances.len() {
            self.requests(at);
        }
        let is_running = self.now >= self.stalled_until;
        // Those that wait for the store are served in the order in which they came.
        let mut order: Vec<usize> = (0..self.instances.len()).collect();
        let arrives = |instance: &Instance| instance.beat.as_ref().map_or(0, |beat| beat.arrives);
        order.sort_by_key(|at| arrives(&self.instances[*at]));
        for at in order {
            if is_running {
                self.execute(at);
            }
            self.hear(at);
            self.send(at);
        }
        self.copies.push(self.store.clone());
        if self.copies.len() > 50 {
            self.copies.remove(0);
        }
    }

    fn requests(&mut self, at: usize) {
        let now = self.instant();
        let instance = &mut self.instances[at];
        instance.under_way.retain(|(ends, _)| *ends > self.now);
        if self.now < instance.asks_again {
            return;
        }
        for _ in instance.under_way.len()..instance.wanted as usize {
            match instance.limits.enter(now) {
                Ok(permit) => {
                    let is_long = self.random.u32(..10) == 0;
                    let longest = if is_long { self.longest } else { 400 };
                    let ends = self.now + self.random.i64(50..=longest);
                    instance.under_way.push((ends, permit));
                    instance.let_through += 1;
                }
                Err(_) => {
                    instance.asks_again = self.now + 100;
                    if instance.share() < Share::WHOLE && self.now > instance.hurried + 1000 {
                        instance.hurried = self.now;
                        instance.next_beat = instance.next_beat.min(self.now + 100);
                    }
                }
            }
        }
    }

    fn send(&mut self, at: usize) {
        let now = self.instant();
        let instance = &mut self.instances[at];
        if instance.beat.is_some() || self.now < instance.next_beat {
            return;
        }
        let limits = instance.limits.clone();
        let limits = || limits.divisible().map(|(kind, limit)| (kind, SHOP, limit));
        instance.shares.look(limits(), now);
        let sent = Sent::of(&instance.shares.demands(now));
        let loses = instance.loses.take();
        instance.beat = Some(Beat {
            sent,
            arrives: self.now + self.random.i64(..40),
            returns: self.now + self.random.i64(40..80),
            heard: None,
            is_executed: false,
            is_lost: matches!(loses, Some(Event::LoseRequest(_))),
            is_reply_lost: loses.is_some(),
        });
    }

    fn execute(&mut self, at: usize) {
        let clock = self.now + self.ahead;
        let instance = &mut self.instances[at];
        let Some(beat) = instance.beat.as_mut() else {
            return;
        };
        if beat.is_executed || self.now < beat.arrives {
            return;
        }
        beat.is_executed = true;
        if !beat.is_lost {
            beat.heard = Some(self.store.beat(instance.id, &beat.sent, clock));
        }
    }

    fn hear(&mut self, at: usize) {
        let now = self.instant();
        let instance = &mut self.instances[at];
        let Some(beat) = instance
            .beat
            .take_if(|beat| beat.is_executed && self.now >= beat.returns)
        else {
            return;
        };
        match beat.heard.filter(|_| !beat.is_reply_lost) {
            Some(heard) => instance.shares.heard(&heard, now),
            None if instance.shares.members() > 0 => instance.shares.unheard(),
            // That is not known to be a start without a store: nothing has been said.
            None => {}
        }
        let limits = instance.limits.clone();
        let limits = limits.divisible().map(|(kind, limit)| (kind, SHOP, limit));
        instance.shares.divide(limits, now);
        let usual = self.random.u64(450..500);
        let hurried = instance.shares.hurry(now);
        let hurried = hurried.map(|pause| u64::try_from(pause.as_millis()).unwrap());
        let pause = hurried.map_or(usual, |hurried| hurried.min(usual));
        instance.next_beat = self.now + i64::try_from(pause).unwrap();
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let most: Vec<u64> = self.instances.iter().map(Instance::most).collect();
        prop_assert!(
            most.iter().sum::<u64>() <= MOST,
            "{} ms: {most:?}",
            self.now
        );
        if !self.is_rate {
            let under_way = self.instances.iter().map(|one| one.under_way.len());
            let under_way: Vec<usize> = under_way.collect();
            let most = self.limit as usize * 3 / 2;
            prop_assert!(
                under_way.iter().sum::<usize>() <= most,
                "{} ms: {under_way:?}",
                self.now
            );
        }
        Ok(())
    }

    fn pass(&mut self, milliseconds: i64) -> Result<(), TestCaseError> {
        let end = self.now + milliseconds;
        while self.now < end {
            self.step();
            self.check()?;
        }
        Ok(())
    }

    /// Nobody calls, and nothing happens.
    fn rest(&mut self) -> Result<(), TestCaseError> {
        self.longest = 400;
        for instance in &mut self.instances {
            instance.wanted = 0;
        }
        // A clock that was put back keeps those who are gone for as long.
        self.pass(13_000)
    }
}

fn history() -> impl Strategy<Value = Vec<(i64, Event)>> {
    prop::collection::vec((0_i64..800, event()), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_together_never_have_more_than_half_above_the_limit_and_then_it_goes_where_it_is_asked_for(
        limit in prop::sample::select(vec![1_u32, 2, 3, 5, 10, 50]),
        is_rate: bool,
        count in 1_usize..6,
        seed: u64,
        history in history(),
    ) {
        let mut world = World::new(limit, is_rate, seed);
        for _ in 0..count {
            world.join();
        }
        for (gap, event) in history {
            world.pass(gap)?;
            world.happens(event);
        }
        if world.instances.is_empty() {
            world.join();
        }
        world.rest()?;
        // One alone has all of it within two seconds.
        let one = world.random.usize(..world.instances.len());
        world.instances[one].wanted = limit * 3;
        world.pass(2000)?;
        prop_assert_eq!(world.instances[one].share().units(limit), limit);
        // Another one has half of it, and so does it; the last one they have in turns.
        let other = (one + 1) % world.instances.len();
        world.instances[other].wanted = limit * 3;
        world.pass(2500)?;
        if other != one {
            for at in [one, other] {
                let units = world.instances[at].share().units(limit);
                prop_assert!(units + 1 >= limit / 2, "{units}");
            }
        }
        // Nobody is left out for ever.
        for instance in &mut world.instances {
            instance.wanted = limit * 3;
            instance.let_through = 0;
        }
        world.pass(20_000)?;
        let let_through: Vec<u32> = world.instances.iter().map(|one| one.let_through).collect();
        prop_assert!(let_through.iter().all(|count| *count > 0), "{:?}", let_through);
    }
}
