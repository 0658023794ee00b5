//! Work on files that may hang: on a thread of its own, with a time limit, and so many at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use bursar_config::Diagnostic;

/// How long reading all of them may take. Each file has its own limit, which is shorter; this is for many that are slow.
pub(super) const READING: Duration = Duration::from_secs(30);
/// How many may hang at a time; beyond that nothing is read until one of them ends.
pub(super) const MAX_HANGING: usize = 4;

/// Why nothing is known of the files.
#[derive(Debug)]
pub(super) enum Stuck {
    /// Reading them went badly wrong, which was logged.
    Failed,
    /// It has not ended.
    Hangs,
    /// It has not ended too often before.
    NotTried,
}

impl fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => formatter.write_str("could not be read; see the log"),
            Self::Hangs => write!(
                formatter,
                "and its files were not read within {} s; does a file system hang?",
                READING.as_secs()
            ),
            Self::NotTried => write!(
                formatter,
                "was not read, because {MAX_HANGING} earlier attempts have not ended; does a file system hang?"
            ),
        }
    }
}

impl From<Stuck> for Diagnostic {
    fn from(stuck: Stuck) -> Self {
        Self {
            path: String::new(),
            line: None,
            message: stuck.to_string(),
        }
    }
}

/// A file system may take its time, and so may thousands of accounts. What hangs is left behind.
pub(super) async fn blocking<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stuck> {
    let permit = permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_none_left| Stuck::NotTried)?;
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    });
    match tokio::time::timeout(patience, working).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            if error.is_panic() {
                tracing::error!(
                    "reading the configuration failed badly; the old one stays in force"
                );
            }
            Err(Stuck::Failed)
        }
        Err(_elapsed) => Err(Stuck::Hangs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_hangs_lets_the_next_one_through_until_too_many_hang() {
        let permits = Arc::new(Semaphore::new(MAX_HANGING));
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        for _ in 0..MAX_HANGING {
            let held = held.clone();
            let hanging = blocking(&permits, READING, move || {
                let _never = held.lock().unwrap().recv();
            });
            let time = tokio::time::advance(READING + Duration::from_secs(1));
            let (result, ()) = tokio::join!(hanging, time);
            assert!(matches!(result, Err(Stuck::Hangs)));
        }
        assert!(matches!(
            blocking(&permits, READING, || ()).await,
            Err(Stuck::NotTried)
        ));
        drop(hold);
        let _all = permits
            .acquire_many(u32::try_from(MAX_HANGING).unwrap())
            .await
            .unwrap();
    }
}
