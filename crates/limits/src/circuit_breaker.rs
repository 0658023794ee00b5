//! Is it worth trying at all? After failures in a row everything is held, and one probe at a time is let
//! through; its success ends that.
//!
//! A value and `now`: it neither waits nor reads a clock. What counts as a failure, and how long the pause
//! is, is for whoever tries. Its gauge is up while it is open, and no longer than it lives: a reload may
//! have put another breaker in its place, or none.

use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;

/// While a probe is under way nobody knows how long it takes.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// Failures in a row, and what follows from them.
#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    failures: u32,
    open: Option<Open>,
    gauge: IntGauge,
}

/// How long to stay away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Where nobody waits.
    pub alone: Duration,
    /// Where somebody does.
    pub wanted: Duration,
}

/// The end of a [`Pause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// Where nobody waits.
    pub alone: Instant,
    /// Where somebody does.
    pub wanted: Instant,
}

impl Pause {
    /// When it is over.
    #[must_use]
    pub fn from(self, now: Instant) -> Until {
        Until {
            alone: now + self.alone,
            wanted: now + self.wanted,
        }
    }
}

impl From<Duration> for Pause {
    fn from(pause: Duration) -> Self {
        Self {
            alone: pause,
            wanted: pause,
        }
    }
}

impl Until {
    /// For somebody who waits, or for nobody.
    #[must_use]
    pub fn of(self, is_wanted: bool) -> Instant {
        match is_wanted {
            true => self.wanted,
            false => self.alone,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Open {
    /// When the next probe may go.
    until: Until,
    is_probing: bool,
}

/// Whether something may be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Yes.
    Free,
    /// Yes, alone: say so with [`Breaker::probe`].
    Probe,
    /// No, before this instant; None: until the probe that is under way has ended.
    Held(Option<Until>),
}

impl Breaker {
    /// Opens after so many failures in a row.
    #[must_use]
    pub fn new(threshold: u32, gauge: IntGauge) -> Self {
        Self {
            threshold,
            failures: 0,
            open: None,
            gauge,
        }
    }

    /// Whether something may be tried now, for somebody who waits or for nobody.
    #[must_use]
    pub fn passage(&self, now: Instant, is_wanted: bool) -> Passage {
        match self.open {
            None => Passage::Free,
            Some(open) if open.is_probing => Passage::Held(None),
            Some(open) if now < open.until.of(is_wanted) => Passage::Held(Some(open.until)),
            Some(_) => Passage::Probe,
        }
    }

    /// How long somebody who waits has to stay away at least. None: something may be tried now.
    #[must_use]
    pub fn held_for(&self, now: Instant) -> Option<Duration> {
        match self.passage(now, true) {
            Passage::Held(until) => {
                let until = until.map_or(now + PROBE_TIME, |until| until.wanted);
                Some(until.saturating_duration_since(now))
            }
            Passage::Free | Passage::Probe => None,
        }
    }

    /// Whether the last try failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Everything is held.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The probe goes.
    pub fn probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_probing = true;
        }
    }

    /// The probe was given up without a result; the next one may go.
    pub fn give_up(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_probing = false;
        }
    }

    /// It works; whether that is news.
    pub fn succeeded(&mut self) -> bool {
        self.failures = 0;
        let was_open = self.open.take().is_some();
        if was_open {
            self.gauge.dec();
        }
        was_open
    }

    /// It failed; whether that opens it. `pause` is told how many failures came before.
    pub fn failed(
        &mut self,
        was_probe: bool,
        now: Instant,
        pause: impl FnOnce(u32) -> Pause,
    ) -> bool {
        let was_open = self.open.is_some();
        if was_open && !was_probe {
            // It began before everything was held, and says nothing new.
            return false;
        }
        let earlier = self.failures;
        self.failures = earlier.saturating_add(1);
        if self.failures < self.threshold && !was_open {
            return false;
        }
        self.open = Some(Open {
            until: pause(earlier).from(now),
            is_probing: false,
        });
        if !was_open {
            self.gauge.inc();
        }
        !was_open
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if self.is_open() {
            self.gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn both(until: Instant) -> Until {
        Until {
            alone: until,
            wanted: until,
        }
    }

    #[test]
    fn where_somebody_waits_a_probe_goes_sooner() {
        let mut breaker = Breaker::new(1, IntGauge::new("open", "open").unwrap());
        let now = Instant::now();
        let pause = Pause {
            alone: PAUSE,
            wanted: PAUSE / 10,
        };
        assert!(breaker.failed(false, now, |_| pause));
        assert_eq!(breaker.held_for(now), Some(PAUSE / 10));
        let later = now + PAUSE / 10;
        assert_eq!(breaker.passage(later, true), Passage::Probe);
        assert_eq!(
            breaker.passage(later, false),
            Passage::Held(Some(pause.from(now)))
        );
        assert_eq!(breaker.passage(now + PAUSE, false), Passage::Probe);
    }

    #[test]
    fn it_opens_at_failures_in_a_row_and_lets_one_probe_through_at_a_time() {
        let gauge = IntGauge::new("open", "open").unwrap();
        let mut breaker = Breaker::new(3, gauge.clone());
        let start = Instant::now();
        let fail = |breaker: &mut Breaker, was_probe, now| {
            breaker.failed(was_probe, now, |_| PAUSE.into())
        };
        assert!(!fail(&mut breaker, false, start));
        assert!(!fail(&mut breaker, false, start));
        assert!(!breaker.succeeded());
        for opens in [false, false, true] {
            assert_eq!(breaker.passage(start, true), Passage::Free);
            assert_eq!(fail(&mut breaker, false, start), opens);
        }
        let until = start + PAUSE;
        assert_eq!(
            breaker.passage(start, true),
            Passage::Held(Some(both(until)))
        );
        assert_eq!((breaker.held_for(start), gauge.get()), (Some(PAUSE), 1));
        // One that was under way changes nothing.
        assert!(!fail(&mut breaker, false, start + PAUSE / 2));
        assert_eq!(breaker.passage(until, true), Passage::Probe);
        breaker.probe();
        assert_eq!(breaker.passage(until, true), Passage::Held(None));
        assert_eq!(breaker.held_for(until), Some(PROBE_TIME));
        assert!(!fail(&mut breaker, true, until));
        assert_eq!(
            breaker.passage(until, true),
            Passage::Held(Some(both(until + PAUSE)))
        );
        breaker.probe();
        breaker.give_up();
        assert_eq!(breaker.passage(until + PAUSE, true), Passage::Probe);
        assert!(breaker.succeeded());
        assert_eq!(breaker.passage(until, true), Passage::Free);
        assert_eq!((breaker.held_for(until), gauge.get()), (None, 0));
    }

    #[test]
    fn its_gauge_does_not_stay_up_without_it() {
        let gauge = IntGauge::new("open", "open").unwrap();
        let mut breaker = Breaker::new(1, gauge.clone());
        assert!(breaker.failed(false, Instant::now(), |_| PAUSE.into()));
        assert_eq!(gauge.get(), 1);
        drop(breaker);
        assert_eq!(gauge.get(), 0);
    }
}
