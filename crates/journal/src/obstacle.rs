//! What would keep a start from opening a journal, as far as that is seen without writing anything.

use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, ffi};
use rustix::fs::{Access, access};

use super::error::Error;
use super::files::FILE;
use super::schema::FORMAT;
use super::store::{LOCK, LOG, RUNNING, is_there, without_log};

/// SQLite's index of the log.
const INDEX: &str = "journal.sqlite-shm";

/// Why this user could not open a journal in that directory now, or make it. None: nothing is in the way. Blocks.
#[must_use]
pub fn obstacle(directory: &Path) -> Option<String> {
    let place = directory.ancestors().find(|place| place.exists())?;
    if let Err(error) = access(place, Access::WRITE_OK | Access::EXEC_OK) {
        let error = io::Error::from(error);
        return Some(format!(
            "{}: no file can be made there: {error}",
            place.display()
        ));
    }
    if place != directory {
        return None;
    }
    let files = [LOCK, RUNNING, FILE, LOG, INDEX];
    let refused = files
        .into_iter()
        .find_map(|name| refused(&directory.join(name)));
    refused.or_else(|| {
        let error = content(directory).err()?.of(directory);
        let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
        Some(format!("{error}{}", why.unwrap_or_default()))
    })
}

/// Why a file that is there cannot be opened.
fn refused(file: &Path) -> Option<String> {
    let name = file.display();
    match file.metadata() {
        Ok(found) if !found.is_file() => Some(format!("{name}: it is no file, and has to be one")),
        Ok(_) => {
            let error = access(file, Access::READ_OK | Access::WRITE_OK).err()?;
            Some(format!("{name}: {}", io::Error::from(error)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{name}: {error}")),
    }
}

fn content(directory: &Path) -> Result<(), Error> {
    if !is_there(directory)? {
        return Ok(());
    }
    let log = directory.join(LOG).metadata();
    let read = read(directory);
    match log.is_ok_and(|log| log.len() > 0) {
        // What is wrong with the database may be right in its log, and a process may write both.
        true if !matches!(read, Err(Error::Format(_))) => Ok(()),
        _ => read,
    }
}

/// Reads the database alone, without a lock and without a file beside it.
fn read(directory: &Path) -> Result<(), Error> {
    let file = directory.join(FILE);
    // What has another meaning in a URI.
    let escaped = |path: &str| {
        path.replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23")
    };
    let Some(path) = file.to_str().map(escaped) else {
        return Ok(());
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let database = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
    match database.pragma_query_value(None, "user_version", |row| row.get(0))? {
        FORMAT => {}
        0 => return Err(without_log(directory)),
        other => return Err(Error::Format(other)),
    }
    let said = "PRAGMA quick_check(1)";
    let said: String = database.query_row(said, [], |row| row.get(0))?;
    match &*said {
        "ok" => Ok(()),
        _ => {
            let damaged = ffi::Error::new(ffi::SQLITE_CORRUPT);
            let said = said.replace('\n', " ");
            Err(rusqlite::Error::SqliteFailure(damaged, Some(said)).into())
        }
    }
}
