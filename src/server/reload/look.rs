//! Looks at the files of the configuration: whether one of them has other content than when it was read.
//!
//! It reads the contents only where a file's stamps have changed since the last look.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::blocking::{Stuck, blocking};
use bursar_config::{Files, Stamps};

/// How often the files are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a file must have been left alone, so that one that is being written is not read half-way.
const SETTLED: Duration = Duration::from_millis(200);

/// How long looking at them may take.
const LOOKING: Duration = Duration::from_secs(5);
/// Looks, one at a time.
#[derive(Debug)]
pub(super) struct Look {
    /// Of its own: a look that hangs takes nothing from reloads.
    permits: Arc<Semaphore>,
    /// The last look did not end, which was said.
    is_hanging: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(1)),
            is_hanging: false,
        }
    }
}

impl Look {
    /// Once it is time. May be given up at any time.
    pub(super) async fn soon(
        &mut self,
        files: &Files,
        seen: Option<Stamps>,
    ) -> Option<(Stamps, bool)> {
        tokio::time::sleep(LOOK_AGAIN).await;
        let looked = self.look(files, seen).await;
        let is_hanging = matches!(looked, Err(Stuck::Hangs | Stuck::NotTried));
        if is_hanging != std::mem::replace(&mut self.is_hanging, is_hanging) {
            if is_hanging {
                tracing::error!(
                    "the configuration's files could not be looked at within {} s, and until they can be, changes are not \
                     noticed without SIGHUP; does a file system hang?",
                    LOOKING.as_secs()
                );
            } else {
                tracing::info!("the configuration's files can be looked at again");
            }
        }
        looked.ok().flatten()
    }

    /// The files' stamps, and whether a content has changed. None: they are being written.
    async fn look(
        &self,
        files: &Files,
        seen: Option<Stamps>,
    ) -> Result<Option<(Stamps, bool)>, Stuck> {
        let known = files.clone();
        let stamps = move || known.stamps_or_hang();
        let stamps = blocking(&self.permits, LOOKING, stamps).await?;
        if seen.as_ref() == Some(&stamps) {
            return Ok(Some((stamps, false)));
        }
        tokio::time::sleep(SETTLED).await;
        let known = files.clone();
        let look = move || (known.rescan_or_hang(), known.stamps_or_hang());
        let (now, settled) = blocking(&self.permits, LOOKING, look).await?;
        Ok((settled == stamps).then(|| (stamps, now != *files)))
    }
}
