//! The writer: one thread that takes the queued writes, each time all of them in one transaction.
//!
//! The thread is the only writer apart from `bursar outcomes resolve`. A transaction that fails leaves
//! nothing behind: first rows are given up, and whoever waits for them is told; later phases are kept here and
//! written with the next one, so that a disk that was full for a while leaves no answered request in doubt. One that is
//! committed and cannot be synchronised is in the file, and has failed for those who wait for the disk.

mod answers;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{ErrorCode, ffi};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::error::Error;
use super::files::{Files, Length, Opened};
use super::intent::Intent;
use super::message_queue::MessageReceiver;
use super::question::Question;
use super::request_state::Transition;
use super::reserve::Room;
use super::store::{Store, Unresolved};
use super::waiter::{Told, Waiter};
use super::watch::{RECOVER_AFTER, Watch};
use bursar_base::clock;
use bursar_config as config;
use bursar_telemetry::metrics::JournalSeries;

/// Transitions in one transaction; the others are in the next.
const MAX_BATCH: usize = 1024;
/// Settled requests that are forgotten at a time.
const FORGOTTEN_AT_ONCE: usize = 1024;
/// Later phases that are kept while they cannot be written; the rest stays in doubt.
const MAX_KEPT: usize = 16_384;
/// What one transition changes, about, and what each transaction does.
const PAGES_OF_STEP: u64 = 3;
/// The log is looked at after so many, or as often as gauges are renewed.
const PAGES_BETWEEN_LOOKS: u64 = 256;
/// Of the room that there is, what may be taken before it is looked at again.
const UNCHECKED_SHARE: u64 = 4;
/// How often gauges are renewed, old requests forgotten, and what was kept is tried again.
const TICK: Duration = Duration::from_secs(1);

/// What the thread is asked for.
pub(super) enum Message {
    Write(Write),
    Ask(Question),
}

/// One transition of a request.
pub(super) struct Write {
    pub(super) id: i64,
    pub(super) intent: Arc<Intent>,
    pub(super) transition: Transition,
    /// Whether none was handed in before, so that there is no row.
    pub(super) is_first: bool,
    pub(super) durable: bool,
    /// Of a request that is about to be sent, until this is written.
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// None: nobody waits.
    pub(super) waiter: Option<Waiter>,
}

type Kept = BTreeMap<i64, (Arc<Intent>, Transition)>;

/// The transitions of one request in a batch.
#[derive(Debug, Default)]
struct InBatch {
    /// The place of the last one.
    last: usize,
    /// Whether there is no row.
    is_new: bool,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Writer {
    store: Store,
    watch: Watch,
    /// Pages that came to the log since it was last written to the database.
    logged_pages: u64,
    /// The same since it was looked at.
    unseen_pages: u64,
    /// Pages that the database surely has room for.
    free_pages: u64,
    /// When it was last found that nothing can be written.
    failed: Instant,
    sync: bool,
    keep: Duration,
    series: JournalSeries,
    /// The latest transition of each request whose write failed, by number.
    kept: Kept,
    is_failing: bool,
    /// Which files are written.
    opened: Opened,
    /// Whether they are no longer where they are looked for after a restart.
    are_moved: bool,
    ticked: Instant,
    /// Nothing was left to be forgotten at the last tick, and there was no room.
    is_full: bool,
    /// The last new requests found no room, and there is none yet.
    has_refused: bool,
    /// At the last tick there was an error.
    has_looked_in_vain: bool,
    /// The providers that are shown with requests in doubt.
    in_doubt: BTreeSet<String>,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        settings: &config::Journal,
        series: JournalSeries,
    ) -> Result<Self, Error> {
        let files = Files::new(&settings.path, settings.max_size);
        let mut writer = Self {
            store,
            opened: files.opened(),
            watch: Watch::new(files, series.clone()),
            logged_pages: 0,
            unseen_pages: 0,
            free_pages: 0,
            failed: Instant::now(),
            sync: settings.sync,
            keep: settings.keep,
            series,
            kept: Kept::new(),
            is_failing: false,
            are_moved: false,
            ticked: Instant::now(),
            is_full: false,
            has_refused: false,
            has_looked_in_vain: false,
            in_doubt: BTreeSet::new(),
        };
        writer.look()?;
        Ok(writer)
    }

    /// Ends when nobody can hand in any more.
    pub(super) fn run(mut self, messages: &MessageReceiver<Message>) {
        let mut arrived = Vec::new();
        loop {
            let mut batch = Vec::new();
            let mut questions = Vec::new();
            let ended = messages.receive(&mut arrived, MAX_BATCH, TICK);
            for message in arrived.drain(..) {
                match message {
                    Message::Write(write) => batch.push(write),
                    Message::Ask(question) => questions.push(question),
                }
            }
            let is_time = ended || self.ticked.elapsed() >= TICK;
            while !batch.is_empty() {
                let rest = batch.split_off(self.at_once(batch.len()).min(batch.len()));
                self.write(std::mem::replace(&mut batch, rest), messages);
            }
            if is_time {
                self.write_kept(messages);
            }
            for question in questions {
                self.answer(question);
            }
            if is_time {
                self.tick();
            }
            self.series.show_failing(self.is_of_no_use());
            if ended {
                return;
            }
        }
    }

    /// Writes what was kept, as much of it as can be written.
    fn write_kept(&mut self, messages: &MessageReceiver<Message>) {
        let mut before = usize::MAX;
        while !self.kept.is_empty() && self.kept.len() < before {
            before = self.kept.len();
            self.write(Vec::new(), messages);
        }
    }

    fn write(&mut self, batch: Vec<Write>, messages: &MessageReceiver<Message>) {
        let pages = PAGES_OF_STEP * (batch.len() as u64 + 1);
        let transacted = self
            .in_place()
            .and_then(|()| self.make_room(pages))
            .and_then(|has_room| self.transact(&batch, has_room));
        match transacted {
            Ok((refused, left)) => {
                self.kept = left;
                self.committed(batch, &refused, messages);
            }
            Err(error) => {
                self.store.roll_back();
                self.complain(&error);
                let mut told = Told::default();
                for write in batch {
                    let waiter = self.keep(write, false);
                    self.count(waiter, false, &mut told);
                }
                told.tell(|| messages.gathering());
            }
        }
        // Nobody waits any more.
        if self.logged_pages >= self.watch.checkpoint_pages() && !self.is_failing {
            self.check_point();
        }
        if self.unseen_pages >= PAGES_BETWEEN_LOOKS || self.watch.length > Length::Usual {
            self.unseen_pages = 0;
            self.watch.log();
        }
    }

    /// The transitions of a transaction are in the file, but for those of the requests that found no room. Who waits for the
    /// disk, too, is told after the others.
    fn committed(
        &mut self,
        batch: Vec<Write>,
        refused: &HashSet<i64>,
        messages: &MessageReceiver<Message>,
    ) {
        if !batch.is_empty() {
            self.has_refused = !refused.is_empty();
        }
        let (mut told, mut durable) = (Told::default(), Vec::new());
        for write in batch {
            let is_written = !refused.contains(&write.id);
            let waits_for_disk = self.sync && write.durable && is_written;
            let waiter = self.keep(write, is_written);
            match waits_for_disk {
                true => durable.push(waiter),
                false => self.count(waiter, is_written, &mut told),
            }
        }
        told.tell(|| messages.gathering());
        let synchronised = match durable.is_empty() {
            true => Ok(()),
            false => self.synchronise(),
        };
        match &synchronised {
            // It has failed those who waited for the disk, and nobody does now.
            Ok(()) if self.store.is_log_doubtful() => {}
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("journal: written again");
                }
            }
            Err(error) => self.complain(error),
        }
        let mut told = Told::default();
        for waiter in durable {
            self.count(waiter, synchronised.is_ok(), &mut told);
        }
        told.tell(|| messages.gathering());
    }

    /// Moves what is in the log to the database.
    fn check_point(&mut self) {
        self.logged_pages = 0;
        if let Some(room) = self.watch.disk()
            && let Err(error) = self.afford(room)
        {
            tracing::debug!(%error, "journal: no space is reserved");
        }
        let is_long = self.watch.length > Length::Usual;
        let done = match self.store.checkpoint() {
            Ok(true) if is_long => self.store.truncate(),
            done => done,
        };
        // Then the log grows, which is watched.
        if let Err(error) = done {
            tracing::debug!(%error, "journal: cannot write its log to the database");
        }
    }

    /// Keeps a phase that is not in the file. Returns who waits.
    fn keep(&mut self, write: Write, is_written: bool) -> Option<Waiter> {
        drop(write.room);
        if is_written {
            self.kept.remove(&write.id);
        } else if self.kept.len() < MAX_KEPT || self.kept.contains_key(&write.id) {
            // The transition after a refusal says that nothing was sent, and takes the place of this one.
            self.kept.insert(write.id, (write.intent, write.transition));
        }
        write.waiter
    }

    /// Counts a write, as who waits for it will be told.
    fn count(&self, waiter: Option<Waiter>, is_written: bool, told: &mut Told) {
        match is_written {
            true => self.series.written.inc(),
            false => self.series.failed.inc(),
        }
        told.add(waiter, is_written);
    }

    /// Whether there is room for new requests. Settled ones are forgotten where that is needed, some at a time: on a full
    /// disk the log has room for so much.
    fn make_room(&mut self, pages: u64) -> Result<bool, rusqlite::Error> {
        if self.watch.length == Length::Full {
            return Ok(false);
        }
        if let Some(left) = self.free_pages.checked_sub(pages) {
            self.free_pages = left;
            return Ok(true);
        }
        let mut has_room = self.has_room()?;
        if self.watch.is_disk_full_since_now() {
            return Ok(has_room);
        }
        // When it was looked at last, the disk may have been full for a moment only, and nothing was to grow.
        if !has_room
            && !self.is_full
            && self.watch.is_disk_full()
            && let Some(room) = self.watch.disk()
        {
            self.afford(room)?;
            has_room = self.has_room()?;
        }
        while !has_room && !self.is_full {
            let is_settled = self.forget(None)? > 0;
            has_room = self.has_room()?;
            self.is_full = !is_settled && !has_room;
            if self.is_full {
                tracing::error!(
                    "journal: max_size is reached or its disk is full, and nothing in it is settled; see `bursar outcomes`"
                );
            }
        }
        Ok(has_room)
    }

    /// Looks whether there is room for new requests.
    fn has_room(&mut self) -> Result<bool, rusqlite::Error> {
        let room = self.store.room()?;
        // How much a transaction takes is not known exactly, and what the disk has may become less.
        self.free_pages = room / UNCHECKED_SHARE;
        Ok(room > 0)
    }

    fn afford(&mut self, room: Room) -> Result<(), rusqlite::Error> {
        self.free_pages = 0;
        self.store.afford(room)
    }

    /// Forgets some of the settled requests: those before `before`, or any. Returns how many.
    fn forget(&mut self, before: Option<SystemTime>) -> Result<usize, rusqlite::Error> {
        self.store.begin()?;
        let forgotten = self.store.forget(before, self.at_once(FORGOTTEN_AT_ONCE))?;
        self.commit()?;
        if self.logged_pages >= self.watch.checkpoint_pages() {
            self.check_point();
        }
        Ok(forgotten)
    }

    /// How many requests are changed in one transaction: `usually`, and on a full disk so many that their pages are a part
    /// of those that the log has room for.
    fn at_once(&self, usually: usize) -> usize {
        match self.watch.is_disk_full() {
            true => {
                let pages = usize::try_from(self.watch.checkpoint_pages()).unwrap_or(usize::MAX);
                (pages / 8).max(1)
            }
            false => usually,
        }
    }

    /// One transaction. Returns the requests that found the database full, and the transitions still carried over.
    fn transact(
        &mut self,
        batch: &[Write],
        has_room: bool,
    ) -> Result<(HashSet<i64>, Kept), rusqlite::Error> {
        self.store.begin()?;
        let mut rows = self.store.rows();
        let mut left = Kept::new();
        let most = self.at_once(MAX_KEPT);
        for (index, (id, (intent, transition))) in self.kept.iter().enumerate() {
            if index >= most || !rows.put(*id, intent, transition, false, has_room)? {
                left.insert(*id, (intent.clone(), *transition));
            }
        }
        // Nobody sees what is between: of each request the last transition alone is written.
        let mut requests: BTreeMap<i64, InBatch> = BTreeMap::new();
        for (place, write) in batch.iter().enumerate() {
            let request = requests.entry(write.id).or_default();
            request.last = place;
            request.is_new |= write.is_first;
        }
        let mut refused = HashSet::new();
        for (id, InBatch { last, is_new }) in requests {
            if let Some(write) = batch.get(last)
                && !rows.put(id, &write.intent, &write.transition, is_new, has_room)?
            {
                refused.insert(id);
            }
        }
        drop(rows);
        self.commit()?;
        Ok((refused, left))
    }

    /// Ends a transaction.
    fn commit(&mut self) -> Result<(), rusqlite::Error> {
        self.store.commit()?;
        let pages = self.store.newly_logged();
        self.logged_pages += pages;
        self.unseen_pages += pages;
        Ok(())
    }

    /// Lets what was committed survive the loss of power, too.
    fn synchronise(&mut self) -> Result<(), rusqlite::Error> {
        self.store.synchronise()?;
        self.series.syncs.inc();
        Ok(())
    }

    /// What is written where nobody looks for it is not written down.
    fn in_place(&self) -> Result<(), rusqlite::Error> {
        if !self.are_moved {
            return Ok(());
        }
        let code = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
        let what = "its files were moved, deleted or replaced; put them back, or restart Bursar";
        Err(rusqlite::Error::SqliteFailure(code, Some(what.to_owned())))
    }

    fn tick(&mut self) {
        self.ticked = Instant::now();
        self.are_moved = self.watch.files.are_others_than(&mut self.opened);
        self.is_full = false;
        let is_stuck = self.is_failing && self.failed.elapsed() >= RECOVER_AFTER;
        if is_stuck {
            self.failed = Instant::now();
        }
        if is_stuck || self.watch.length > Length::Usual {
            self.check_point();
        }
        self.watch.log();
        let looked = self.look();
        self.has_looked_in_vain = looked.is_err();
        if let Err(error) = looked {
            self.store.roll_back();
            self.complain(&error);
        }
    }

    /// Whether a request that moves money would not be written now. A failure with nothing left to be written is over when
    /// another look succeeds.
    fn is_of_no_use(&self) -> bool {
        let lasts =
            || !self.kept.is_empty() || self.store.is_log_doubtful() || self.has_looked_in_vain;
        self.are_moved || self.has_refused || (self.is_failing && lasts())
    }

    /// Renews the gauges and forgets what is old.
    fn look(&mut self) -> Result<(), rusqlite::Error> {
        if let Some(room) = self.watch.disk() {
            self.afford(room)?;
        }
        let is_log_full = self.watch.length == Length::Full;
        let before = clock::wall().checked_sub(self.keep);
        if let Some(before) = before.filter(|_| !is_log_full) {
            self.forget(Some(before))?;
        }
        if self.has_refused {
            self.has_refused = is_log_full || !self.has_room()?;
        }
        self.show_unresolved(self.store.unresolved()?);
        Ok(())
    }

    /// Shows what is in doubt, and of which providers nothing is any more.
    fn show_unresolved(&mut self, unresolved: Vec<Unresolved>) {
        let mut settled = std::mem::take(&mut self.in_doubt);
        for Unresolved {
            provider,
            count,
            oldest,
        } in unresolved
        {
            self.series.show_unresolved(&provider, count, Some(oldest));
            settled.remove(&provider);
            self.in_doubt.insert(provider);
        }
        for provider in settled {
            self.series.show_unresolved(&provider, 0, None);
        }
    }

    /// Once until it is written again, or the disk would be filled with that.
    fn complain(&mut self, error: &rusqlite::Error) {
        let code = error.sqlite_error_code();
        if code == Some(ErrorCode::DiskFull) {
            // Until it is looked at again; settled requests make room meanwhile.
            let room = self.watch.disk_is_full();
            drop(self.afford(room));
        }
        if std::mem::replace(&mut self.is_failing, true) {
            return;
        }
        self.failed = Instant::now();
        let processes = match code {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Some(self.watch.files.users())
            }
            _ => None,
        };
        tracing::error!(%error, processes, "journal: cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message_queue::message_queue;
    use crate::request_state::Phase;
    use crate::tests::{intent, series, settings};

    #[test]
    fn who_does_not_wait_for_the_disk_is_told_whatever_becomes_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let settings = config::Journal {
            sync: true,
            ..settings(directory.path().to_owned())
        };
        let mut store = Store::open(&settings).unwrap();
        store.break_log();
        let mut writer = Writer::new(store, &settings, series()).unwrap();
        let write = |id, phase: Phase, durable| {
            let (waiter, written) = Waiter::new();
            let write = Write {
                id,
                intent: Arc::new(intent("r")),
                transition: Transition {
                    phase,
                    hash: None,
                    is_open: phase.is_in_doubt(),
                },
                is_first: true,
                durable,
                room: None,
                waiter: Some(waiter),
            };
            (write, written)
        };
        let (sending, mut is_sent) = write(1, Phase::HeadSent, true);
        let (answered, mut is_answered) = write(2, Phase::Answered, false);
        let (_sender, messages) = message_queue(1);
        writer.write(vec![sending, answered], &messages);
        assert_eq!(is_answered.try_recv(), Ok(true));
        assert_eq!(is_sent.try_recv(), Ok(false));
        assert_eq!(
            (writer.series.written.get(), writer.series.failed.get()),
            (1, 1)
        );
        assert!(writer.kept.is_empty() && writer.is_failing);
        let (answered, _) = write(3, Phase::Answered, false);
        writer.write(vec![answered], &messages);
        assert!(writer.is_failing, "the disk is no better");
    }
}
