//! What a journal knows of its mirror in a fleet's store: by which name it goes there, and what it saw there last.
//!
//! The name is made when it is asked for first, and stays for as long as the file does.

use rusqlite::{Connection, params};

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS mirror (journal TEXT NOT NULL, epoch TEXT NOT NULL, silent INTEGER NOT NULL) STRICT;
INSERT INTO mirror SELECT lower(hex(randomblob(16))), '', 0 WHERE NOT EXISTS (SELECT 1 FROM mirror);
";

/// What the file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorState {
    /// A text that no other journal has.
    pub journal: String,
    /// The epoch of the store when it was reached last; empty where it never was.
    pub epoch: String,
    /// How many of the fleet's journals were not heard of then.
    pub silent: u64,
}

/// Part of a transaction, as is [`write()`].
pub(super) fn read(database: &Connection) -> Result<MirrorState, rusqlite::Error> {
    database.execute_batch(TABLE)?;
    let sql = "SELECT journal, epoch, silent FROM mirror LIMIT 1";
    database.query_row(sql, [], |row| {
        Ok(MirrorState {
            journal: row.get(0)?,
            epoch: row.get(1)?,
            silent: row.get::<_, i64>(2)?.cast_unsigned(),
        })
    })
}

/// Remembers what was seen.
pub(super) fn write(
    database: &Connection,
    epoch: &str,
    silent: u64,
) -> Result<(), rusqlite::Error> {
    let silent = i64::try_from(silent).unwrap_or(i64::MAX);
    let sql = "UPDATE mirror SET epoch = ?1, silent = ?2";
    database.execute(sql, params![epoch, silent]).map(drop)
}
