//! Resolution of requests in doubt in the fleet's store: of instances that are gone, whose journals nobody opens again.

use std::collections::HashSet;

use super::fleet::{FleetRow, Journal, Listing, by_journal, resolved};
use super::resolve::{Error, Meant, Resolve};
use super::table::table;
use bursar_base::clock;
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
                    row.request.request_id, journal.instance
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
        let named = list.journals.iter().enumerate();
        let named: Vec<_> = named.filter(|(_, one)| one.instance == name).collect();
        let gone = named.iter().filter(|(_, journal)| !journal.is_alive);
        let gone: Vec<_> = gone.collect();
        if gone.is_empty() {
            return Err(Error::List(match named.is_empty() {
                true => format!("there is no instance {name}"),
                false => format!("{name} is alive"),
            }));
        }
        let mut count = 0;
        for (place, journal) in gone {
            let rows = list.rows.iter().filter(|row| row.journal == *place);
            let rows = rows.map(|row| (row.name.clone(), self.said(&row.request.request_id)));
            let unreadable = journal.unreadable.iter();
            let unreadable = unreadable.map(|name| (name.clone(), self.said("")));
            let rows: Vec<_> = rows.chain(unreadable).collect();
            let mut left = journal.found.clone();
            for some in rows.chunks(MAX_AT_ONCE) {
                let name = &journal.listed.name;
                let resolved = fleet.resolve_rows(name, &left.tag, some).await?;
                left = resolved.ok_or_else(changed)?;
            }
            count += rows.len();
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
        }
        Ok(format!(
            "{name} is off the fleet's list, with {count} requests that were in doubt.\n"
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
