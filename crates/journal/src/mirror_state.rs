//! What a journal knows of its mirror in a fleet's store: by which name it goes there, and what it saw there last.
//!
//! The name is made when it is asked for first, and stays for as long as the file does.

use rusqlite::{Connection, params};

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS mirror (
    journal TEXT NOT NULL,
    epoch TEXT NOT NULL,
    silent INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO mirror SELECT lower(hex(randomblob(16))), '', 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM mirror);
";

/// What the table of an earlier version lacks.
const ADDED: &str = "
ALTER TABLE mirror ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mirror ADD COLUMN count INTEGER NOT NULL DEFAULT 0;
";

/// What the file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorState {
    /// A text that no other journal has.
    pub journal: String,
    /// What was seen when the store was reached last.
    pub seen: MirrorSeen,
}

/// What there is to remember of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSeen {
    /// Its epoch; empty where it was never reached.
    pub epoch: String,
    /// The version of its list of journals, which only grows.
    pub version: u64,
    /// How many of them were not heard of.
    pub silent: u64,
    /// How many there were.
    pub count: u64,
}

/// Part of a transaction, as is [`write()`].
pub(super) fn read(database: &Connection) -> Result<MirrorState, rusqlite::Error> {
    let columns = "SELECT count(*) FROM pragma_table_info('mirror')";
    let columns: i64 = database.query_row(columns, [], |row| row.get(0))?;
    if columns == 3 {
        database.execute_batch(ADDED)?;
    }
    database.execute_batch(TABLE)?;
    let sql = "SELECT journal, epoch, version, silent, count FROM mirror LIMIT 1";
    database.query_row(sql, [], |row| {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(MirrorState {
            journal: row.get(0)?,
            seen: MirrorSeen {
                epoch: row.get(1)?,
                version: number(2)?,
                silent: number(3)?,
                count: number(4)?,
            },
        })
    })
}

/// Remembers what was seen.
pub(super) fn write(database: &Connection, seen: &MirrorSeen) -> Result<(), rusqlite::Error> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let sql = "UPDATE mirror SET epoch = ?1, version = ?2, silent = ?3, count = ?4";
    let MirrorSeen {
        epoch,
        version,
        silent,
        count,
    } = seen;
    let values = params![epoch, number(*version), number(*silent), number(*count)];
    database.execute(sql, values).map(drop)
}
