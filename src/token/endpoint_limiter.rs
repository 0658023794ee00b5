//! Limiter of the calls to one provider's token endpoint: a quota of calls, and a circuit breaker.
//!
//! Every token call has a [`CallPermit`] of its own, whatever it is for. Calls that must wait stand in one of
//! three queues; only the first of each queue looks at the clock, so that ten thousand waiting keys cost
//! nothing. A later queue may be further ahead of the even pace than an earlier one: that is the reserve.
//! The queues hold each key once, and whoever waits for a key has a limit of its own (`token.wait`).
//!
//! In a fleet the quota is divided: this instance has its share, which changes with what it asks for.
//!
//! Who writes: the first of a queue, and whoever ends a call or changes the quota, under `state`, never across an await. The breaker has a
//! lock of its own, which is taken after that one or alone. The first of each queue is woken by the breaker where its
//! state changes, and by `quota_changed`.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::backoff;
use super::failure::Failure;
use super::timing::{SHORT, Timing};
use bursar_base::log_throttle::LogThrottles;
use bursar_limits::circuit_breaker::{CircuitBreaker, Open, Permit, State, Until};
use bursar_limits::rate_limiter::RateLimiter;
use bursar_limits::share::{Divisible, Share};
use bursar_telemetry::metrics::{Cause, EndpointSeries};

/// Failures in a row, of all keys together, after which calls are held.
const MAX_FAILURES: u32 = 5;

/// The quota is of calls in any of these: a call that is older counts no more.
const MINUTE: Duration = Duration::from_secs(60);

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

impl Priority {
    /// Whether somebody waits for the call: not at start-up.
    fn is_awaited(self) -> bool {
        self != Self::Startup
    }
}

/// What all token calls to one provider share.
#[derive(Debug)]
pub(super) struct EndpointLimiter {
    provider: Arc<str>,
    queues: [tokio::sync::Mutex<()>; 3],
    /// Room for calls that nobody waits for.
    startup: Semaphore,
    state: Mutex<LimiterState>,
    breaker: CircuitBreaker,
    quota_changed: watch::Sender<()>,
    /// Calls that had to wait for the quota.
    exhausted: IntCounter,
    /// For lines that say that there is no token.
    lines: LogThrottles<String>,
}

#[derive(Debug)]
struct LimiterState {
    quota: Quota,
    pace: RateLimiter,
    timing: Timing,
    /// Why the last call had no connection, if it had none.
    cause: Option<Cause>,
    /// Calls since the last look at the demand.
    made: u32,
    /// When the last one was made.
    last_made: Option<Instant>,
    /// Calls that wait for their turn.
    waiting: u32,
}

/// A call that waits for its turn; dropping it takes it off the count.
struct Waiting<'a>(&'a EndpointLimiter);

/// Calls in any minute.
#[derive(Debug)]
struct Quota {
    calls_per_minute: NonZeroU32,
    /// This instance's part of them.
    share: Share,
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
    breaker: Permit<&'a CircuitBreaker>,
    /// Whether the call before it failed.
    is_after_outage: bool,
    began: Instant,
}

/// What can be shown of a limiter.
#[derive(Debug)]
pub struct EndpointSnapshot {
    /// Whose it is.
    pub provider: Arc<str>,
    /// The quota.
    pub calls_per_minute: NonZeroU32,
    /// Whether calls are held because the endpoint fails.
    pub is_open: bool,
    /// Calls that had to wait for the quota.
    pub exhausted: u64,
}

/// Why a call has to wait, and until when.
enum Wait {
    Breaker(Open),
    Quota(Instant),
}

impl Quota {
    fn of(calls_per_minute: NonZeroU32, share: Share) -> Self {
        let calls = f64::from(calls_per_minute.get()) * share.fraction();
        let burst = burst(calls);
        // A burst, and the rest of the minute at an even pace, are not more than the quota. Rounded up,
        // so that the last one does not come a moment before the minute is over.
        let even = calls - f64::from(burst) + 1.0;
        let interval = Duration::from_secs_f64(60.0 / even) + Duration::from_nanos(1);
        let part = (burst / 3).max(1);
        let tolerance = |less: u32| interval * burst.saturating_sub(less).max(1).saturating_sub(1);
        Self {
            calls_per_minute,
            share,
            tolerances: [tolerance(2 * part), tolerance(part), tolerance(0)],
            interval,
        }
    }
}

/// As many calls at once, one at least: where the share is less than one in a minute, the next one takes longer.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 1 and a quarter of a `u32`"
)]
fn burst(calls: f64) -> u32 {
    (calls / 4.0).max(1.0) as u32
}

impl EndpointLimiter {
    pub(super) fn new(
        provider: &Arc<str>,
        calls_per_minute: NonZeroU32,
        series: EndpointSeries,
    ) -> Self {
        let quota = Quota::of(calls_per_minute, Share::WHOLE);
        Self {
            provider: provider.clone(),
            queues: Default::default(),
            startup: Semaphore::new(MAX_STARTUP),
            state: Mutex::new(LimiterState {
                pace: RateLimiter::new(quota.interval),
                quota,
                timing: Timing::default(),
                cause: None,
                made: 0,
                last_made: None,
                waiting: 0,
            }),
            breaker: CircuitBreaker::new(MAX_FAILURES, series.open),
            quota_changed: watch::Sender::new(()),
            exhausted: series.exhausted,
            lines: LogThrottles::default(),
        }
    }

    /// Changes the number of calls in a minute, also for those that wait already. Calls made so far count.
    pub(super) fn change_quota(&self, calls_per_minute: NonZeroU32) {
        let mut state = self.state();
        if state.quota.calls_per_minute != calls_per_minute {
            let quota = Quota::of(calls_per_minute, state.quota.share);
            state.pace.go_on_at(quota.interval, Instant::now());
            state.quota = quota;
            self.quota_changed.send_replace(());
        }
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn state(&self) -> MutexGuard<'_, LimiterState> {
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
        let _waiting = Waiting::new(self);
        let _turn = self.queues[priority as usize].lock().await;
        let place = match priority {
            // Never closed.
            Priority::Startup => self.startup.acquire().await.ok(),
            Priority::Request | Priority::Recovery => None,
        };
        let mut quota_changed = self.quota_changed.subscribe();
        let mut breaker_changed = self.breaker.subscribe();
        let mut is_counted = false;
        loop {
            quota_changed.mark_unchanged();
            breaker_changed.mark_unchanged();
            let until = match self.try_take(priority, Instant::now()) {
                Ok(breaker) => {
                    return CallPermit {
                        limiter: self,
                        _place: place,
                        breaker,
                        is_after_outage: self.breaker.is_failing(),
                        began: Instant::now(),
                    };
                }
                Err(Wait::Breaker(open)) => open.until.map(|until| until.of(priority.is_awaited())),
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
                    // The half-open call has `token.timeout`, and its permit tells how it ended.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = elapsed => {}
                // The senders are this limiter's own.
                _ = quota_changed.changed() => {}
                _ = breaker_changed.changed() => {}
            }
        }
    }

    /// Takes a call out of the quota, where the breaker lets it go.
    fn try_take(&self, priority: Priority, now: Instant) -> Result<Permit<&CircuitBreaker>, Wait> {
        let mut state = self.state();
        let is_awaited = priority.is_awaited();
        // Looked at first, so that a call that the quota holds up does not go half-open: to give that up again would
        // wake the queues, this one too.
        if let State::Open(open) = self.breaker.state(now, is_awaited) {
            return Err(Wait::Breaker(open));
        }
        let tolerance = state.quota.tolerances[priority as usize];
        let taken = state.pace.take(now, tolerance);
        taken.map_err(|exceeded| Wait::Quota(now + exceeded.retry_after))?;
        state.made = state.made.saturating_add(1);
        state.last_made = Some(now);
        CircuitBreaker::acquire(&self.breaker, now, is_awaited).map_err(Wait::Breaker)
    }

    /// Whose calls they are.
    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    /// Until when no call is made, where the endpoint failed too often; None too while it is probed.
    pub(super) fn open_until(&self, now: Instant) -> Option<Until> {
        match self.breaker.state(now, false) {
            State::Open(open) => open.until,
            State::Closed | State::HalfOpen => None,
        }
    }

    /// The same for a token that somebody waits for, or nobody.
    pub(super) fn open_until_for(&self, now: Instant, is_awaited: bool) -> Option<Instant> {
        let until = self.open_until(now).map(|until| until.of(is_awaited));
        until.filter(|until| *until > now)
    }

    /// Why a call of a request has to wait now, and for how long at least.
    pub(super) fn wait(&self, now: Instant) -> (Failure, Duration) {
        let state = self.state();
        if let State::Open(open) = self.breaker.state(now, true) {
            return (Failure::CircuitOpen, open.retry_after(now));
        }
        let tolerance = state.quota.tolerances[Priority::Request as usize];
        (Failure::QuotaExhausted, state.pace.wait(now, tolerance))
    }

    /// Why the last call to the endpoint had no connection, if it had none.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.state().cause
    }

    /// Whether the log may be told of that now: it is told of each thing once a minute.
    pub(super) fn is_due(&self, what: String) -> bool {
        self.lines.is_due(what, Instant::now())
    }

    /// What there is to show.
    pub(super) fn snapshot(&self) -> EndpointSnapshot {
        let state = self.state();
        EndpointSnapshot {
            provider: self.provider.clone(),
            calls_per_minute: state.quota.calls_per_minute,
            is_open: self.breaker.is_open(),
            exhausted: self.exhausted.get(),
        }
    }
}

impl<'a> Waiting<'a> {
    fn new(limiter: &'a EndpointLimiter) -> Self {
        limiter.state().waiting += 1;
        Self(limiter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Divisible for EndpointLimiter {
    /// Calls that wait are wanted now; one in a second each is asked for.
    fn demand(&self, over: Duration) -> f64 {
        let mut state = self.state();
        let made = f64::from(std::mem::take(&mut state.made));
        let made = made / over.max(Duration::from_millis(1)).as_secs_f64();
        let calls = made + f64::from(state.waiting);
        calls * 60.0 / f64::from(state.quota.calls_per_minute.get())
    }

    /// One call in a minute.
    fn least_demand(&self) -> f64 {
        f64::from(self.state().quota.calls_per_minute.get()).recip()
    }

    fn share(&self) -> Share {
        self.state().quota.share
    }

    /// Calls that wait have another pace at once. Calls that were made count as so many, however large the share, until
    /// none was made for a minute: by the small share of an idle instance they would count for hours. A share of less than
    /// a call in a minute does not come by another one with each change.
    fn divide(&self, share: Share, now: Instant) {
        let mut state = self.state();
        if state.quota.share == share {
            return;
        }
        let quota = Quota::of(state.quota.calls_per_minute, share);
        let ahead = state.pace.wait(now, Duration::ZERO);
        let made = ahead.div_duration_f64(state.quota.interval);
        let are_old = state.last_made.is_some_and(|last| now >= last + MINUTE);
        let ahead = match are_old && quota.interval <= MINUTE {
            true => Duration::ZERO,
            false => quota.interval.mul_f64(made),
        };
        state.pace.change(quota.interval, ahead, now);
        state.quota = quota;
        self.quota_changed.send_replace(());
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
    pub(super) fn record(self, failure: Option<Failure>) {
        let limiter = self.limiter;
        let outage = failure.filter(|failure| failure.is_outage());
        let is_news = {
            // Held for both, so that a call that is let through now knows both.
            let mut state = limiter.state();
            state.cause = failure.and_then(Failure::cause);
            match outage {
                Some(failure) => self.breaker.failed(Instant::now(), |earlier| {
                    backoff::pause(failure, earlier, fastrand::f64())
                }),
                None => {
                    state.timing.responded(self.began.elapsed());
                    self.breaker.succeeded()
                }
            }
        };
        if !is_news {
            return;
        }
        match outage {
            Some(failure) => {
                tracing::warn!(provider = %limiter.provider, %failure, "the token endpoint fails; calls are held, and it is probed");
            }
            None => {
                tracing::info!(provider = %limiter.provider, "the token endpoint works again");
            }
        }
    }
}

#[cfg(test)]
mod tests;
