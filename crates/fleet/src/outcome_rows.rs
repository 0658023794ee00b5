//! Outcome rows: the mirror of one journal's payments in doubt in the fleet's store.
//!
//! Each state of the rows has a tag, a random text. Whoever writes says which tag was left there last, so that nobody builds
//! upon what the store has lost or somebody else has changed. Whoever reads compares the tag and the number of rows with
//! what the journal's value says of them.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::fleet::{Fleet, RunError, random_text};
use crate::keys::{Binding, NotSealed};
use crate::reply::{Reply, Unreadable};
use crate::script;
use crate::store::Arg;

/// The kind of names that journals have.
pub(crate) const KIND: &str = "journal";
/// The kind of names that rows have.
const ROW_KIND: &str = "outcome";
/// Rows that are written or read at a time.
const AT_ONCE: usize = 64;
/// Rows that are resolved together; they are argument pairs of one script.
const MAX_RESOLVED: usize = 2000;

/// A row's name, and what there is to know, sealed.
type SealedRow = (String, Vec<u8>);

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

/// A state of a journal's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowState {
    /// A text that no other state has; empty where there are no rows.
    pub tag: String,
    /// How many there are.
    pub count: u64,
}

/// The names of a journal's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowNames {
    /// What they are the names of.
    pub tag: String,
    /// In no order.
    pub names: Vec<String>,
}

/// A journal's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// As they were when their names were read.
    pub state: RowState,
    /// What they say, by their names; None for one that no key opens. Those that were taken off since are missing.
    pub texts: Vec<(String, Option<Zeroizing<Vec<u8>>>)>,
}

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct RowChange<'a> {
    /// The tag that was left there last.
    pub tag: &'a str,
    /// The names of those that are taken off.
    pub removed: &'a [String],
    /// Those that are written.
    pub rows: &'a [Row],
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
    /// The name of a row.
    #[must_use]
    pub fn row_name(&self, journal: &str, row: i64) -> String {
        let of = [journal.as_bytes(), b"\0", &row.to_be_bytes()].concat();
        self.keys().names(ROW_KIND, &of).first().to_owned()
    }

    /// Writes rows of a journal, and takes others off. With nothing to write it only looks. None: the rows are others
    /// than was thought, and all or some are not written.
    ///
    /// # Errors
    /// Where the store gives no response that can be used, or has no room.
    pub async fn write_rows(
        &self,
        journal: &str,
        change: RowChange<'_>,
    ) -> Result<Option<RowState>, MirrorError> {
        let names = self.keys().names(KIND, journal.as_bytes());
        let name = names.first();
        let mut sealed = Vec::with_capacity(change.rows.len());
        for row in change.rows {
            let row_name = self.row_name(journal, row.number);
            let text = self
                .keys()
                .seal(Binding::unnumbered(&row_name, name), &row.text)?;
            sealed.push((row_name, text));
        }
        self.write_under(name, change.tag, change.removed, &sealed)
            .await
    }

    async fn write_under(
        &self,
        name: &str,
        tag: &str,
        removed: &[String],
        sealed: &[SealedRow],
    ) -> Result<Option<RowState>, MirrorError> {
        let removals = removed.chunks(AT_ONCE).map(|names| (names, &[][..]));
        let writes = sealed.chunks(AT_ONCE).map(|rows| (&[][..], rows));
        let mut steps: Vec<(&[String], &[SealedRow])> = removals.chain(writes).collect();
        if steps.is_empty() {
            steps.push((&[], &[]));
        }
        let random = random_text();
        let mut state = RowState {
            tag: tag.to_owned(),
            count: 0,
        };
        for (removed, rows) in steps {
            let mut arguments = vec![
                Arg::from(&*state.tag),
                random.as_str().into(),
                (removed.len() as u64).into(),
            ];
            arguments.extend(removed.iter().map(|name| Arg::from(name.as_str())));
            for (name, text) in rows {
                arguments.extend([Arg::from(name.as_str()), text.as_slice().into()]);
            }
            let mut reply = self.run(&script::WRITE_ROWS, name, &arguments).await?;
            match &*reply.text()? {
                "written" => state = row_state(&mut reply)?,
                "others" => return Ok(None),
                _ => return Err(MirrorError::Full),
            }
        }
        Ok(Some(state))
    }

    /// The names of a journal's rows in the store.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn row_names(&self, journal: &str) -> Result<RowNames, MirrorError> {
        let names = self.keys().names(KIND, journal.as_bytes());
        self.row_names_under(names.first(), RowSet::Listed).await
    }

    async fn row_names_under(&self, name: &str, set: RowSet) -> Result<RowNames, MirrorError> {
        let which = [set.as_str().into()];
        let mut reply = self.run(&script::NAME_ROWS, name, &which).await?;
        let mut found = RowNames {
            tag: reply.text()?,
            names: Vec::new(),
        };
        while !reply.is_empty() {
            let name = String::from_utf8_lossy(&reply.bytes()?).into_owned();
            found.names.push(name);
        }
        Ok(found)
    }

    /// What a journal's rows say. The journal is one that was listed.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn rows(&self, name: &str, set: RowSet) -> Result<Rows, MirrorError> {
        let found = self.row_names_under(name, set).await?;
        let mut texts = Vec::with_capacity(found.names.len());
        for some in found.names.chunks(AT_ONCE) {
            let mut arguments = vec![Arg::from(set.as_str())];
            arguments.extend(some.iter().map(|name| Arg::from(name.as_str())));
            let mut reply = self.run(&script::READ_ROWS, name, &arguments).await?;
            for row_name in some {
                let sealed = reply.bytes()?;
                // It was there a moment ago.
                if !sealed.is_empty() {
                    let opened = self
                        .keys()
                        .open(Binding::unnumbered(row_name, name), &sealed);
                    texts.push((row_name.clone(), opened.ok()));
                }
            }
        }
        let state = RowState {
            tag: found.tag,
            count: found.names.len() as u64,
        };
        Ok(Rows { state, texts })
    }

    /// Takes rows of a listed journal off, and keeps what is said of each. None: the rows are others than was thought.
    ///
    /// # Errors
    /// Where the store gives no response that can be used, or there are too many.
    pub async fn resolve_rows(
        &self,
        name: &str,
        tag: &str,
        rows: &[(String, Vec<u8>)],
    ) -> Result<Option<RowState>, MirrorError> {
        if rows.len() > MAX_RESOLVED {
            return Err(MirrorError::Full);
        }
        let mut sealed = Vec::with_capacity(rows.len());
        for (row_name, said) in rows {
            sealed.push(
                self.keys()
                    .seal(Binding::unnumbered(row_name, name), said)?,
            );
        }
        let random = random_text();
        let mut arguments = vec![Arg::from(tag), random.as_str().into()];
        for ((row_name, _), sealed) in rows.iter().zip(&sealed) {
            arguments.extend([Arg::from(row_name.as_str()), sealed.as_slice().into()]);
        }
        let mut reply = self.run(&script::RESOLVE_ROWS, name, &arguments).await?;
        Ok(match &*reply.text()? {
            "resolved" => Some(row_state(&mut reply)?),
            _ => None,
        })
    }

    /// Takes all rows off that are there under a journal's name.
    pub(crate) async fn forget_rows(&self, name: &str) -> Result<(), MirrorError> {
        let found = self.row_names_under(name, RowSet::Listed).await?;
        if !found.names.is_empty() {
            self.write_under(name, &found.tag, &found.names, &[])
                .await?;
        }
        Ok(())
    }
}

impl Rows {
    /// Whether all that there were could be read, too.
    #[must_use]
    pub fn are_whole(&self) -> bool {
        self.texts.len() as u64 == self.state.count
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

fn row_state(reply: &mut Reply) -> Result<RowState, Unreadable> {
    Ok(RowState {
        count: reply.number()?,
        tag: reply.text()?,
    })
}
