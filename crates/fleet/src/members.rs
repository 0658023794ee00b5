//! Members of a fleet: heartbeats, who is alive, and how limits are divided among them.
//!
//! One script runs for each heartbeat. It writes down that this instance is alive and what it wants of the limits that
//! it uses, and replies with the number of members and this instance's parts. Nothing in it or its reply grows with the
//! number of members: sums over all of them are kept beside the rows, and whoever falls silent is taken off the sums by
//! the next heartbeats of the others.
//!
//! What 1,000 instances cost: [`interval`] makes it 1,250 heartbeats a second, each with a request of 250 bytes and 85 for
//! each limit that is in use there, and a response of 80 and 15. One takes the server some 45 microseconds, and 8 for each
//! limit: 6 % of a core and 0.4 MB/s where no limit is in use; 16 % and 1.7 MB/s with ten at every instance; 70 % of a core
//! and 8 MB/s with [`max_limits`], beyond which it does not grow.

use std::time::Duration;

use crate::description::Description;
use crate::fleet::{Fleet, RunError};
use crate::keys::{Binding, NotSealed};
use crate::reply::{Reply, Unreadable};
use crate::script;
use crate::store::Arg;
use bursar_limits::share::LimitKind;

/// The name of the hash slot.
pub(crate) const SLOT: &str = "members";
/// The kind of names that limits have.
const KIND: &str = "limit";
/// What descriptions are bound to.
const DESCRIPTION: Binding<'static> = Binding {
    name: "",
    context: "instance",
    number: 0,
};
/// A heartbeat tells of no more limits.
const MAX_LIMITS: u64 = 256;
/// All heartbeats of an interval together tell of no more, with a few for each.
const MAX_LIMITS_OF_ALL: u64 = 64_000;
/// A list has no more instances: those that were heard of last.
pub const MAX_LISTED: u64 = 1000;

/// How often each member is heard of: two heartbeats a second each, and fewer where they would be more than 1,000
/// together, but often enough to tell of a freeze within a second.
#[must_use]
pub fn interval(members: u64) -> Duration {
    Duration::from_millis(members.clamp(500, 800))
}

/// A heartbeat tells of no more limits; an instance that uses more has its reserve of the others.
#[must_use]
pub fn max_limits(members: u64) -> usize {
    let most = MAX_LIMITS_OF_ALL / members.max(1);
    usize::try_from(most.clamp(16, MAX_LIMITS)).unwrap_or(16)
}

/// So long members take to be heard of again after the store was away or lost what it had: a lost connection is tried
/// again after a second at most, and the next heartbeat follows at once. Nobody is given more of a limit meanwhile.
const SETTLING: Duration = Duration::from_millis(1300);

/// Who was not heard of for so long is none any more.
fn silence(members: u64) -> Duration {
    (interval(members) * 3).max(Duration::from_secs(2))
}

/// What a member wants of a limit, in millionths of it.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// What the limit is of.
    pub kind: LimitKind,
    /// Whose it is.
    pub of: &'a str,
    /// What is asked for.
    pub demand: u32,
    /// What it uses until it hears otherwise: the part that it was given, or more where that cannot be taken back.
    pub held: u32,
    /// The part that it would have.
    pub want: u32,
    /// Parts are multiples of this.
    pub grain: u32,
    /// For how long it has waited for more than it has; None: it does not.
    pub waited: Option<Duration>,
}

/// The fleet's reply to a [`Demand`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// What this member may use from now on, in millionths; never more than it wants.
    pub part: u32,
    /// What all others ask for.
    pub others: u32,
    /// Whether one of them waits for more than it has.
    pub is_awaited: bool,
}

/// A heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// How many members there are, as far as is known.
    pub members: u64,
    /// Whether this instance is to be described, too.
    pub describes: bool,
    /// At most [`max_limits`]: of all others this instance uses nothing.
    pub demands: &'a [Demand<'a>],
}

/// What there is to know at a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// A text that is another one where the store lost what it had.
    pub epoch: String,
    /// How many of this name are alive, this one too. Some may have no key in common with it.
    pub members: u64,
    /// Grows with each freeze and each thaw.
    pub freezes: u64,
    /// Whether there is a description of this instance.
    pub is_described: bool,
    /// How long there may be more members than have been heard of, because the store has just come back, or lost what it
    /// had: until then nobody is given more than it has. None: all are known.
    pub settles_in: Option<Duration>,
    /// Its parts of the limits that it told of, in their order.
    pub parts: Vec<Part>,
}

/// Instances, as they are listed.
#[derive(Debug)]
pub struct Listed {
    /// How many there are; more than are listed, perhaps.
    pub count: u64,
    /// Those that were heard of last come first.
    pub instances: Vec<Instance>,
}

/// An instance, as the others see it.
#[derive(Debug)]
pub struct Instance {
    /// As [`Fleet::instance`].
    pub id: String,
    /// Whether it is a member now.
    pub is_alive: bool,
    /// How long ago it was heard of last.
    pub seen: Duration,
    /// None: there is none, or no key opens it.
    pub description: Option<Description>,
    /// Whether there is one that no key opens: then it is none of this fleet.
    pub is_stranger: bool,
}

/// Which instances to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The members.
    Alive,
    /// Those of the last 30 days, too.
    Seen,
}

/// A heartbeat came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// The store gives no response that can be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The description cannot be sealed.
    #[error("this instance cannot be described in the fleet's store")]
    Sealing(#[from] NotSealed),
}

impl From<Unreadable> for BeatError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Run(unreadable.into())
    }
}

impl Fleet {
    /// Tells the others that this instance is alive, and what it wants.
    ///
    /// Each limit has a name under each of the fleet's keys, and the smallest part counts: instances whose first keys
    /// differ share a limit, too.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn beat(&self, beat: Beat<'_>) -> Result<Heard, BeatError> {
        let description = match beat.describes {
            true => self.seal_description()?,
            false => Vec::new(),
        };
        let demands = beat.demands;
        let names = demands.iter().map(|demand| self.limit_names(demand));
        let names: Vec<Vec<Box<str>>> = names.collect();
        let epoch = crate::fleet::random_text();
        let mut arguments = vec![
            self.instance().into(),
            epoch.as_str().into(),
            milliseconds(silence(beat.members)),
            milliseconds(SETTLING),
            description.as_slice().into(),
        ];
        for (demand, names) in demands.iter().zip(&names) {
            for name in names {
                arguments.extend([
                    Arg::from(&**name),
                    Arg::Number(demand.demand.into()),
                    Arg::Number(demand.held.into()),
                    Arg::Number(demand.want.into()),
                    Arg::Number(demand.grain.max(1).into()),
                    demand.waited.map_or(Arg::Number(-1), milliseconds),
                ]);
            }
        }
        let mut reply = self.run(&script::BEAT, SLOT, &arguments).await?;
        let mut heard = Heard {
            epoch: reply.text()?,
            members: reply.number()?,
            freezes: reply.number()?,
            is_described: reply.number()? == 1,
            settles_in: Some(reply.duration()?).filter(|left| !left.is_zero()),
            parts: Vec::with_capacity(demands.len()),
        };
        for names in &names {
            let mut all = Part {
                part: u32::MAX,
                ..Part::default()
            };
            for _ in names {
                all.part = all.part.min(millionths(reply.number()?));
                all.others = all.others.max(millionths(reply.number()?));
                all.is_awaited |= reply.number()? == 1;
            }
            heard.parts.push(all);
        }
        Ok(heard)
    }

    /// Whether there are other members, and all of them have been heard of in that time.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn are_others_heard(&self, within: Duration) -> Result<bool, RunError> {
        let silence = milliseconds(silence(MAX_LISTED));
        let arguments = [self.instance().into(), silence, milliseconds(within)];
        let mut reply = self.run(&script::HEARD_SINCE, SLOT, &arguments).await?;
        Ok(reply.number()? == 1)
    }

    /// This instance ends: the others need not find out.
    ///
    /// # Errors
    /// Where the store gives no response that can be used; then they find out.
    pub async fn leave(&self) -> Result<(), RunError> {
        let arguments = [self.instance().into()];
        self.run(&script::LEAVE, SLOT, &arguments).await.map(drop)
    }

    /// The instances of this fleet, [`MAX_LISTED`] at most.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn instances(&self, which: Which) -> Result<Listed, RunError> {
        let which = match which {
            Which::Alive => "alive",
            Which::Seen => "seen",
        };
        let most = i64::try_from(MAX_LISTED).unwrap_or(i64::MAX);
        let silence = milliseconds(silence(MAX_LISTED));
        let arguments = [which.into(), silence, Arg::Number(most)];
        let mut reply = self.run(&script::LIST, SLOT, &arguments).await?;
        let count = reply.number()?;
        let mut instances = Vec::new();
        while !reply.is_empty() {
            instances.push(self.listed(&mut reply)?);
        }
        Ok(Listed { count, instances })
    }

    fn listed(&self, reply: &mut Reply) -> Result<Instance, Unreadable> {
        let id = String::from_utf8_lossy(&reply.bytes()?).into_owned();
        let is_alive = reply.number()? == 1;
        let seen = reply.duration()?;
        let sealed = reply.bytes()?;
        let binding = Binding {
            name: &id,
            ..DESCRIPTION
        };
        let opened = self.keys().open(binding, &sealed).ok();
        Ok(Instance {
            is_stranger: opened.is_none() && !sealed.is_empty(),
            description: opened.and_then(|text| serde_json::from_slice(&text).ok()),
            id,
            is_alive,
            seen,
        })
    }

    fn seal_description(&self) -> Result<Vec<u8>, NotSealed> {
        // Texts and numbers can always be written.
        let text = serde_json::to_vec(self.description()).unwrap_or_default();
        let binding = Binding {
            name: self.instance(),
            ..DESCRIPTION
        };
        self.keys().seal(binding, &text)
    }

    fn limit_names(&self, demand: &Demand<'_>) -> Vec<Box<str>> {
        let limit = [demand.kind.as_str(), demand.of].join("\0");
        let names = self.keys().names(KIND, limit.as_bytes());
        names.all().map(Into::into).collect()
    }
}

fn millionths(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn milliseconds(duration: Duration) -> Arg<'static> {
    Arg::Number(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
