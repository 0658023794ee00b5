//! Rows of requests: their statements, which a transaction takes from the cache once.
//!
//! To take a statement for each row and put it back costs a sixth of what writing the row does.

use rusqlite::{CachedStatement, Connection, params};

use super::intent::Intent;
use super::request_state::Transition;
use super::timestamp::micros;

/// A request's first row.
const INSERT: &str = "INSERT INTO requests (id, request_id, time, caller, provider, account, route, method, path, \
     idempotency_key, body_sha256, phase, is_open, reference, caller_request_id, trace_id) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
/// A later phase.
const UPDATE: &str = "UPDATE requests SET phase = ?2, body_sha256 = ?3, is_open = ?4, idempotency_key = ?5 WHERE id = ?1";

/// Writes rows, in one transaction.
pub(super) struct Rows<'store> {
    database: &'store Connection,
    insert: Option<CachedStatement<'store>>,
    update: Option<CachedStatement<'store>>,
}

impl<'store> Rows<'store> {
    pub(super) fn new(database: &'store Connection) -> Self {
        Self {
            database,
            insert: None,
            update: None,
        }
    }

    /// Writes a transition. False where there is no room for a new row. Where that would only say that a request is
    /// settled, nothing is lost without it.
    pub(super) fn put(
        &mut self,
        id: i64,
        intent: &Intent,
        transition: &Transition,
        is_new: bool,
        has_room: bool,
    ) -> Result<bool, rusqlite::Error> {
        if !is_new && self.update(id, intent, transition)? {
            return Ok(true);
        }
        if !has_room {
            return Ok(!transition.phase.is_in_doubt());
        }
        self.insert(id, intent, transition)?;
        Ok(true)
    }

    /// Writes a request's first row.
    pub(super) fn insert(
        &mut self,
        id: i64,
        intent: &Intent,
        transition: &Transition,
    ) -> Result<(), rusqlite::Error> {
        statement(self.database, &mut self.insert, INSERT)?.execute(params![
            id,
            intent.request_id,
            micros(intent.time),
            &*intent.caller,
            &*intent.provider,
            &*intent.account,
            &*intent.route,
            intent.method,
            intent.path,
            intent.idempotency_key.get(),
            transition.hash,
            transition.phase.number(),
            transition.is_open,
            intent.reference.as_deref(),
            intent.caller_request_id.as_deref(),
            intent.trace_id.as_deref(),
        ])?;
        Ok(())
    }

    /// Writes a later phase; false where there is no row.
    fn update(
        &mut self,
        id: i64,
        intent: &Intent,
        transition: &Transition,
    ) -> Result<bool, rusqlite::Error> {
        let changed = statement(self.database, &mut self.update, UPDATE)?.execute(params![
            id,
            transition.phase.number(),
            transition.hash,
            transition.is_open,
            intent.idempotency_key.get(),
        ])?;
        Ok(changed > 0)
    }
}

/// The statement that was taken from the cache already, or is now.
fn statement<'taken, 'store>(
    database: &'store Connection,
    taken: &'taken mut Option<CachedStatement<'store>>,
    sql: &str,
) -> Result<&'taken mut CachedStatement<'store>, rusqlite::Error> {
    match taken {
        Some(statement) => Ok(statement),
        None => Ok(taken.insert(database.prepare_cached(sql)?)),
    }
}
