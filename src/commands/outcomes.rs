//! `bursar outcomes`: the requests in doubt, for a person or a program that asks.
//!
//! It reads the journal's file itself, so that it works beside a Bursar that runs and after one that died; those of a
//! fleet it reads in its store.

mod filter;
mod fleet;
mod fleet_resolve;
mod resolve;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::after_help;
use super::config_file::ConfigFile;
use super::output::{WRONG, print, print_change, report, say};
use bursar_base::terminal::plain_json;
use bursar_config::{Config, FleetConfig};
use bursar_journal::{self as journal, InDoubt};
use filter::Filter;
use fleet::Listing;
use resolve::{Error, Resolve};
use table::{fleet_table, table};

/// Requests are in doubt, and `--fail` asked whether.
const IN_DOUBT: u8 = 3;

/// Which requests that moved money are in doubt
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// Those of the whole fleet, as its store has them, of instances that are gone, too
    #[arg(long, global = true)]
    fleet: bool,
    /// Exit with 3 where a request is listed
    #[arg(long)]
    fail: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take requests off the list, once you have found out what became of them: all that are named, or none
    #[command(after_help = after_help::RESOLVE)]
    Resolve(Resolve),
}

/// Does what was asked for. Of the configuration nothing but `journal` is looked at, or `fleet`, so that its secrets need not be
/// there.
///
/// # Errors
/// Where there is no journal, it cannot be read, or there is no such request.
pub(crate) fn run(options: &Options, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    if let Some(said) = options.usage() {
        return Ok(wrong(said));
    }
    let path = options.file.path();
    if options.fleet {
        let config = match Config::load_fleet(&path) {
            Ok(config) => config,
            Err(problems) => return Ok(report(&path, &problems)),
        };
        let Some(config) = config else {
            bail!("{} has no `fleet`", path.display());
        };
        return runtime.block_on(run_in_fleet(options, &config));
    }
    let directory = match Config::load_journal(&path) {
        Ok(journal) => journal.map(|journal| journal.path),
        Err(problems) => return Ok(report(&path, &problems)),
    };
    let file = path.display();
    let Some(directory) = directory else {
        bail!("{file} has no `journal`, so nobody knows which requests are in doubt");
    };
    let Some(Action::Resolve(resolve)) = &options.action else {
        return list(options, &journal::outcomes(&directory)?);
    };
    resolved(resolve.run(&directory))
}

impl Options {
    /// What makes no sense together.
    fn usage(&self) -> Option<&'static str> {
        let Some(Action::Resolve(resolve)) = &self.action else {
            return self.filter.is_void().then_some(
                "nothing can be between --since and --before, because --since is not earlier",
            );
        };
        if self.json || self.fail || !self.filter.is_empty() {
            return Some("what is for `resolve` stands after it");
        }
        resolve.judge(self.fleet).err()
    }

    fn code(&self, listed: usize) -> ExitCode {
        match self.fail && listed > 0 {
            true => ExitCode::from(IN_DOUBT),
            false => ExitCode::SUCCESS,
        }
    }
}

fn resolved(result: Result<String, Error>) -> anyhow::Result<ExitCode> {
    Ok(print_change(&result?, ExitCode::SUCCESS))
}

async fn run_in_fleet(options: &Options, config: &FleetConfig) -> anyhow::Result<ExitCode> {
    let connected = fleet::connect(config).await;
    if let Some(Action::Resolve(resolve)) = &options.action {
        return resolved(resolve.run_in_fleet(&connected?).await);
    }
    let list = match connected {
        Ok(fleet) => Listing::read(&fleet).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match list {
        Ok(list) => list_fleet(options, &list),
        Err(error) if options.json => list_fleet(options, &Listing::unread(&error)),
        Err(error) => Err(error),
    }
}

fn list_fleet(options: &Options, list: &Listing) -> anyhow::Result<ExitCode> {
    let rows = list.rows.iter();
    let rows: Vec<_> = rows
        .filter(|row| options.filter.has(&row.request))
        .collect();
    let warning = list.warning();
    let code = match warning.is_some() {
        true => ExitCode::FAILURE,
        false => options.code(rows.len()),
    };
    if options.json {
        return print_json(&list.shown(&rows), code);
    }
    let text = match (rows.len(), list.rows.len()) {
        (0, all) => nothing(all),
        _ => fleet_table(rows.iter().map(|row| (list.owner(row), &row.request))),
    };
    print(&(text + &warning.unwrap_or_default()), code)
}

fn nothing(all: usize) -> String {
    match all {
        0 => "No request is in doubt.\n".to_owned(),
        all => format!("No request in doubt matches; there are {all} in all.\n"),
    }
}

fn print_json(value: &impl Serialize, code: ExitCode) -> anyhow::Result<ExitCode> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    print(&(plain_json(&text).into_owned() + "\n"), code)
}

fn list(options: &Options, all: &[InDoubt]) -> anyhow::Result<ExitCode> {
    let listed = all.iter().filter(|request| options.filter.has(request));
    let listed: Vec<&InDoubt> = listed.collect();
    let code = options.code(listed.len());
    if options.json {
        return print_json(&listed, code);
    }
    let text = match listed.len() {
        0 => nothing(all.len()),
        _ => table(listed),
    };
    print(&text, code)
}

fn wrong(said: &str) -> ExitCode {
    say(&format!("bursar: {said}"));
    ExitCode::from(WRONG)
}
