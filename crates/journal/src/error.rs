//! Errors of opening and reading a journal.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::files::FILE;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be made, or a file in it cannot be opened.
    #[error("cannot use the journal's directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the journal in {} belongs to another Bursar that is running; give each instance a directory of its own", .0.display())]
    Taken(PathBuf),
    /// There is no journal to read.
    #[error("there is no journal in {}; Bursar makes it when it starts with `journal`, and one that runs has the path that it started with", .0.display())]
    Missing(PathBuf),
    /// A later version wrote it.
    #[error("the journal has format {0}, which this version does not know")]
    Format(i64),
    /// What was in it is not there: its database and its log are not together.
    #[error("the journal's database {} {what}; put the files of one copy in place, or move all of them away for a new journal, \
             and find out at the providers what was in doubt", path.display())]
    Lost {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The database is no database any more.
    #[error("the journal's database {} is damaged, or the journal.sqlite-wal beside it belongs to another one; move \
             journal.sqlite, journal.sqlite-wal and journal.sqlite-shm away together, and put a copy in place", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The database fails.
    #[error("the journal's database fails")]
    Database(#[from] rusqlite::Error),
}

impl Error {
    /// Of the journal in that directory: says which file is damaged, where that is why it fails.
    pub(super) fn of(self, directory: &Path) -> Self {
        match self {
            Self::Database(source) if is_damage(&source) => Self::Damaged {
                path: directory.join(FILE),
                source,
            },
            other => other,
        }
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}
