//! Outcome store: the mirrors of all journals' payments in doubt in the fleet's store, written and read by scripts.
//!
//! A journal has an identity of its own, which outlives processes: an instance that is started again with its journal
//! goes on with the same rows. What rows say is for whoever writes and reads them; here they are sealed texts with names
//! that are keyed hashes. Each journal's rows are in one hash slot, and what there is to know of all journals in another.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::description::Description;
use crate::fleet::{Fleet, RunError};
use crate::keys::{Binding, NotSealed};
use crate::reply::Unreadable;
use crate::script;
use crate::store::Arg;

/// Whose journal was not heard of for so long has ended, or cannot write.
pub const SILENCE: Duration = Duration::from_secs(4);

/// The name of the journals' hash slot.
const SLOT: &str = "journals";
/// The kind of names that journals have.
const KIND: &str = "journal";
/// The kind of names that rows have.
const ROW_KIND: &str = "outcome";
/// In place of an instance, whoever is none.
const COMMAND: &str = "0000000000000000";
/// Rows that are written or read at a time.
const AT_ONCE: usize = 64;
/// Rows that are resolved together; they are argument pairs of one script.
const MAX_RESOLVED: usize = 2000;

/// What is told of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirroredJournal {
    /// The instance that has it, or had it last.
    pub instance: Description,
    /// Whether that has ended and written all of it before.
    pub signed_off: bool,
    /// How many rows there was no room for.
    pub unmirrored: u64,
    /// How many rows whoever lists it has to find: while its instance is alive, those that are over; else all.
    #[serde(default)]
    pub rows: u64,
    /// What was said of it by whoever took it off.
    pub note: Option<String>,
}

/// A row, as it is written or was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Unique in its journal.
    pub number: i64,
    /// What there is to know.
    pub text: Zeroizing<Vec<u8>>,
}

/// Which of a journal's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSet {
    /// Those on the list.
    Listed,
    /// Those that somebody has taken off, in the last 30 days.
    Resolved,
}

/// A journal as the store has it, for whoever has to write it there again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownJournal {
    name: String,
    value: Vec<u8>,
    /// When it was heard of last. None: it was heard of all the time.
    heard: Option<Instant>,
}

/// A journal's rows are as they should be.
#[derive(Debug, Clone, Copy)]
pub struct Touch<'a> {
    /// The journal.
    pub journal: &'a str,
    /// What is told of it.
    pub of: &'a MirroredJournal,
    /// Whether it has rows.
    pub has_rows: bool,
    /// The store's epoch, as it was known last; empty where it is not.
    pub epoch: &'a str,
    /// The journals that there were then. None: it is not known which.
    pub known: Option<&'a [KnownJournal]>,
    /// What the store said of them.
    pub seen: Seen,
    /// When the store heard of it last, by its clock; 0 where that was never, or by another process.
    pub heard: u64,
}

/// Which journals there are, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Another one where there are others.
    pub version: u64,
    /// How many are not heard of.
    pub silent: u64,
    /// How many there are.
    pub count: u64,
}

/// What there is to know then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// A text that is another one where the store lost what it had.
    pub epoch: String,
    /// The journals, in numbers.
    pub seen: Seen,
    /// When that was, by the store's clock.
    pub heard: u64,
    /// Whether another instance has the same journal, as where its directory was copied.
    pub is_shared: bool,
    /// Those, as far as there is room, where they are others than before.
    pub known: Vec<KnownJournal>,
}

/// All journals of a fleet.
#[derive(Debug)]
pub struct ListedJournals {
    /// How long the store has had what it has.
    pub since: Duration,
    /// Whether it had something before that which nobody knows of now.
    pub is_lost: bool,
    /// Those who were not heard of for longest come first.
    pub journals: Vec<ListedJournal>,
}

/// A journal, as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedJournal {
    /// In the store.
    pub name: String,
    /// How long ago it was heard of last.
    pub seen: Duration,
    /// None: no key opens it.
    pub journal: Option<MirroredJournal>,
    /// Whether it had rows that the store has lost: others have told of it since.
    pub has_lost_rows: bool,
    /// Whether two instances have it, and each takes off what the other writes.
    pub is_shared: bool,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is in force, and so many rows are left.
    Done(u64),
    /// The journal's instance is alive, or somebody else was faster.
    Refused,
}

/// The mirrors cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The store gives no response that can be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A row cannot be sealed.
    #[error("nothing can be written to the fleet's store")]
    Sealing(#[from] NotSealed),
    /// It has room for no more.
    #[error("the fleet's store has too many journals or rows")]
    Full,
}

impl From<Unreadable> for MirrorError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Run(unreadable.into())
    }
}

impl Fleet {
    /// Says that a journal's rows are as they should be.
    ///
    /// # Errors
    /// Where the store gives no response that can be used, or has no room.
    pub async fn touch_journal(&self, touch: Touch<'_>) -> Result<Touched, MirrorError> {
        let names = self.keys().names(KIND, touch.journal.as_bytes());
        let name = names.first();
        let value = self.journal_value(name, self.instance(), touch.of, touch.has_rows)?;
        let random = crate::fleet::random_text();
        let is_whole = match touch.known {
            Some(known) => known.len() as u64 >= touch.seen.count,
            None => touch.seen.count <= 1,
        };
        let was_there = touch.known.is_some();
        let mut arguments = vec![
            Arg::from(name),
            value.as_slice().into(),
            milliseconds(SILENCE),
            random.as_str().into(),
            touch.epoch.into(),
            number(if is_whole { 0 } else { touch.seen.count }),
            if was_there { "1" } else { "0" }.into(),
            number(touch.seen.version),
            // Where it is not known which there are, they are told.
            number(if was_there {
                touch.seen.silent
            } else {
                u64::MAX
            }),
            number(touch.heard),
        ];
        for known in touch.known.unwrap_or_default() {
            let just_now = SILENCE + Duration::from_secs(1);
            arguments.extend([
                Arg::from(&*known.name),
                known.value.as_slice().into(),
                milliseconds(known.heard.map_or(just_now, |heard| heard.elapsed())),
            ]);
        }
        let mut reply = self.run(&script::TOUCH_JOURNAL, SLOT, &arguments).await?;
        if reply.text()? != "touched" {
            return Err(MirrorError::Full);
        }
        let mut touched = Touched {
            epoch: reply.text()?,
            seen: Seen {
                version: reply.number()?,
                silent: reply.number()?,
                count: reply.number()?,
            },
            heard: reply.number()?,
            is_shared: reply.number()? == 1,
            known: Vec::new(),
        };
        while !reply.is_empty() {
            let (name, value, age) = (reply.text()?, reply.bytes()?, reply.duration()?);
            let heard = Instant::now().checked_sub(age).filter(|_| age > SILENCE);
            touched.known.push(KnownJournal { name, value, heard });
        }
        Ok(touched)
    }

    /// Takes a journal off that has no rows any more.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn forget_journal(&self, journal: &str) -> Result<(), MirrorError> {
        let names = self.keys().names(KIND, journal.as_bytes());
        for name in names.all() {
            self.change(name, &[], Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Takes off what is there of this journal under other names than this one, which other keys lead to.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn forget_other_names(&self, journal: &str, kept: &str) -> Result<(), MirrorError> {
        let names = self.keys().names(KIND, journal.as_bytes());
        for name in names.all().filter(|name| *name != kept) {
            let rows = self.row_names_under(name, RowSet::Listed).await?;
            self.write_under(name, &rows, &[]).await?;
            self.change(name, &[], Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Whose journals there are.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn journals(&self) -> Result<ListedJournals, MirrorError> {
        let mut reply = self.run(&script::LIST_JOURNALS, SLOT, &[]).await?;
        let mut listed = ListedJournals {
            since: reply.duration()?,
            is_lost: reply.number()? == 1,
            journals: Vec::new(),
        };
        while !reply.is_empty() {
            let name = String::from_utf8_lossy(&reply.bytes()?).into_owned();
            let value = reply.bytes()?;
            listed.journals.push(ListedJournal {
                journal: self.open_journal(&name, &value),
                has_lost_rows: value.first() == Some(&b'2'),
                is_shared: value.first() == Some(&b'3'),
                seen: reply.duration()?,
                name,
            });
        }
        Ok(listed)
    }

    /// Says something else of a journal whose instance is not alive.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn change_journal(
        &self,
        name: &str,
        to: &MirroredJournal,
        has_rows: bool,
    ) -> Result<Change, MirrorError> {
        let value = self.journal_value(name, COMMAND, to, has_rows)?;
        self.change(name, &value, SILENCE).await
    }

    /// Where a journal is written: another name where the first key is another one.
    #[must_use]
    pub fn journal_name(&self, journal: &str) -> String {
        let names = self.keys().names(KIND, journal.as_bytes());
        names.first().to_owned()
    }

    /// The name of a row.
    #[must_use]
    pub fn row_name(&self, journal: &str, row: i64) -> String {
        let of = [journal.as_bytes(), b"\0", &row.to_be_bytes()].concat();
        self.keys().names(ROW_KIND, &of).first().to_owned()
    }

    /// Writes rows of a journal, and takes those with these names off.
    ///
    /// # Errors
    /// Where the store gives no response that can be used, or has no room.
    pub async fn write_rows(
        &self,
        journal: &str,
        removed: &[String],
        rows: &[Row],
    ) -> Result<(), MirrorError> {
        let names = self.keys().names(KIND, journal.as_bytes());
        let name = names.first();
        let mut sealed = Vec::with_capacity(rows.len());
        for row in rows {
            let row_name = self.row_name(journal, row.number);
            let text = self.keys().seal(binding(&row_name, name), &row.text)?;
            sealed.push((row_name, text));
        }
        self.write_under(name, removed, &sealed).await
    }

    async fn write_under(
        &self,
        name: &str,
        removed: &[String],
        sealed: &[(String, Vec<u8>)],
    ) -> Result<(), MirrorError> {
        let removals = removed.chunks(AT_ONCE).map(|names| (names, &[][..]));
        let writes = sealed.chunks(AT_ONCE).map(|rows| (&[][..], rows));
        for (removed, rows) in removals.chain(writes) {
            let mut arguments = vec![number(removed.len() as u64)];
            arguments.extend(removed.iter().map(|name| Arg::from(name.as_str())));
            for (name, text) in rows {
                arguments.extend([Arg::from(name.as_str()), text.as_slice().into()]);
            }
            let mut reply = self.run(&script::WRITE_ROWS, name, &arguments).await?;
            if reply.text()? != "written" {
                return Err(MirrorError::Full);
            }
        }
        Ok(())
    }

    /// How many rows of a journal the store has.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn count_rows(&self, journal: &str) -> Result<u64, MirrorError> {
        let name = self.journal_name(journal);
        let mut reply = self.run(&script::WRITE_ROWS, &name, &[number(0)]).await?;
        reply.text()?;
        Ok(reply.number()?)
    }

    /// The names of a journal's rows in the store.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn row_names(&self, journal: &str) -> Result<Vec<String>, MirrorError> {
        let names = self.keys().names(KIND, journal.as_bytes());
        self.row_names_under(names.first(), RowSet::Listed).await
    }

    async fn row_names_under(&self, name: &str, set: RowSet) -> Result<Vec<String>, MirrorError> {
        let which = [set.as_str().into()];
        let mut reply = self.run(&script::NAME_ROWS, name, &which).await?;
        let mut names = Vec::new();
        while !reply.is_empty() {
            names.push(String::from_utf8_lossy(&reply.bytes()?).into_owned());
        }
        Ok(names)
    }

    /// What a journal's rows say, by their names; None for one that no key opens. The journal is one that was listed.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn rows(
        &self,
        name: &str,
        set: RowSet,
    ) -> Result<Vec<(String, Option<Zeroizing<Vec<u8>>>)>, MirrorError> {
        let names = self.row_names_under(name, set).await?;
        let mut rows = Vec::with_capacity(names.len());
        for some in names.chunks(AT_ONCE) {
            let mut arguments = vec![Arg::from(set.as_str())];
            arguments.extend(some.iter().map(|name| Arg::from(name.as_str())));
            let mut reply = self.run(&script::READ_ROWS, name, &arguments).await?;
            for row_name in some {
                let sealed = reply.bytes()?;
                // It was there a moment ago.
                if !sealed.is_empty() {
                    let opened = self.keys().open(binding(row_name, name), &sealed);
                    rows.push((row_name.clone(), opened.ok()));
                }
            }
        }
        Ok(rows)
    }

    /// Takes rows of a listed journal off, and keeps what is said of each.
    ///
    /// # Errors
    /// Where the store gives no response that can be used, or there are too many.
    pub async fn resolve_rows(
        &self,
        name: &str,
        rows: &[(String, Vec<u8>)],
    ) -> Result<Change, MirrorError> {
        if rows.len() > MAX_RESOLVED {
            return Err(MirrorError::Full);
        }
        let mut sealed = Vec::with_capacity(rows.len());
        for (row_name, said) in rows {
            sealed.push(self.keys().seal(binding(row_name, name), said)?);
        }
        let arguments = rows.iter().zip(&sealed);
        let arguments = arguments.flat_map(|((row_name, _), sealed)| {
            [Arg::from(row_name.as_str()), sealed.as_slice().into()]
        });
        let arguments: Vec<Arg<'_>> = arguments.collect();
        let mut reply = self.run(&script::RESOLVE_ROWS, name, &arguments).await?;
        Ok(match &*reply.text()? {
            "resolved" => Change::Done(reply.number()?),
            _ => Change::Refused,
        })
    }

    async fn change(
        &self,
        name: &str,
        value: &[u8],
        silence: Duration,
    ) -> Result<Change, MirrorError> {
        let arguments = [name.into(), value.into(), milliseconds(silence)];
        let mut reply = self.run(&script::CHANGE_JOURNAL, SLOT, &arguments).await?;
        Ok(match &*reply.text()? {
            "changed" => Change::Done(0),
            _ => Change::Refused,
        })
    }

    /// As the scripts keep it.
    fn journal_value(
        &self,
        name: &str,
        by: &str,
        journal: &MirroredJournal,
        has_rows: bool,
    ) -> Result<Vec<u8>, NotSealed> {
        // Texts and numbers can always be written.
        let text = serde_json::to_vec(journal).unwrap_or_default();
        let mut value = vec![if has_rows { b'1' } else { b'0' }];
        value.extend(by.as_bytes());
        value.extend(self.keys().seal(binding(name, KIND), &text)?);
        Ok(value)
    }

    fn open_journal(&self, name: &str, value: &[u8]) -> Option<MirroredJournal> {
        let sealed = value.get(1 + COMMAND.len()..)?;
        let text = self.keys().open(binding(name, KIND), sealed).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl RowSet {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Resolved => "resolved",
        }
    }
}

const fn binding<'a>(name: &'a str, context: &'a str) -> Binding<'a> {
    Binding {
        name,
        context,
        number: 0,
    }
}

fn milliseconds(duration: Duration) -> Arg<'static> {
    number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn number(number: u64) -> Arg<'static> {
    Arg::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
