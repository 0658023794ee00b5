//! Shares of limits in a fleet: what this instance asks of each limit, what it is given, and what it uses.
//!
//! Values and instants: it neither waits nor reads a clock. For each limit that is used here the store is told what is
//! asked for and what this instance would have of it ([`claim`]), and it grants no more than is free: all parts together
//! are the limit at most. Beside those each instance has a reserve of every limit, so that the first requests of a caller
//! find something. The reserve is granted in the same way, and all reserves together are half of a limit at most. An
//! instance uses the greater of both, so that all together never have more than half above the limit.
//!
//! That holds because nothing is taken for granted. What this instance has is told with each heartbeat, and what others
//! may have is what the store has no owner for; a store that has lost what it had gives nobody more until all may have
//! been heard of again. There is no other exception than those at [`Shares::unheard`] and [`Shares::share`].

mod claim;
mod used;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use bursar_fleet::{Demand, Heard, max_limits};
use bursar_limits::share::{Divisible, LimitKind, Share};
use used::{Look, Told, Used};

/// The demand halves in this time where nothing is asked for.
const HALF_LIFE: Duration = Duration::from_millis(500);
/// A part that shrinks by more, in millionths, is waited for.
const NOTABLE: u32 = 50_000;
/// All reserves together are one part in so many of a limit.
const RESERVES: u32 = 2;
/// What an instance has of all reserves that is started while the store is away: a quarter of each limit.
const UNHEARD: u32 = Share::WHOLE.millionths() / 2;

/// What this instance asks for and has. One task writes it.
pub(super) struct Shares {
    /// How many instances there are; 0: not known yet.
    members: u64,
    /// Whether the store has said so who knows of all of them.
    is_settled: bool,
    /// Whether the last heartbeat had no response.
    is_away: bool,
    looked: Instant,
    /// What is had of each limit without asking, as a part of all reserves.
    reserve: Used,
    /// By [`LimitKind`]: limits that are used here, or were lately.
    used: [HashMap<Box<str>, Used>; LimitKind::COUNT],
    /// Those that the store is told of after the reserve, in the order of its replies.
    told: Vec<(LimitKind, Box<str>)>,
}

impl Shares {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            members: 0,
            is_settled: false,
            is_away: false,
            looked: now,
            reserve: Used::reserve(),
            used: Default::default(),
            told: Vec::new(),
        }
    }

    /// How many instances there are, as far as is known.
    pub(super) const fn members(&self) -> u64 {
        self.members
    }

    /// Whether this instance does without something that it had, and the store does not know that.
    pub(super) fn has_shrunk(&self) -> bool {
        let mut used = self.used.iter().flat_map(HashMap::values);
        used.any(|used| used.given_up() > NOTABLE) || self.reserve.given_up() > NOTABLE
    }

    /// Looks at what is asked for.
    pub(super) fn look<'a>(
        &mut self,
        limits: impl Iterator<Item = (LimitKind, &'a str, &'a dyn Divisible)>,
        now: Instant,
    ) {
        let over = now.saturating_duration_since(self.looked);
        self.looked = now;
        let fading = 0.5_f64.powf(over.div_duration_f64(HALF_LIFE));
        let is_alone = self.is_settled && self.members == 1 && !self.is_away;
        let look = Look { now, is_alone };
        for used in self.used.iter_mut().flat_map(HashMap::values_mut) {
            used.is_there = false;
        }
        for (kind, name, limit) in limits {
            let asked = limit.demand(over).min(1.0);
            let used = &mut self.used[kind as usize];
            match used.get_mut(name) {
                Some(used) => used.look(limit, asked, fading, look),
                None if asked > 0.0 || is_alone => {
                    let mut new = Used::default();
                    new.look(limit, asked, fading, look);
                    used.insert(name.into(), new);
                }
                None => {}
            }
        }
        // What is not asked for any more, and not held, need not be told.
        for used in &mut self.used {
            used.retain(|_, used| used.is_of_interest());
        }
    }

    /// What to tell the store: the reserve, and the highest demands, where there are too many.
    pub(super) fn demands(&mut self, now: Instant) -> Vec<Demand<'_>> {
        let reserve = self.reserve_of_each();
        let mut beyond = 0;
        let mut used: Vec<(LimitKind, &str, &mut Used)> = Vec::new();
        for (kind, limits) in KINDS.into_iter().zip(&mut self.used) {
            used.extend(limits.iter_mut().map(|(name, used)| (kind, &**name, used)));
        }
        used.sort_by(|(.., one), (.., other)| other.demand.total_cmp(&one.demand));
        for (.., untold) in used.drain(max_limits(self.members).min(used.len())..) {
            untold.forget();
            beyond = beyond.max(untold.beyond());
        }
        let mut demands = Vec::with_capacity(used.len() + 1);
        self.told.clear();
        for (kind, name, used) in used {
            beyond = beyond.max(used.beyond());
            demands.push(demand(kind, name, used.tell(reserve, now)));
            self.told.push((kind, name.into()));
        }
        self.reserve.is_used(beyond.saturating_mul(RESERVES));
        demands.insert(0, demand(LimitKind::Reserve, "", self.reserve.tell(0, now)));
        demands
    }

    /// The store's reply.
    pub(super) fn heard(&mut self, heard: &Heard, now: Instant) {
        // Those that have not come back yet have not given anything up.
        self.members = match heard.is_back {
            true => heard.members.max(self.members),
            false => heard.members,
        }
        .max(1);
        self.is_settled |= !heard.is_back;
        self.is_away = false;
        let mut parts = heard.parts.iter();
        if let Some(part) = parts.next() {
            self.reserve.hear(*part, 0, now);
        }
        let reserve = self.reserve_of_each();
        for ((kind, name), part) in self.told.drain(..).zip(parts) {
            if let Some(used) = self.used[kind as usize].get_mut(&name) {
                used.hear(*part, reserve, now);
            }
        }
    }

    /// There was no reply. What was heard last holds.
    ///
    /// An instance that never heard anything does not know how many there are: it has a quarter of each limit, so that
    /// six of them are no more than half above it.
    pub(super) fn unheard(&mut self) {
        self.told.clear();
        self.is_away = true;
        if self.members == 0 {
            self.reserve.take(UNHEARD);
        }
    }

    /// Gives each limit its share.
    pub(super) fn divide<'a>(
        &self,
        limits: impl Iterator<Item = (LimitKind, &'a str, &'a dyn Divisible)>,
        now: Instant,
    ) {
        for (kind, name, limit) in limits {
            limit.divide(self.share(kind, name), now);
        }
    }

    /// What this instance may use of a limit.
    ///
    /// Nothing is had without a token, so there is something of token calls at once; and while the store is away each
    /// instance asks for tokens of its own, who did before says nothing, and all have the same.
    fn share(&self, kind: LimitKind, name: &str) -> Share {
        let part = self.used[kind as usize]
            .get(name)
            .map_or(0, |used| used.part);
        let share = Share::of_millionths(part.max(self.reserve_of_each()).into());
        match kind {
            LimitKind::Calls if self.is_away && self.members > 0 => Share::one_of(self.members),
            LimitKind::Calls if !self.is_settled => share.max(Share::FIRST),
            LimitKind::Calls => share.max(Share::of_millionths(1)),
            _ => share,
        }
    }

    /// What is had of each limit without asking, in millionths.
    fn reserve_of_each(&self) -> u32 {
        self.reserve.part / RESERVES
    }
}

/// In the order of [`LimitKind`].
const KINDS: [LimitKind; LimitKind::COUNT] = [
    LimitKind::Calls,
    LimitKind::PerSecond,
    LimitKind::InFlight,
    LimitKind::Reserve,
];

fn demand(kind: LimitKind, of: &str, told: Told) -> Demand<'_> {
    Demand {
        kind,
        of,
        demand: told.demand,
        held: told.held,
        want: told.want,
        grain: told.grain,
        waited: told.waited,
    }
}

#[cfg(test)]
mod tests;
