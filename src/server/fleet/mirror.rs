//! Mirror of the journal's payments in doubt in the fleet's store, for whoever asks when this instance is gone.
//!
//! One task looks at the journal beside its writer, four times a second, and writes to the store what is in doubt and what
//! has been under way for a second. No request waits for it. What the store has lost, or could not be told while it was
//! away, is written again in full.
//!
//! Before anything is written this process says that it writes for the journal now; and whenever rows were written, which
//! ones there are. So whoever reads finds those rows, or knows that something is missing.

mod journal_view;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use bursar_base::log_throttle::LogThrottle;
use bursar_fleet::{
    Description, FIRST_CONNECTION, Fleet, MirrorError, MirroredJournal, Row, RowChange, RowState,
    Told, Touch, Touched, random_text,
};
use bursar_journal::{self as journal, Journal, MirrorState};
use journal_view::{JournalView, ReadError};

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the store hears that its rows are as they should be, and is looked at whether they are.
const TOUCH_EVERY: Duration = Duration::from_secs(1);
/// A process before this one that is still heard of after so long has not ended.
const PREDECESSOR_ENDS: Duration = Duration::from_secs(4);
/// How many processes before this one are known.
const MAX_PROCESSES: usize = 32;
/// Where the journal could not be written, it is tried again after so long.
const REMEMBER_AGAIN: Duration = Duration::from_secs(10);
/// At the end nobody waits for the store any longer.
const SIGN_OFF_TIMEOUT: Duration = Duration::from_secs(2);
/// Where the store has something else than was thought all is written again; so often at the end.
const LAST_LOOKS: usize = 3;

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
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Unavailable(#[from] journal::Unavailable),
    #[error("the fleet's store cannot be used")]
    Down,
    #[error("the process that had this journal before may not have ended yet")]
    NotYet,
    #[error("the fleet's store has something else than was written to it")]
    Changed,
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
        let mut result = look(&mut task, &mirrored, ends).await;
        for _ in 1..LAST_LOOKS {
            if ends && matches!(result, Err(Error::Changed | Error::NotYet)) {
                result = look(&mut task, &mirrored, ends).await;
            }
        }
        if let Err(error) = &result
            && !is_failing
            && !matches!(error, Error::Down | Error::NotYet)
        {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "the fleet's list of payments in doubt is not kept up to date"
            );
        }
        is_failing = result.is_err();
        if ends {
            return !is_failing;
        }
        ends = timeout(LOOK_EVERY, ending.notified()).await.is_ok();
    }
}

async fn look(task: &mut Option<Task>, mirrored: &Mirrored, ends: bool) -> Result<(), Error> {
    let task = match task {
        Some(task) => task,
        None => task.insert(Task::begin(mirrored).await?),
    };
    let result = task.look(mirrored, ends).await;
    task.is_unsure |= result.is_err();
    result
}

/// What is known of the mirror.
struct Task {
    view: JournalView,
    state: MirrorState,
    /// What the journal's file has of that.
    remembered: MirrorState,
    /// When it could not be written there.
    unremembered: Option<Instant>,
    /// Where its rows are in the store.
    name: String,
    /// The rows that this process has left there.
    rows: RowState,
    /// The store may have something else than is thought.
    is_unsure: bool,
    /// It may have something under names that other keys lead to.
    has_other_names: bool,
    /// What the store said last.
    told: Option<Told>,
    /// It may have heard of the journal since.
    is_unheard: bool,
    /// When the store was told last which rows there are.
    touched: Option<(Instant, RowState)>,
    /// Since when the process before this one may not have ended.
    waits: Option<Instant>,
    store_since: Instant,
    losses_told: LogThrottle,
}

impl Task {
    async fn begin(mirrored: &Mirrored) -> Result<Self, Error> {
        let mut state = mirrored.journal.mirror_state().await?;
        // Written down first: whoever opens the file after this process finds it there.
        state.processes.insert(0, random_text());
        state.processes.truncate(MAX_PROCESSES);
        mirrored.journal.remember_mirror(state.clone()).await?;
        Ok(Self {
            view: JournalView::new(&mirrored.directory),
            remembered: state.clone(),
            unremembered: None,
            state,
            name: String::new(),
            rows: RowState::default(),
            is_unsure: true,
            has_other_names: true,
            told: None,
            is_unheard: true,
            touched: None,
            waits: None,
            store_since: Instant::now(),
            losses_told: LogThrottle::default(),
        })
    }

    /// Brings the mirror to what the journal has.
    async fn look(&mut self, mirrored: &Mirrored, ends: bool) -> Result<(), Error> {
        if ends {
            // Whatever was handed in before is in the file then.
            mirrored.journal.mirror_state().await?;
        }
        self.view.read().await?;
        let store = mirrored.fleet.state();
        if store.down.is_some() {
            return Err(Error::Down);
        }
        self.is_unsure |= std::mem::replace(&mut self.store_since, store.since) != store.since;
        let name = mirrored.fleet.journal_name(&self.state.journal);
        if name != self.name {
            self.name = name;
            self.is_unsure = true;
            self.has_other_names = true;
            self.is_unheard = true;
        }
        if self.is_unsure {
            self.touch(mirrored, None, false).await?;
        }
        let is_due = (self.touched.as_ref()).is_none_or(|(at, _)| at.elapsed() >= TOUCH_EVERY);
        self.write(&mirrored.fleet, ends, is_due).await?;
        if mirrored.fleet.journal_name(&self.state.journal) != self.name {
            // The keys are others since then: all is written again under its new name first.
            return Ok(());
        }
        if ends && self.rows.count == 0 {
            self.forget_other_names(&mirrored.fleet).await?;
            return Ok(mirrored.fleet.forget_journal(&self.state.journal).await?);
        }
        let is_told = (self.touched.as_ref()).is_some_and(|(_, rows)| *rows == self.rows);
        if ends || is_due || !is_told {
            let rows = self.rows.clone();
            self.touch(mirrored, Some(rows.clone()), ends).await?;
            self.touched = Some((Instant::now(), rows));
        }
        self.forget_other_names(&mirrored.fleet).await
    }

    /// Once all of it is under the new name: whoever reads meanwhile finds it twice rather than not at all.
    async fn forget_other_names(&mut self, fleet: &Fleet) -> Result<(), Error> {
        if self.has_other_names {
            fleet
                .forget_other_names(&self.state.journal, &self.name)
                .await?;
            self.has_other_names = false;
        }
        Ok(())
    }

    /// Writes what is to be written, or looks whether all is there.
    async fn write(&mut self, fleet: &Fleet, ends: bool, is_due: bool) -> Result<(), Error> {
        if self.is_unsure {
            self.view.forget_written();
        }
        let due = self.view.due(ends);
        let settled = self.view.settled();
        if !(self.is_unsure || ends || is_due) && due.is_empty() && settled.is_empty() {
            return Ok(());
        }
        let rows = self.view.rows(&due).await?;
        let journal = &self.state.journal;
        let (tag, removed) = match self.is_unsure {
            true => found(fleet, journal, &rows).await?,
            false => {
                let names = settled
                    .iter()
                    .map(|number| fleet.row_name(journal, *number));
                (self.rows.tag.clone(), names.collect())
            }
        };
        let change = RowChange {
            tag: &tag,
            removed: &removed,
            rows: &rows,
        };
        let Some(written) = fleet.write_rows(journal, change).await? else {
            return Err(Error::Changed);
        };
        self.view.wrote(&rows, &due);
        if written.count != self.view.written() {
            return Err(Error::Changed);
        }
        self.rows = written;
        self.is_unsure = false;
        Ok(())
    }

    /// Says which rows there are, or that they are being written.
    async fn touch(
        &mut self,
        mirrored: &Mirrored,
        rows: Option<RowState>,
        signed_off: bool,
    ) -> Result<(), Error> {
        let of = MirroredJournal {
            instance: mirrored.instance.clone(),
            signed_off,
            unmirrored: self.view.unmirrored(),
            rows,
            note: None,
        };
        let touch = Touch {
            journal: &self.state.journal,
            of: &of,
            processes: &self.state.processes,
            epoch: &self.state.epoch,
            version: self.state.version,
            before: self.told.as_ref(),
            is_unsure: std::mem::replace(&mut self.is_unheard, true),
        };
        match mirrored.fleet.touch_journal(touch).await? {
            Touched::Yes(told) => {
                mirrored.fleet.journal_signal().send();
                self.is_unheard = false;
                self.waits = None;
                self.hear(&mirrored.journal, told).await;
                Ok(())
            }
            Touched::NotYet => {
                // The journal is known, and whoever stays silent from now on will be missed.
                mirrored.fleet.journal_signal().send();
                let since = self.waits.get_or_insert_with(Instant::now);
                if since.elapsed() >= PREDECESSOR_ENDS {
                    self.take_another_name(&mirrored.journal).await?;
                }
                Err(Error::NotYet)
            }
            Touched::ByAnother => {
                self.take_another_name(&mirrored.journal).await?;
                Err(Error::NotYet)
            }
        }
    }

    async fn hear(&mut self, journal: &Journal, told: Told) {
        let is_lost = told.epoch != self.state.epoch;
        if is_lost && !self.state.epoch.is_empty() {
            if let Some(times) = self.losses_told.due(Instant::now()) {
                tracing::warn!(
                    times,
                    "the fleet's store has lost what it had; what is in doubt here is written again"
                );
            }
            self.is_unsure = true;
        }
        self.state.epoch.clone_from(&told.epoch);
        self.state.version = told.seen.version;
        self.told = Some(told);
        self.remember(journal).await;
    }

    /// What the store has said is for a process after this one. Where the file cannot be written, as with a full disk, the
    /// list is kept up to date all the same.
    async fn remember(&mut self, journal: &Journal) {
        let is_due = |failed: Instant| failed.elapsed() >= REMEMBER_AGAIN;
        if self.remembered != self.state && self.unremembered.is_none_or(is_due) {
            match journal.remember_mirror(self.state.clone()).await {
                Ok(()) => {
                    self.remembered.clone_from(&self.state);
                    self.unremembered = None;
                }
                Err(journal::Unavailable) => self.unremembered = Some(Instant::now()),
            }
        }
    }

    /// Somebody else has a copy of this journal: what he writes stays his, and this instance goes on beside him.
    async fn take_another_name(&mut self, journal: &Journal) -> Result<(), Error> {
        let state = MirrorState {
            journal: random_text() + &random_text(),
            processes: vec![random_text()],
            ..self.state.clone()
        };
        // Nothing goes to the store under a name that no process after this one would know.
        journal.remember_mirror(state.clone()).await?;
        tracing::warn!(
            "another instance of the fleet writes for this journal, or has written more for it than is in it: one of them is a copy of the other, or an older one; this instance goes on with a name of its own in the fleet's list of payments in doubt. Give each instance a `journal.path` of its own"
        );
        self.remembered.clone_from(&state);
        self.unremembered = None;
        self.state = state;
        self.waits = None;
        self.touched = None;
        Ok(())
    }
}

/// The tag of what is there, and the names of what is not wanted of it.
async fn found(
    fleet: &Fleet,
    journal: &str,
    wanted: &[Row],
) -> Result<(String, Vec<String>), Error> {
    let wanted = wanted.iter().map(|row| fleet.row_name(journal, row.number));
    let wanted: HashSet<String> = wanted.collect();
    let mut found = fleet.row_names(journal).await?;
    found.names.retain(|name| !wanted.contains(name));
    Ok((found.tag, found.names))
}

#[cfg(test)]
mod tests;
