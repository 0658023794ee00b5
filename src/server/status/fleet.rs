//! The fleet as `/status` shows it.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::date::date;
use bursar_base::clock;
use bursar_fleet::{Fleet as Shared, Instance, Which};

/// The list of members may take so long.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);

/// What this instance shares with others.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Fleet {
    /// Whether the store is tried at all: `open` while it cannot be used.
    pub(in crate::server) breaker: &'static str,
    pub(in crate::server) leases_held: usize,
    /// As the store knows them; this one alone where it cannot be used.
    pub(in crate::server) members: Vec<Member>,
    pub(in crate::server) name: String,
    pub(in crate::server) store: Store,
}

#[derive(Debug, Serialize)]
pub(in crate::server) struct Store {
    /// Without users and passwords.
    pub(in crate::server) address: String,
    pub(in crate::server) since: String,
    pub(in crate::server) up: bool,
    /// Why it is not, or what else there is to know of it.
    pub(in crate::server) why: Option<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::server) struct Member {
    pub(in crate::server) name: String,
    pub(in crate::server) started: String,
    pub(in crate::server) this_instance: bool,
    pub(in crate::server) version: String,
}

impl Fleet {
    /// As it is now.
    pub(in crate::server) async fn of(fleet: &Shared) -> Self {
        let listed = tokio::time::timeout(LIST_TIMEOUT, fleet.instances(Which::Alive)).await;
        let listed = match listed {
            Ok(Ok(listed)) => listed.instances,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let others = listed
            .iter()
            .filter(|one| one.id != fleet.instance() && !one.is_stranger);
        let mut members: Vec<Member> = others.map(Member::of).collect();
        members.push(Member::this(fleet));
        members.sort_unstable();
        let state = fleet.state();
        Self {
            breaker: match state.down {
                None => "closed",
                Some(_) => "open",
            },
            leases_held: fleet.leases_held(),
            members,
            name: fleet.name().to_owned(),
            store: Store {
                address: state.address.to_string(),
                since: date(clock::wall() - state.since.elapsed()),
                up: state.why().is_none(),
                why: state.describe(),
            },
        }
    }
}

impl Member {
    fn this(fleet: &Shared) -> Self {
        let described = fleet.description();
        Self {
            name: described.name.clone(),
            started: date(UNIX_EPOCH + Duration::from_secs(described.started)),
            this_instance: true,
            version: described.version.clone(),
        }
    }

    /// One that has not described itself yet has the name of its rows.
    fn of(instance: &Instance) -> Self {
        let described = instance.description.as_ref();
        let started = described
            .and_then(|described| UNIX_EPOCH.checked_add(Duration::from_secs(described.started)));
        Self {
            name: described.map_or_else(|| instance.id.clone(), |one| one.name.clone()),
            started: started.map(date).unwrap_or_default(),
            this_instance: false,
            version: described.map_or_else(String::new, |one| one.version.clone()),
        }
    }
}

#[cfg(test)]
impl Fleet {
    /// One with everything.
    pub(super) fn example() -> Self {
        let member = Member {
            name: "host:3128".to_owned(),
            started: String::new(),
            this_instance: true,
            version: "0".to_owned(),
        };
        Self {
            breaker: "open",
            leases_held: 1,
            members: vec![member],
            name: "production".to_owned(),
            store: Store {
                address: String::new(),
                since: String::new(),
                up: false,
                why: Some("down".to_owned()),
            },
        }
    }
}
