//! Shares of limits in a fleet: what this instance asks of each limit, what it is given, and what it uses.
//!
//! Values and instants: it neither waits nor reads a clock. For each limit that is used here the fleet is told of a
//! demand, and gives a part for it. Beside those each instance has a reserve of every limit, so that the first
//! requests of a caller find something: all reserves together are a quarter of the limit, and all parts together a
//! quarter above it at most, so that both are never more than half above the limit. Exceptions are those that
//! [`Shares::reserve`] and the limits themselves name: instances that cannot know of each other.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use bursar_fleet::{Demand, Heard, max_limits};
use bursar_limits::share::{Divisible, LimitKind, Share};

/// The demand halves in this time where nothing is asked for.
const HALF_LIFE: Duration = Duration::from_millis(500);
/// Something that was asked for so lately counts as asked for seldom.
const SELDOM: Duration = Duration::from_secs(10);
/// So long after the first heartbeat others may not have heard of this instance.
const NEW: Duration = Duration::from_secs(1);
/// A part that shrinks by more, in millionths, is waited for.
const NOTABLE: u32 = 50_000;

/// What this instance asks for and has. One task writes it.
pub(super) struct Shares {
    /// How many instances there are; 0: not known yet.
    members: u64,
    /// When this instance was heard of for the first time.
    joined: Option<Instant>,
    /// Whether the last heartbeat had no response.
    is_away: bool,
    looked: Instant,
    /// By [`LimitKind`]: limits that are used here, or were lately.
    used: [HashMap<Box<str>, Used>; LimitKind::COUNT],
    /// Those that the fleet is told of, in the order of its replies.
    told: Vec<(LimitKind, Box<str>)>,
    has_shrunk: bool,
}

/// A limit that is used.
#[derive(Debug, Clone, Copy)]
struct Used {
    /// What is asked for, as a part of the limit.
    demand: f64,
    /// When that was more than nothing.
    asked: Instant,
    /// What the fleet gave for it, in millionths.
    held: u32,
    /// It is still in the configuration.
    is_there: bool,
}

impl Shares {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            members: 0,
            joined: None,
            is_away: false,
            looked: now,
            used: Default::default(),
            told: Vec::new(),
            has_shrunk: false,
        }
    }

    /// How many instances there are, as far as is known.
    pub(super) const fn members(&self) -> u64 {
        self.members
    }

    /// Whether this instance does without something that it had, and the fleet does not know that.
    pub(super) const fn has_shrunk(&self) -> bool {
        self.has_shrunk
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
        for used in self.used.iter_mut().flat_map(HashMap::values_mut) {
            used.is_there = false;
        }
        for (kind, name, limit) in limits {
            let asked = limit.demand(over).min(1.0);
            let used = &mut self.used[kind as usize];
            match used.get_mut(name) {
                Some(used) => used.asks(asked, fading, limit.least_demand(), now),
                None if asked > 0.0 => {
                    let new = Used {
                        demand: asked.max(limit.least_demand()),
                        asked: now,
                        held: 0,
                        is_there: true,
                    };
                    used.insert(name.into(), new);
                }
                None => {}
            }
        }
        // What is not asked for any more, and not held, need not be told.
        for used in &mut self.used {
            used.retain(|_, used| used.is_there && (used.demand > 0.0 || used.held > 0));
        }
    }

    /// What to tell the fleet: the highest demands, where there are too many.
    pub(super) fn demands(&mut self) -> Vec<Demand<'_>> {
        const KINDS: [LimitKind; LimitKind::COUNT] =
            [LimitKind::Calls, LimitKind::PerSecond, LimitKind::InFlight];
        let mut used: Vec<(LimitKind, &str, Used)> = Vec::new();
        for kind in KINDS {
            let limits = self.used[kind as usize].iter();
            used.extend(limits.map(|(name, limit)| (kind, &**name, *limit)));
        }
        used.sort_by(|(.., one), (.., other)| other.demand.total_cmp(&one.demand));
        used.truncate(max_limits(self.members));
        self.told = used
            .iter()
            .map(|(kind, name, _)| (*kind, (*name).into()))
            .collect();
        let demand = |(kind, of, used): (LimitKind, _, Used)| Demand {
            kind,
            of,
            demand: used.demand_in_millionths(),
            held: used.held,
        };
        used.into_iter().map(demand).collect()
    }

    /// The fleet's reply.
    pub(super) fn heard(&mut self, heard: &Heard, now: Instant) {
        // Those that have not come back yet have not given anything up.
        self.members = match heard.is_back {
            true => heard.members.max(self.members),
            false => heard.members,
        }
        .max(1);
        self.joined.get_or_insert(now);
        self.is_away = false;
        let mut parts = HashMap::with_capacity(self.told.len());
        for ((kind, name), part) in self.told.drain(..).zip(&heard.parts) {
            parts.insert((kind as usize, name), *part);
        }
        self.has_shrunk = false;
        for (kind, used) in self.used.iter_mut().enumerate() {
            for (name, used) in used {
                // Whatever was not told is not held any more.
                let part = parts.remove(&(kind, name.clone())).unwrap_or_default();
                let part = u32::try_from(part).unwrap_or_default();
                let part = part.min(Share::WHOLE.millionths());
                self.has_shrunk |= part + NOTABLE < used.held;
                used.held = part;
            }
        }
    }

    /// There was no reply.
    pub(super) fn unheard(&mut self) {
        self.told.clear();
        self.has_shrunk = false;
        self.is_away = true;
    }

    /// Gives each limit its share.
    pub(super) fn divide<'a>(
        &self,
        limits: impl Iterator<Item = (LimitKind, &'a str, &'a dyn Divisible)>,
        now: Instant,
    ) {
        let reserve = self.reserve(now);
        for (kind, name, limit) in limits {
            let used = self.used[kind as usize].get(name);
            let part = used.map_or(reserve, |used| Share::of_millionths(used.held.into()));
            let share = match kind {
                LimitKind::Calls if self.is_away && self.joined.is_some() => self.equal(),
                _ => self.limited(part.max(reserve), now),
            };
            limit.divide(share, now);
        }
    }

    /// The same for each. While the store is away each instance asks for tokens of its own: who did before says nothing.
    fn equal(&self) -> Share {
        Share::one_of(self.members)
    }

    /// What this instance has of limits that it does not use: all of it where it is the only one, else its part of a
    /// quarter.
    ///
    /// An instance that is started while the store cannot be used does not know how many there are: it has half, so
    /// that two of them have all of it.
    fn reserve(&self, now: Instant) -> Share {
        match (self.joined, self.members) {
            (None, _) if self.is_away => Share::one_of(2),
            (None, _) => Share::FIRST,
            (Some(_), 1) => self.limited(Share::WHOLE, now),
            (Some(_), members) => Share::one_of(members.saturating_mul(4)),
        }
    }

    /// A new instance has half at most, because others may not have heard of it.
    fn limited(&self, share: Share, now: Instant) -> Share {
        match self.joined {
            Some(joined) if now < joined + NEW => share.min(Share::one_of(2)),
            _ => share,
        }
    }
}

impl Used {
    fn asks(&mut self, asked: f64, fading: f64, least: f64, now: Instant) {
        self.is_there = true;
        self.demand = asked.max(self.demand * fading);
        if asked > 0.0 {
            self.asked = now;
        }
        if self.demand < least {
            self.demand = match now.saturating_duration_since(self.asked) < SELDOM {
                true => least,
                false => 0.0,
            };
        }
    }

    fn demand_in_millionths(&self) -> u32 {
        if self.demand <= 0.0 {
            return 0;
        }
        let millionths = self.demand.clamp(0.0, 1.0) * f64::from(Share::WHOLE.millionths());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and a million"
        )]
        let millionths = millionths as u32;
        millionths.max(1)
    }
}

#[cfg(test)]
mod tests;
