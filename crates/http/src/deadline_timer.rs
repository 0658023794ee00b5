//! Deadline timer: one timer for all waits of what it watches over, one after the other. It may fire early.
//!
//! Setting one up for each wait would cost more than looking at one that is early. So whoever waits looks at its
//! own deadline when the timer goes off, and resets it.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set when it is first needed, and kept.
#[derive(Debug, Default)]
pub struct DeadlineTimer(Option<Pin<Box<Sleep>>>);

impl DeadlineTimer {
    /// Goes off at that time, or earlier.
    pub fn by(&mut self, at: Instant) -> Pin<&mut Sleep> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        timer.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_may_go_off_early_but_never_late() {
        let start = Instant::now();
        let mut timer = DeadlineTimer::default();
        for (seconds, goes_off) in [(5, 5), (9, 5), (3, 3)] {
            let at = start + Duration::from_secs(seconds);
            let goes_off = start + Duration::from_secs(goes_off);
            assert_eq!(timer.by(at).deadline(), goes_off, "{seconds}");
        }
        timer.by(start + Duration::from_secs(3)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
