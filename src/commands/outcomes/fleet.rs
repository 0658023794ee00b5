//! Requests in doubt of a whole fleet, as its store has them: of instances that are gone, too, and whether that is all.
//!
//! The store is asked until each instance has been heard of since the command began, or is silent for so long that it is
//! gone: so the list is as new as the question. That is seen by what changes meanwhile, not by the store's clock.
//!
//! The list is called complete only where that is shown: the store has lost nothing that nobody knows of, each instance
//! is alive or has signed off, and each journal has exactly the rows that its value says.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use anyhow::bail;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use bursar_base::clock;
use bursar_config::FleetConfig;
use bursar_fleet::{
    Description, Fleet, ListedJournal, ListedJournals, MirrorError, MirroredJournal, RowSet,
    RowState, Rows, SILENCE,
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
/// A journal whose rows are just being written is read so often.
const MAX_READS: usize = 20;
const READ_EVERY: Duration = Duration::from_millis(100);
/// So many characters of a journal's id are shown to whoever reads a list.
const SHOWN_ID: usize = 8;

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
    /// Which rows it has in the store.
    pub(super) found: RowState,
    /// Whether all of them could be read.
    is_whole: bool,
    /// The names of its rows that no key opens.
    pub(super) unreadable: Vec<String>,
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
    /// Its journal's id.
    journal: &'a str,
    alive: bool,
    seen: String,
}

#[derive(Debug, Serialize)]
struct ShownRow<'a> {
    instance: &'a str,
    journal: &'a str,
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
    fleet.connection(CONNECT_TIMEOUT).await;
    let store = fleet.state();
    match store.down {
        None => Ok(fleet),
        Some(_) => bail!(
            "the fleet's store ({}) cannot be used: {}",
            store.address,
            store.describe().unwrap_or_default()
        ),
    }
}

impl Listing {
    /// # Errors
    /// Where the store gives no response that can be used.
    pub(super) async fn read(fleet: &Fleet) -> Result<Self, MirrorError> {
        let begun = Instant::now();
        let mut found = settled(fleet, begun).await?;
        loop {
            let mut list = Self::of(fleet, &found).await?;
            // A journal that was listed twice, before and after its rows were read, was there all the time.
            let again = fleet.journals().await?;
            if is_same(&found.journals, &again) {
                return Ok(list);
            }
            if begun.elapsed() >= SETTLED {
                let why = "instances came or went while it was read";
                list.why.push(why.to_owned());
                return Ok(list);
            }
            found = settled(fleet, begun).await?;
        }
    }

    async fn of(fleet: &Fleet, settled: &Settled) -> Result<Self, MirrorError> {
        let mut list = Self::default();
        let found = &settled.journals;
        if let Some(lost) = found.lost {
            list.why.push(format!(
                "nobody knows what the store had before {}; once that is settled, `bursar outcomes resolve --lost --fleet` says so",
                time(ago(lost))
            ));
        } else if found.since < SILENCE && !found.epoch.is_empty() {
            list.why
                .push("the store was emptied a moment ago, or its clock was set back".to_owned());
        }
        if found.journals.is_empty() {
            let none = "the store knows of no instance with a journal";
            list.why.push(none.to_owned());
        }
        for listed in &found.journals {
            let is_alive = settled.is_alive(listed);
            let (journal, rows) = Journal::read(fleet, listed.clone(), is_alive).await?;
            list.add(journal, rows);
        }
        list.rows.sort_by_key(|row| row.request.time);
        Ok(list)
    }

    fn add(&mut self, mut journal: Journal, rows: Rows) {
        for (name, text) in rows.texts {
            match text.and_then(|text| MirrorRow::from_bytes(&text)) {
                // It may yet be answered.
                Some(row) if row.is_open && journal.is_alive => {}
                Some(row) => self.rows.push(FleetRow {
                    request: row.request,
                    journal: self.journals.len(),
                    name,
                }),
                None => journal.unreadable.push(name),
            }
        }
        self.why.extend(journal.doubts());
        self.journals.push(journal);
    }

    /// Nothing could be read.
    pub(super) fn unread(why: &anyhow::Error) -> Self {
        Self {
            why: vec![format!("{why:#}")],
            ..Self::default()
        }
    }

    /// The instance that a row is of, and its journal's id, as a person gets it.
    pub(super) fn owner(&self, row: &FleetRow) -> [&str; 2] {
        let journal = self.journals.get(row.journal);
        journal.map_or([""; 2], |journal| [&journal.instance, journal.short_id()])
    }

    /// Where it may not be complete.
    pub(super) fn warning(&self) -> Option<String> {
        let why = (!self.why.is_empty()).then(|| self.why.join("; "))?;
        Some(format!("This list may not be complete: {why}\n"))
    }

    pub(super) fn shown<'a>(&'a self, rows: &[&'a FleetRow]) -> Shown<'a> {
        let instances = self.journals.iter().map(|journal| ShownInstance {
            name: &journal.instance,
            journal: journal.id(),
            alive: journal.is_alive,
            seen: time(journal.seen),
        });
        let rows = rows.iter().map(|row| {
            let journal = self.journals.get(row.journal);
            ShownRow {
                instance: journal.map_or("", |journal| &journal.instance),
                journal: journal.map_or("", Journal::id),
                request: &row.request,
            }
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
    /// Reads its rows, and again where its instance is just writing them.
    async fn read(
        fleet: &Fleet,
        mut listed: ListedJournal,
        is_alive: bool,
    ) -> Result<(Self, Rows), MirrorError> {
        let mut reads = 0;
        loop {
            let rows = fleet.rows(&listed.name, RowSet::Listed).await?;
            let journal = Self::of(listed, is_alive, &rows);
            reads += 1;
            if journal.is_as_told() || reads == MAX_READS {
                return Ok((journal, rows));
            }
            let Some(now) = fleet.journal(&journal.listed.name).await? else {
                return Ok((journal, rows));
            };
            let was = &journal.listed;
            if !is_alive && now.heard == was.heard && now.journal == was.journal {
                return Ok((journal, rows));
            }
            let journal = Self::of(now, is_alive, &rows);
            if journal.is_as_told() {
                return Ok((journal, rows));
            }
            listed = journal.listed;
            sleep(READ_EVERY).await;
        }
    }

    fn of(listed: ListedJournal, is_alive: bool, rows: &Rows) -> Self {
        let known = listed.journal.as_ref();
        let name = known.map_or(&listed.name, |journal| &journal.instance.name);
        Self {
            instance: name.clone(),
            is_alive: is_alive && !known.is_some_and(|journal| journal.signed_off),
            seen: ago(listed.seen),
            found: rows.state.clone(),
            is_whole: rows.are_whole(),
            unreadable: Vec::new(),
            listed,
        }
    }

    /// What is its own: several machines may have one name, as where one was cloned, and so may a pod that has lost its
    /// volume.
    pub(super) fn id(&self) -> &str {
        &self.listed.name
    }

    fn short_id(&self) -> &str {
        self.id().get(..SHOWN_ID).unwrap_or(self.id())
    }

    /// For a message, its instance and which of that name.
    pub(super) fn describe(&self) -> String {
        format!("{} (journal {})", self.instance, self.short_id())
    }

    /// Whether it was taken off the list.
    pub(super) fn is_off(&self) -> bool {
        let known = self.listed.journal.as_ref();
        let is_settled = known.is_some_and(|known| known.signed_off && known.unmirrored == 0);
        is_settled && self.found.count == 0 && self.is_as_told()
    }

    /// Whether its rows are those that it is said to have.
    pub(super) fn is_as_told(&self) -> bool {
        let known = self.listed.journal.as_ref();
        self.is_whole && known.and_then(|journal| journal.rows.as_ref()) == Some(&self.found)
    }

    /// Why there may be more.
    fn doubts(&self) -> Vec<String> {
        let name = self.describe();
        let mut doubts = Vec::new();
        match &self.listed.journal {
            None => doubts.push(format!(
                "nobody knows whose journal {} is: no key in `fleet.keys` opens that, or the store has lost it",
                self.id()
            )),
            Some(journal) => {
                if !journal.signed_off && !self.is_alive {
                    doubts.push(format!(
                        "{name} was last heard of at {}, and has neither come back nor signed off",
                        time(self.seen)
                    ));
                }
                doubts.extend(self.missing(journal));
                if journal.unmirrored > 0 {
                    let more = journal.unmirrored;
                    doubts.push(format!("{name} has {more} more than are mirrored"));
                }
            }
        }
        if !self.unreadable.is_empty() {
            let count = self.unreadable.len();
            doubts.push(format!("no key in `fleet.keys` opens {count} of {name}"));
        }
        doubts
    }

    /// How its rows are others than it is said to have.
    fn missing(&self, journal: &MirroredJournal) -> Option<String> {
        if self.is_as_told() {
            return None;
        }
        let (name, found) = (self.describe(), self.found.count);
        Some(match &journal.rows {
            None => format!("{name} was writing what it has in doubt, and did not end"),
            Some(rows) if rows.count > found => {
                let lost = rows.count - found;
                format!("the store has lost {lost} of {name}")
            }
            Some(_) => format!("what the store has of {name} is not what was written last"),
        })
    }
}

/// The journals, and which of them were heard of since.
struct Settled {
    journals: ListedJournals,
    /// When each was heard of at the beginning, as the store says.
    before: HashMap<String, u64>,
}

impl Settled {
    fn is_alive(&self, listed: &ListedJournal) -> bool {
        let before = self.before.get(&listed.name);
        before.map_or(listed.seen <= SILENCE, |before| *before != listed.heard)
    }
}

/// The journals, once each instance was heard of since now, or is gone.
async fn settled(fleet: &Fleet, begun: Instant) -> Result<Settled, MirrorError> {
    // What is written from then on was not yet known before the command began.
    sleep(LOOK).await;
    let mut baseline: Option<(Instant, ListedJournals)> = None;
    loop {
        let journals = fleet.journals().await?;
        let is_over = begun.elapsed() >= SETTLED;
        // Those who know what an emptied store has lost write it again meanwhile.
        let is_new = !journals.epoch.is_empty() && journals.since < SILENCE && !is_over;
        let is_other = |(_, first): &(_, ListedJournals)| first.epoch != journals.epoch;
        if is_new || baseline.as_ref().is_some_and(is_other) {
            baseline = None;
        }
        if !is_new {
            let (since, first) = baseline.get_or_insert_with(|| (Instant::now(), journals.clone()));
            let before = first.journals.iter();
            let settled = Settled {
                before: before.map(|one| (one.name.clone(), one.heard)).collect(),
                journals,
            };
            let is_gone = since.elapsed() > SILENCE || is_over;
            let is_settled = |one: &ListedJournal| {
                let signed_off = one.journal.as_ref().is_some_and(|one| one.signed_off);
                signed_off || is_gone || one.seen > SILENCE || settled.is_alive(one)
            };
            if settled.journals.journals.iter().all(is_settled) {
                return Ok(settled);
            }
        }
        sleep(ASK_EVERY).await;
    }
}

/// Whether the same journals are there, and nothing was lost between.
fn is_same(before: &ListedJournals, now: &ListedJournals) -> bool {
    let names = |of: &ListedJournals| {
        let names = of.journals.iter().map(|one| one.name.clone());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    };
    before.epoch == now.epoch
        && before.lost.is_some() == now.lost.is_some()
        && names(before) == names(now)
}

/// What was said of a request that was taken off in the fleet's store.
pub(super) async fn resolved(
    fleet: &Fleet,
    list: &Listing,
    id: &str,
) -> Result<Option<ResolvedRow>, MirrorError> {
    for journal in &list.journals {
        let rows = fleet.rows(&journal.listed.name, RowSet::Resolved).await?;
        let rows = rows.texts.into_iter().filter_map(|(_, text)| text);
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

fn ago(ago: Duration) -> SystemTime {
    let now = clock::wall();
    now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
