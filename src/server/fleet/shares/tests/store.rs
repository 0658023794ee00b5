//! A model of the store: what `beat.lua` does, with a clock that a test turns. Real stores are tried in the fleet's own
//! tests.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bursar_fleet::{Heard, Part};
use bursar_limits::share::LimitKind;

const SILENCE: i64 = 2000;
const SETTLING: i64 = 1300;
const AHEAD: i64 = 10_000;

/// A beat as it was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent(pub(super) Vec<Row>);

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) limit: (&'static str, String),
    pub(super) demand: u32,
    pub(super) held: u32,
    pub(super) want: u32,
    pub(super) grain: u32,
    pub(super) waited: Option<i64>,
}

impl Sent {
    pub(super) fn of(demands: &[bursar_fleet::Demand<'_>]) -> Self {
        let rows = demands.iter().map(|demand| Row {
            limit: (LimitKind::as_str(demand.kind), demand.of.to_owned()),
            demand: demand.demand,
            held: demand.held,
            want: demand.want,
            grain: demand.grain,
            waited: demand
                .waited
                .map(|waited| i64::try_from(waited.as_millis()).unwrap()),
        });
        Self(rows.collect())
    }
}

type Limit = (&'static str, String);

#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    epoch: u32,
    /// Whether there was a heartbeat since all was lost.
    is_begun: bool,
    settled: i64,
    alive: BTreeMap<u32, i64>,
    /// Demand and part, by member and limit.
    rows: HashMap<(u32, Limit), (u32, u32)>,
    first: HashMap<Limit, (u32, i64)>,
}

impl Store {
    /// All is lost.
    pub(super) fn flush(&mut self) {
        *self = Self {
            epoch: self.epoch + 1,
            ..Self::default()
        };
    }

    pub(super) fn leave(&mut self, member: u32) {
        self.withdraw(member);
        self.alive.remove(&member);
    }

    fn withdraw(&mut self, member: u32) {
        self.rows.retain(|(of, _), _| *of != member);
        self.first.retain(|_, (of, _)| *of != member);
    }

    fn is_heard(&self, from: i64, to: i64) -> bool {
        let mut heard = self.alive.values();
        heard.any(|heard| (from..=to).contains(heard))
    }

    fn sum(&self, limit: &Limit) -> (u32, u32) {
        let of_limit = self.rows.iter().filter(|((_, of), _)| of == limit);
        of_limit.fold((0, 0), |sum, (_, row)| (sum.0 + row.0, sum.1 + row.1))
    }

    pub(super) fn beat(&mut self, member: u32, sent: &Sent, now: i64) -> Heard {
        let is_any = self.is_heard(now - SILENCE, now + AHEAD);
        let has_nobody = self.is_begun && self.alive.is_empty();
        self.is_begun = true;
        if !is_any && !has_nobody {
            self.rows.clear();
            self.first.clear();
            self.settled = now + SETTLING;
        } else if !self.is_heard(now - SILENCE / 2, now + AHEAD) && self.alive.len() > 1 {
            self.settled = now + SETTLING;
        }
        let alive = self.alive.iter();
        let silent = alive.filter(|(_, heard)| **heard < now - SILENCE || **heard > now + AHEAD);
        let silent: Vec<u32> = silent.map(|(member, _)| *member).collect();
        for member in silent {
            self.leave(member);
        }
        self.settled = self.settled.min(now + SETTLING);
        let settles_in = u64::try_from(self.settled - now).unwrap_or_default();
        let is_settled = settles_in == 0;
        self.alive.insert(member, now);
        self.withdraw(member);
        let parts = sent
            .0
            .iter()
            .map(|row| self.grant(member, row, is_settled, now));
        let parts = parts.collect();
        Heard {
            epoch: self.epoch.to_string(),
            members: self.alive.len() as u64,
            freezes: 0,
            is_described: true,
            settles_in: Some(Duration::from_millis(settles_in)).filter(|_| !is_settled),
            parts,
        }
    }

    fn grant(&mut self, member: u32, row: &Row, is_settled: bool, now: i64) -> Part {
        let (others, parts) = self.sum(&row.limit);
        let first = self.first.get(&row.limit).copied();
        let since = row.waited.map(|waited| now - waited);
        let is_behind = first.is_some_and(|(_, first)| since.is_none_or(|since| since >= first));
        let free = 1_000_000_u32.saturating_sub(parts);
        let mut part = row.want.min(free);
        if is_behind {
            part = part.min(row.held.max(free.saturating_sub(row.grain)));
        }
        if !is_settled {
            part = row.want.min(row.held);
        }
        if part < row.want {
            part -= part % row.grain;
            if let Some(since) = since.filter(|_| !is_behind) {
                self.first.insert(row.limit.clone(), (member, since));
            }
        }
        let key = (member, row.limit.clone());
        self.rows.insert(key, (row.demand, part.max(row.held)));
        let first = self.first.get(&row.limit);
        Part {
            part,
            others,
            is_awaited: first.is_some_and(|(first, _)| *first != member),
        }
    }
}
