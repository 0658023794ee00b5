//! Resolution of requests in doubt: by their ids or the beginnings of these, or all that a filter has.
//!
//! All that were named are taken off the list, or none is.

use std::path::Path;

use clap::Args;

use super::filter::Filter;
use super::table::table;
use bursar_base::clock;
use bursar_base::listing::first_of;
use bursar_journal::{self as journal, InDoubt, Resolved};

/// The beginning of an id that is enough to name it.
pub(super) const MIN_PREFIX: usize = 4;
/// So many candidates are shown.
pub(super) const MAX_SHOWN: usize = 10;
/// Requests that are resolved together; more would keep Bursar from writing for too long.
const MAX_TOGETHER: usize = 10_000;

/// Arguments of `bursar outcomes resolve`.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// Their request ids, as the list has them; the first characters are enough where they are one request's alone
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// What became of them; kept with each
    #[arg(long, value_name = "TEXT")]
    pub(super) note: String,
    /// With --fleet: an instance that is gone for good, and all of its requests; where several have its name, the id of its
    /// journal, or the first characters of that
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<String>,
    /// With --fleet: what the store may have lost, once it is known what became of that
    #[arg(long)]
    pub(super) lost: bool,
    #[command(flatten)]
    filter: Filter,
}

/// Why nothing was taken off the list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The list is another than the arguments say.
    #[error("{0}; nothing was changed")]
    List(String),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The fleet's store cannot be used.
    #[error("cannot take off what is in the fleet's store")]
    Store(#[source] anyhow::Error),
}

impl Resolve {
    /// Takes them off the list; says which.
    ///
    /// # Errors
    /// Where one of them cannot be taken off; then none was.
    pub(crate) fn run(&self, directory: &Path) -> Result<String, Error> {
        let listed = journal::outcomes(directory)?;
        let meant = self.meant(&listed)?;
        let ids: Vec<&str> = match &meant {
            Meant::Listed(requests) => {
                let ids = requests.iter().map(|request| request.request_id.as_str());
                ids.collect()
            }
            // It says when it was resolved, if it was.
            Meant::Unlisted(id) => vec![id],
        };
        match journal::resolve(directory, &ids, self.note.trim(), clock::wall())? {
            Resolved::Now => {}
            Resolved::Before(before) => {
                let at = humantime::format_rfc3339_seconds(before.at);
                return Err(Error::List(format!(
                    "{} was taken off the list at {at}: {}",
                    before.request_id, before.note
                )));
            }
            Resolved::Unknown(id) => {
                return Err(Error::List(format!("no request {id} is in doubt")));
            }
        }
        let off = match ids.as_slice() {
            [id] => format!("{id} is off the list.\n"),
            ids => format!("{} requests are off the list.\n", ids.len()),
        };
        let resolved = match meant {
            Meant::Listed(requests) if requests.len() > 1 => table(requests),
            _ => String::new(),
        };
        Ok(off + &resolved)
    }

    /// # Errors
    /// Where the arguments make no sense together.
    pub(super) fn judge(&self, is_fleet: bool) -> Result<(), &'static str> {
        let is_by_filter = !self.filter.is_empty();
        if self.note.trim().is_empty() {
            return Err("--note is empty; say what became of the request");
        }
        if self.lost {
            let is_alone = self.ids.is_empty() && !is_by_filter && self.instance.is_none();
            return match is_fleet && is_alone {
                true => Ok(()),
                false => Err("--lost is for --fleet, and takes no request"),
            };
        }
        if self.instance.is_some() {
            let is_alone = self.ids.is_empty() && !is_by_filter;
            return match is_fleet && is_alone {
                true => Ok(()),
                false => Err("--instance is for --fleet, and takes all of its requests"),
            };
        }
        if self.ids.is_empty() != is_by_filter {
            return Err(
                "name requests by their ids, or all of a time with --provider and --before",
            );
        }
        let is_bounded = self.filter.provider.is_some() && self.filter.before.is_some();
        if is_by_filter && !is_bounded {
            return Err(
                "without ids, --provider and --before are needed: what comes meanwhile must stay on the list",
            );
        }
        if self.filter.is_void() {
            return Err(
                "nothing can be between --since and --before, because --since is not earlier",
            );
        }
        if self.ids.iter().any(|id| id.len() < MIN_PREFIX) {
            return Err("an id, or its beginning, has 4 characters at least");
        }
        Ok(())
    }

    pub(super) fn meant<'a>(&'a self, listed: &'a [InDoubt]) -> Result<Meant<'a>, Error> {
        if self.ids.is_empty() {
            let found: Vec<_> = listed
                .iter()
                .filter(|request| self.filter.has(request))
                .collect();
            return match found.len() {
                0 => Err(Error::List("no request in doubt matches".to_owned())),
                1..=MAX_TOGETHER => Ok(Meant::Listed(found)),
                many => Err(Error::List(format!(
                    "{many} requests match; choose a time with {MAX_TOGETHER} at most"
                ))),
            };
        }
        let mut meant: Vec<&InDoubt> = Vec::new();
        for id in &self.ids {
            match named(listed, id).as_slice() {
                [] => return Ok(Meant::Unlisted(id)),
                [request] if meant.contains(request) => {}
                [request] => meant.push(request),
                many => return Err(ambiguous(id, many)),
            }
        }
        Ok(Meant::Listed(meant))
    }
}

/// What is to be taken off the list.
pub(super) enum Meant<'a> {
    Listed(Vec<&'a InDoubt>),
    /// One of them is not on it.
    Unlisted(&'a str),
}

/// The request with that id, or those whose id begins with it.
fn named<'a>(listed: &'a [InDoubt], id: &str) -> Vec<&'a InDoubt> {
    let is_meant = |request: &&InDoubt| begins(&request.request_id, id);
    listed.iter().filter(is_meant).collect()
}

/// Whether that is an id or its beginning.
pub(super) fn begins(id: &str, beginning: &str) -> bool {
    let start = id.get(..beginning.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

fn ambiguous(id: &str, candidates: &[&InDoubt]) -> Error {
    let candidates = candidates.iter().map(|request| {
        let time = humantime::format_rfc3339_seconds(request.time);
        format!("{} ({time}, {})", request.request_id, request.provider)
    });
    let candidates: Vec<String> = candidates.collect();
    Error::List(format!(
        "{id} may be any of {} requests: {}",
        candidates.len(),
        first_of(&candidates, MAX_SHOWN)
    ))
}
