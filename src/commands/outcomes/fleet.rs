//! Requests in doubt of a whole fleet, as its store has them: of instances that are gone, too, and whether that is all.
//!
//! The store is asked until each instance has been heard of since the command began, or is silent for so long that it is
//! gone: so the list is as new as the question.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use bursar_base::clock;
use bursar_config::FleetConfig;
use bursar_fleet::{
    Description, Fleet, ListedJournal, ListedJournals, MirrorError, RowSet, SILENCE,
};
use bursar_journal::{InDoubt, MirrorRow, ResolvedRow};
use bursar_telemetry::metrics::FleetSeries;

/// The first connection to the store may take that long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// All instances are known by then.
const SETTLED: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Instances look at their journals more often.
const LOOK: Duration = Duration::from_millis(300);

/// The list.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Why it may not be complete.
    pub(super) why: Vec<String>,
    pub(super) journals: Vec<Journal>,
    /// The oldest come first.
    pub(super) rows: Vec<FleetRow>,
}

/// A journal of the fleet.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) listed: ListedJournal,
    /// Its instance, or its own name where nobody can tell.
    pub(super) instance: String,
    pub(super) is_alive: bool,
    pub(super) seen: SystemTime,
    /// The names of its rows that no key opens.
    pub(super) unreadable: Vec<String>,
    /// How many of its rows should be there, too.
    missing: u64,
}

/// A request in doubt.
#[derive(Debug)]
pub(super) struct FleetRow {
    pub(super) request: InDoubt,
    /// Its journal's place in the list.
    pub(super) journal: usize,
    /// In the store.
    pub(super) name: String,
}

/// The list, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    complete: bool,
    why: Option<String>,
    instances: Vec<ShownInstance<'a>>,
    outcomes: Vec<ShownRow<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownInstance<'a> {
    name: &'a str,
    alive: bool,
    seen: String,
}

#[derive(Debug, Serialize)]
struct ShownRow<'a> {
    instance: &'a str,
    #[serde(flatten)]
    request: &'a InDoubt,
}

/// Connects to the fleet's store.
///
/// # Errors
/// Where it cannot be used.
pub(super) async fn connect(config: &FleetConfig) -> anyhow::Result<Fleet> {
    let series = FleetSeries::new(&prometheus::Registry::new())?;
    let (fleet, _events) = Fleet::start(config, Description::default(), series)?;
    fleet.first_connection(CONNECT_TIMEOUT).await;
    match fleet.state().down {
        None => Ok(fleet),
        Some(kind) => bail!(
            "the fleet's store ({}) cannot be used: {}",
            fleet.state().address,
            kind.describe()
        ),
    }
}

impl Listing {
    /// # Errors
    /// Where the store gives no response that can be used.
    pub(super) async fn read(fleet: &Fleet) -> Result<Self, MirrorError> {
        let begun = Instant::now();
        loop {
            let list = Self::of(fleet, settled(fleet, begun).await?).await?;
            let now = fleet.journals().await?.journals;
            // It writes what is missing, has just taken it off, or writes all of it under another name.
            let is_changing = |journal: &Journal| {
                let is_there = now.iter().any(|one| one.name == journal.listed.name);
                journal.is_alive && journal.missing > 0 || !is_there
            };
            if begun.elapsed() >= SETTLED || !list.journals.iter().any(is_changing) {
                return Ok(list);
            }
            sleep(ASK_EVERY).await;
        }
    }

    async fn of(fleet: &Fleet, found: ListedJournals) -> Result<Self, MirrorError> {
        let now = clock::wall();
        let ago = |ago| now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut list = Self::default();
        if found.is_lost {
            list.why.push(format!(
                "the store was emptied at {}, and nobody knows what it had before",
                time(ago(found.since))
            ));
        } else if found.since < SILENCE {
            list.why
                .push("the store was emptied a moment ago".to_owned());
        }
        if found.journals.is_empty() {
            let none = "the store knows of no instance with a journal";
            list.why.push(none.to_owned());
        }
        for listed in found.journals {
            let mut journal = Journal::of(listed, ago);
            let rows = fleet.rows(&journal.listed.name, RowSet::Listed).await?;
            let mut count = 0;
            for (name, text) in rows {
                count += 1;
                match text.and_then(|text| MirrorRow::from_bytes(&text)) {
                    // It may yet be answered.
                    Some(row) if row.is_open && journal.is_alive => count -= 1,
                    Some(row) => list.rows.push(FleetRow {
                        request: row.request,
                        journal: list.journals.len(),
                        name,
                    }),
                    None => journal.unreadable.push(name),
                }
            }
            let expected = journal.listed.journal.as_ref().map_or(0, |one| one.rows);
            journal.missing = expected.saturating_sub(count);
            list.why.extend(journal.doubts());
            list.journals.push(journal);
        }
        list.rows.sort_by_key(|row| row.request.time);
        Ok(list)
    }

    /// Nothing could be read.
    pub(super) fn unread(why: &anyhow::Error) -> Self {
        Self {
            why: vec![format!("{why:#}")],
            ..Self::default()
        }
    }

    pub(super) fn instance(&self, row: &FleetRow) -> &str {
        let journal = self.journals.get(row.journal);
        journal.map_or("", |journal| &journal.instance)
    }

    /// Where it may not be complete.
    pub(super) fn warning(&self) -> Option<String> {
        let why = (!self.why.is_empty()).then(|| self.why.join("; "))?;
        Some(format!("This list may not be complete: {why}\n"))
    }

    pub(super) fn shown<'a>(&'a self, rows: &[&'a FleetRow]) -> Shown<'a> {
        let instances = self.journals.iter().map(|journal| ShownInstance {
            name: &journal.instance,
            alive: journal.is_alive,
            seen: time(journal.seen),
        });
        let rows = rows.iter().map(|row| ShownRow {
            instance: self.instance(row),
            request: &row.request,
        });
        Shown {
            complete: self.why.is_empty(),
            why: (!self.why.is_empty()).then(|| self.why.join("; ")),
            instances: instances.collect(),
            outcomes: rows.collect(),
        }
    }
}

impl Journal {
    fn of(listed: ListedJournal, ago: impl Fn(Duration) -> SystemTime) -> Self {
        let known = listed.journal.as_ref();
        let signed_off = known.is_some_and(|journal| journal.signed_off);
        Self {
            instance: known.map_or_else(
                || listed.name.clone(),
                |journal| journal.instance.name.clone(),
            ),
            is_alive: !signed_off && listed.seen <= SILENCE,
            seen: ago(listed.seen),
            unreadable: Vec::new(),
            missing: 0,
            listed,
        }
    }

    /// Why there may be more.
    fn doubts(&self) -> Vec<String> {
        let name = &self.instance;
        let mut doubts = Vec::new();
        match &self.listed.journal {
            None => doubts.push(format!(
                "nobody knows whose journal {name} is: no key in `fleet.keys` opens that, or the store has lost it"
            )),
            Some(journal) if !journal.signed_off && !self.is_alive => doubts.push(format!(
                "{name} was last heard of at {}, and has neither come back nor signed off",
                time(self.seen)
            )),
            Some(_) => {}
        }
        if self.listed.is_shared {
            doubts.push(format!(
                "two instances have the journal of {name}, and each takes off what the other has in doubt"
            ));
        }
        if self.listed.has_lost_rows {
            doubts.push(format!(
                "the store has lost what {name} had in doubt, and {name} has not come back since"
            ));
        } else if self.missing > 0 {
            let count = self.missing;
            doubts.push(format!("the store has lost {count} of {name}"));
        }
        let more = self.listed.journal.as_ref().map(|one| one.unmirrored);
        if let Some(more) = more.filter(|more| *more > 0) {
            doubts.push(format!("{name} has {more} more than are mirrored"));
        }
        if !self.unreadable.is_empty() {
            let count = self.unreadable.len();
            doubts.push(format!("no key in `fleet.keys` opens {count} of {name}"));
        }
        doubts
    }
}

/// The journals, once each instance was heard of since now, or is gone.
async fn settled(fleet: &Fleet, begun: Instant) -> Result<ListedJournals, MirrorError> {
    loop {
        let listed = fleet.journals().await?;
        let elapsed = begun.elapsed();
        let is_settled = |one: &ListedJournal| {
            let signed_off = one.journal.as_ref().is_some_and(|one| one.signed_off);
            signed_off || one.seen > SILENCE || one.seen + LOOK < elapsed
        };
        let all = listed.since >= SILENCE && listed.journals.iter().all(is_settled);
        if all || elapsed >= SETTLED {
            return Ok(listed);
        }
        sleep(ASK_EVERY).await;
    }
}

/// What was said of a request that was taken off in the fleet's store.
pub(super) async fn resolved(
    fleet: &Fleet,
    list: &Listing,
    id: &str,
) -> Result<Option<ResolvedRow>, MirrorError> {
    for journal in &list.journals {
        let rows = fleet.rows(&journal.listed.name, RowSet::Resolved).await?;
        let rows = rows.into_iter().filter_map(|(_, text)| text);
        let mut rows = rows.filter_map(|text| ResolvedRow::from_bytes(&text));
        if let Some(found) = rows.find(|row| row.request_id == id) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Rows by their journals' places.
pub(super) fn by_journal<'a>(rows: &[&'a FleetRow]) -> BTreeMap<usize, Vec<&'a FleetRow>> {
    let mut grouped = BTreeMap::<_, Vec<&FleetRow>>::new();
    for row in rows {
        grouped.entry(row.journal).or_default().push(row);
    }
    grouped
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
