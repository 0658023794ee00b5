//! Errors of opening and reading a journal.

use std::io;
use std::path::PathBuf;

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
    #[error("there is no journal in {}; Bursar makes it when it starts with `journal`", .0.display())]
    Missing(PathBuf),
    /// A later version wrote it.
    #[error("the journal has format {0}, which this version does not know")]
    Format(i64),
    /// The database fails.
    #[error("the journal's database fails")]
    Database(#[from] rusqlite::Error),
}
