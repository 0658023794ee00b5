//! The journal: a write-ahead log of the requests that move money, so that it is known which are in doubt.
//!
//! It records how far each of them came, in a file.
//!
//! A request's [`Entry`] writes each phase down before the step that it names: nothing goes to the provider,
//! and no answer is complete for the caller, before the file has it. One thread writes for all
//! ([`writer`]); whatever waits is one transaction. It knows nothing of HTTP but bodies that come in frames.

mod decisions;
mod entry;
mod error;
mod files;
mod hashing_body;
mod intent;
mod message_queue;
mod mirror_row;
mod mirror_state;
mod obstacle;
mod question;
mod queue;
mod reader;
mod request_state;
mod reserve;
mod rows;
mod schema;
mod store;
mod timestamp;
mod waiter;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

pub use decisions::KeptDecision;
pub use entry::{BodyObserver, Commit, Entry};
pub use error::Error;
pub use hashing_body::{HashingBody, hash_of_nothing, is_whole};
pub use intent::{InDoubt, Intent, Resolution};
pub use mirror_row::{MirrorRow, ResolvedRow};
pub use mirror_state::MirrorState;
pub use obstacle::obstacle;
pub use queue::Unavailable;
pub use reader::{Reader, Unsettled};
pub use request_state::{Hash, Phase};

use bursar_config as config;
use bursar_telemetry::metrics::JournalSeries;
use message_queue::{Urgency, message_queue};
use question::Question;
use queue::{MAX_QUEUE, Queue, WRITE_WAIT};
use store::Store;
use writer::{Message, Writer};

/// How long the end of the process waits for the database.
const WRITING_BACK: Duration = Duration::from_secs(2);

/// The journal of this process. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Queue>);

impl Journal {
    /// Opens the journal, makes it where there is none, and starts its thread, which ends with the last
    /// handle. Blocks.
    ///
    /// # Errors
    /// Where it cannot be opened, or belongs to another process.
    pub fn open(settings: &config::Journal, series: JournalSeries) -> Result<Self, Error> {
        Self::begin(settings, series).map_err(|error| error.of(&settings.path))
    }

    fn begin(settings: &config::Journal, series: JournalSeries) -> Result<Self, Error> {
        let store = Store::open(settings)?;
        let next_id = store.next_id()?;
        let (sender, messages) = message_queue(MAX_QUEUE);
        let writer = Writer::new(store, settings, series.clone())?;
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let spawned = thread.spawn(move || writer.run(&messages));
        spawned.map_err(|source| Error::Directory {
            path: settings.path.clone(),
            source,
        })?;
        let queue = Queue::new(sender, next_id, settings.on_failure, series);
        Ok(Self(Arc::new(queue)))
    }

    /// A request that moves money, before anything was sent.
    #[must_use]
    pub fn entry(&self, intent: Intent) -> Entry {
        Entry::new(self.0.clone(), intent.cut())
    }

    /// The last decisions of operators on all providers.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn decisions(&self) -> Result<Vec<KeptDecision>, Unavailable> {
        self.ask(Question::Decisions).await
    }

    /// Keeps a decision, in place of the one before.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn decide(&self, decision: KeptDecision) -> Result<(), Unavailable> {
        self.ask(|done| Question::Decide(decision, done)).await
    }

    /// By which name it goes in a fleet's store, and what it saw there last. Whatever was handed in before is written by
    /// then.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn mirror_state(&self) -> Result<MirrorState, Unavailable> {
        self.ask(Question::Mirror).await
    }

    /// Remembers it, on the disk before this returns.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn remember_mirror(&self, state: MirrorState) -> Result<(), Unavailable> {
        self.ask(|done| Question::RememberMirror(state, done)).await
    }

    /// Moves what is in its log to its database, so that this file alone is the whole journal. Waits for 2 seconds at most;
    /// what fails is told in the log.
    pub async fn write_back(&self) {
        let written = self.ask(Question::WriteBack);
        let written = tokio::time::timeout(WRITING_BACK, written).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(
                "journal: its log could not be written back to its database in time; whoever copies journal.sqlite now takes \
                 journal.sqlite-wal along"
            );
        }
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Option<T>>) -> Question,
    ) -> Result<T, Unavailable> {
        let (done, answer) = oneshot::channel();
        let question = Message::Ask(question(done));
        self.0.hand_in(question, Urgency::Now)?;
        match tokio::time::timeout(WRITE_WAIT, answer).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            _ => Err(Unavailable),
        }
    }
}

/// The requests whose outcome is unknown, of a journal in that directory, whether or not its process lives.
///
/// # Errors
/// Where there is no journal, or it cannot be read.
pub fn outcomes(directory: &Path) -> Result<Vec<InDoubt>, Error> {
    let read = Store::read(directory).and_then(|store| store.outcomes());
    read.map_err(|error| error.of(directory))
}

/// What became of requests that were to be taken off the list together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// All of them are off the list.
    Now,
    /// None is, because this one was taken off before.
    Before(Resolution),
    /// None is, because no request on the list has this id.
    Unknown(String),
}

/// Takes requests off the list, all of them or none, and keeps the note with each.
///
/// # Errors
/// Where there is no journal, or it cannot be written.
pub fn resolve(
    directory: &Path,
    request_ids: &[&str],
    note: &str,
    now: SystemTime,
) -> Result<Resolved, Error> {
    take_off(directory, request_ids, note, now).map_err(|error| error.of(directory))
}

fn take_off(
    directory: &Path,
    request_ids: &[&str],
    note: &str,
    now: SystemTime,
) -> Result<Resolved, Error> {
    let mut store = Store::read(directory)?;
    let Some(missing) = store.resolve(request_ids, note, now)? else {
        return Ok(Resolved::Now);
    };
    let before = store.resolution(&missing)?;
    Ok(before.map_or(Resolved::Unknown(missing), Resolved::Before))
}

#[cfg(test)]
mod tests;
