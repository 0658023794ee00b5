//! Settings of the journal of requests that move money.

use std::path::PathBuf;
use std::time::Duration;

use crate::file::OnFailure;

/// A record of requests that move money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Its directory.
    pub path: PathBuf,
    /// Whether it survives the loss of power.
    pub sync: bool,
    /// How many bytes its database may have.
    pub max_size: usize,
    /// How long settled requests are kept.
    pub keep: Duration,
    /// What happens to requests that move money while it cannot be written.
    pub on_failure: OnFailure,
}
