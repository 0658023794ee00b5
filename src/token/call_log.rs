//! Call log of a token key: how its token calls ended, how often, and whether one waits for its turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bursar_base::clock;
use bursar_telemetry::metrics::{FetchOutcome, GrantLabel};

/// How many calls for one account ended how. All its sources share them, and they outlive its secrets, because
/// a counter never goes back.
#[derive(Debug, Default)]
pub(super) struct CallCounts([[AtomicU64; FetchOutcome::COUNT]; GrantLabel::COUNT]);

/// The latest call of one token key. It outlives the key's sources: a call that an earlier one makes is this key's too.
#[derive(Debug, Default)]
pub(super) struct LatestCall(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    is_waiting: bool,
    ended: Option<(&'static str, SystemTime)>,
}

impl LatestCall {
    /// A panic elsewhere leaves nothing half-done here.
    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written down of the calls for one token key, by who makes them, for who shows them.
#[derive(Debug, Clone)]
pub(super) struct CallLog {
    counts: Arc<CallCounts>,
    latest: Arc<LatestCall>,
}

impl CallLog {
    pub(super) fn new(counts: Arc<CallCounts>, latest: Arc<LatestCall>) -> Self {
        Self { counts, latest }
    }

    /// What all sources of the account count with.
    pub(super) fn counts(&self) -> &Arc<CallCounts> {
        &self.counts
    }

    /// A call waits for its turn, or does not any more.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.latest.lock().is_waiting = is_waiting;
    }

    /// Whether a call waits for its turn: it is not made yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.latest.lock().is_waiting
    }

    /// A call with that grant ended so.
    pub(super) fn ended(&self, grant: GrantLabel, outcome: FetchOutcome) {
        self.counts.0[grant as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.latest.lock().ended = Some((outcome.as_str(), clock::wall()));
    }

    /// How many calls with that grant ended so.
    pub(super) fn count(&self, grant: GrantLabel, outcome: FetchOutcome) -> u64 {
        self.counts.0[grant as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// How the last call ended, and when.
    pub(super) fn last(&self) -> Option<(&'static str, SystemTime)> {
        self.latest.lock().ended
    }
}
