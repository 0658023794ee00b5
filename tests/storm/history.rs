//! Records of requests: as the providers read them, and the responses as the callers read them.
//!
//! Written by many tasks under one mutex, never across an await; checked when everything is over.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::plan::{Id, Treatment};

/// How much of an answer a provider has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    Partly,
    Whole,
    /// The whole of a 401.
    Unauthorized,
}

/// A request that a provider has read the head of.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    #[expect(dead_code, reason = "it is part of a trace")]
    pub(crate) token: String,
    /// Start line and all fields but the token, as they came.
    pub(crate) head: String,
    /// How many bytes of the body came.
    pub(crate) read: usize,
    /// Whether those are the first bytes of the body that was to be sent.
    pub(crate) is_same: bool,
    /// Whether the body came to its end.
    pub(crate) is_whole: bool,
    /// None: the token was refused.
    pub(crate) treatment: Option<Treatment>,
    pub(crate) reply: Reply,
}

/// What a caller got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// All of a provider's answer.
    Answered(u16),
    /// Bursar's own answer: reason, and `request_sent`.
    Refused(String, String),
    /// The connection ended before.
    Broken { has_head: bool },
    /// It went away itself.
    Left,
}

/// A request as its caller knows it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Which Bursar its connection was made to: the number of its start.
    pub(crate) begun: u64,
    /// Which one there was at the end.
    pub(crate) ended: u64,
    /// None: still under way.
    pub(crate) seen: Option<Seen>,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) cases: HashMap<Id, Case>,
    pub(crate) arrivals: HashMap<Id, Vec<Arrival>>,
    /// Whose answer Bursar cut off by a time limit, as its access lines say.
    pub(crate) timed_out: HashSet<Id>,
    /// What was wrong at once, without looking at anything else.
    pub(crate) violations: Vec<String>,
    /// How often each fault happened.
    pub(crate) faults: BTreeMap<String, u64>,
}

impl History {
    pub(crate) fn begin(&mut self, id: Id, epoch: u64) {
        let case = Case {
            begun: epoch,
            ended: epoch,
            seen: None,
        };
        if self.cases.insert(id, case).is_some() {
            self.violations
                .push(format!("{id}: the harness used an id twice"));
        }
    }

    pub(crate) fn end(&mut self, id: Id, epoch: u64, seen: Seen) {
        if let Some(case) = self.cases.get_mut(&id) {
            case.ended = epoch;
            case.seen = Some(seen);
        }
    }

    /// The number of the arrival, from 0.
    pub(crate) fn arrive(&mut self, id: Id, token: &str, head: String) -> usize {
        let arrivals = self.arrivals.entry(id).or_default();
        arrivals.push(Arrival {
            token: token.to_owned(),
            head,
            read: 0,
            is_same: true,
            is_whole: false,
            treatment: None,
            reply: Reply::Nothing,
        });
        arrivals.len() - 1
    }

    pub(crate) fn update(&mut self, id: Id, number: usize, change: impl FnOnce(&mut Arrival)) {
        let arrivals = self.arrivals.get_mut(&id);
        if let Some(arrival) = arrivals.and_then(|arrivals| arrivals.get_mut(number)) {
            change(arrival);
        }
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(crate) fn fault(&mut self, what: &str) {
        *self.faults.entry(what.to_owned()).or_default() += 1;
    }

    /// Everything that is known of a request, for whoever looks for the reason.
    pub(crate) fn trace(&self, id: Id) -> String {
        let mut trace = format!("{id}: {:?}\n", self.cases.get(&id));
        for arrival in self.arrivals.get(&id).into_iter().flatten() {
            trace.push_str(&format!("    {arrival:?}\n"));
        }
        trace
    }
}
