//! Limiter of the calls to one provider's token endpoint: a quota of calls, and a circuit breaker.
//!
//! Every token call has a [`CallPermit`] of its own, whatever it is for. Calls that must wait stand in one of
//! three queues; only the first of each queue looks at the clock, so that ten thousand waiting keys cost
//! nothing. A later queue may be further ahead of the even pace than an earlier one: that is the reserve.
//! The queues hold each key once, and whoever waits for a key has a limit of its own (`token.wait`).
//!
//! In a fleet the quota is that of all instances, and in the store: the first of each queue takes its call there. While
//! the store is away this instance has its share of the quota, on its own.
//!
//! Who writes: the first of a queue, and whoever ends a call or changes the quota, under `state`, never across an await:
//! what the store replies is written when it is there, and three queues may be asking. The breaker has a lock of its own,
//! which is taken after that one or alone. The first of each queue is woken by the breaker where its state changes, and by
//! `quota_changed`.

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
use bursar_fleet::{CallReply, CallRequest, Fleet};
use bursar_limits::circuit_breaker::{CircuitBreaker, Open, Permit, State, Until};
use bursar_limits::rate_limiter::RateLimiter;
use bursar_limits::share::Share;
use bursar_telemetry::metrics::{Cause, EndpointSeries};

/// Failures in a row, of all keys together, after which calls are held.
const MAX_FAILURES: u32 = 5;

/// A call that was taken out of the quota and not made is there for the next one, but for no longer than this: it would be
/// one too many in a later minute.
const UNUSED_FOR: Duration = Duration::from_secs(1);

/// Instances that wait for the fleet's quota do not ask the store all at once, but within this time for each of them.
const ASKING: Duration = Duration::from_millis(1);
/// The same where there are few.
const MIN_ASKING: Duration = Duration::from_millis(20);

/// No burst is further ahead of the even pace than this, however many calls a minute has: a quarter of them at once, and
/// the rest evenly.
const LONGEST_BURST: Duration = Duration::from_secs(20);

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
    /// None: this instance is on its own.
    fleet: Option<Fleet>,
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
    /// Of all instances, where there is a fleet.
    quota: Quota,
    /// What this instance has of it on its own: all, or its share while the fleet's store is away.
    own: Quota,
    share: Share,
    /// Of `own`. In a fleet it goes on where all were when the store was there last.
    pace: RateLimiter,
    common: Common,
    /// When a call was taken that was not made.
    unused: Option<Instant>,
    timing: Timing,
    /// Why the last call had no connection, if it had none.
    cause: Option<Cause>,
}

/// What is known of the calls of all instances of a fleet.
#[derive(Debug, Default)]
struct Common {
    /// When the next one would be due at an even pace, as the store said last.
    due: Option<Instant>,
    /// Calls that were made without the store, and that it was not told of yet.
    unreported: u32,
    /// Whether the store was of no use when it was last asked.
    is_away: bool,
}

/// Calls in any minute.
#[derive(Debug)]
struct Quota {
    calls_per_minute: NonZeroU32,
    /// How far ahead of the even pace a call may be, by [`Priority`].
    tolerances: [Duration; 3],
    /// The even pace.
    interval: Duration,
}

/// One call, which may be made now. Dropped without a result, it tells nothing of the endpoint.
#[derive(Debug)]
pub(super) struct CallPermit<'a> {
    limiter: &'a EndpointLimiter,
    /// Held until the call has ended.
    _place: Option<SemaphorePermit<'a>>,
    taken: Taken<'a>,
    /// Whether the call before it failed.
    is_after_outage: bool,
    began: Instant,
}

/// A call that the quota and the breaker let through.
#[derive(Debug)]
struct Taken<'a> {
    breaker: Permit<&'a CircuitBreaker>,
    /// When it was taken out of the quota.
    at: Instant,
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

/// A question to the fleet's store.
#[derive(Debug, Clone, Copy)]
struct Asked {
    asked: Instant,
    /// Of how many calls it was told that were made without it.
    told: u32,
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
            tolerances: [tolerance(2 * part), tolerance(part), tolerance(0)],
            interval,
        }
    }

    /// How far ahead of the even pace the calls of a fleet can be, whose instances may have different quotas while they
    /// are reloaded.
    fn longest(&self) -> Duration {
        let most = self.tolerances[Priority::Recovery as usize];
        (most + self.interval).max(LONGEST_BURST)
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
        fleet: Option<Fleet>,
    ) -> Self {
        let share = match &fleet {
            Some(_) => Share::FIRST,
            None => Share::WHOLE,
        };
        let own = Quota::of(calls_per_minute, share);
        Self {
            provider: provider.clone(),
            fleet,
            queues: Default::default(),
            startup: Semaphore::new(MAX_STARTUP),
            state: Mutex::new(LimiterState {
                quota: Quota::of(calls_per_minute, Share::WHOLE),
                pace: RateLimiter::new(own.interval),
                own,
                share,
                common: Common::default(),
                unused: None,
                timing: Timing::default(),
                cause: None,
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
            state.quota = Quota::of(calls_per_minute, Share::WHOLE);
            state.go_on_as(calls_per_minute, Instant::now());
            self.quota_changed.send_replace(());
        }
    }

    /// From now on this is what the instance has on its own while the fleet's store is away. Where that begins or ends, calls
    /// that wait have another quota at once.
    pub(super) fn divide(&self, share: Share, is_away: bool, now: Instant) {
        let mut state = self.state();
        let has_changed = state.share != share;
        if has_changed {
            state.share = share;
            let calls_per_minute = state.quota.calls_per_minute;
            state.go_on_as(calls_per_minute, now);
        }
        if is_away != std::mem::replace(&mut state.common.is_away, is_away)
            || has_changed && is_away
        {
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
            if let Some(permit) = self.wait_for_turn(now, priority).await {
                return permit;
            }
        }
    }

    /// Waits with that priority. None: it has become more urgent. A call that is being taken out of the fleet's quota is not
    /// given up for that: it would be lost to everybody.
    async fn wait_for_turn(
        &self,
        priority: Priority,
        changing: &mut watch::Receiver<Priority>,
    ) -> Option<CallPermit<'_>> {
        let queued = async {
            let turn = self.queues[priority as usize].lock().await;
            let place = match priority {
                // Never closed.
                Priority::Startup => self.startup.acquire().await.ok(),
                Priority::Request | Priority::Recovery => None,
            };
            (turn, place)
        };
        let (_turn, place) = tokio::select! {
            biased;
            queued = queued => queued,
            Ok(()) = changing.changed() => return None,
        };
        let mut quota_changed = self.quota_changed.subscribe();
        let mut breaker_changed = self.breaker.subscribe();
        let mut is_counted = false;
        loop {
            quota_changed.mark_unchanged();
            breaker_changed.mark_unchanged();
            let until = match self.take(priority).await {
                Ok(taken) => {
                    return Some(CallPermit {
                        limiter: self,
                        _place: place,
                        taken,
                        is_after_outage: self.breaker.is_failing(),
                        began: Instant::now(),
                    });
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
                Ok(()) = changing.changed() => return None,
                // The senders are this limiter's own.
                _ = quota_changed.changed() => {}
                _ = breaker_changed.changed() => {}
            }
        }
    }

    /// Takes a call out of the quota, where the breaker lets it go: the fleet's, where its store is there.
    async fn take(&self, priority: Priority) -> Result<Taken<'_>, Wait> {
        let Some(fleet) = &self.fleet else {
            return self.try_take(priority, Instant::now());
        };
        if let Some(taken) = self.try_unused(priority, Instant::now())? {
            return Ok(taken);
        }
        let asked = Instant::now();
        let (request, told) = self.state().request(priority, asked);
        match fleet.take_call(&self.provider, request).await {
            Ok(reply) => self.hear(reply, Asked { asked, told }, priority, Instant::now()),
            Err(error) => {
                tracing::debug!(provider = %self.provider, %error, "a token call is not taken out of the fleet's quota, but out of this instance's share");
                self.try_take(priority, Instant::now())
            }
        }
    }

    /// Takes a call out of this instance's own quota, where the breaker lets it go.
    fn try_take(&self, priority: Priority, now: Instant) -> Result<Taken<'_>, Wait> {
        if let Some(taken) = self.try_unused(priority, now)? {
            return Ok(taken);
        }
        let mut state = self.state();
        state.common.is_away = true;
        let tolerance = state.own.tolerances[priority as usize];
        let taken = state.pace.take(now, tolerance);
        taken.map_err(|exceeded| Wait::Quota(now + exceeded.retry_after))?;
        state.common.unreported = state.common.unreported.saturating_add(1);
        self.enter_breaker(&mut state, priority, now)
    }

    /// Whether there is a call that was taken before and not made.
    fn try_unused(&self, priority: Priority, now: Instant) -> Result<Option<Taken<'_>>, Wait> {
        // Looked at first, so that a call that the quota holds up does not go half-open: to give that up again would
        // wake the queues, this one too.
        if let State::Open(open) = self.breaker.state(now, priority.is_awaited()) {
            return Err(Wait::Breaker(open));
        }
        let mut state = self.state();
        let unused = state.unused.take().filter(|at| now < *at + UNUSED_FOR);
        let taken = unused.map(|at| self.enter_breaker(&mut state, priority, at));
        taken.transpose()
    }

    /// The reply of the fleet's store.
    fn hear(
        &self,
        reply: CallReply,
        question: Asked,
        priority: Priority,
        now: Instant,
    ) -> Result<Taken<'_>, Wait> {
        let mut state = self.state();
        let longest = state.quota.longest();
        state.heard(reply.ahead.min(longest), question, now);
        if reply.is_taken {
            return self.enter_breaker(&mut state, priority, now);
        }
        let asking = ASKING
            .div_f64(state.share.fraction().max(0.001))
            .max(MIN_ASKING);
        Err(Wait::Quota(
            now + reply.wait.min(longest) + asking.mul_f64(fastrand::f64()),
        ))
    }

    /// A call that was taken may be made, or is there for the next one.
    fn enter_breaker(
        &self,
        state: &mut LimiterState,
        priority: Priority,
        at: Instant,
    ) -> Result<Taken<'_>, Wait> {
        let breaker = CircuitBreaker::acquire(&self.breaker, Instant::now(), priority.is_awaited());
        if breaker.is_err() {
            state.unused = Some(at);
        }
        let breaker = breaker.map_err(Wait::Breaker)?;
        Ok(Taken { breaker, at })
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
        let tolerance = |quota: &Quota| quota.tolerances[Priority::Request as usize];
        if let State::Open(open) = self.breaker.state(now, true) {
            return (Failure::CircuitOpen, open.retry_after(now));
        }
        let wait = match (state.common.due, state.common.is_away) {
            (Some(_), false) => {
                let ahead = state.common.ahead(now);
                ahead.saturating_sub(tolerance(&state.quota))
            }
            _ => state.pace.wait(now, tolerance(&state.own)),
        };
        (Failure::QuotaExhausted, wait)
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

impl LimiterState {
    /// What this instance has on its own is another part, or a part of another quota. What was let through counts.
    fn go_on_as(&mut self, calls_per_minute: NonZeroU32, now: Instant) {
        self.own = Quota::of(calls_per_minute, self.share);
        self.pace.go_on_at(self.own.interval, now);
    }

    /// What to ask the fleet's store, and how many calls it is told of that way.
    fn request(&self, priority: Priority, now: Instant) -> (CallRequest, u32) {
        let unreported = self.common.unreported;
        // Those that are long past count no more.
        let ahead = self.pace.wait(now, Duration::ZERO);
        let counting = ahead.div_duration_f64(self.own.interval);
        let request = CallRequest {
            interval: self.quota.interval,
            tolerance: self.quota.tolerances[priority as usize],
            longest: self.quota.longest(),
            ahead: self.common.ahead(now),
            unreported: self
                .quota
                .interval
                .mul_f64(counting.min(f64::from(unreported))),
        };
        (request, unreported)
    }

    /// All instances are so far ahead of the even pace. Each goes on from there on its own where the store is lost.
    fn heard(&mut self, ahead: Duration, Asked { asked, told }: Asked, now: Instant) {
        self.common.is_away = false;
        // The store counts from when it hears of it. Whoever told it more the next time would delay all calls by the time
        // that each question takes.
        let trips = now.saturating_duration_since(asked);
        self.common.due = Some(asked + ahead.saturating_sub(trips));
        self.common.unreported = self.common.unreported.saturating_sub(told);
        self.pace.change(self.own.interval, ahead, now);
    }
}

impl Common {
    /// How far ahead of the even pace all are.
    fn ahead(&self, now: Instant) -> Duration {
        let due = self.due.unwrap_or(now);
        due.saturating_duration_since(now)
    }
}

impl CallPermit<'_> {
    /// The call is not made: the next one finds it.
    pub(super) fn give_back(self) {
        let limiter = self.limiter;
        limiter.state().unused = Some(self.taken.at);
        drop(self);
        limiter.quota_changed.send_replace(());
    }

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
                Some(failure) => self.taken.breaker.failed(Instant::now(), |earlier| {
                    backoff::pause(failure, earlier, fastrand::f64())
                }),
                None => {
                    state.timing.responded(self.began.elapsed());
                    self.taken.breaker.succeeded()
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
