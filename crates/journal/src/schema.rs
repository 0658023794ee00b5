//! Schema of the journal's database: its tables, and what later versions of Bursar have added.
//!
//! Columns that were added may be null, and nothing that was there before depends on them or on an added table. So the file's format stays the same, and an
//! earlier version goes on with a file that a later one has written.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::decisions;

/// The file's format.
pub(super) const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    caller TEXT NOT NULL,
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    route TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    idempotency_key TEXT,
    body_sha256 BLOB,
    phase INTEGER NOT NULL,
    is_open INTEGER NOT NULL,
    resolved INTEGER,
    note TEXT
) STRICT;
CREATE INDEX resolved ON requests (resolved) WHERE resolved IS NOT NULL;
CREATE TABLE frozen (provider TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT;
PRAGMA user_version = 1;
";

/// The requests in doubt that are over. Those under way are in no index: each would be written into it and out of it
/// again. The first version's index had them.
const INDEX: &str = "
DROP INDEX IF EXISTS in_doubt;
CREATE INDEX IF NOT EXISTS unresolved ON requests (is_open)
    WHERE phase BETWEEN 1 AND 3 AND resolved IS NULL AND is_open = 0;
";

/// What was added to `requests`.
const ADDED: [&str; 3] = ["reference", "caller_request_id", "trace_id"];

/// Makes the tables of a new file.
pub(super) fn create(database: &Connection) -> Result<(), rusqlite::Error> {
    database.execute_batch(&format!("BEGIN; {TABLES} COMMIT;"))
}

/// Makes the index, in place of an earlier version's.
pub(super) fn create_index(database: &Connection) -> Result<(), rusqlite::Error> {
    let transaction = database.unchecked_transaction()?;
    transaction.execute_batch(INDEX)?;
    transaction.commit()
}

/// Makes the table that a file of an earlier version lacks, or the column that its table does.
pub(super) fn add_table(database: &Connection) -> Result<(), rusqlite::Error> {
    database.execute_batch(decisions::TABLE)?;
    match columns(database, "decisions")?.contains("until") {
        true => Ok(()),
        false => database.execute_batch("ALTER TABLE decisions ADD COLUMN until INTEGER"),
    }
}

/// Adds the columns that a file of an earlier version lacks.
pub(super) fn add_columns(database: &Connection) -> Result<(), rusqlite::Error> {
    let known = columns(database, "requests")?;
    let missing = ADDED.iter().filter(|column| !known.contains(**column));
    let statements: String = missing
        .map(|column| format!("ALTER TABLE requests ADD COLUMN {column} TEXT; "))
        .collect();
    match statements.is_empty() {
        true => Ok(()),
        false => database.execute_batch(&format!("BEGIN; {statements}COMMIT;")),
    }
}

/// What to select of the columns that were added: null for those that are not there, as in a file that an earlier
/// version writes.
pub(super) fn added(database: &Connection) -> Result<String, rusqlite::Error> {
    let known = columns(database, "requests")?;
    let selected = ADDED.map(|column| match known.contains(column) {
        true => column,
        false => "NULL",
    });
    Ok(selected.join(", "))
}

fn columns(database: &Connection, table: &str) -> Result<BTreeSet<String>, rusqlite::Error> {
    let mut statement = database.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}
