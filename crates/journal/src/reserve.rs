//! Reserved disk space for the journal, so that its log can always begin anew, however full others make the disk.
//!
//! SQLite's log begins anew once all of it is in the database's file. Pages that are in the log alone may lie beyond the
//! end of that file, which cannot become longer on a full disk; then the log could not begin anew, and nothing could be
//! written, not even that settled requests are forgotten. So the file is kept longer than its content by more than the
//! log holds. The log itself has little room reserved: that it cannot become longer is how a full disk is noticed, and
//! from then on it begins anew while it has room. File systems that write each block to a
//! new place (Btrfs, ZFS) cannot promise that.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rusqlite::{Connection, FileControl};
use rustix::fs::{FallocateFlags, fallocate};

use super::files::PAGE_BYTES;

/// 1 GiB.
const MAX_CHUNK_PAGES: i64 = 1 << 18;
/// The space was gone so often that it is not reserved any more.
const MAX_LOST: u32 = 16;
/// As much of the log has room on a full disk.
const MIN_LOG: u64 = 256 << 10;
/// What a file system counts blocks in.
const BLOCK_BYTES: u64 = 512;

/// Room on the journal's disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes that the database may yet take of it.
    pub(super) left: u64,
    /// Whether it may take some of what is reserved.
    pub(super) may_grow: bool,
    /// How long the log usually gets.
    pub(super) usual_log: u64,
}

/// The space reserved for one database.
#[derive(Debug)]
pub(super) struct Reserve {
    database: PathBuf,
    log: PathBuf,
    /// Pages that the database's file has on the disk, those with content among them; 0: nothing is reserved.
    pages: i64,
    /// How often the space was found to be gone.
    lost: u32,
    /// SQLite lets the file end at a multiple of that many pages; 0: at its content's end.
    chunk: i64,
}

/// How many pages the database may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pages {
    /// Before settled requests are forgotten.
    pub(super) affordable: i64,
    /// At all: what is in the log must fit into the database's file.
    pub(super) most: i64,
}

impl Reserve {
    pub(super) fn new(database: PathBuf, log: PathBuf) -> Self {
        Self {
            database,
            log,
            pages: 0,
            lost: 0,
            chunk: 0,
        }
    }

    /// Keeps space reserved for a database of `content` pages now and `limit` pages at most, as far as its disk has room.
    pub(super) fn keep(
        &mut self,
        connection: &Connection,
        content: i64,
        limit: i64,
        room: Room,
    ) -> Pages {
        let log = pages(room.usual_log);
        let mut left = pages(room.left);
        let Ok(file) = std::fs::metadata(&self.database) else {
            return Pages {
                affordable: content.saturating_add(left),
                most: limit,
            };
        };
        let on_disk = on_disk(&file);
        if on_disk < self.pages {
            // Another process has let the file end at its content, or the file system keeps no space.
            self.lost += 1;
            self.give_up(connection);
        }
        let is_enough = |pages| pages >= content.saturating_add(log + log / 2).min(limit);
        let has_holes = on_disk < pages(file.len());
        if !is_enough(self.pages) && !has_holes && self.lost < MAX_LOST {
            let wanted = content.saturating_add(2 * log + log / 4).min(limit);
            let target = wanted.min(on_disk.saturating_add(left));
            if target > self.pages.max(content) {
                left -= target.saturating_sub(on_disk).max(0);
                self.extend(connection, target);
            }
        }
        if left > 0 {
            self.reserve_log();
        }
        // By what the log usually gets, and one transaction.
        let is_ahead =
            self.pages == 0 || self.pages >= content.saturating_add(log + log / 4).min(limit);
        let affordable = match (left, room.may_grow) {
            (0, false) => content,
            // All that it may ever have has room, and so has what is in the log.
            (0, true) if self.pages >= limit => limit,
            // What is in the log must still fit.
            (0, true) => content.max(self.pages - log),
            (_, _) => content.max(self.pages).saturating_add(left),
        };
        Pages {
            affordable,
            most: if is_ahead { limit } else { self.pages },
        }
    }

    /// Gives the file that many pages on the disk, whatever its content.
    fn extend(&mut self, connection: &Connection, pages: i64) {
        // The size of a chunk is a 32-bit number.
        let chunks = pages / MAX_CHUNK_PAGES + 1;
        let chunk = (pages + chunks - 1) / chunks;
        let mut bytes = chunk * chunks * PAGE_BYTES as i64;
        let hint = FileControl::SizeHint(&mut bytes);
        let done =
            set_chunk(connection, chunk).and_then(|()| connection.file_control(Some("main"), hint));
        match done {
            Ok(()) => (self.pages, self.chunk) = (chunk * chunks, chunk),
            Err(error) => {
                tracing::debug!(%error, "journal: no space is reserved");
                drop(set_chunk(connection, self.chunk));
            }
        }
    }

    fn give_up(&mut self, connection: &Connection) {
        (self.pages, self.chunk) = (0, 0);
        drop(set_chunk(connection, 0));
    }

    /// Lets the log become so long that a few steps fit, however full the disk is; it is as long as before. SQLite has no
    /// lock on that file.
    pub(super) fn reserve_log(&self) {
        let reserved = File::options().write(true).open(&self.log);
        let reserved =
            reserved.and_then(|file| Ok(fallocate(&file, FallocateFlags::KEEP_SIZE, 0, MIN_LOG)?));
        if let Err(error) = reserved {
            tracing::debug!(%error, "journal: no space is reserved for its log");
        }
    }
}

fn set_chunk(connection: &Connection, pages: i64) -> Result<(), rusqlite::Error> {
    let mut bytes = i32::try_from(pages * PAGE_BYTES as i64).unwrap_or(0);
    connection.file_control(Some("main"), FileControl::ChunkSize(&mut bytes))
}

fn pages(bytes: u64) -> i64 {
    i64::try_from(bytes / PAGE_BYTES as u64).unwrap_or(i64::MAX)
}

/// Pages of the file that are on the disk: it may have holes.
fn on_disk(file: &Metadata) -> i64 {
    pages(file.len().min(file.blocks().saturating_mul(BLOCK_BYTES)))
}
