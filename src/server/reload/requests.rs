//! Requests for reloads, each of which is told what came of it.
//!
//! Whoever asks is told of a reload that has not begun yet, so that what was written before is read. Those who ask at the
//! same time share one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::exchange::Reloaded;

/// Who may wait at a time.
const MAX_WAITING: usize = 64;

/// Asks for reloads.
#[derive(Debug, Clone)]
pub struct Reloads {
    requests: mpsc::Sender<Told>,
    patience: Duration,
}

/// The requests, for who reloads.
#[derive(Debug)]
pub(super) struct Requests(mpsc::Receiver<Told>);

/// Those who wait for the same reload.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Told>);

type Told = oneshot::Sender<Arc<Reloaded>>;

/// Why nobody can tell what came of a reload that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoOutcome {
    /// Too many wait already.
    Busy,
    /// Bursar is about to end.
    Ended,
    /// It takes too long; it may yet come.
    Late,
}

/// Where reloads are asked for, with so much patience, and where these requests come out.
pub(super) fn requests(patience: Duration) -> (Reloads, Requests) {
    let (requests, taken) = mpsc::channel(MAX_WAITING);
    (Reloads { requests, patience }, Requests(taken))
}

impl Reloads {
    /// Has the configuration read again.
    ///
    /// # Errors
    /// Where nobody can tell what came of it.
    pub async fn reload(&self) -> Result<Arc<Reloaded>, NoOutcome> {
        let (told, outcome) = oneshot::channel();
        self.requests.try_send(told).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoOutcome::Busy,
            mpsc::error::TrySendError::Closed(_) => NoOutcome::Ended,
        })?;
        let outcome = tokio::time::timeout(self.patience, outcome).await;
        let outcome = outcome.map_err(|_elapsed| NoOutcome::Late)?;
        outcome.map_err(|_dropped| NoOutcome::Ended)
    }
}

impl Requests {
    /// Waits for one. May be given up at any time.
    pub(super) async fn next(&mut self) -> Waiting {
        match self.0.recv().await {
            Some(told) => Waiting(vec![told]),
            // Nobody is left who could ask.
            None => std::future::pending().await,
        }
    }

    /// Adds those that have come by now.
    pub(super) fn join(&mut self, waiting: &mut Waiting) {
        while let Ok(told) = self.0.try_recv() {
            waiting.0.push(told);
        }
    }
}

impl Waiting {
    /// Tells all of them.
    pub(super) fn tell(self, reloaded: &Arc<Reloaded>) {
        for told in self.0 {
            // Who has left need not be told.
            drop(told.send(reloaded.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use bursar_config::Changes;

    use super::*;

    fn reloaded() -> Arc<Reloaded> {
        Arc::new(Reloaded {
            at: std::time::SystemTime::UNIX_EPOCH,
            problems: Vec::new(),
            warnings: Vec::new(),
            changes: Changes::default(),
        })
    }

    #[tokio::test]
    async fn who_asks_before_a_reading_begins_shares_it_and_who_asks_later_does_not() {
        let (reloads, mut requests) = requests(Duration::from_secs(5));
        let ask = || {
            let reloads = reloads.clone();
            tokio::spawn(async move { reloads.reload().await })
        };
        let (first, second) = (ask(), ask());
        let mut waiting = requests.next().await;
        while waiting.0.len() < 2 {
            tokio::task::yield_now().await;
            requests.join(&mut waiting);
        }
        let third = ask();
        let told = reloaded();
        waiting.tell(&told);
        for asked in [first, second] {
            assert!(Arc::ptr_eq(&asked.await.unwrap().unwrap(), &told));
        }
        let next = requests.next().await;
        assert!(!third.is_finished());
        drop(next);
        assert_eq!(third.await.unwrap().unwrap_err(), NoOutcome::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_that_hangs_is_not_waited_for_for_ever_and_not_by_ever_more() {
        let (reloads, requests) = requests(Duration::from_secs(5));
        let mut asked: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let reloads = reloads.clone();
                tokio::spawn(async move { reloads.reload().await })
            })
            .collect();
        while requests.0.len() < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(reloads.reload().await.unwrap_err(), NoOutcome::Busy);
        let late = asked.pop().unwrap().await.unwrap();
        assert_eq!(late.unwrap_err(), NoOutcome::Late);
        drop(requests);
        assert_eq!(reloads.reload().await.unwrap_err(), NoOutcome::Ended);
    }
}
