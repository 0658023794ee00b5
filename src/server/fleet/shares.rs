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
//! been heard of again. There is no other exception than those at [`Shares::assume`] and [`Shares::share`].

mod claim;
mod used;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::exchange::SHARES_LIMIT;
use bursar_fleet::{Demand, Heard, max_limits};
use bursar_limits::share::{Divisible, LimitKind, Share};
use used::{Look, Used};

/// The demand halves in this time where nothing is asked for.
const HALF_LIFE: Duration = Duration::from_millis(500);
/// One part in so many of what this instance had is worth a heartbeat of its own, where others wait for it.
const NOTABLE: u32 = 8;
/// Others wait for this instance's next heartbeat, or it for theirs.
const SOON: Duration = Duration::from_millis(100);
/// By then the store's clock has gone on, too.
const A_MOMENT: Duration = Duration::from_millis(2);
/// All reserves together are one part in so many of a limit.
const RESERVES: u32 = 2;
/// What an instance has of each limit that is started while the store is away: six of them are no more than half above it.
const ASSUMED: u32 = Share::WHOLE.millionths() / 4;

/// What this instance asks for and has. One task writes it.
pub(super) struct Shares {
    /// How many instances there are; 0: not known yet.
    members: u64,
    /// How many others have the fleet's name, and no key in common.
    strangers: u64,
    basis: Basis,
    /// How long the store does not know of all members yet.
    settles_in: Option<Duration>,
    /// Whether the last heartbeat had no response.
    is_away: bool,
    began: Instant,
    looked: Instant,
    /// Whether the last look was that of an instance which has no others.
    looked_alone: bool,
    /// Whether there are callers' limits.
    is_limited: bool,
    /// From when on callers find what this instance is due of them. None: it has not been granted yet.
    ready_from: Option<Instant>,
    /// How long the shares that there are took for the first request of each caller.
    first: Duration,
    /// Whether that is past.
    are_ready: bool,
    /// What is had of each limit without asking, as a part of all reserves.
    reserve: Used,
    /// By [`LimitKind`]: limits that are used here, or were lately.
    used: [HashMap<Box<str>, Used>; LimitKind::COUNT],
    /// Those that the store is told of after the reserve, in the order of its replies.
    told: Vec<(LimitKind, Box<str>)>,
}

/// By which right an instance has what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// It has nothing yet.
    Nothing,
    /// It was started while the store was away, and does not know how many there are.
    Assumed,
    /// The store has granted it, and knows all members.
    Granted,
}

impl Shares {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            members: 0,
            strangers: 0,
            basis: Basis::Nothing,
            settles_in: None,
            is_away: false,
            began: now,
            looked: now,
            looked_alone: false,
            is_limited: false,
            ready_from: None,
            first: Duration::ZERO,
            are_ready: false,
            reserve: Used::reserve(),
            used: Default::default(),
            told: Vec::new(),
        }
    }

    /// How many instances there are, as far as is known.
    pub(super) const fn members(&self) -> u64 {
        self.members
    }

    /// How many instances have the fleet's name and are none of it, because no key is common to them and this one.
    pub(super) const fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Whether callers find what this instance is due of their limits, or have found it before.
    pub(super) const fn are_ready(&self) -> bool {
        self.are_ready
    }

    fn have_all(&self) -> bool {
        let mut used = self.used.iter().flat_map(HashMap::values);
        match self.basis {
            _ if !self.is_limited => true,
            Basis::Nothing => false,
            Basis::Assumed => true,
            Basis::Granted if self.members > 1 => !self.reserve.is_waiting(),
            Basis::Granted => self.looked_alone && !used.any(Used::is_waiting),
        }
    }

    /// How soon the store is to hear of this instance again, where that is sooner than usual.
    pub(super) fn hurry(&self, now: Instant) -> Option<Duration> {
        let mut used = self.used.iter().flat_map(HashMap::values);
        let has_shrunk =
            self.reserve.has_shrunk(u32::MAX) || used.any(|used| used.has_shrunk(NOTABLE));
        let is_new = !self.are_ready && now < self.began + SHARES_LIMIT;
        let ready_in = self
            .ready_from
            .map(|from| from.saturating_duration_since(now));
        let settled = self.settles_in.map(|left| left + A_MOMENT);
        match (settled, has_shrunk) {
            (_, true) => Some(SOON),
            (None, false) => is_new.then_some(ready_in.unwrap_or(SOON)),
            (Some(_), false) if self.basis == Basis::Granted => None,
            (Some(settled), false) => Some(settled),
        }
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
        let is_alone = self.basis == Basis::Granted && self.members == 1 && !self.is_away;
        self.looked_alone = is_alone;
        self.is_limited = false;
        let look = Look { now, is_alone };
        let is_assumed = self.is_assumed();
        for used in self.used.iter_mut().flat_map(HashMap::values_mut) {
            used.is_there = false;
        }
        for (kind, name, limit) in limits {
            self.is_limited = true;
            let asked = limit.demand(over).min(1.0);
            let used = &mut self.used[kind as usize];
            match used.get_mut(name) {
                Some(used) => used.look(limit, asked, fading, look),
                None if asked > 0.0 || is_alone => {
                    let mut new = Used::default();
                    new.look(limit, asked, fading, look);
                    if is_assumed {
                        new.assume(ASSUMED);
                    }
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
            demands.push(used.tell(kind, name, reserve, now));
            self.told.push((kind, name.into()));
        }
        self.reserve.is_used(beyond.saturating_mul(RESERVES));
        demands.insert(0, self.reserve.tell(LimitKind::Reserve, "", 0, now));
        demands
    }

    /// The store's reply.
    pub(super) fn heard(&mut self, heard: &Heard, now: Instant) {
        // Each asks for the whole reserve, under the keys that it has.
        let reserve = heard.parts.first().copied().unwrap_or_default();
        let members = 1 + u64::from(reserve.others / Share::WHOLE.millionths());
        // Those that have not come back yet have not given anything up.
        self.members = match heard.settles_in {
            Some(_) => members.max(self.members),
            None => members,
        };
        self.strangers = heard.members.saturating_sub(self.members);
        if heard.settles_in.is_none() {
            self.basis = Basis::Granted;
        }
        self.settles_in = heard.settles_in;
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
    pub(super) fn unheard(&mut self) {
        self.told.clear();
        self.is_away = true;
    }

    /// The store is away. An instance that was never granted anything does not know how many there are, and lets some of
    /// all callers through: a quarter of each limit, and one request at least.
    pub(super) fn assume(&mut self) {
        if self.basis != Basis::Nothing {
            return;
        }
        self.basis = Basis::Assumed;
        self.reserve.assume(ASSUMED * RESERVES);
        for used in self.used.iter_mut().flat_map(HashMap::values_mut) {
            used.assume(ASSUMED);
        }
    }

    /// Whether the store is still away.
    fn is_assumed(&self) -> bool {
        self.basis == Basis::Assumed && self.is_away
    }

    /// Gives each limit its share.
    pub(super) fn divide<'a>(
        &mut self,
        limits: impl Iterator<Item = (LimitKind, &'a str, &'a dyn Divisible)>,
        now: Instant,
    ) {
        let mut first = Duration::ZERO;
        for (kind, name, limit) in limits {
            let share = self.share(kind, name, limit);
            limit.divide(share, now);
            if kind == LimitKind::PerSecond {
                first = first.max(first_of_a_second(share, limit.grain()));
            }
        }
        // A share that becomes smaller meanwhile takes longer to let its first request through.
        let is_later = !self.are_ready && first > self.first;
        if self.ready_from.is_some() && is_later || self.ready_from.is_none() && self.have_all() {
            self.ready_from = Some(now + first);
        }
        self.first = first;
        self.are_ready |= self.ready_from.is_some_and(|from| from <= now);
    }

    /// What this instance may use of a limit.
    fn share(&self, kind: LimitKind, name: &str, limit: &dyn Divisible) -> Share {
        let part = self.used[kind as usize]
            .get(name)
            .map_or(0, |used| used.part);
        let share = Share::of_millionths(part.max(self.reserve_of_each()).into());
        match self.is_assumed() {
            true => share.max(Share::of_millionths(limit.grain().into())),
            false => share,
        }
    }

    /// What this instance may use of token calls while the store is away: each then asks for tokens of its own, who did
    /// before says nothing, and all have the same.
    pub(super) fn of_calls(&self) -> Share {
        match self.basis {
            Basis::Granted => Share::one_of(self.members),
            Basis::Assumed => Share::of_millionths(ASSUMED.into()),
            Basis::Nothing => Share::FIRST,
        }
    }

    /// Whether the last heartbeat had no response.
    pub(super) const fn is_away(&self) -> bool {
        self.is_away
    }

    /// What is had of each limit without asking.
    pub(super) fn reserve(&self) -> Share {
        Share::of_millionths(self.reserve_of_each().into())
    }

    /// The same in millionths.
    fn reserve_of_each(&self) -> u32 {
        self.reserve.part / RESERVES
    }
}

/// In the order of [`LimitKind`].
const KINDS: [LimitKind; LimitKind::COUNT] = [
    LimitKind::PerSecond,
    LimitKind::InFlight,
    LimitKind::Reserve,
];

/// A share of a rate comes empty: its first request is let through after that. It is of whole requests in a second; where it
/// is less than one, none is let through.
fn first_of_a_second(share: Share, grain: u32) -> Duration {
    let units = share.units(Share::WHOLE.millionths() / grain.max(1));
    let first = Duration::from_secs(1).checked_div(units);
    first.unwrap_or_default()
}

#[cfg(test)]
mod tests;
