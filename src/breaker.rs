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

#[derive(Debug, Clone, Copy)]
struct Open {
    /// When the next probe may go.
    until: Instant,
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
    Held(Option<Instant>),
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

    /// Whether something may be tried now.
    #[must_use]
    pub fn passage(&self, now: Instant) -> Passage {
        match self.open {
            None => Passage::Free,
            Some(open) if open.is_probing => Passage::Held(None),
            Some(open) if now < open.until => Passage::Held(Some(open.until)),
            Some(_) => Passage::Probe,
        }
    }

    /// How long to stay away at least. None: something may be tried now.
    #[must_use]
    pub fn held_for(&self, now: Instant) -> Option<Duration> {
        match self.passage(now) {
            Passage::Held(until) => {
                let until = until.unwrap_or(now + PROBE_TIME);
                Some(until.saturating_duration_since(now))
            }
            Passage::Free | Passage::Probe => None,
        }
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
        pause: impl FnOnce(u32) -> Duration,
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
            until: now + pause(earlier),
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

    #[test]
    fn it_opens_at_failures_in_a_row_and_lets_one_probe_through_at_a_time() {
        let gauge = IntGauge::new("open", "open").unwrap();
        let mut breaker = Breaker::new(3, gauge.clone());
        let start = Instant::now();
        let fail =
            |breaker: &mut Breaker, was_probe, now| breaker.failed(was_probe, now, |_| PAUSE);
        assert!(!fail(&mut breaker, false, start));
        assert!(!fail(&mut breaker, false, start));
        assert!(!breaker.succeeded());
        for opens in [false, false, true] {
            assert_eq!(breaker.passage(start), Passage::Free);
            assert_eq!(fail(&mut breaker, false, start), opens);
        }
        let until = start + PAUSE;
        assert_eq!(breaker.passage(start), Passage::Held(Some(until)));
        assert_eq!((breaker.held_for(start), gauge.get()), (Some(PAUSE), 1));
        // One that was under way changes nothing.
        assert!(!fail(&mut breaker, false, start + PAUSE / 2));
        assert_eq!(breaker.passage(until), Passage::Probe);
        breaker.probe();
        assert_eq!(breaker.passage(until), Passage::Held(None));
        assert_eq!(breaker.held_for(until), Some(PROBE_TIME));
        assert!(!fail(&mut breaker, true, until));
        assert_eq!(breaker.passage(until), Passage::Held(Some(until + PAUSE)));
        breaker.probe();
        breaker.give_up();
        assert_eq!(breaker.passage(until + PAUSE), Passage::Probe);
        assert!(breaker.succeeded());
        assert_eq!(breaker.passage(until), Passage::Free);
        assert_eq!((breaker.held_for(until), gauge.get()), (None, 0));
    }

    #[test]
    fn its_gauge_does_not_stay_up_without_it() {
        let gauge = IntGauge::new("open", "open").unwrap();
        let mut breaker = Breaker::new(1, gauge.clone());
        assert!(breaker.failed(false, Instant::now(), |_| PAUSE));
        assert_eq!(gauge.get(), 1);
        drop(breaker);
        assert_eq!(gauge.get(), 0);
    }
}
