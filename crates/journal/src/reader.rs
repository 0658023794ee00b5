//! Reader of what is not settled, beside the process that writes: what is under way, and what is in doubt.
//!
//! It has a connection of its own to the database, so that neither requests nor the writer's thread wait for it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Error;
use super::intent::InDoubt;
use super::request_state::Phase;
use super::store::{Store, in_doubt, in_doubt_from, select_in_doubt};

/// The connection.
#[derive(Debug)]
pub struct Reader {
    database: Connection,
    /// SQLite's number for what other connections have written.
    version: Option<i64>,
}

/// How far a request has come that is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsettled {
    /// Its number in the journal.
    pub number: i64,
    /// How far it came.
    pub phase: Phase,
    /// Whether it is under way; otherwise it is in doubt.
    pub is_open: bool,
}

impl Reader {
    /// Of the journal in that directory. Blocks, as all of it does.
    ///
    /// # Errors
    /// Where there is no journal, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let read = Store::read(directory);
        Ok(Self {
            database: read.map_err(|error| error.of(directory))?.into_database(),
            version: None,
        })
    }

    /// Whether something was written since this was asked last.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn has_changed(&mut self) -> Result<bool, Error> {
        let version = self
            .database
            .pragma_query_value(None, "data_version", |row| row.get(0))?;
        Ok(self.version.replace(version) != Some(version))
    }

    /// What is not settled, `most` at most: what is in doubt first, and the oldest of that; and how many there are in all.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn unsettled(&self, most: usize) -> Result<(Vec<Unsettled>, u64), Error> {
        let sql = format!(
            "SELECT id, phase, is_open FROM requests WHERE {} ORDER BY is_open, id LIMIT ?1",
            in_doubt(true)
        );
        let mut statement = self.database.prepare_cached(&sql)?;
        let rows = statement.query_map([most.cast_signed()], |row| {
            Ok(Unsettled {
                number: row.get(0)?,
                phase: Phase::from_number(row.get(1)?).unwrap_or(Phase::HeadSent),
                is_open: row.get(2)?,
            })
        })?;
        let found: Vec<Unsettled> = rows.collect::<Result<_, _>>()?;
        let count = match found.len() < most {
            true => found.len() as u64,
            false => {
                let sql = format!("SELECT count(*) FROM requests WHERE {}", in_doubt(true));
                let count: i64 = self.database.query_row(&sql, [], |row| row.get(0))?;
                count.cast_unsigned()
            }
        };
        Ok((found, count))
    }

    /// What is in doubt of a journal whose process lives, `most` at most and the oldest of it, and how many there are in
    /// all.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn in_doubt(&self, most: usize) -> Result<(Vec<InDoubt>, u64), Error> {
        let sql = select_in_doubt(&self.database, in_doubt(false))?;
        let mut statement = self.database.prepare_cached(&format!("{sql} LIMIT ?1"))?;
        let rows = statement.query_map([most.cast_signed()], in_doubt_from)?;
        let found: Vec<InDoubt> = rows.collect::<Result<_, _>>()?;
        let sql = format!("SELECT count(*) FROM requests WHERE {}", in_doubt(false));
        let count: i64 = self.database.query_row(&sql, [], |row| row.get(0))?;
        Ok((found, count.cast_unsigned()))
    }

    /// What the journal has of a request that is not settled. None: it is settled meanwhile.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn request(&self, number: i64) -> Result<Option<InDoubt>, Error> {
        let sql = select_in_doubt(&self.database, &format!("id = ?1 AND {}", in_doubt(true)))?;
        let mut statement = self.database.prepare_cached(&sql)?;
        let found = statement.query_row(params![number], in_doubt_from);
        Ok(found.optional()?)
    }
}
