//! Resolution of requests in doubt in the fleet's store: of instances that are gone, whose journals nobody opens again.

use std::collections::HashSet;

use super::fleet::{FleetRow, Journal, Listing, by_journal, resolved, time};
use super::resolve::{Error, MAX_SHOWN, MIN_PREFIX, Meant, Resolve, begins};
use super::table::table;
use bursar_base::clock;
use bursar_base::listing::first_of;
use bursar_fleet::{Change, Description, Fleet, MirrorError, MirroredJournal};
use bursar_journal::{InDoubt, ResolvedRow};

impl Resolve {
    /// Takes them off the fleet's list; says which.
    ///
    /// # Errors
    /// Where one of them cannot be taken off.
    pub(super) async fn run_in_fleet(&self, fleet: &Fleet) -> Result<String, Error> {
        if self.lost {
            return self.settle_loss(fleet).await;
        }
        let list = Listing::read(fleet).await?;
        if let Some(instance) = &self.instance {
            return self.take_off(fleet, &list, instance).await;
        }
        // One may be there under two names, while an instance takes another key.
        let mut ids = HashSet::new();
        let rows = list.rows.iter();
        let rows = rows.filter(|row| ids.insert(&row.request.request_id));
        let requests: Vec<InDoubt> = rows.map(|row| row.request.clone()).collect();
        let meant = match self.meant(&requests)? {
            Meant::Listed(meant) => meant,
            Meant::Unlisted(id) => {
                return Err(Error::List(match resolved(fleet, &list, id).await? {
                    Some(before) => before.describe(),
                    None => format!("no request {id} is in doubt"),
                }));
            }
        };
        let is_meant = |row: &&FleetRow| {
            meant
                .iter()
                .any(|one| one.request_id == row.request.request_id)
        };
        let rows: Vec<&FleetRow> = list.rows.iter().filter(is_meant).collect();
        let grouped = by_journal(&rows);
        for (place, rows) in &grouped {
            if let (Some(journal), [row, ..]) = (list.journals.get(*place), rows.as_slice())
                && journal.is_alive
            {
                return Err(Error::List(format!(
                    "{} is in the journal of {}, which is alive; resolve it there, without --fleet",
                    row.request.request_id,
                    journal.describe()
                )));
            }
        }
        for (place, rows) in grouped {
            if let Some(journal) = list.journals.get(place) {
                self.take_rows_off(fleet, journal, &rows).await?;
            }
        }
        let off = match rows.as_slice() {
            [row] => format!("{} is off the fleet's list.\n", row.request.request_id),
            rows => format!("{} requests are off the fleet's list.\n", rows.len()),
        };
        let shown = match rows.len() {
            1 => String::new(),
            _ => table(rows.iter().map(|row| &row.request)),
        };
        Ok(off + &shown)
    }

    async fn take_rows_off(
        &self,
        fleet: &Fleet,
        journal: &Journal,
        rows: &[&FleetRow],
    ) -> Result<(), Error> {
        let said = rows.iter().map(|row| {
            let said = self.said(&row.request.request_id);
            (row.name.clone(), said)
        });
        let said: Vec<_> = said.collect();
        let name = &journal.listed.name;
        let resolved = fleet.resolve_rows(name, &journal.found.tag, &said).await?;
        let left = resolved.ok_or_else(changed)?;
        // Where rows were missing before, they are after that.
        if let Some(known) = &journal.listed.journal
            && journal.is_as_told()
        {
            let known = MirroredJournal {
                rows: Some(left),
                ..known.clone()
            };
            fleet.change_journal(&journal.listed, &known).await?;
        }
        Ok(())
    }

    /// Says that it is known what the store may have lost.
    async fn settle_loss(&self, fleet: &Fleet) -> Result<String, Error> {
        let listed = fleet.journals().await?;
        if listed.lost.is_none() && !listed.epoch.is_empty() {
            let said = listed.said.and_then(|said| ResolvedRow::from_bytes(&said));
            let before = said.map_or_else(String::new, |said| {
                let at = humantime::format_rfc3339_seconds(said.at);
                format!("; it was settled at {at}: {}", said.note)
            });
            let nothing = "the store has lost nothing that nobody knows of";
            return Err(Error::List(format!("{nothing}{before}")));
        }
        match fleet.settle_loss(&listed.epoch, &self.said("")).await? {
            Change::Done => Ok("What the fleet's store may have lost is settled.\n".to_owned()),
            Change::Refused => Err(changed()),
        }
    }

    /// Takes an instance off that is gone for good, with all its rows.
    async fn take_off(&self, fleet: &Fleet, list: &Listing, name: &str) -> Result<String, Error> {
        let (place, journal) = gone(list, name)?;
        let rows = list.rows.iter().filter(|row| row.journal == place);
        let rows = rows.map(|row| (row.name.clone(), self.said(&row.request.request_id)));
        let unreadable = journal.unreadable.iter();
        let unreadable = unreadable.map(|name| (name.clone(), self.said("")));
        let rows: Vec<_> = rows.chain(unreadable).collect();
        let mut left = journal.found.clone();
        for some in rows.chunks(MAX_AT_ONCE) {
            let resolved = fleet.resolve_rows(journal.id(), &left.tag, some).await?;
            left = resolved.ok_or_else(changed)?;
        }
        let off = MirroredJournal {
            instance: journal.description(),
            signed_off: true,
            unmirrored: 0,
            rows: Some(left),
            note: Some(self.note.trim().to_owned()),
        };
        if fleet.change_journal(&journal.listed, &off).await? == Change::Refused {
            return Err(changed());
        }
        Ok(format!(
            "{} is off the fleet's list, with {} requests that were in doubt.\n",
            journal.describe(),
            rows.len()
        ))
    }

    fn said(&self, request_id: &str) -> Vec<u8> {
        let row = ResolvedRow {
            request_id: request_id.to_owned(),
            at: clock::wall(),
            note: self.note.trim().to_owned(),
        };
        row.to_bytes()
    }
}

/// Rows that are taken off together.
const MAX_AT_ONCE: usize = 1000;

impl Journal {
    fn description(&self) -> Description {
        let known = self.listed.journal.as_ref();
        known.map_or_else(
            || Description {
                name: self.instance.clone(),
                version: String::new(),
                started: 0,
            },
            |journal| journal.instance.clone(),
        )
    }
}

/// The journal of an instance that is gone, and its place in the list: by the instance's name or, where none has that, by
/// the journal's id or its beginning.
fn gone<'a>(list: &'a Listing, name: &str) -> Result<(usize, &'a Journal), Error> {
    let find = |is_meant: &dyn Fn(&Journal) -> bool| -> Vec<_> {
        let journals = list.journals.iter().enumerate();
        journals.filter(|(_, one)| is_meant(one)).collect()
    };
    let mut meant = find(&|one| one.instance == name);
    let is_name = !meant.is_empty();
    if !is_name && name.len() >= MIN_PREFIX {
        meant = find(&|one| begins(one.id(), name));
    }
    if meant.is_empty() {
        return Err(Error::List(format!(
            "there is no instance {name}, and no journal whose id begins so"
        )));
    }
    if meant.iter().all(|(_, one)| one.is_alive) {
        return Err(Error::List(format!("{name} is alive")));
    }
    if is_name {
        // Another one of that name may be alive, or off the list for long.
        meant.retain(|(_, one)| !one.is_alive && !one.is_off());
    }
    match *meant.as_slice() {
        [(_, one)] if one.is_off() => Err(already_off(name)),
        [] => Err(already_off(name)),
        [one] => Ok(one),
        _ => Err(ambiguous(list, name, &meant)),
    }
}

fn already_off(name: &str) -> Error {
    Error::List(format!("{name} is off the fleet's list already"))
}

fn ambiguous(list: &Listing, name: &str, candidates: &[(usize, &Journal)]) -> Error {
    let shown = candidates.iter().map(|(place, journal)| {
        let rows = list.rows.iter().filter(|row| row.journal == *place);
        let count = rows.count() + journal.unreadable.len();
        let heard = match journal.is_alive {
            true => "alive".to_owned(),
            false => format!("last heard of at {}", time(journal.seen)),
        };
        format!("{} ({heard}, {count} in doubt)", journal.id())
    });
    let shown: Vec<String> = shown.collect();
    Error::List(format!(
        "{name} may be any of {} journals: {}; see what each has with `bursar outcomes --fleet`, and take off one by its id: `bursar outcomes resolve --instance JOURNAL --fleet --note TEXT`",
        shown.len(),
        first_of(&shown, MAX_SHOWN)
    ))
}

fn changed() -> Error {
    Error::Store(anyhow::anyhow!(
        "the list has changed meanwhile; look at what is left with `bursar outcomes --fleet`"
    ))
}

impl From<MirrorError> for Error {
    fn from(error: MirrorError) -> Self {
        Self::Store(error.into())
    }
}
