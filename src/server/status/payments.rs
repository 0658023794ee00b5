//! Payments in doubt as `/status` shows them: those of this instance's journal, the oldest of them.

use std::path::Path;

use serde::Serialize;

use super::date::date;
use bursar_journal::{Error, InDoubt, Reader};

/// How many are shown; how many more there are is said.
const MAX: usize = 50;

/// The requests that moved money and whose outcome is unknown.
#[derive(Debug, Serialize)]
pub(in crate::server) struct PaymentsInDoubt {
    /// None: the journal cannot be read.
    pub(in crate::server) count: Option<u64>,
    /// The oldest of them.
    pub(in crate::server) oldest: Vec<Payment>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Payment {
    pub(in crate::server) account: String,
    pub(in crate::server) at: String,
    pub(in crate::server) caller: String,
    pub(in crate::server) method: String,
    /// Without the query, secrets masked.
    pub(in crate::server) path: String,
    /// How far it came.
    pub(in crate::server) phase: &'static str,
    pub(in crate::server) provider: String,
    pub(in crate::server) reference: Option<String>,
    pub(in crate::server) request_id: String,
    /// The command that takes it off the list.
    pub(in crate::server) resolve: String,
}

impl PaymentsInDoubt {
    /// Of the journal in that directory. Blocks.
    pub(super) fn of(directory: &Path) -> Self {
        let read = || -> Result<_, Error> { Reader::open(directory)?.in_doubt(MAX) };
        match read() {
            Ok((oldest, count)) => Self {
                count: Some(count),
                oldest: oldest.into_iter().map(Payment::of).collect(),
            },
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the journal cannot be read for /status"
                );
                Self {
                    count: None,
                    oldest: Vec::new(),
                }
            }
        }
    }
}

impl Payment {
    fn of(request: InDoubt) -> Self {
        let resolve = format!("bursar outcomes resolve {} --note TEXT", request.request_id);
        Self {
            account: request.account,
            at: date(request.time),
            caller: request.caller,
            method: request.method,
            path: request.path,
            phase: request.phase.as_str(),
            provider: request.provider,
            reference: request.reference,
            request_id: request.request_id,
            resolve,
        }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            account: String::new(),
            at: String::new(),
            caller: String::new(),
            method: String::new(),
            path: String::new(),
            phase: "",
            provider: String::new(),
            reference: None,
            request_id: String::new(),
            resolve: String::new(),
        }
    }
}
