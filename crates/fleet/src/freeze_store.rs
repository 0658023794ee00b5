//! Freeze store: what operators have decided on providers, in the fleet's store, read as a whole and written one by one.
//!
//! Each decision has a number, which is an instant of the store's clock wherever that is above all that came before:
//! the last one holds. It is sealed with its number, so that nobody without a key can bring an earlier decision back
//! as a later one. A decision is looked for under the name that each of the fleet's keys gives its provider, and written
//! under the first one. Thaws are kept, too: whoever was away must hear of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::fleet::{Fleet, RunError};
use crate::keys::{Binding, NotSealed};
use crate::reply::Unreadable;
use crate::script;
use bursar_base::decision::{Decision, Text};

/// The name of the hash slot.
const SLOT: &str = "members";
/// The kind of names that providers have.
const KIND: &str = "freeze";

/// What the store knew when it was read.
#[derive(Debug)]
pub struct Freezes {
    /// Grows with each decision; 0 where the store has nothing, or has lost it.
    pub version: u64,
    /// The store's clock, in milliseconds.
    now: u64,
    read: Instant,
    /// The last decision on each provider.
    pub by_provider: HashMap<Box<str>, NumberedDecision>,
    /// As they are, by name.
    rows: HashMap<String, Vec<u8>>,
}

/// A decision of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedDecision {
    /// Above that of any decision that it follows.
    pub number: u64,
    /// What was decided.
    pub decision: Decision,
    /// When a freeze ends by itself, by the store's clock.
    pub ends: Option<u64>,
}

/// What became of a decision that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Everybody hears of it.
    Yes,
    /// Somebody has decided something else since the store was read.
    Changed,
}

/// A decision could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The store gives no response that can be used; it may have the decision all the same.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It cannot be sealed.
    #[error("a decision cannot be sealed")]
    Sealing(#[from] NotSealed),
    /// The store has decisions on too many providers.
    #[error("the fleet's store has decisions on too many providers")]
    Full,
}

impl FreezeError {
    /// Whether the store may have the decision all the same.
    #[must_use]
    pub const fn may_be_written(&self) -> bool {
        match self {
            Self::Run(RunError::Store(error)) => !error.is_unsent(),
            Self::Run(RunError::Unreadable(_)) => true,
            Self::Sealing(_) | Self::Full => false,
        }
    }
}

/// As it is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    provider: Cow<'a, str>,
    frozen: bool,
    /// In milliseconds since 1970, by the clock of whoever decided.
    since: u64,
    by: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    /// The same by that clock, for people. Earlier versions have neither this nor the next, and go on until a thaw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// When a freeze ends by itself, by the store's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends: Option<u64>,
}

impl Freezes {
    /// An instant of this process by the store's clock.
    #[must_use]
    pub fn at(&self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.read) {
            Some(later) => self.now.saturating_add(milliseconds(later)),
            None => self.now.saturating_sub(milliseconds(self.read - instant)),
        }
    }

    /// An instant of the store's clock by this process's. None: it is too far away.
    #[must_use]
    pub fn instant(&self, at: u64) -> Option<Instant> {
        match at.checked_sub(self.now) {
            Some(later) => self.read.checked_add(Duration::from_millis(later)),
            // What was before this machine was started is over either way.
            None => {
                let earlier = Duration::from_millis(self.now - at);
                Some(self.read.checked_sub(earlier).unwrap_or(self.read))
            }
        }
    }
}

impl Fleet {
    /// What operators have decided on all providers.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn freezes(&self) -> Result<Freezes, RunError> {
        let mut reply = self.run(&script::READ_FREEZES, SLOT, &[]).await?;
        let mut freezes = Freezes {
            now: reply.number()?,
            version: reply.number()?,
            read: Instant::now(),
            by_provider: HashMap::new(),
            rows: HashMap::new(),
        };
        while !reply.is_empty() {
            let name = String::from_utf8_lossy(&reply.bytes()?).into_owned();
            let row = reply.bytes()?;
            if let Some((provider, found)) = self.open_row(&name, &row) {
                freezes.add(provider, found);
            }
            freezes.rows.insert(name, row);
        }
        self.set_freezes_version(freezes.version);
        Ok(freezes)
    }

    /// Whether the store has that decision where it is looked for first.
    #[must_use]
    pub fn has_freeze(&self, freezes: &Freezes, provider: &str, number: u64) -> bool {
        let names = self.keys().names(KIND, provider.as_bytes());
        let row = freezes.rows.get(names.first());
        let opened = row.and_then(|row| self.open_row(names.first(), row));
        opened.is_some_and(|(_, found)| found.number == number)
    }

    /// Writes a decision where the store still has what was read.
    ///
    /// # Errors
    /// Where the store gives no response that can be used; it may have it all the same.
    pub async fn write_freeze(
        &self,
        read: &Freezes,
        provider: &str,
        new: &NumberedDecision,
    ) -> Result<Written, FreezeError> {
        let names = self.keys().names(KIND, provider.as_bytes());
        let name = names.first();
        let text = Sealed::of(provider, new).to_bytes();
        let sealed = self.keys().seal(binding(name, new.number), &text)?;
        let row = [new.number.to_string().as_bytes(), b" ", &sealed].concat();
        let seen = read.rows.get(name).map_or(&[][..], |row| row);
        self.write_row(name, seen, &row).await
    }

    /// Sees to it that the store has something: from then on, where it has nothing, it has lost that.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn begin_freezes(&self) -> Result<(), FreezeError> {
        self.write_row("", &[], &[]).await.map(drop)
    }

    async fn write_row(&self, name: &str, seen: &[u8], row: &[u8]) -> Result<Written, FreezeError> {
        let arguments = [
            name.into(),
            seen.into(),
            row.into(),
            self.freeze_channel().into(),
        ];
        let run = self.run(&script::WRITE_FREEZE, SLOT, &arguments).await;
        match &*run?.text().map_err(RunError::from)? {
            "written" => {
                // It has a version since then that nobody here knows.
                self.set_freezes_version(0);
                Ok(Written::Yes)
            }
            "changed" => Ok(Written::Changed),
            "full" => Err(FreezeError::Full),
            _ => Err(RunError::from(Unreadable).into()),
        }
    }

    /// None: it is not sealed with any of the keys, or not for this name and number.
    fn open_row(&self, name: &str, row: &[u8]) -> Option<(Box<str>, NumberedDecision)> {
        let space = row.iter().position(|byte| *byte == b' ')?;
        let (number, sealed) = (row.get(..space)?, row.get(space + 1..)?);
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        let text = self.keys().open(binding(name, number), sealed).ok()?;
        let sealed: Sealed<'_> = serde_json::from_slice(&text).ok()?;
        let found = NumberedDecision {
            number,
            decision: sealed.decision()?,
            ends: sealed.ends,
        };
        Some((sealed.provider.into(), found))
    }
}

impl Freezes {
    /// Of two decisions with one number, which two keys may lead to, the freeze holds.
    fn add(&mut self, provider: Box<str>, found: NumberedDecision) {
        let rank = |one: &NumberedDecision| (one.number, one.decision.is_frozen);
        let known = self.by_provider.get(&provider);
        if known.is_none_or(|known| rank(known) < rank(&found)) {
            self.by_provider.insert(provider, found);
        }
    }
}

impl<'a> Sealed<'a> {
    fn of(provider: &'a str, new: &'a NumberedDecision) -> Self {
        let decision = &new.decision;
        Self {
            provider: provider.into(),
            frozen: decision.is_frozen,
            since: since_1970(decision.since),
            by: decision.by.as_deref().map(Into::into),
            reason: decision.reason.as_deref().map(Into::into),
            until: decision.until.map(since_1970),
            ends: new.ends,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers can always be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn decision(&self) -> Option<Decision> {
        let text = |kind: Text, text: &Option<Cow<'_, str>>| {
            text.as_deref().and_then(|text| kind.fit(text))
        };
        let time = |millis: u64| UNIX_EPOCH.checked_add(Duration::from_millis(millis));
        Some(Decision {
            is_frozen: self.frozen,
            since: time(self.since)?,
            until: self.until.and_then(time),
            by: text(Text::By, &self.by),
            reason: text(Text::Reason, &self.reason),
        })
    }
}

fn since_1970(time: SystemTime) -> u64 {
    milliseconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const fn binding(name: &str, number: u64) -> Binding<'_> {
    Binding {
        name,
        context: KIND,
        number,
    }
}

#[cfg(test)]
mod tests;
