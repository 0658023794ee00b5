//! May the token endpoint be called now? One limiter for each provider: a quota of calls, and a breaker.
//!
//! Every token call has a [`CallPermit`] of its own, whatever it is for. Calls that must wait stand in one of
//! three queues; only the first of each queue looks at the clock, so that ten thousand waiting keys cost
//! nothing. A later queue may be further ahead of the even pace than an earlier one: that is the reserve.
//! The queues hold each key once, and whoever waits for a key has a limit of its own (`token.wait`).
//!
//! Who writes: the first of a queue, and whoever ends a call, under `state`, never across an await.
//! `changed` tells the first of each queue that the breaker or the quota has.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::backoff;
use super::failure::Failure;
use super::timing::{SHORT, Timing};
use bursar_limits::circuit_breaker::{Breaker, Passage, Until};
use bursar_limits::rate_limiter::RateLimiter;
use bursar_telemetry::metrics::EndpointSeries;

/// Failures in a row, of all keys together, after which calls are open_until.
const MAX_FAILURES: u32 = 5;

/// Start-up calls under way at once; more wait for their turn. At the pace of start-up a slow endpoint would
/// have a thousand of them.
const MAX_STARTUP: usize = 64;

/// How urgent a call is; a later one goes before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// Start-up: nobody asked for it yet.
    Startup,
    /// A request waits for it, or will soon.
    Request,
    /// A provider refused the token that is there.
    Recovery,
}

/// What all token calls to one provider share.
#[derive(Debug)]
pub(super) struct EndpointLimiter {
    provider: Arc<str>,
    queues: [tokio::sync::Mutex<()>; 3],
    /// Room for calls that nobody waits for.
    startup: Semaphore,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Calls that had to wait for the quota.
    exhausted: IntCounter,
}

#[derive(Debug)]
struct State {
    quota: Quota,
    pace: RateLimiter,
    breaker: Breaker,
    timing: Timing,
}

/// So many calls in any minute.
#[derive(Debug)]
struct Quota {
    calls_per_minute: NonZeroU32,
    /// How far ahead of the even pace a call may be, by [`Priority`].
    tolerances: [Duration; 3],
    /// The even pace.
    interval: Duration,
}

/// One call, which may be made now. Dropped without a result, it is as if it had not been made.
#[derive(Debug)]
pub(super) struct CallPermit<'a> {
    limiter: &'a EndpointLimiter,
    /// Held until the call has ended.
    _place: Option<SemaphorePermit<'a>>,
    is_probe: bool,
    /// Whether the call before it failed.
    is_after_outage: bool,
    began: Instant,
    is_recorded: bool,
}

/// What can be shown of a limiter.
#[derive(Debug)]
pub struct EndpointSnapshot {
    /// Whose it is.
    pub provider: Arc<str>,
    /// The quota.
    pub calls_per_minute: NonZeroU32,
    /// Whether calls are open_until because the endpoint fails.
    pub is_open: bool,
    /// Calls that had to wait for the quota.
    pub exhausted: u64,
}

/// Why a call has to wait, and until when; None: for news of the breaker.
enum Wait {
    Breaker(Option<Instant>),
    Quota(Instant),
}

impl Quota {
    fn of(calls_per_minute: NonZeroU32) -> Self {
        let calls = calls_per_minute.get();
        let burst = (calls / 4).max(1);
        // A burst, and the rest of the minute at an even pace, are not more than the quota. Rounded up,
        // so that the last one does not come a moment before the minute is over.
        let interval = Duration::from_secs(60) / (calls - burst + 1) + Duration::from_nanos(1);
        let share = (burst / 3).max(1);
        let tolerance = |less: u32| interval * burst.saturating_sub(less).max(1).saturating_sub(1);
        Self {
            calls_per_minute,
            tolerances: [tolerance(2 * share), tolerance(share), tolerance(0)],
            interval,
        }
    }
}

impl EndpointLimiter {
    pub(super) fn new(
        provider: &Arc<str>,
        calls_per_minute: NonZeroU32,
        series: EndpointSeries,
    ) -> Self {
        let quota = Quota::of(calls_per_minute);
        Self {
            provider: provider.clone(),
            queues: Default::default(),
            startup: Semaphore::new(MAX_STARTUP),
            state: Mutex::new(State {
                pace: RateLimiter::new(quota.interval),
                quota,
                breaker: Breaker::new(MAX_FAILURES, series.open),
                timing: Timing::default(),
            }),
            changed: watch::Sender::new(()),
            exhausted: series.exhausted,
        }
    }

    /// From now on so many calls in a minute, for those that wait already, too. What was made counts.
    pub(super) fn change_quota(&self, calls_per_minute: NonZeroU32) {
        let mut state = self.state();
        if state.quota.calls_per_minute != calls_per_minute {
            let quota = Quota::of(calls_per_minute);
            state.pace.go_on_at(quota.interval, Instant::now());
            state.quota = quota;
            self.changed.send_replace(());
        }
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a call's turn. `priority` may become more urgent meanwhile.
    pub(super) async fn acquire(&self, priority: &mut watch::Receiver<Priority>) -> CallPermit<'_> {
        loop {
            let now = *priority.borrow_and_update();
            tokio::select! {
                biased;
                permit = self.wait_for_turn(now) => return permit,
                Ok(()) = priority.changed() => {}
            }
        }
    }

    async fn wait_for_turn(&self, priority: Priority) -> CallPermit<'_> {
        let _turn = self.queues[priority as usize].lock().await;
        let place = match priority {
            // Never closed.
            Priority::Startup => self.startup.acquire().await.ok(),
            Priority::Request | Priority::Recovery => None,
        };
        let mut changed = self.changed.subscribe();
        let mut is_counted = false;
        loop {
            changed.mark_unchanged();
            let until = match self.try_take(priority, Instant::now()) {
                Ok(is_probe) => {
                    return CallPermit {
                        limiter: self,
                        _place: place,
                        is_probe,
                        is_after_outage: self.state().breaker.is_failing(),
                        began: Instant::now(),
                        is_recorded: false,
                    };
                }
                Err(Wait::Breaker(until)) => until,
                Err(Wait::Quota(until)) => {
                    if !std::mem::replace(&mut is_counted, true) {
                        self.exhausted.inc();
                    }
                    Some(until)
                }
            };
            let elapsed = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    // The probe has `token.timeout`, and its permit tells how it ended.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = elapsed => {}
                // The sender is this limiter's own.
                _ = changed.changed() => {}
            }
        }
    }

    /// Takes a call out of the quota; whether it is the breaker's probe.
    fn try_take(&self, priority: Priority, now: Instant) -> Result<bool, Wait> {
        let mut state = self.state();
        // Start-up calls are those that nobody waits for.
        let is_wanted = priority != Priority::Startup;
        let is_probe = match state.breaker.passage(now, is_wanted) {
            Passage::Free => false,
            Passage::Probe => true,
            Passage::Held(until) => {
                return Err(Wait::Breaker(until.map(|until| until.of(is_wanted))));
            }
        };
        let tolerance = state.quota.tolerances[priority as usize];
        let taken = state.pace.take(now, tolerance);
        taken.map_err(|exceeded| Wait::Quota(now + exceeded.retry_after))?;
        if is_probe {
            state.breaker.probe();
        }
        Ok(is_probe)
    }

    /// Until when no call is made, where the endpoint failed too often; None too while it is probed.
    pub(super) fn open_until(&self, now: Instant) -> Option<Until> {
        let passage = self.state().breaker.passage(now, false);
        match passage {
            Passage::Held(until) => until,
            Passage::Free | Passage::Probe => None,
        }
    }

    /// The same for a token that somebody waits for, or nobody.
    pub(super) fn open_until_for(&self, now: Instant, is_wanted: bool) -> Option<Instant> {
        let until = self.open_until(now).map(|until| until.of(is_wanted));
        until.filter(|until| *until > now)
    }

    /// Why a call of a request has to wait now, and for how long at least.
    pub(super) fn wait(&self, now: Instant) -> (Failure, Duration) {
        let state = self.state();
        if let Some(pause) = state.breaker.held_for(now) {
            return (Failure::CircuitOpen, pause);
        }
        let tolerance = state.quota.tolerances[Priority::Request as usize];
        (Failure::QuotaExhausted, state.pace.wait(now, tolerance))
    }

    /// What there is to show.
    pub(super) fn snapshot(&self) -> EndpointSnapshot {
        let state = self.state();
        EndpointSnapshot {
            provider: self.provider.clone(),
            calls_per_minute: state.quota.calls_per_minute,
            is_open: state.breaker.is_open(),
            exhausted: self.exhausted.get(),
        }
    }
}

impl CallPermit<'_> {
    /// Ends when the call has taken too long for the requests that wait for it; never, where it has all of
    /// `token.timeout`.
    pub(super) async fn overdue(&self, priority: &mut watch::Receiver<Priority>) {
        let is_waited_for = priority
            .wait_for(|priority| *priority != Priority::Startup)
            .await
            .is_ok();
        if !is_waited_for || !self.is_after_outage || !self.limiter.state().timing.shortens() {
            std::future::pending().await
        }
        sleep_until(self.began + SHORT).await;
    }

    /// The call ended, with a failure perhaps.
    pub(super) fn record(mut self, failure: Option<Failure>) {
        self.is_recorded = true;
        let limiter = self.limiter;
        let outage = failure.filter(|failure| failure.is_outage());
        let is_news = {
            let mut state = limiter.state();
            match outage {
                Some(failure) => state
                    .breaker
                    .failed(self.is_probe, Instant::now(), |earlier| {
                        backoff::pause(failure, earlier, fastrand::f64())
                    }),
                None => {
                    state.timing.responded(self.began.elapsed());
                    state.breaker.succeeded()
                }
            }
        };
        if is_news {
            match outage {
                Some(failure) => {
                    tracing::warn!(provider = %limiter.provider, %failure, "the token endpoint fails; calls are open_until, and it is probed");
                }
                None => {
                    tracing::info!(provider = %limiter.provider, "the token endpoint works again");
                }
            }
        }
        if is_news || self.is_probe {
            limiter.changed.send_replace(());
        }
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.is_recorded {
            self.limiter.state().breaker.give_up();
            self.limiter.changed.send_replace(());
        }
    }
}
