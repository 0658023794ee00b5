//! The last hour, minute by minute: differences of counters that a task looks at once a minute. Requests pay nothing for
//! it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::exchange::Live;
use bursar_base::clock;
use bursar_telemetry::metrics::Totals;

const MINUTE: Duration = Duration::from_secs(60);
/// Whole minutes that are remembered.
const MINUTES: usize = 60;

/// What the counters were at the end of each of the last minutes. Written by one task, read by the admin port.
#[derive(Debug)]
pub(super) struct LastHour(Mutex<VecDeque<Sample>>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: SystemTime,
    totals: Totals,
}

/// What a minute has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Minute {
    /// When it began.
    pub(super) at: SystemTime,
    pub(super) counts: Totals,
}

impl LastHour {
    /// Nothing was counted before that.
    pub(super) fn since(at: SystemTime) -> Self {
        let totals = Totals::default();
        Self(Mutex::new(VecDeque::from([Sample { at, totals }])))
    }

    /// Looks at the counters until it is dropped.
    pub(super) async fn follow(&self, live: &Live) {
        let mut ticks = interval_at(Instant::now() + MINUTE, MINUTE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let proxy = live.current();
            // With thousands of accounts that takes a while.
            let totals = tokio::task::spawn_blocking(move || proxy.metrics().totals());
            if let Ok(totals) = totals.await {
                self.add(clock::wall(), totals);
            }
        }
    }

    fn add(&self, at: SystemTime, totals: Totals) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() > MINUTES {
            samples.pop_front();
        }
        samples.push_back(Sample { at, totals });
    }

    /// The last hour's minutes, the oldest first; the last one is under way.
    pub(super) fn minutes(&self, totals: Totals) -> Vec<Minute> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = samples.iter().skip(1).map(|sample| sample.totals);
        let ends = ends.chain([totals]);
        let minutes = samples.iter().zip(ends).map(|(begin, end)| Minute {
            at: begin.at,
            counts: end.since(begin.totals),
        });
        minutes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(requests: u64) -> Totals {
        Totals {
            requests,
            absorbed: requests / 2,
            ..Totals::default()
        }
    }

    #[test]
    fn an_hour_is_sixty_minutes_and_the_one_that_is_under_way() {
        let at = |minute: u32| SystemTime::UNIX_EPOCH + minute * MINUTE;
        let hour = LastHour::since(at(0));
        let [first] = *hour.minutes(totals(7)) else {
            panic!("not one minute");
        };
        assert_eq!((first.at, first.counts), (at(0), totals(7)));
        for minute in 1..100 {
            hour.add(at(minute), totals(u64::from(minute) * 10));
        }
        let minutes = hour.minutes(totals(994));
        assert_eq!(minutes.len(), MINUTES + 1);
        let (last, whole) = minutes.split_last().unwrap();
        assert!(whole.iter().all(|minute| minute.counts == totals(10)));
        assert_eq!((whole[0].at, last.at), (at(39), at(99)));
        assert_eq!(last.counts, totals(4).since(Totals::default()));
    }
}
