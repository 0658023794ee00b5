//! Mirror of the journal's payments in doubt in the fleet's store, for whoever asks when this instance is gone.
//!
//! One task looks at the journal beside its writer, four times a second, and writes to the store what is in doubt and what
//! has been under way for a second. No request waits for it. What the store has lost, or could not be told while it was
//! away, is written again in full.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use bursar_fleet::{
    Description, Fleet, KnownJournal, MirrorError, MirroredJournal, Row, Seen, Touch, Touched,
};
use bursar_journal::{
    self as journal, Journal, MirrorRow, MirrorSeen, MirrorState, Phase, Reader, Unsettled,
};

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The first connection to the store may take that long.
const FIRST_CONNECTION: Duration = Duration::from_secs(2);
/// What has been seen for so long is written at the latest a second after it began.
const UNDER_WAY: Duration = Duration::from_millis(750);
/// How often the store hears that its rows are as they should be.
const TOUCH_EVERY: Duration = Duration::from_secs(1);
/// How often the names of the rows are compared, whatever was heard of the store.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// The store has no more rows of a journal.
const MAX_ROWS: usize = 10_000;
/// At the end nobody waits for the store any longer.
const SIGN_OFF_TIMEOUT: Duration = Duration::from_secs(2);

/// The task's handle.
#[derive(Debug)]
pub(in crate::server) struct Mirror {
    ending: Arc<Notify>,
    /// Whether all was written at the end.
    task: AbortOnDropHandle<bool>,
}

/// What is mirrored, and where.
pub(in crate::server) struct Mirrored {
    pub(in crate::server) fleet: Fleet,
    pub(in crate::server) journal: Journal,
    /// Where the journal's files are.
    pub(in crate::server) directory: PathBuf,
    pub(in crate::server) instance: Description,
}

/// The mirror could not be brought to what the journal has.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] MirrorError),
    #[error("the journal cannot be read")]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    Unavailable(#[from] journal::Unavailable),
    #[error("the thread that reads the journal has failed")]
    Thread(#[from] tokio::task::JoinError),
    #[error("the fleet's store cannot be used")]
    Down,
    #[error("the fleet's store has lost what was written to it")]
    Lost,
}

impl Mirror {
    pub(in crate::server) fn start(mirrored: Mirrored) -> Self {
        let ending = Arc::new(Notify::new());
        let task = tokio::spawn(run(mirrored, ending.clone()));
        Self {
            ending,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// Writes all that there is, and says that there will be no more.
    pub(in crate::server) async fn end(self) {
        self.ending.notify_one();
        let ended = timeout(SIGN_OFF_TIMEOUT, self.task).await;
        if !matches!(ended, Ok(Ok(true))) {
            tracing::warn!(
                "the fleet's store does not have all that is in doubt here: `bursar outcomes --fleet` says so until this journal is opened again"
            );
        }
    }
}

async fn run(mirrored: Mirrored, ending: Arc<Notify>) -> bool {
    let mut task: Option<Task> = None;
    let (mut is_failing, mut ends) = (false, false);
    loop {
        if task.is_none() {
            // The others hear of this instance before its first payment.
            mirrored.fleet.first_connection(FIRST_CONNECTION).await;
        }
        let result = look(&mut task, &mirrored, ends).await;
        if let Err(error) = &result {
            if let Some(task) = &mut task {
                task.is_unsure = true;
            }
            if !is_failing && !matches!(error, Error::Down) {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "the fleet's list of payments in doubt is not kept up to date"
                );
            }
        }
        is_failing = result.is_err();
        if ends {
            return !is_failing;
        }
        ends = timeout(LOOK_EVERY, ending.notified()).await.is_ok();
    }
}

async fn look(task: &mut Option<Task>, mirrored: &Mirrored, ends: bool) -> Result<(), Error> {
    if task.is_none() {
        *task = Some(Task::begin(mirrored).await?);
    }
    match task {
        Some(task) => task.look(mirrored, ends).await,
        None => Ok(()),
    }
}

/// What is known of the mirror.
struct Task {
    /// None: a look at the journal has failed.
    reader: Option<Reader>,
    state: MirrorState,
    /// Where its rows are in the store.
    name: String,
    /// The journals of the fleet, this one too. None: it is not known which there are.
    known: Option<Vec<KnownJournal>>,
    /// What the store said of them last.
    journals: Seen,
    /// What the journal has.
    unsettled: Vec<Unsettled>,
    /// How many more it has.
    unmirrored: u64,
    requests: HashMap<i64, Request>,
    /// The store may have something else than is thought.
    is_unsure: bool,
    /// It may have something under names that other keys lead to.
    has_other_names: bool,
    /// Whether another instance has the same journal.
    is_shared: bool,
    store_since: Instant,
    compared: Instant,
    touched: Option<LastTouch>,
    /// When the store heard of the journal last, by its clock; 0 where it did not.
    heard: u64,
}

/// What the store was told last.
#[derive(Debug, Clone, Copy)]
struct LastTouch {
    at: Instant,
    rows: RowCount,
}

/// How many rows the store has of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowCount {
    all: u64,
    /// Of requests that are over.
    over: u64,
}

/// A request that is not settled.
#[derive(Debug, Clone, Copy)]
struct Request {
    first: Instant,
    /// What the store has of it.
    written: Option<(Phase, bool)>,
}

impl Task {
    async fn begin(mirrored: &Mirrored) -> Result<Self, Error> {
        let directory = mirrored.directory.clone();
        let reader = tokio::task::spawn_blocking(move || Reader::open(&directory)).await??;
        let state = mirrored.journal.mirror_state().await?;
        Ok(Self {
            reader: Some(reader),
            journals: Seen {
                version: state.seen.version,
                silent: state.seen.silent,
                count: state.seen.count,
            },
            state,
            name: String::new(),
            known: None,
            unsettled: Vec::new(),
            unmirrored: 0,
            requests: HashMap::new(),
            is_unsure: true,
            has_other_names: true,
            is_shared: false,
            store_since: Instant::now(),
            compared: Instant::now(),
            touched: None,
            heard: 0,
        })
    }

    /// Brings the mirror to what the journal has.
    async fn look(&mut self, mirrored: &Mirrored, ends: bool) -> Result<(), Error> {
        if ends {
            // Whatever was handed in before is in the file then.
            mirrored.journal.mirror_state().await?;
        }
        self.read(mirrored).await?;
        let store = mirrored.fleet.state();
        if store.down.is_some() {
            return Err(Error::Down);
        }
        let is_other = std::mem::replace(&mut self.store_since, store.since) != store.since;
        self.is_unsure |= is_other || self.compared.elapsed() >= COMPARE_EVERY;
        let name = mirrored.fleet.journal_name(&self.state.journal);
        if name != self.name {
            self.is_unsure = true;
            self.heard = 0;
            self.touched = None;
            self.name = name;
        }
        self.has_other_names |= self.is_unsure;
        let due = self.due(ends);
        self.write(&mirrored.fleet, &due).await?;
        if mirrored.fleet.journal_name(&self.state.journal) != self.name {
            // The keys are others since then: all is written again under its new name first.
            return Ok(());
        }
        let rows = self.count();
        if ends && rows.all == 0 {
            return Ok(mirrored.fleet.forget_journal(&self.state.journal).await?);
        }
        let is_fresh = self
            .touched
            .is_some_and(|last| last.at.elapsed() < TOUCH_EVERY && last.rows == rows);
        if ends || !is_fresh {
            self.touch(mirrored, rows, ends).await?;
            self.touched = Some(LastTouch {
                at: Instant::now(),
                rows,
            });
            mirrored.fleet.journal_signal().send();
            // They may be lost alone: each journal's are somewhere else in a cluster, and may be evicted.
            let is_there =
                rows.all == 0 || mirrored.fleet.count_rows(&self.state.journal).await? == rows.all;
            self.is_unsure |= !is_there;
            if ends && !is_there {
                return Err(Error::Lost);
            }
        }
        // Once all of it is under the new name: whoever reads meanwhile finds it twice rather than not at all.
        if self.has_other_names {
            let (journal, kept) = (&self.state.journal, &self.name);
            mirrored.fleet.forget_other_names(journal, kept).await?;
            self.has_other_names = false;
        }
        Ok(())
    }

    fn count(&self) -> RowCount {
        let written = self.requests.values().filter_map(|seen| seen.written);
        let mut count = RowCount { all: 0, over: 0 };
        for (_, is_open) in written {
            count.all += 1;
            count.over += u64::from(!is_open);
        }
        count
    }

    /// Looks at the journal.
    async fn read(&mut self, mirrored: &Mirrored) -> Result<(), Error> {
        let (directory, reader) = (mirrored.directory.clone(), self.reader.take());
        let look = move || {
            let mut reader = match reader {
                Some(reader) => reader,
                None => Reader::open(&directory)?,
            };
            let found = match reader.has_changed()? {
                true => Some(reader.unsettled(MAX_ROWS)?),
                false => None,
            };
            Ok::<_, journal::Error>((reader, found))
        };
        let (reader, found) = tokio::task::spawn_blocking(look).await??;
        self.reader = Some(reader);
        if let Some((unsettled, count)) = found {
            self.unmirrored = count.saturating_sub(unsettled.len() as u64);
            self.unsettled = unsettled;
        }
        Ok(())
    }

    /// The requests that the store is to have and has not, or has otherwise.
    fn due(&mut self, ends: bool) -> Vec<Unsettled> {
        let now = Instant::now();
        let mut due = Vec::new();
        for one in &self.unsettled {
            let seen = self.requests.entry(one.number).or_insert(Request {
                first: now,
                written: None,
            });
            if self.is_unsure {
                seen.written = None;
            }
            let is_wanted = ends || !one.is_open || now - seen.first >= UNDER_WAY;
            if is_wanted && seen.written != Some((one.phase, one.is_open)) {
                due.push(*one);
            }
        }
        due
    }

    async fn write(&mut self, fleet: &Fleet, due: &[Unsettled]) -> Result<(), Error> {
        let journal = &self.state.journal;
        let unsettled: HashSet<i64> = self.unsettled.iter().map(|one| one.number).collect();
        let settled = self
            .requests
            .iter()
            .filter(|(number, seen)| seen.written.is_some() && !unsettled.contains(*number));
        let mut removed: Vec<String> = settled
            .map(|(number, _)| fleet.row_name(journal, *number))
            .collect();
        if self.is_unsure {
            let wanted = due.iter().map(|one| fleet.row_name(journal, one.number));
            let wanted: HashSet<String> = wanted.collect();
            removed = fleet.row_names(journal).await?;
            removed.retain(|name| !wanted.contains(name));
        }
        let rows = self.rows(due).await?;
        fleet
            .write_rows(&self.state.journal, &removed, &rows)
            .await?;
        self.requests.retain(|number, _| unsettled.contains(number));
        let written: HashSet<i64> = rows.iter().map(|row| row.number).collect();
        for one in due.iter().filter(|one| written.contains(&one.number)) {
            if let Some(seen) = self.requests.get_mut(&one.number) {
                seen.written = Some((one.phase, one.is_open));
            }
        }
        if std::mem::take(&mut self.is_unsure) {
            self.compared = Instant::now();
        }
        Ok(())
    }

    /// What the journal has of these; those that are settled meanwhile are missing.
    async fn rows(&mut self, due: &[Unsettled]) -> Result<Vec<Row>, Error> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let Some(reader) = self.reader.take() else {
            return Ok(Vec::new());
        };
        let due = due.to_vec();
        let read = move || {
            let mut rows = Vec::with_capacity(due.len());
            for one in due {
                if let Some(request) = reader.request(one.number)? {
                    let is_open = one.is_open;
                    let text = MirrorRow { is_open, request }.to_bytes();
                    rows.push(Row {
                        number: one.number,
                        text: Zeroizing::new(text),
                    });
                }
            }
            Ok::<_, journal::Error>((reader, rows))
        };
        let (reader, rows) = tokio::task::spawn_blocking(read).await??;
        self.reader = Some(reader);
        Ok(rows)
    }

    async fn touch(
        &mut self,
        mirrored: &Mirrored,
        rows: RowCount,
        signed_off: bool,
    ) -> Result<(), Error> {
        let of = MirroredJournal {
            instance: mirrored.instance.clone(),
            signed_off,
            unmirrored: self.unmirrored,
            rows: if signed_off { rows.all } else { rows.over },
            note: None,
        };
        let touch = Touch {
            journal: &self.state.journal,
            of: &of,
            has_rows: rows.all > 0,
            epoch: &self.state.seen.epoch,
            known: self.known.as_deref(),
            seen: self.journals,
            heard: self.heard,
        };
        let touched = mirrored.fleet.touch_journal(touch).await?;
        self.hear(mirrored, touched).await
    }

    async fn hear(&mut self, mirrored: &Mirrored, touched: Touched) -> Result<(), Error> {
        let before = &self.state.seen;
        let is_lost = touched.epoch != before.epoch;
        if is_lost && !before.epoch.is_empty() {
            tracing::warn!(
                "the fleet's store has lost what it had; what is in doubt here is written again"
            );
            self.is_unsure = true;
        }
        if is_lost || touched.seen != self.journals || self.known.is_none() {
            self.known = Some(touched.known);
        }
        self.journals = touched.seen;
        self.heard = touched.heard;
        if touched.is_shared && !self.is_shared {
            tracing::error!(
                "another instance of the fleet has this instance's journal, as where its directory was copied: the fleet's list of payments in doubt lacks some; give each instance a `journal.path` of its own"
            );
        }
        self.is_shared = touched.is_shared;
        let seen = MirrorSeen {
            epoch: touched.epoch,
            version: touched.seen.version,
            silent: touched.seen.silent,
            count: touched.seen.count,
        };
        if seen != self.state.seen {
            self.state.seen = seen.clone();
            mirrored.journal.remember_mirror(seen).await?;
        }
        Ok(())
    }
}
