//! Circuit breaker: after failures in a row nothing is tried, and then one thing at a time, half-open, whose success closes
//! it again.
//!
//! What counts as a failure, and how long the pause is, is for whoever tries. Its gauge is up while it is open, and no
//! longer than it lives: a reload may have put another breaker in its place, or none.
//!
//! Its state is behind a mutex, held for a look and never across an await. Whoever tries writes it, with the [`Permit`]
//! that it was given; `changed` wakes those that wait for another state.

use std::borrow::Borrow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::time::Instant;

/// While a half-open try is under way nobody knows how long it takes.
const HALF_OPEN_TIME: Duration = Duration::from_secs(1);

/// Failures in a row, and what follows from them.
#[derive(Debug)]
pub struct CircuitBreaker {
    state: Mutex<Breaker>,
    changed: watch::Sender<()>,
}

/// Leave to try, for one who tells what came of it. Dropped without a result, it is as if nothing had been tried.
///
/// It holds the breaker as its owner likes: by reference, or counted.
#[derive(Debug)]
pub struct Permit<B: Borrow<CircuitBreaker>> {
    breaker: B,
    is_half_open: bool,
    is_settled: bool,
}

/// The breaker's state, for whoever wants to try now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything may be tried.
    Closed,
    /// One thing may be tried, alone.
    HalfOpen,
    /// Nothing may be tried.
    Open(Open),
}

/// Nothing may be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit is open")]
pub struct Open {
    /// Until this instant; None: until the half-open try that is under way has ended.
    pub until: Option<Until>,
}

/// How long to stay away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Where nobody waits.
    pub background: Duration,
    /// Where somebody does.
    pub awaited: Duration,
}

/// The end of a [`Pause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// Where nobody waits.
    pub background: Instant,
    /// Where somebody does.
    pub awaited: Instant,
}

impl Pause {
    /// When it is over.
    #[must_use]
    pub fn from(self, now: Instant) -> Until {
        Until {
            background: now + self.background,
            awaited: now + self.awaited,
        }
    }
}

impl From<Duration> for Pause {
    fn from(pause: Duration) -> Self {
        Self {
            background: pause,
            awaited: pause,
        }
    }
}

impl Until {
    /// For somebody who waits, or for nobody.
    #[must_use]
    pub fn of(self, is_awaited: bool) -> Instant {
        match is_awaited {
            true => self.awaited,
            false => self.background,
        }
    }
}

impl Open {
    /// How long somebody who waits has to stay away at least.
    #[must_use]
    pub fn retry_after(self, now: Instant) -> Duration {
        let until = self.until.map(|until| until.awaited);
        let until = until.unwrap_or(now + HALF_OPEN_TIME);
        until.saturating_duration_since(now)
    }
}

impl CircuitBreaker {
    /// Opens after that many failures in a row.
    #[must_use]
    pub fn new(threshold: u32, gauge: IntGauge) -> Self {
        Self {
            state: Mutex::new(Breaker {
                threshold,
                failures: 0,
                open: None,
                gauge,
            }),
            changed: watch::Sender::new(()),
        }
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something may be tried now, for somebody who waits or for nobody.
    #[must_use]
    pub fn state(&self, now: Instant, is_awaited: bool) -> State {
        self.lock().state(now, is_awaited)
    }

    /// Leave to try now, for somebody who waits or for nobody.
    ///
    /// # Errors
    /// Where nothing may be tried.
    pub fn acquire<B: Borrow<Self>>(
        breaker: B,
        now: Instant,
        is_awaited: bool,
    ) -> Result<Permit<B>, Open> {
        let is_half_open = breaker.borrow().lock().acquire(now, is_awaited)?;
        Ok(Permit {
            breaker,
            is_half_open,
            is_settled: false,
        })
    }

    /// Whether the last try failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.lock().failures > 0
    }

    /// Whether it is open, or half-open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// Changes where somebody who waits should look at the state again.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl<B: Borrow<CircuitBreaker>> Permit<B> {
    /// Whether nothing else may be tried until it is settled or dropped.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        self.is_half_open
    }

    /// It works; whether that closes an open breaker.
    pub fn succeeded(mut self) -> bool {
        self.settle(Breaker::succeeded)
    }

    /// It failed; whether that opens the breaker. `pause` is told how many failures came before.
    pub fn failed(mut self, now: Instant, pause: impl FnOnce(u32) -> Pause) -> bool {
        let is_half_open = self.is_half_open;
        self.settle(|breaker| breaker.failed(is_half_open, now, pause))
    }

    fn settle(&mut self, result: impl FnOnce(&mut Breaker) -> bool) -> bool {
        self.is_settled = true;
        let breaker = self.breaker.borrow();
        let is_news = result(&mut breaker.lock());
        if is_news || self.is_half_open {
            breaker.changed.send_replace(());
        }
        is_news
    }
}

impl<B: Borrow<CircuitBreaker>> Drop for Permit<B> {
    fn drop(&mut self) {
        if self.is_half_open && !self.is_settled {
            let breaker = self.breaker.borrow();
            breaker.lock().release();
            breaker.changed.send_replace(());
        }
    }
}

/// The state itself: a value and `now`. It neither waits nor reads a clock.
#[derive(Debug)]
struct Breaker {
    threshold: u32,
    failures: u32,
    /// None: closed.
    open: Option<Opened>,
    gauge: IntGauge,
}

#[derive(Debug, Clone, Copy)]
struct Opened {
    /// When the next half-open try may go.
    until: Until,
    /// Whether one is under way.
    is_tried: bool,
}

impl Breaker {
    fn state(&self, now: Instant, is_awaited: bool) -> State {
        match self.open {
            None => State::Closed,
            Some(open) if open.is_tried => State::Open(Open { until: None }),
            Some(open) if now < open.until.of(is_awaited) => State::Open(Open {
                until: Some(open.until),
            }),
            Some(_) => State::HalfOpen,
        }
    }

    /// Whether it is a half-open try.
    fn acquire(&mut self, now: Instant, is_awaited: bool) -> Result<bool, Open> {
        match self.state(now, is_awaited) {
            State::Closed => Ok(false),
            State::HalfOpen => {
                self.set_tried(true);
                Ok(true)
            }
            State::Open(open) => Err(open),
        }
    }

    fn set_tried(&mut self, is_tried: bool) {
        if let Some(open) = &mut self.open {
            open.is_tried = is_tried;
        }
    }

    /// The half-open try was given up without a result; the next one may go.
    fn release(&mut self) {
        self.set_tried(false);
    }

    fn succeeded(&mut self) -> bool {
        self.failures = 0;
        let was_open = self.open.take().is_some();
        if was_open {
            self.gauge.dec();
        }
        was_open
    }

    fn failed(
        &mut self,
        was_half_open: bool,
        now: Instant,
        pause: impl FnOnce(u32) -> Pause,
    ) -> bool {
        let was_open = self.open.is_some();
        if was_open && !was_half_open {
            // It began before the breaker opened, and says nothing new.
            return false;
        }
        let earlier = self.failures;
        self.failures = earlier.saturating_add(1);
        if self.failures < self.threshold && !was_open {
            return false;
        }
        self.open = Some(Opened {
            until: pause(earlier).from(now),
            is_tried: false,
        });
        if !was_open {
            self.gauge.inc();
        }
        !was_open
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if self.open.is_some() {
            self.gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests;
