//! What a journal knows of its mirror in a fleet's store: by which name it goes there, which processes have written it, and
//! what was seen there last.
//!
//! The name is made when it is asked for first, and stays for as long as the file does, unless it turns out that another
//! file has it, too. It is in a table that the first version reads as well, with the epoch, so that this goes on under the
//! same name where it opens a file of a later one; what was added is in another table.

use rusqlite::{Connection, params};

/// The first version's table, and the other one.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS mirror (journal TEXT NOT NULL, epoch TEXT NOT NULL, silent INTEGER NOT NULL) STRICT;
INSERT INTO mirror SELECT lower(hex(randomblob(16))), '', 0 WHERE NOT EXISTS (SELECT 1 FROM mirror);
CREATE TABLE IF NOT EXISTS mirror_writers (
    epoch TEXT NOT NULL,
    version INTEGER NOT NULL,
    processes TEXT NOT NULL
) STRICT;
INSERT INTO mirror_writers SELECT '', 0, '' WHERE NOT EXISTS (SELECT 1 FROM mirror_writers);
";

/// What a later version had added to the first one's table.
const SPLIT: &str = "
DROP TABLE IF EXISTS mirror_writers;
CREATE TABLE mirror_writers (epoch TEXT NOT NULL, version INTEGER NOT NULL, processes TEXT NOT NULL) STRICT;
INSERT INTO mirror_writers SELECT epoch, version, processes FROM mirror;
ALTER TABLE mirror RENAME COLUMN version TO silent;
ALTER TABLE mirror DROP COLUMN processes;
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
    let joint = "SELECT count(*) FROM pragma_table_info('mirror') WHERE name = 'processes'";
    let joint: i64 = database.query_row(joint, [], |row| row.get(0))?;
    if joint > 0 {
        database.execute_batch(SPLIT)?;
    }
    database.execute_batch(TABLES)?;
    // The first version may have been in another epoch since.
    let sql = "SELECT journal, mirror.epoch, iif(mirror.epoch = mirror_writers.epoch, version, 0), processes \
               FROM mirror, mirror_writers LIMIT 1";
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
    // The first version takes whoever has seen a silent instance for one that may not know all.
    let sql = "UPDATE mirror SET journal = ?1, epoch = ?2, silent = 1";
    database.execute(sql, params![state.journal, state.epoch])?;
    let version = i64::try_from(state.version).unwrap_or(i64::MAX);
    let processes = state.processes.join(" ");
    let sql = "UPDATE mirror_writers SET epoch = ?1, version = ?2, processes = ?3";
    let values = params![state.epoch, version, processes];
    database.execute(sql, values).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> MirrorState {
        MirrorState {
            journal: "its-name".to_owned(),
            epoch: "an-epoch".to_owned(),
            version: 7,
            processes: vec!["later".to_owned(), "earlier".to_owned()],
        }
    }

    /// What the first version does.
    fn first_version(database: &Connection) -> (String, String) {
        let table = "
CREATE TABLE IF NOT EXISTS mirror (journal TEXT NOT NULL, epoch TEXT NOT NULL, silent INTEGER NOT NULL) STRICT;
INSERT INTO mirror SELECT lower(hex(randomblob(16))), '', 0 WHERE NOT EXISTS (SELECT 1 FROM mirror);";
        database.execute_batch(table).unwrap();
        let sql = "SELECT journal, epoch, silent FROM mirror LIMIT 1";
        let row = database.query_row(sql, [], |row| {
            row.get::<_, i64>(2)?;
            Ok((row.get(0)?, row.get(1)?))
        });
        row.unwrap()
    }

    #[test]
    fn the_first_version_and_this_one_go_on_under_one_name_whichever_was_there_before() {
        let database = Connection::open_in_memory().unwrap();
        let (name, _) = first_version(&database);
        let mut state = read(&database).unwrap();
        assert_eq!(state.journal, name);
        state.epoch = "an-epoch".to_owned();
        state.version = 7;
        state.processes = vec!["a-process".to_owned()];
        write(&database, &state).unwrap();
        assert_eq!(first_version(&database), (name, "an-epoch".to_owned()));
        assert_eq!(read(&database).unwrap(), state);
        let update = "UPDATE mirror SET epoch = 'another', silent = 3";
        database.execute_batch(update).unwrap();
        // Versions are numbers of one epoch.
        state.epoch = "another".to_owned();
        state.version = 0;
        assert_eq!(read(&database).unwrap(), state);
    }

    #[test]
    fn what_was_in_one_table_is_kept_and_the_first_version_can_read_it_again() {
        let database = Connection::open_in_memory().unwrap();
        let one_table = "
CREATE TABLE mirror (journal TEXT NOT NULL, epoch TEXT NOT NULL, version INTEGER NOT NULL, processes TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO mirror VALUES ('its-name', 'an-epoch', 7, 'later earlier');";
        database.execute_batch(one_table).unwrap();
        assert_eq!(read(&database).unwrap(), state());
        assert_eq!(read(&database).unwrap(), state());
        let (name, _) = first_version(&database);
        assert_eq!(name, "its-name");
    }
}
