//! Rehearsal: whether this instance may do in the store all that it has to, tried under names that nobody else uses.
//!
//! The scripts that an instance runs end at the first command that they may not call, and the server does not say which
//! one that is. So each is tried by itself, at several places: the nodes of a cluster have users of their own.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::fleet::{Fleet, RunError};
use crate::reply::{Reply, Unreadable};
use crate::script;
use crate::store::{Kind, StoreError};

/// As many names are tried, so that hardly a node of a cluster is left out.
const NAMES: usize = 16;

/// What is published on the fleet's channels meanwhile; it says nothing to instances.
pub const REHEARSAL: &[u8] = b"rehearsal";

/// A command that the store does not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// Its name.
    pub command: String,
    /// Why.
    pub why: Refusal,
}

/// Why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The user may not, or not with those keys or that channel.
    NotAllowed,
    /// There is no such command.
    Unknown,
    /// The server is in no state for it: full, without replicas, or unable to save.
    State,
}

impl Refused {
    /// A command that is refused by itself. None: something else is wrong.
    fn of(error: &StoreError) -> Option<Self> {
        let why = match error.kind() {
            Kind::NoPermission => Refusal::NotAllowed,
            Kind::UnknownCommand => Refusal::Unknown,
            _ => return None,
        };
        Some(Self {
            command: error.command()?.to_uppercase(),
            why,
        })
    }
}

impl Refusal {
    fn of(said: &str) -> Self {
        let has = |part: &str| said.to_ascii_lowercase().contains(part);
        if has("unknown") {
            Self::Unknown
        } else if has("noperm") || has("permission") || has("can't") {
            Self::NotAllowed
        } else {
            Self::State
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let command = &self.command;
        match self.why {
            Refusal::NotAllowed => write!(formatter, "the user may not {command}"),
            Refusal::Unknown => write!(formatter, "it does not know {command}"),
            Refusal::State => write!(formatter, "it does not do {command} at the moment"),
        }
    }
}

impl Fleet {
    /// Which commands fail that instances need. One instance's work is not disturbed by that, nor another rehearsal.
    ///
    /// # Errors
    /// Where no script can be run at all.
    pub async fn rehearse(&self) -> Result<BTreeSet<Refused>, RunError> {
        let mut trying = JoinSet::new();
        for number in 0..NAMES {
            let fleet = self.clone();
            trying.spawn(async move { fleet.rehearse_at(&format!("rehearsal-{number}")).await });
        }
        let mut all = BTreeSet::new();
        for refused in trying.join_all().await {
            all.extend(refused?);
        }
        Ok(all)
    }

    async fn rehearse_at(&self, name: &str) -> Result<Vec<Refused>, RunError> {
        let channels = [self.token_channel().into(), self.freeze_channel().into()];
        let mut refused = Vec::new();
        // The second time as it is run when the server knows it.
        for channels in [&channels[..], &[]] {
            match self.run(&script::COMMANDS, name, channels).await {
                Ok(mut reply) => read(&mut reply, &mut refused)?,
                Err(RunError::Store(error)) => refused.push(Refused::of(&error).ok_or(error)?),
                Err(unreadable) => return Err(unreadable),
            }
        }
        if let Err(error) = self.may_wait(name).await {
            refused.push(Refused::of(&error).ok_or(error)?);
        }
        Ok(refused)
    }
}

/// What failed, and why.
fn read(reply: &mut Reply, refused: &mut Vec<Refused>) -> Result<(), Unreadable> {
    while !reply.is_empty() {
        let command = reply.text()?;
        let why = Refusal::of(&reply.text()?);
        refused.push(Refused { command, why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bursar_testkit::soon;
    use bursar_testkit::store::Server;

    use super::*;
    use crate::description::Description;
    use crate::store::Event;
    use crate::tests::{KEY, join};

    #[test]
    fn every_command_of_scripts_is_tried() {
        let mut called = BTreeSet::new();
        for file in std::fs::read_dir("src/scripts").unwrap() {
            let script = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let calls = script.split("redis.call('").skip(1);
            called.extend(calls.filter_map(|rest| Some(rest.split_once('\'')?.0.to_owned())));
        }
        let rehearsed = include_str!("scripts/commands.lua");
        let tries = rehearsed.split("{'").skip(1);
        let tried: BTreeSet<String> = tries
            .filter_map(|rest| Some(rest.split_once('\'')?.0.to_owned()))
            .collect();
        assert_eq!(tried, called);
    }

    #[tokio::test]
    async fn what_is_missing_is_named_and_nothing_is_left() {
        let Some(server) = Server::redis().await else {
            return;
        };
        let launch = server.launch().line("rename-command HKEYS \"\"");
        let store = launch.start().await;
        let (fleet, mut events) = join(&store, KEY, Description::default()).await;
        let unknown = Refused {
            command: "HKEYS".to_owned(),
            why: Refusal::Unknown,
        };
        assert_eq!(
            fleet.rehearse().await.unwrap(),
            BTreeSet::from([unknown.clone()])
        );
        let mut heard = BTreeSet::new();
        while heard.len() < 2 {
            if let Event::Message { channel, payload } = soon(events.next()).await.unwrap() {
                assert_eq!(payload, REHEARSAL);
                heard.insert(channel);
            }
        }
        let channels = [fleet.freeze_channel(), fleet.token_channel()];
        assert_eq!(heard, channels.map(str::to_owned).into());
        let mut operator = store.connect_as_operator().await;
        operator.call(&["ACL", "SETUSER", "default", "-hdel"]).await;
        let refused = |command: &str| Refused {
            command: command.to_owned(),
            why: Refusal::NotAllowed,
        };
        assert_eq!(
            fleet.rehearse().await.unwrap(),
            BTreeSet::from([refused("HDEL"), unknown])
        );
        // The server knows the script by now.
        let lacking = ["ACL", "SETUSER", "default", "-evalsha"];
        operator.call(&lacking).await;
        assert_eq!(
            fleet.rehearse().await.unwrap(),
            BTreeSet::from([refused("EVALSHA")])
        );
        assert_eq!(store.names().await, []);
    }
}
