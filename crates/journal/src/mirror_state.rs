//! What a journal knows of its mirror in a fleet's store: by which name it goes there, which processes have written it, and
//! what was seen there last.
//!
//! The name is made when it is asked for first, and stays for as long as the file does, unless it turns out that another
//! file has it, too.

use rusqlite::{Connection, params};

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS mirror (
    journal TEXT NOT NULL,
    epoch TEXT NOT NULL,
    version INTEGER NOT NULL,
    processes TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO mirror SELECT lower(hex(randomblob(16))), '', 0, '' WHERE NOT EXISTS (SELECT 1 FROM mirror);
";

/// The table of an earlier version.
const CHANGED: &str = "
ALTER TABLE mirror RENAME COLUMN silent TO version;
ALTER TABLE mirror ADD COLUMN processes TEXT NOT NULL DEFAULT '';
UPDATE mirror SET epoch = '', version = 0;
";

/// What the file has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorState {
    /// A text that no other journal has.
    pub journal: String,
    /// The epoch of the store when it was reached last; empty where it never was.
    pub epoch: String,
    /// The version of its list of journals then, which only grows.
    pub version: u64,
    /// The processes that have written the journal, the last one first.
    pub processes: Vec<String>,
}

/// Part of a transaction, as is [`write()`].
pub(super) fn read(database: &Connection) -> Result<MirrorState, rusqlite::Error> {
    let earlier = "SELECT count(*) FROM pragma_table_info('mirror') WHERE name = 'silent'";
    let earlier: i64 = database.query_row(earlier, [], |row| row.get(0))?;
    if earlier > 0 {
        database.execute_batch(CHANGED)?;
    }
    database.execute_batch(TABLE)?;
    let sql = "SELECT journal, epoch, version, processes FROM mirror LIMIT 1";
    database.query_row(sql, [], |row| {
        let processes = row.get::<_, String>(3)?;
        Ok(MirrorState {
            journal: row.get(0)?,
            epoch: row.get(1)?,
            version: row.get::<_, i64>(2)?.cast_unsigned(),
            processes: processes.split_whitespace().map(str::to_owned).collect(),
        })
    })
}

/// Remembers it.
pub(super) fn write(database: &Connection, state: &MirrorState) -> Result<(), rusqlite::Error> {
    let version = i64::try_from(state.version).unwrap_or(i64::MAX);
    let processes = state.processes.join(" ");
    let sql = "UPDATE mirror SET journal = ?1, epoch = ?2, version = ?3, processes = ?4";
    let values = params![state.journal, state.epoch, version, processes];
    database.execute(sql, values).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_keeps_its_name_when_its_table_is_an_earlier_one() {
        let database = Connection::open_in_memory().unwrap();
        let earlier = "
CREATE TABLE mirror (journal TEXT NOT NULL, epoch TEXT NOT NULL, silent INTEGER NOT NULL) STRICT;
INSERT INTO mirror VALUES ('its-name', 'an-epoch', 3);";
        database.execute_batch(earlier).unwrap();
        let mut state = read(&database).unwrap();
        let expected = MirrorState {
            journal: "its-name".to_owned(),
            ..MirrorState::default()
        };
        assert_eq!(state, expected);
        state.version = 7;
        state.processes = vec!["later".to_owned(), "earlier".to_owned()];
        write(&database, &state).unwrap();
        assert_eq!(read(&database).unwrap(), state);
    }
}
