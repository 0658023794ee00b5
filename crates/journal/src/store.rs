//! The journal's database: one row to a request, with the latest phase, in SQLite.
//!
//! Written by the process that holds the lock beside it, read by any: `bursar outcomes` opens the same file,
//! and takes requests off the list in it. SQLite's write-ahead log orders the two, and makes what was
//! committed survive the end of the process at any instant. It knows nothing of requests under way.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, ffi, params};
use rustix::fs::fdatasync;

use super::decisions::{self, KeptDecision};
use super::error::Error;
use super::files::{FILE, LONG_LOG, PAGE_BYTES};
use super::intent::{InDoubt, Resolution};
use super::mirror_state::{self, MirrorState};
use super::request_state::Phase;
use super::reserve::{Reserve, Room};
use super::rows::Rows;
use super::schema::{self, FORMAT};
use super::timestamp::{micros, time};
use bursar_base::secret::hexadecimal;
use bursar_config as config;

/// SQLite's log beside it.
pub(super) const LOG: &str = "journal.sqlite-wal";
/// Held as long as the process lives that writes the journal.
pub(super) const LOCK: &str = "lock";
/// The same from when it has closed what an earlier one left open, for those who read.
pub(super) const RUNNING: &str = "running";
/// How long another process may hold the lock, or the database.
const PATIENCE: Duration = Duration::from_secs(2);
/// An open journal.
#[derive(Debug)]
pub(super) struct Store {
    database: Connection,
    directory: PathBuf,
    /// SQLite's log, once it was synchronised.
    log: Option<File>,
    /// Pages that came to it since somebody asked.
    logged: Arc<AtomicU64>,
    /// Whether that has failed: what comes after a part that is lost is lost with it.
    is_log_doubtful: bool,
    limit_pages: i64,
    /// The same, as far as its disk has room.
    affordable_pages: i64,
    reserve: Reserve,
    /// Locked for as long as they are open; none for a reader.
    locks: Vec<File>,
}

/// What is in doubt of a provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub(super) provider: String,
    pub(super) count: i64,
    pub(super) oldest: SystemTime,
}

impl Store {
    /// Opens the journal of this process.
    pub(super) fn open(settings: &config::Journal) -> Result<Self, Error> {
        let directory = |source| Error::Directory {
            path: settings.path.clone(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&settings.path)
            .map_err(directory)?;
        // The directory may have been there, and open to others. What SQLite keeps beside a file is as that is.
        let open = |name| {
            let mut options = File::options();
            options.create(true).truncate(false).write(true).mode(0o600);
            options.open(settings.path.join(name)).map_err(directory)
        };
        let lock = open(LOCK)?;
        take(&lock, &settings.path)?;
        is_there(&settings.path)?;
        drop(open(FILE)?);
        let database = Connection::open(settings.path.join(FILE))?;
        let limit_pages = i64::try_from(settings.max_size / PAGE_BYTES).unwrap_or(i64::MAX);
        let mut store = Self {
            database,
            directory: settings.path.clone(),
            log: None,
            logged: Arc::default(),
            is_log_doubtful: false,
            limit_pages,
            affordable_pages: limit_pages,
            reserve: Reserve::new(settings.path.join(FILE), settings.path.join(LOG)),
            locks: vec![lock],
        };
        store.prepare()?;
        store.count_logged()?;
        let running = open(RUNNING)?;
        take(&running, &settings.path)?;
        store.locks.push(running);
        Ok(store)
    }

    /// Opens a journal beside the process that writes it.
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        if !is_there(directory)? {
            return Err(Error::Missing(directory.to_owned()));
        }
        let file = directory.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Self {
            database: Connection::open_with_flags(&file, flags)?,
            directory: directory.to_owned(),
            log: None,
            logged: Arc::default(),
            is_log_doubtful: false,
            limit_pages: i64::MAX,
            affordable_pages: i64::MAX,
            reserve: Reserve::new(file, directory.join(LOG)),
            locks: Vec::new(),
        };
        store.database.busy_timeout(PATIENCE)?;
        // It would let the database's file end at its content.
        let pragma = "wal_autocheckpoint";
        store.database.pragma_update(None, pragma, 0)?;
        match store.format()? {
            FORMAT => Ok(store),
            0 => Err(without_log(directory)),
            other => Err(Error::Format(other)),
        }
    }

    fn prepare(&self) -> Result<(), Error> {
        let database = &self.database;
        database.busy_timeout(PATIENCE)?;
        // Before there is a log: the database's file is a journal from the first moment.
        match self.format()? {
            0 if self.pages()? == 0 => schema::create(database)?,
            0 => return Err(without_log(&self.directory)),
            FORMAT => {}
            other => return Err(Error::Format(other)),
        }
        database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        // The log is cut back to this after it was longer than it usually gets.
        database.pragma_update(None, "journal_size_limit", LONG_LOG.cast_signed())?;
        // The writer does it when nobody waits for it.
        database.pragma_update(None, "wal_autocheckpoint", 0)?;
        // No other file is needed while it runs, wherever there is room for one.
        database.pragma_update(None, "temp_store", "MEMORY")?;
        database.pragma_update(None, "max_page_count", self.limit_pages)?;
        schema::add_columns(database)?;
        schema::add_table(database)?;
        if let Err(error) = schema::create_index(database) {
            // The earlier one is as good, only slower to write.
            tracing::debug!(%error, "journal: its index stays as it was");
        }
        // Whatever an earlier process left open is over.
        let closing = format!(
            "UPDATE requests SET is_open = 0 WHERE {} AND is_open = 1",
            in_doubt(true)
        );
        self.database.execute(&closing, [])?;
        Ok(())
    }

    /// SQLite tells after each commit how many pages the log has, until somebody sets `wal_autocheckpoint`.
    fn count_logged(&mut self) -> Result<(), rusqlite::Error> {
        let (logged, mut before) = (self.logged.clone(), 0);
        self.database.wal_hook(Some(move |_: &mut Wal, pages| {
            let pages = u64::try_from(pages).unwrap_or(0);
            // It has begun anew where it has fewer. Where it has not, although it has, fewer are counted than came: no more
            // than it had, which is less than one transaction then.
            let more = pages.checked_sub(before).unwrap_or(pages);
            before = pages;
            logged.fetch_add(more, Ordering::Relaxed);
            Ok(())
        }))
    }

    /// How many pages came to the log since this was called.
    pub(super) fn newly_logged(&self) -> u64 {
        self.logged.swap(0, Ordering::Relaxed)
    }

    fn format(&self) -> Result<i64, rusqlite::Error> {
        self.database
            .pragma_query_value(None, "user_version", |row| row.get(0))
    }

    fn pages(&self) -> Result<i64, rusqlite::Error> {
        self.database
            .pragma_query_value(None, "page_count", |row| row.get(0))
    }

    /// Above every row's number.
    pub(super) fn next_id(&self) -> Result<i64, rusqlite::Error> {
        let sql = "SELECT coalesce(max(id), 0) + 1 FROM requests";
        self.database.query_row(sql, [], |row| row.get(0))
    }

    pub(super) fn begin(&self) -> Result<(), rusqlite::Error> {
        self.run("BEGIN IMMEDIATE")
    }

    /// Ends a transaction; what it wrote survives the end of the process.
    pub(super) fn commit(&self) -> Result<(), rusqlite::Error> {
        self.run("COMMIT")
    }

    fn run(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.database.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Lets all that was committed survive the loss of power as well. SQLite would do that with a commit where it is told
    /// so beforehand, which costs a statement, and by `fsync`, which writes the file's times as well. It has no lock on
    /// that file, so that it may be opened here.
    pub(super) fn synchronise(&mut self) -> Result<(), rusqlite::Error> {
        // The log begins anew with what is written next then.
        if self.is_log_doubtful && !self.checkpoint()? {
            return Err(not_synchronised(&io::ErrorKind::ResourceBusy.into()));
        }
        let synchronised = self.synchronise_log();
        self.is_log_doubtful = synchronised.is_err();
        synchronised.map_err(|error| not_synchronised(&error))
    }

    /// From now on its log is something that cannot be synchronised.
    #[cfg(test)]
    pub(super) fn break_log(&mut self) {
        let (pipe, _) = io::pipe().unwrap();
        self.log = Some(File::from(std::os::fd::OwnedFd::from(pipe)));
    }

    /// Whether it could not be synchronised the last time.
    pub(super) fn is_log_doubtful(&self) -> bool {
        self.is_log_doubtful
    }

    fn synchronise_log(&mut self) -> io::Result<()> {
        let log = match self.log.take() {
            Some(log) => log,
            None => File::open(self.directory.join(LOG))?,
        };
        Ok(fdatasync(self.log.insert(log))?)
    }

    pub(super) fn roll_back(&self) {
        // Some errors roll back by themselves.
        if !self.database.is_autocommit()
            && let Err(error) = self.database.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "journal: cannot roll back");
        }
    }

    /// What writes rows, for a whole transaction.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows::new(&self.database)
    }

    /// How many pages there are for more requests; the last eighth is for later phases of those there are.
    pub(super) fn room(&self) -> Result<u64, rusqlite::Error> {
        let limit = self.limit_pages.min(self.affordable_pages);
        let room = limit - limit / 8 - self.used_pages()?;
        Ok(u64::try_from(room).unwrap_or(0))
    }

    /// The disk has so much room.
    pub(super) fn afford(&mut self, room: Room) -> Result<(), rusqlite::Error> {
        let pages = self.pages()?;
        let pages = self
            .reserve
            .keep(&self.database, pages, self.limit_pages, room);
        self.affordable_pages = pages.affordable;
        self.database
            .pragma_update(None, "max_page_count", pages.most)
    }

    /// Writes what is in the log to the database, as far as nobody reads it there; whether that was all of it, so that
    /// the log begins anew with what is written next. Waits for nobody.
    pub(super) fn checkpoint(&self) -> Result<bool, rusqlite::Error> {
        self.run_checkpoint("PASSIVE")
    }

    /// The same, and the log takes no room any more.
    pub(super) fn truncate(&self) -> Result<bool, rusqlite::Error> {
        self.database.busy_timeout(Duration::ZERO)?;
        let done = self.run_checkpoint("TRUNCATE");
        self.database.busy_timeout(PATIENCE)?;
        done
    }

    /// Before the end: the same, and some room stays reserved for the log of the next process.
    pub(super) fn write_back(&self) -> Result<bool, rusqlite::Error> {
        let done = self.truncate();
        self.reserve.reserve_log();
        done
    }

    fn run_checkpoint(&self, mode: &str) -> Result<bool, rusqlite::Error> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        self.database.query_row(&sql, [], |row| {
            let [is_busy, logged, done] = [row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?];
            Ok(is_busy == 0 && logged == done)
        })
    }

    fn used_pages(&self) -> Result<i64, rusqlite::Error> {
        let mut statement = self.database.prepare_cached(
            "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)",
        )?;
        statement.query_row([], |row| row.get(0))
    }

    /// Forgets some of the oldest settled requests, about `most`: those before `before`, or any. Resolved ones go
    /// last where it is about room. Returns how many.
    pub(super) fn forget(
        &self,
        before: Option<SystemTime>,
        most: usize,
    ) -> Result<usize, rusqlite::Error> {
        let cutoff = before.map_or(i64::MAX, micros);
        let mut forgotten = 0;
        for settled in [
            "resolved IS NULL AND phase IN (0, 4) ORDER BY id",
            "resolved IS NOT NULL ORDER BY resolved",
        ] {
            let sql = format!(
                "DELETE FROM requests WHERE time < ?1 AND id IN (SELECT id FROM requests WHERE {settled} LIMIT ?2)"
            );
            let mut statement = self.database.prepare_cached(&sql)?;
            forgotten += statement.execute(params![cutoff, most.cast_signed()])?;
            if before.is_none() && forgotten > 0 {
                break;
            }
        }
        Ok(forgotten)
    }

    /// How many requests are in doubt of each provider that has some, apart from those under way, and when the oldest
    /// came.
    pub(super) fn unresolved(&self) -> Result<Vec<Unresolved>, rusqlite::Error> {
        let sql = format!(
            "SELECT provider, count(*), min(time) FROM requests WHERE {} GROUP BY provider",
            in_doubt(false)
        );
        let mut statement = self.database.prepare_cached(&sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Unresolved {
                provider: row.get(0)?,
                count: row.get(1)?,
                oldest: time(row.get(2)?),
            })
        })?;
        rows.collect()
    }

    /// The requests in doubt. Where the process lives that sends them, those under way are not among them.
    pub(super) fn outcomes(&self) -> Result<Vec<InDoubt>, Error> {
        // It may end or begin in between.
        loop {
            let lives = self.is_written()?;
            let found = self.select(lives)?;
            if self.is_written()? == lives {
                return Ok(found);
            }
        }
    }

    fn select(&self, lives: bool) -> Result<Vec<InDoubt>, rusqlite::Error> {
        let sql = select_in_doubt(&self.database, in_doubt(!lives))?;
        let mut statement = self.database.prepare(&sql)?;
        let rows = statement.query_map([], in_doubt_from)?;
        rows.collect()
    }

    /// For whoever reads on.
    pub(super) fn into_database(self) -> Connection {
        self.database
    }

    pub(super) fn mirror_state(&self) -> Result<MirrorState, rusqlite::Error> {
        mirror_state::read(&self.database)
    }

    pub(super) fn remember_mirror(&self, state: &MirrorState) -> Result<(), rusqlite::Error> {
        mirror_state::write(&self.database, state)
    }

    /// Takes requests in doubt off the list, all of them or none; the first that is not on it.
    pub(super) fn resolve(
        &mut self,
        ids: &[&str],
        note: &str,
        now: SystemTime,
    ) -> Result<Option<String>, Error> {
        let sql = format!(
            "SELECT request_id, id FROM requests WHERE {}",
            in_doubt(!self.is_written()?)
        );
        let immediate = TransactionBehavior::Immediate;
        // Dropped before its end, it is rolled back.
        let transaction = self.database.transaction_with_behavior(immediate)?;
        // One look for all of them: those that a process has left open are in no index.
        let mut listed: HashMap<String, Vec<i64>> = HashMap::new();
        let mut statement = transaction.prepare(&sql)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        for row in rows {
            let (request_id, id) = row?;
            if ids.contains(&&*request_id) {
                listed.entry(request_id).or_default().push(id);
            }
        }
        drop(statement);
        for request_id in ids {
            let Some(rows) = listed.remove(*request_id) else {
                return Ok(Some((*request_id).to_owned()));
            };
            let sql = "UPDATE requests SET resolved = ?2, note = ?3 WHERE id = ?1";
            let mut statement = transaction.prepare_cached(sql)?;
            for id in rows {
                statement.execute(params![id, micros(now), note])?;
            }
        }
        transaction.commit()?;
        Ok(None)
    }

    /// When a request was resolved, and how.
    pub(super) fn resolution(&self, id: &str) -> Result<Option<Resolution>, rusqlite::Error> {
        let sql =
            "SELECT resolved, note FROM requests WHERE request_id = ?1 AND resolved IS NOT NULL";
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Resolution {
                request_id: id.to_owned(),
                at: time(row.get(0)?),
                note: row.get(1)?,
            })
        };
        self.database.query_row(sql, [id], row).optional()
    }

    /// Whether a process lives that writes the journal.
    fn is_written(&self) -> Result<bool, Error> {
        let failed = |source| Error::Directory {
            path: self.directory.clone(),
            source,
        };
        let running = match File::open(self.directory.join(RUNNING)) {
            Ok(running) => running,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        match running.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub(super) fn decisions(&self) -> Result<Vec<KeptDecision>, rusqlite::Error> {
        decisions::read(&self.database)
    }

    pub(super) fn decide(&self, decision: &KeptDecision) -> Result<(), rusqlite::Error> {
        decisions::write(&self.database, decision)
    }
}

/// Whether there is a database, which is never without content where it has a log.
pub(super) fn is_there(directory: &Path) -> Result<bool, Error> {
    let length = |name| match directory.join(name).metadata() {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Directory {
            path: directory.to_owned(),
            source,
        }),
    };
    // The log first: its process may make both just now.
    let has_log = length(LOG)?.is_some();
    match length(FILE)? {
        None | Some(0) if has_log => Err(Error::Lost {
            path: directory.join(FILE),
            what: "is missing or empty, and its log journal.sqlite-wal is there",
        }),
        length => Ok(length.is_some_and(|length| length > 0)),
    }
}

pub(super) fn without_log(directory: &Path) -> Error {
    Error::Lost {
        path: directory.join(FILE),
        what: "is there and holds nothing: its log journal.sqlite-wal, which had all of it, is missing or damaged",
    }
}

/// A reader looks whether the lock is held by taking it for a moment, and a process that was killed lets
/// go of it a little later.
fn take(lock: &File, directory: &Path) -> Result<(), Error> {
    let began = tokio::time::Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(Error::Taken(directory.to_owned())),
            Err(TryLockError::Error(source)) => {
                return Err(Error::Directory {
                    path: directory.to_owned(),
                    source,
                });
            }
        }
    }
}

/// The same as when SQLite has tried it.
fn not_synchronised(error: &io::Error) -> rusqlite::Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ffi::SQLITE_FULL,
        _ => ffi::SQLITE_IOERR_FSYNC,
    };
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string()))
}

/// Which requests are in doubt; `with_open` where nobody lives who could still answer those under way.
pub(super) fn in_doubt(with_open: bool) -> &'static str {
    match with_open {
        true => "phase BETWEEN 1 AND 3 AND resolved IS NULL",
        false => "phase BETWEEN 1 AND 3 AND resolved IS NULL AND is_open = 0",
    }
}

/// What is known of requests, in the order of [`in_doubt_from`].
pub(super) fn select_in_doubt(
    database: &Connection,
    condition: &str,
) -> Result<String, rusqlite::Error> {
    Ok(format!(
        "SELECT time, request_id, caller, provider, account, method, path, idempotency_key, body_sha256, phase, {} \
         FROM requests WHERE {condition} ORDER BY id",
        schema::added(database)?,
    ))
}

pub(super) fn in_doubt_from(row: &rusqlite::Row<'_>) -> Result<InDoubt, rusqlite::Error> {
    let hash: Option<Vec<u8>> = row.get(8)?;
    let phase = Phase::from_number(row.get(9)?);
    Ok(InDoubt {
        time: time(row.get(0)?),
        request_id: row.get(1)?,
        caller: row.get(2)?,
        provider: row.get(3)?,
        account: row.get(4)?,
        method: row.get(5)?,
        path: row.get(6)?,
        idempotency_key: row.get(7)?,
        reference: row.get(10)?,
        caller_request_id: row.get(11)?,
        trace_id: row.get(12)?,
        body_sha256: hash.map(|hash| hex(&hash)),
        phase: phase.unwrap_or(Phase::HeadSent),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| hexadecimal(*byte))
        .map(char::from)
        .collect()
}
