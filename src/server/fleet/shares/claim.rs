//! Claim of one instance on one limit: what it would have of it, by what it and the others ask for.
//!
//! A function of what is known, which is the one place where that is decided. That all instances together never have
//! more than there is does not rest on it: the store grants no more than is free.

use std::time::Duration;

use bursar_limits::share::Share;

/// Whoever has a grain that is not its own for longer than the others leaves it to who waits. A rate needs a second
/// until one of its requests has come about.
pub(super) const TURN: Duration = Duration::from_millis(1500);
/// Who was not asked for so long does not wait for its turn. Callers come back after a second.
pub(super) const LATELY: Duration = Duration::from_secs(2);
/// Of smaller grains nobody takes turns, where it has some.
const FINE: u32 = 10_000;

/// What is known, in millionths of the limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// What is asked for here.
    pub(super) demand: u32,
    /// Whether that was in the time of [`LATELY`].
    pub(super) is_asked_lately: bool,
    /// The least that is of use.
    pub(super) grain: u32,
    /// What it has.
    pub(super) part: u32,
    /// What it uses, which may be more.
    pub(super) in_use: u32,
    /// What it has without asking.
    pub(super) reserve: u32,
    /// Whether it has had more than its fair part for a [`TURN`].
    pub(super) had_turn: bool,
    /// None: not known yet.
    pub(super) others: Option<Others>,
}

/// What is known of all others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Others {
    /// What they ask for.
    pub(super) demand: u32,
    /// Whether one of them waits for more than it has.
    pub(super) is_awaited: bool,
}

/// A part in proportion to the demand is between these two, unless they are the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fair {
    /// Rounded down to grains.
    pub(super) least: u32,
    /// Rounded up: the last grain is had in turns.
    pub(super) most: u32,
}

impl Claim {
    /// What it would have.
    pub(super) fn want(&self) -> u32 {
        let others = self.others.unwrap_or_default();
        if self.demand == 0 {
            // It stays where it was used last, unless every instance has some without asking.
            let is_kept = self.grain > self.reserve && others.demand == 0 && !others.is_awaited;
            return if is_kept { self.part } else { 0 };
        }
        let fair = self.fair();
        if fair.most <= self.reserve {
            return 0;
        }
        if self.part < fair.most {
            let is_late = !self.is_asked_lately || others.is_awaited && self.in_use > self.part;
            return if is_late { fair.least } else { fair.most };
        }
        // Where nobody calls any more, the turn is over.
        let is_over = self.had_turn || !self.is_asked_lately;
        match is_over && others.is_awaited {
            true => fair.least,
            false => fair.most,
        }
    }

    /// Its part in proportion to the demand.
    pub(super) fn fair(&self) -> Fair {
        let whole = Share::WHOLE.millionths();
        let part = match self.others {
            None => self.demand,
            Some(others) => {
                let of_all = u64::from(self.demand) + u64::from(others.demand);
                let part = u64::from(self.demand) * u64::from(whole) / of_all.max(1);
                u32::try_from(part).unwrap_or(whole)
            }
        };
        let part = part.min(whole);
        let grain = self.grain.max(1);
        let least = match part == whole {
            true => whole,
            false => part - part % grain,
        };
        let is_shared = part > least && (least == 0 || grain >= FINE);
        let most = match is_shared {
            true => (least + grain).min(whole),
            false => least,
        };
        Fair { least, most }
    }
}
