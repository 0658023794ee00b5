//! Rows of a journal's mirror in a fleet's store, as texts.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::intent::{InDoubt, from_rfc3339, rfc3339};

/// A row is no longer.
const MAX_ROW: usize = 8192;
/// A request's texts are cut to the first of these with which its row is short enough.
const LENGTHS: [usize; 2] = [1024, 64];

/// A request that is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRow {
    /// Whether it is under way, for as long as its process lives.
    pub is_open: bool,
    /// The request.
    pub request: InDoubt,
}

/// One that somebody has taken off the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedRow {
    /// Its id.
    pub request_id: String,
    /// When it was.
    #[serde(serialize_with = "rfc3339", deserialize_with = "from_rfc3339")]
    pub at: SystemTime,
    /// What was said of it.
    pub note: String,
}

impl MirrorRow {
    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let short = |most| {
            let row = Self {
                is_open: self.is_open,
                request: self.request.shortened(most),
            };
            // Texts and numbers can always be written.
            serde_json::to_vec(&row).unwrap_or_default()
        };
        let [long, least] = LENGTHS;
        let row = short(long);
        match row.len() <= MAX_ROW {
            true => row,
            false => short(least),
        }
    }

    /// None: it is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl ResolvedRow {
    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// None: it is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        let at = humantime::format_rfc3339_seconds(self.at);
        format!(
            "{} was taken off the list at {at}: {}",
            self.request_id, self.note
        )
    }
}
