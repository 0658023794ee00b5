//! A limit that this instance uses: what is asked for, what it has, and what the store counts for it.

use std::time::Duration;

use tokio::time::Instant;

use super::claim::{Claim, LATELY, Others, TURN};
use bursar_fleet::{Demand, Part};
use bursar_limits::share::{Divisible, LimitKind, Share};

/// Something that was asked for so lately counts as asked for seldom.
const SELDOM: Duration = Duration::from_secs(10);

/// The limit; parts are in millionths of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// What is asked for, as a part of the limit.
    pub(super) demand: f64,
    /// When that was more than nothing.
    pub(super) asked: Option<Instant>,
    grain: u32,
    /// What is used and cannot be taken back.
    in_use: u32,
    /// What it may use.
    pub(super) part: u32,
    /// What the store counts for it at least: no less than it may use, and than it uses beside its reserve.
    counted: u32,
    others: Option<Others>,
    /// Since when it has more than its fair part.
    turn: Option<Instant>,
    /// Since when it waits for more.
    waiting: Option<Instant>,
    /// It is still in the configuration.
    pub(super) is_there: bool,
}

impl Used {
    /// Of every limit, what an instance has without asking. All ask for the same.
    pub(super) fn reserve() -> Self {
        Self {
            demand: 1.0,
            grain: 1,
            ..Self::default()
        }
    }

    /// What was asked for since the last look, and what is left of what was asked for before.
    pub(super) fn look(&mut self, limit: &dyn Divisible, asked: f64, fading: f64, look: Look) {
        let least = limit.least_demand();
        self.is_there = true;
        self.grain = limit.grain();
        self.in_use = limit.in_use();
        self.demand = asked.max(self.demand * fading);
        if asked > 0.0 {
            self.asked = Some(look.now);
        }
        if self.demand < least {
            let is_seldom = look.is_alone || self.is_asked(SELDOM, look.now);
            self.demand = if is_seldom { least } else { 0.0 };
        }
        if look.is_alone {
            self.others.get_or_insert_default();
        }
    }

    fn is_asked(&self, within: Duration, now: Instant) -> bool {
        let asked = self.asked;
        asked.is_some_and(|asked| now.saturating_duration_since(asked) < within)
    }

    /// Whether the store has to know of it.
    pub(super) fn is_of_interest(&self) -> bool {
        self.is_there && (self.demand > 0.0 || self.counted > 0 || self.in_use > 0)
    }

    /// That much of it is used, where it is what other limits use.
    pub(super) fn is_used(&mut self, in_use: u32) {
        self.in_use = in_use;
    }

    /// What is used of the reserve, because the store counts no part for it.
    pub(super) fn beyond(&self) -> u32 {
        match self.in_use > self.held() {
            true => self.in_use,
            false => 0,
        }
    }

    /// What others must do without.
    fn held(&self) -> u32 {
        self.part.max(self.in_use.min(self.counted))
    }

    /// What to tell the store; `reserve` is had without asking.
    pub(super) fn tell<'a>(
        &mut self,
        kind: LimitKind,
        of: &'a str,
        reserve: u32,
        now: Instant,
    ) -> Demand<'a> {
        let claim = self.claim(reserve, now);
        let want = claim.want();
        self.counted = self.held();
        self.waiting = match want > self.part {
            true => self.waiting.or(Some(now)),
            false => None,
        };
        Demand {
            kind,
            of,
            demand: claim.demand,
            held: self.counted,
            want,
            grain: claim.grain,
            waited: self
                .waiting
                .map(|since| now.saturating_duration_since(since)),
        }
    }

    /// The store's reply. What is more than it wants now, it does without at once.
    pub(super) fn hear(&mut self, reply: Part, reserve: u32, now: Instant) {
        self.counted = reply.part.max(self.counted);
        self.part = reply.part;
        self.others = Some(Others {
            demand: reply.others,
            is_awaited: reply.is_awaited,
        });
        self.turn = match self.part > self.claim(reserve, now).fair().least {
            true => self.turn.or(Some(now)),
            false => None,
        };
        let want = self.claim(reserve, now).want();
        self.part = self.part.min(want);
        if self.part == want {
            self.waiting = None;
        }
    }

    /// Whether the store has not granted all that it wants.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// It is not told any more, or was never: nothing counts for it.
    pub(super) fn forget(&mut self) {
        self.part = 0;
        self.counted = 0;
        self.waiting = None;
    }

    /// It has so much, which no store has granted, but one that is of use at least.
    pub(super) fn assume(&mut self, part: u32) {
        self.part = part.max(self.grain);
        self.counted = self.part;
    }

    /// Whether somebody waits for what the store still counts for this instance, and that is more than one part in so
    /// many of it.
    pub(super) fn has_shrunk(&self, notable: u32) -> bool {
        let given_up = self.counted.saturating_sub(self.held());
        let is_awaited = self.others.is_some_and(|others| others.is_awaited);
        is_awaited && given_up >= self.grain.max(1) && given_up > self.counted / notable
    }

    fn claim(&self, reserve: u32, now: Instant) -> Claim {
        let had_turn = self
            .turn
            .is_some_and(|since| now.saturating_duration_since(since) >= TURN);
        Claim {
            demand: millionths(self.demand),
            is_asked_lately: self.is_asked(LATELY, now),
            grain: self.grain.max(1),
            part: self.part,
            in_use: self.in_use,
            reserve,
            had_turn,
            others: self.others,
        }
    }
}

/// A look at all limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) now: Instant,
    /// There is no other instance: this one has all of every limit.
    pub(super) is_alone: bool,
}

fn millionths(demand: f64) -> u32 {
    if demand <= 0.0 {
        return 0;
    }
    let millionths = demand.clamp(0.0, 1.0) * f64::from(Share::WHOLE.millionths());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and a million"
    )]
    let millionths = millionths as u32;
    millionths.max(1)
}
