//! Outcome store: which journals the fleet has, whose they are, and whether the fleet's store still knows all of them.
//!
//! A journal has an identity of its own, which outlives processes: an instance that is started again with its journal
//! goes on with the same rows. Its value says which rows it has, so that whoever reads them can tell that they are those.
//! Only a process that comes after the one that wrote last, by what the journal's own file says, writes for a journal.
//!
//! The store does not know what it has lost; those who were told more before do. Until one of them who was there all the
//! time has written it again, or a person says that it is settled, something may have been lost.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::description::Description;
use crate::fleet::{Fleet, random_text};
use crate::keys::{Binding, NotSealed};
use crate::outcome_rows::{KIND, MirrorError, RowState};
use crate::reply::{Reply, Unreadable};
use crate::script;
use crate::store::Arg;

/// Whose journal was not heard of for so long has ended, or cannot write.
pub const SILENCE: Duration = Duration::from_secs(4);
/// Who has not reached the store for longer may have missed a journal that was new.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// A process that lives is heard of more often.
const PAUSE: Duration = Duration::from_millis(2500);

/// The name of the journals' hash slot.
const SLOT: &str = "journals";
/// What a value begins with: two flags and the process that wrote it.
const HEAD: usize = 2 + PROCESS;
/// Digits of a process.
const PROCESS: usize = 16;
/// Which of a touch's arguments says when the journals that are known are told: where the store asks for them.
const TELLING: usize = 6;

/// What is told of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirroredJournal {
    /// The instance that has it, or had it last.
    pub instance: Description,
    /// Whether that has ended and written all of it before.
    pub signed_off: bool,
    /// How many rows there was no room for.
    pub unmirrored: u64,
    /// The rows that it has. None: they are not all written yet.
    pub rows: Option<RowState>,
    /// What was said of it by whoever took it off.
    pub note: Option<String>,
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
    /// This process, and those that wrote the journal before it.
    pub processes: &'a [String],
    /// The store's epoch, as it was known last; empty where it is not.
    pub epoch: &'a str,
    /// The version of its journals then.
    pub version: u64,
    /// What this process was told last. None: it has been told nothing.
    pub before: Option<&'a Told>,
    /// Whether it may have been heard of since, without knowing.
    pub is_unsure: bool,
}

/// Which journals there are, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// A greater one where there are others.
    pub version: u64,
    /// How many are not heard of.
    pub silent: u64,
    /// How many there are.
    pub count: u64,
}

/// What became of a touch.
#[derive(Debug, Clone)]
pub enum Touched {
    /// It was heard.
    Yes(Told),
    /// A process before this one wrote for the journal just now and has not signed off: it may not have ended.
    NotYet,
    /// A process writes for the journal that does not come before this one, as where its directory was copied.
    ByAnother,
}

/// What there is to know then.
#[derive(Debug, Clone)]
pub struct Told {
    /// A text that is another one where the store lost what it had.
    pub epoch: String,
    /// The journals, in numbers.
    pub seen: Seen,
    /// Those, as far as there is room.
    pub journals: Vec<KnownJournal>,
    /// Whether there may be others that the store has lost.
    pub is_lost: bool,
    /// The epochs before this one that it has all of, as the script has them.
    first: String,
    /// When that was, by the store's clock.
    heard: u64,
    /// When that was.
    at: Instant,
}

/// All journals of a fleet.
#[derive(Debug, Clone)]
pub struct ListedJournals {
    /// Another one where the store has lost what it had.
    pub epoch: String,
    /// How long the store has had what it has.
    pub since: Duration,
    /// For how long there may have been something before that the store does not know of.
    pub lost: Option<Duration>,
    /// What was said when that was settled last.
    pub said: Option<Zeroizing<Vec<u8>>>,
    /// Those who were not heard of for longest come first.
    pub journals: Vec<ListedJournal>,
}

/// A journal, as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedJournal {
    /// In the store.
    pub name: String,
    /// When it was heard of last, by a clock that may be set.
    pub heard: u64,
    /// How long ago that was.
    pub seen: Duration,
    /// None: no key opens it.
    pub journal: Option<MirroredJournal>,
    /// The process that wrote it.
    process: String,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is in force.
    Done,
    /// The journal's instance is alive, or something has changed meanwhile.
    Refused,
}

impl Fleet {
    /// Says that a journal's rows are as they should be.
    ///
    /// # Errors
    /// Where the store gives no response that can be used, or has no room.
    pub async fn touch_journal(&self, touch: Touch<'_>) -> Result<Touched, MirrorError> {
        let names = self.keys().names(KIND, touch.journal.as_bytes());
        let name = names.first();
        let process = touch.processes.first().map_or("", |process| process);
        let value = self.journal_value(name, process, touch.of)?;
        let (random, processes) = (random_text(), touch.processes.join(" "));
        let before = touch.before;
        let telling = if before.is_some() { "later" } else { "nothing" };
        let heard = before.map_or(0, |told| told.heard);
        let mut arguments = vec![
            Arg::from(name),
            value.as_slice().into(),
            SILENCE.into(),
            random.as_str().into(),
            touch.epoch.into(),
            before.is_some_and(Told::is_whole).into(),
            telling.into(),
            touch.version.into(),
            before.map_or(0, |told| told.seen.silent).into(),
            if touch.is_unsure { 0 } else { heard }.into(),
            heard.into(),
            LONGEST_GAP.into(),
            processes.as_str().into(),
            PAUSE.into(),
            before.map_or("", |told| &told.first).into(),
        ];
        let mut reply = self.run(&script::TOUCH_JOURNAL, SLOT, &arguments).await?;
        let mut word = reply.text()?;
        if word == "tell"
            && let Some(before) = before
        {
            if let Some(telling) = arguments.get_mut(TELLING) {
                *telling = "now".into();
            }
            arguments.extend(before.journals.iter().flat_map(|known| {
                let heard = known.heard.unwrap_or(before.at);
                [
                    Arg::from(&*known.name),
                    known.value.as_slice().into(),
                    heard.elapsed().into(),
                ]
            }));
            reply = self.run(&script::TOUCH_JOURNAL, SLOT, &arguments).await?;
            word = reply.text()?;
        }
        match &*word {
            "touched" => Ok(Touched::Yes(told(&mut reply, touch.before)?)),
            "not yet" => Ok(Touched::NotYet),
            "by another" => Ok(Touched::ByAnother),
            _ => Err(MirrorError::Full),
        }
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
            self.change(name, &[], Duration::ZERO).await?;
            self.forget_rows(name).await?;
        }
        Ok(())
    }

    /// Whose journals there are.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn journals(&self) -> Result<ListedJournals, MirrorError> {
        self.list("").await
    }

    /// A journal by its name in the store. None: it is not there any more.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn journal(&self, name: &str) -> Result<Option<ListedJournal>, MirrorError> {
        Ok(self.list(name).await?.journals.pop())
    }

    async fn list(&self, one: &str) -> Result<ListedJournals, MirrorError> {
        let unheard = SILENCE + Duration::from_secs(1);
        let arguments = [one.into(), unheard.into()];
        let mut reply = self.run(&script::LIST_JOURNALS, SLOT, &arguments).await?;
        let since = reply.duration()?;
        let lost = reply.duration()?;
        let mut listed = ListedJournals {
            since,
            lost: (!lost.is_zero()).then_some(lost),
            epoch: reply.text()?,
            said: self
                .keys()
                .open(Binding::unnumbered(SLOT, KIND), &reply.bytes()?)
                .ok(),
            journals: Vec::new(),
        };
        while !reply.is_empty() {
            let name = String::from_utf8_lossy(&reply.bytes()?).into_owned();
            let value = reply.bytes()?;
            let process = value.get(2..HEAD).unwrap_or_default();
            listed.journals.push(ListedJournal {
                journal: self.open_journal(&name, &value),
                process: String::from_utf8_lossy(process).into_owned(),
                heard: reply.number()?,
                seen: reply.duration()?,
                name,
            });
        }
        listed
            .journals
            .sort_by(|one, other| (one.heard, &one.name).cmp(&(other.heard, &other.name)));
        Ok(listed)
    }

    /// Says something else of a journal whose instance is not alive.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn change_journal(
        &self,
        listed: &ListedJournal,
        to: &MirroredJournal,
    ) -> Result<Change, MirrorError> {
        let value = self.journal_value(&listed.name, &listed.process, to)?;
        self.change(&listed.name, &value, SILENCE).await
    }

    /// Says that what the store may have lost is settled, where its epoch is still that one. What came to it in the same
    /// epoch since that was read is settled with the rest: read it right before.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn settle_loss(&self, epoch: &str, said: &[u8]) -> Result<Change, MirrorError> {
        let said = self.keys().seal(Binding::unnumbered(SLOT, KIND), said)?;
        let random = random_text();
        let arguments = [epoch.into(), said.as_slice().into(), random.as_str().into()];
        let reply = self.run(&script::SETTLE_LOSS, SLOT, &arguments).await?;
        Ok(changed(reply, "settled")?)
    }

    /// Where a journal is written: another name where the first key is another one.
    #[must_use]
    pub fn journal_name(&self, journal: &str) -> String {
        let names = self.keys().names(KIND, journal.as_bytes());
        names.first().to_owned()
    }

    async fn change(
        &self,
        name: &str,
        value: &[u8],
        silence: Duration,
    ) -> Result<Change, MirrorError> {
        let arguments = [name.into(), value.into(), silence.into()];
        let reply = self.run(&script::CHANGE_JOURNAL, SLOT, &arguments).await?;
        Ok(changed(reply, "changed")?)
    }

    /// As the scripts keep it.
    fn journal_value(
        &self,
        name: &str,
        process: &str,
        journal: &MirroredJournal,
    ) -> Result<Vec<u8>, NotSealed> {
        // Texts and numbers can always be written.
        let text = serde_json::to_vec(journal).unwrap_or_default();
        let has_rows = journal.rows.as_ref().is_none_or(|rows| rows.count > 0);
        let flag = |is_so: bool| if is_so { b'1' } else { b'0' };
        let mut value = vec![flag(has_rows), flag(journal.signed_off)];
        value.extend(process.bytes());
        value.resize(HEAD, b'0');
        value.extend(self.keys().seal(Binding::unnumbered(name, KIND), &text)?);
        Ok(value)
    }

    fn open_journal(&self, name: &str, value: &[u8]) -> Option<MirroredJournal> {
        let sealed = value.get(HEAD..)?;
        let text = self
            .keys()
            .open(Binding::unnumbered(name, KIND), sealed)
            .ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl Told {
    /// Whether whoever was told this knows all journals that there are.
    fn is_whole(&self) -> bool {
        self.journals.len() as u64 >= self.seen.count
            && !self.is_lost
            && self.at.elapsed() <= LONGEST_GAP
    }
}

/// What the store says, with what it does not say again.
fn told(reply: &mut Reply, before: Option<&Told>) -> Result<Told, Unreadable> {
    let mut told = Told {
        epoch: reply.text()?,
        seen: Seen {
            version: reply.number()?,
            silent: reply.number()?,
            count: reply.number()?,
        },
        heard: reply.number()?,
        is_lost: reply.number()? == 1,
        first: reply.text()?,
        journals: Vec::new(),
        at: Instant::now(),
    };
    if let Some(before) = before.filter(|_| reply.is_empty()) {
        told.journals.clone_from(&before.journals);
    }
    while !reply.is_empty() {
        let (name, value, age) = (reply.text()?, reply.bytes()?, reply.duration()?);
        let heard = told.at.checked_sub(age).filter(|_| age > SILENCE);
        told.journals.push(KnownJournal { name, value, heard });
    }
    Ok(told)
}

fn changed(mut reply: Reply, done: &str) -> Result<Change, Unreadable> {
    Ok(match reply.text()? == done {
        true => Change::Done,
        false => Change::Refused,
    })
}

#[cfg(test)]
mod tests;
