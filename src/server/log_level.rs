//! Another filter of the log for a time, after which it is what it was.
//!
//! One filter at a time: another one replaces it, with a time of its own. Whose time is over finds by its number whether
//! it was replaced meanwhile, under the lock that whoever replaces it has held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::task::AbortOnDropHandle;

use bursar_base::clock;
use bursar_telemetry::log::{Invalid, LogFilter};

/// How long a filter may hold, at least and at most.
pub const TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
/// Where nobody says how long.
pub(super) const USUAL_TIME: Duration = Duration::from_secs(15 * 60);

/// The filter of the log. Clones are the same one.
#[derive(Debug, Clone)]
pub struct LogLevel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: LogFilter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the filter that was put last.
    number: u64,
    temporary: Option<Temporary>,
}

#[derive(Debug)]
struct Temporary {
    filter: String,
    until: SystemTime,
    /// Puts the usual one back.
    _timer: AbortOnDropHandle<()>,
}

/// What is logged now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) filter: String,
    /// None: as long as Bursar runs.
    pub(super) until: Option<SystemTime>,
    /// What it is after that.
    pub(super) usual: String,
}

impl LogLevel {
    /// Of that log.
    #[must_use]
    pub fn new(log: LogFilter) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Inner { log, state }))
    }

    pub(super) fn shown(&self) -> Shown {
        let state = self.state();
        let temporary = state.temporary.as_ref();
        let usual = self.0.log.usual().to_owned();
        Shown {
            filter: temporary.map_or_else(|| usual.clone(), |now| now.filter.clone()),
            until: temporary.map(|now| now.until),
            usual,
        }
    }

    /// Has the log filtered by that on top of what is usual, for so long.
    pub(super) fn put(&self, given: &str, time: Duration) -> Result<(), Invalid> {
        let filter = self.0.log.with(given)?;
        let mut state = self.state();
        // While the filter before still holds, so that one that hides this line is seen to come.
        tracing::warn!(
            filter,
            seconds = time.as_secs(),
            "the log has another filter for a time"
        );
        state.number += 1;
        let (level, number) = (self.clone(), state.number);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let mut state = level.state();
            if state.number == number {
                level.restore_in(&mut state);
            }
        });
        self.0.log.put(&filter);
        state.temporary = Some(Temporary {
            filter,
            until: clock::wall() + time,
            _timer: AbortOnDropHandle::new(timer),
        });
        Ok(())
    }

    /// Has the log filtered as usual, before the time is over.
    pub(super) fn restore(&self) {
        self.restore_in(&mut self.state());
    }

    fn restore_in(&self, state: &mut State) {
        if state.temporary.take().is_some() {
            let usual = self.0.log.usual();
            self.0.log.put(usual);
            tracing::warn!(filter = usual, "the log has its usual filter again");
        }
    }

    /// A panic while it was held leaves a filter and its time together.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::EnvFilter;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_filter_ends_with_its_time_and_not_with_that_of_the_one_before() {
        let put: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = put.clone();
        let seen = move |filter: EnvFilter| seen.lock().unwrap().push(filter.to_string());
        let level = LogLevel::new(LogFilter::new(&EnvFilter::new("info"), Box::new(seen)));
        let seconds = Duration::from_secs;
        assert_eq!(level.put("debgu", seconds(1)), Err(Invalid));
        level.put("debug", seconds(10)).unwrap();
        tokio::time::sleep(seconds(5)).await;
        level.put("trace", seconds(10)).unwrap();
        tokio::time::sleep(seconds(9)).await;
        assert_eq!(level.shown().filter, "trace");
        assert!(level.shown().until.is_some());
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(
            (&*level.shown().filter, level.shown().until),
            ("info", None)
        );
        level.put("off", seconds(10)).unwrap();
        level.restore();
        level.restore();
        tokio::time::sleep(seconds(20)).await;
        let put = put.lock().unwrap().clone();
        // h2's line with the target of a malformed request is never asked for.
        let expected = ["debug", "trace", "info", "off", "info"];
        assert_eq!(
            put,
            expected.map(|filter| format!("h2::server=info,{filter}"))
        );
    }
}
