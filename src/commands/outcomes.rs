//! `bursar outcomes`: the requests in doubt, for a person or a program that asks.
//!
//! It reads the journal's file itself, so that it works beside a Bursar that runs and after one that died.

mod filter;
mod resolve;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::config_file::ConfigFile;
use super::output::{WRONG, print, report, say};
use bursar_base::terminal::plain_json;
use bursar_config::Config;
use bursar_journal::{self as journal, InDoubt};
use filter::Filter;
use resolve::{Error, Resolve};
use table::table;

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
    Resolve(Resolve),
}

/// Does what was asked for. Of the configuration nothing but `journal` is looked at, so that its secrets need not be
/// there.
///
/// # Errors
/// Where there is no journal, it cannot be read, or there is no such request.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let path = options.file.path();
    let directory = match Config::load_journal(&path) {
        Ok(journal) => journal.map(|journal| journal.path),
        Err(problems) => return Ok(report(&path, &problems)),
    };
    let file = path.display();
    let Some(directory) = directory else {
        bail!("{file} has no `journal`, so nobody knows which requests are in doubt");
    };
    let Some(Action::Resolve(resolve)) = &options.action else {
        if options.filter.is_void() {
            return Ok(wrong(
                "nothing can be between --since and --before, because --since is not earlier",
            ));
        }
        return list(options, &journal::outcomes(&directory)?);
    };
    if options.json || options.fail || !options.filter.is_empty() {
        return Ok(wrong("what is for `resolve` stands after it"));
    }
    match resolve.run(&directory) {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(Error::Usage(said)) => Ok(wrong(&said)),
        Err(error) => Err(error.into()),
    }
}

fn list(options: &Options, all: &[InDoubt]) -> anyhow::Result<ExitCode> {
    let listed = all.iter().filter(|request| options.filter.has(request));
    let listed: Vec<&InDoubt> = listed.collect();
    let code = match options.fail && !listed.is_empty() {
        true => ExitCode::from(IN_DOUBT),
        false => ExitCode::SUCCESS,
    };
    if options.json {
        let text = serde_json::to_string_pretty(&listed).context("cannot write JSON")?;
        return print(&(plain_json(&text).into_owned() + "\n"), code);
    }
    let text = match (listed.len(), all.len()) {
        (0, 0) => "No request is in doubt.\n".to_owned(),
        (0, all) => format!("No request in doubt matches; there are {all} in all.\n"),
        _ => table(listed),
    };
    print(&text, code)
}

fn wrong(said: &str) -> ExitCode {
    say(&format!("bursar: {said}"));
    ExitCode::from(WRONG)
}
