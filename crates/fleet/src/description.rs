//! Description of an instance: what the others can tell people of it.

use serde::{Deserialize, Serialize};

/// What an instance says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its host, and the port where it listens.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// When it was started, in seconds since 1970.
    pub started: u64,
}
