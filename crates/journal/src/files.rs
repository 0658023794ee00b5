//! The journal's files: how much of the disk they take, and which readers keep them from taking less.
//!
//! SQLite's log can begin anew only when no process reads what is in it. A process that does holds a lock on the file
//! beside it, and the system knows which one that is. That file is never opened here: closing it would give up the
//! locks that this process has on it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bursar_base::disk::Disk;

/// The database, in the configured directory.
pub(super) const FILE: &str = "journal.sqlite";
/// SQLite's own default, said here because the limits count in it.
pub(super) const PAGE_BYTES: usize = 4096;
/// Of SQLite's locks on the file beside its log: for writers, and for those who read.
const LOCKS: std::ops::RangeInclusive<u64> = 120..=127;
/// How long the log usually gets.
pub(super) const USUAL_LOG: u64 = 4 << 20;
/// From then on it is long: it is written back when it has its usual length, at the end of a transaction.
pub(super) const LONG_LOG: u64 = USUAL_LOG + USUAL_LOG / 4;
/// How many times the size of the database the log may reach while readers keep it from being restarted.
const LOG_TO_DATABASE: u64 = 4;
/// And so long at least.
const MIN_LOG: u64 = 32 << 20;
/// A quarter of that is worth a warning, and the last eighth is for requests under way.
const WARN_SHARE: u64 = 4;
const RESERVE_SHARE: u64 = 8;
/// Of a small disk the log gets that part, and the journal leaves twice as much free.
const DISK_SHARE: u64 = 8;

/// The journal's files.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    database: PathBuf,
    log: PathBuf,
    index: PathBuf,
    max_database: u64,
}

/// Which files of the system the database and its log are; None: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    database: Option<(u64, u64)>,
    log: Option<(u64, u64)>,
}

/// How near the log is to where it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Length {
    Usual,
    /// Longer than usual, because something is not done that will be.
    Long,
    /// Longer than it gets without somebody who reads for long.
    Warn,
    /// No request is begun until it is shorter; those under way still have room.
    Full,
}

impl Files {
    pub(super) fn new(directory: &Path, max_size: usize) -> Self {
        let beside = |end| directory.join(format!("{FILE}{end}"));
        Self {
            directory: directory.to_owned(),
            database: beside(""),
            log: beside("-wal"),
            index: beside("-shm"),
            max_database: max_size as u64,
        }
    }

    /// Which they are now.
    pub(super) fn opened(&self) -> Opened {
        let of = |path| {
            fs::metadata(path)
                .ok()
                .map(|found| (found.dev(), found.ino()))
        };
        Opened {
            database: of(&self.database),
            log: of(&self.log),
        }
    }

    /// Whether they are no longer the ones that were opened. A log that came later is one of those.
    pub(super) fn are_others_than(&self, opened: &mut Opened) -> bool {
        let now = self.opened();
        opened.log = opened.log.or(now.log);
        now != *opened
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        [&self.database, &self.log, &self.index]
            .map(|path| length(path))
            .iter()
            .sum()
    }

    /// As many as they may ever be.
    pub(super) fn max_bytes(&self) -> u64 {
        self.max_database.saturating_add(self.max_log())
    }

    /// Bytes of the log.
    pub(super) fn log(&self) -> u64 {
        length(&self.log)
    }

    /// How long the log can become on a full disk: what is reserved for it counts.
    pub(super) fn log_on_disk(&self) -> u64 {
        let found = fs::metadata(&self.log);
        found.map_or(0, |found| {
            found.len().max(found.blocks().saturating_mul(512))
        })
    }

    pub(super) fn max_log(&self) -> u64 {
        self.max_database
            .saturating_mul(LOG_TO_DATABASE)
            .max(MIN_LOG)
    }

    /// What a log of that many bytes is.
    pub(super) fn judge(&self, log: u64) -> Length {
        let most = self.max_log();
        match log {
            _ if log >= most - most / RESERVE_SHARE => Length::Full,
            _ if log >= most / WARN_SHARE => Length::Warn,
            _ if log > LONG_LOG => Length::Long,
            _ => Length::Usual,
        }
    }

    /// The disk that they are on.
    pub(super) fn disk(&self) -> Option<Disk> {
        Disk::of(&self.directory)
    }

    /// How long the log is to get there.
    pub(super) fn usual_log(disk: Disk) -> u64 {
        USUAL_LOG.min(disk.total / DISK_SHARE)
    }

    /// How many bytes the database may yet take of it.
    pub(super) fn left_on(disk: Disk) -> u64 {
        disk.free.saturating_sub(2 * Self::usual_log(disk))
    }

    /// How many bytes they may yet need, as long as nobody reads for long.
    pub(super) fn may_need(&self) -> u64 {
        let more = self.max_database.saturating_sub(length(&self.database));
        more.saturating_add(USUAL_LOG.saturating_sub(self.log()))
    }

    /// The other processes that read the journal or write it right now, for people.
    pub(super) fn users(&self) -> String {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let inode = fs::metadata(&self.index).map(|found| found.ino());
        let mut users: Vec<u32> = match inode {
            Ok(inode) => locks
                .lines()
                .filter_map(|line| holder(line, inode))
                .collect(),
            Err(_) => Vec::new(),
        };
        users.retain(|id| *id != std::process::id());
        users.sort_unstable();
        users.dedup();
        let name = |id: &u32| {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            format!("{id} ({})", name.trim_end())
        };
        match users.is_empty() {
            true => "unknown (in another container, perhaps)".to_owned(),
            false => users.iter().map(name).collect::<Vec<_>>().join(", "),
        }
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Who holds the lock of such a line, if it is one of [`LOCKS`] of that file:
/// `1: POSIX  ADVISORY  READ 1234 08:01:5678 124 124`.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, id) = (words.next()?, words.nth(2)?);
    let file: u64 = words.next()?.rsplit(':').next()?.parse().ok()?;
    let first: u64 = words.next()?.parse().ok()?;
    let is_meant = kind == "POSIX" && file == inode && LOCKS.contains(&first);
    is_meant.then(|| id.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_judged_by_what_the_database_may_be() {
        let files = Files::new(Path::new("/j"), 64 << 20);
        const MIB: u64 = 1 << 20;
        for (log, length) in [
            (0, Length::Usual),
            (5 * MIB, Length::Usual),
            (5 * MIB + 1, Length::Long),
            (64 * MIB - 1, Length::Long),
            (64 * MIB, Length::Warn),
            (224 * MIB - 1, Length::Warn),
            (224 * MIB, Length::Full),
        ] {
            assert_eq!(files.judge(log), length, "{log}");
        }
        assert_eq!(files.max_bytes(), 320 * MIB);
        assert_eq!(Files::new(Path::new("/j"), 1 << 20).max_log(), 32 * MIB);
    }

    #[test]
    fn the_system_tells_who_holds_a_lock_on_the_file_beside_the_log() {
        let line = "1: POSIX  ADVISORY  READ 1234 08:01:5678 124 124";
        assert_eq!(holder(line, 5678), Some(1234));
        for other in [
            "",
            "1: POSIX",
            "1: -> POSIX  ADVISORY  READ 1234 08:01:5678 124 124",
            "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF",
            "1: POSIX  ADVISORY  READ 1234 08:01:5678 128 128",
            "1: POSIX  ADVISORY  READ 1234 08:01:9999 124 124",
        ] {
            assert_eq!(holder(other, 5678), None, "{other}");
        }
    }
}
