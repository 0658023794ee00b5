//! `bursar outcomes`: the requests in doubt, for a person or a program that asks.
//!
//! It reads the journal's file itself, so that it works beside a Bursar that runs and after one that died.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::config_file::ConfigFile;
use bursar_base::clock;
use bursar_config::{Config, Diagnostic};
use bursar_journal::{self as journal, InDoubt, Resolved};

/// Which requests that moved money are in doubt
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take a request off the list, once you have found out what became of it
    Resolve {
        /// Its request id, as the list has it
        id: String,
        /// What became of it; kept with it
        #[arg(long, value_name = "TEXT")]
        note: String,
    },
}

/// Where the journal of a configuration is. Nothing else of the file is looked at, so that its secrets need
/// not be there.
///
/// # Errors
/// What is wrong with that part of the file.
pub(crate) fn directory(config: &Path) -> Result<Option<PathBuf>, Vec<Diagnostic>> {
    Ok(Config::load_journal(config)?.map(|journal| journal.path))
}

/// Does what was asked for; the text for standard output.
///
/// # Errors
/// Where there is no journal, it cannot be read, or there is no such request.
pub(crate) fn run(options: &Options, directory: Option<&Path>) -> anyhow::Result<String> {
    let Some(directory) = directory else {
        let file = options.file.path();
        let file = file.display();
        bail!("{file} has no `journal`, so nobody knows which requests are in doubt");
    };
    match &options.action {
        Some(Action::Resolve { id, note }) => resolve(directory, id, note),
        None => {
            let outcomes = journal::outcomes(directory)?;
            if options.json {
                let text = serde_json::to_string_pretty(&outcomes);
                return Ok(text.context("cannot write JSON")? + "\n");
            }
            Ok(table(&outcomes))
        }
    }
}

fn resolve(directory: &Path, id: &str, note: &str) -> anyhow::Result<String> {
    if note.trim().is_empty() {
        bail!("--note is empty; say what became of the request");
    }
    match journal::resolve(directory, id, note, clock::wall())? {
        Resolved::Now => Ok(format!("{id} is off the list.\n")),
        Resolved::Before(at, note) => {
            let at = humantime::format_rfc3339_seconds(at);
            bail!("{id} was taken off the list at {at}: {note}")
        }
        Resolved::Unknown => bail!("no request {id} is in doubt"),
    }
}

const HEADINGS: [&str; 10] = [
    "TIME",
    "REQUEST",
    "PHASE",
    "PROVIDER",
    "ACCOUNT",
    "CALLER",
    "METHOD",
    "PATH",
    "KEY",
    "REFERENCE",
];

fn table(in_doubt: &[InDoubt]) -> String {
    if in_doubt.is_empty() {
        return "No request is in doubt.\n".to_owned();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(in_doubt.iter().map(row));
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(request: &InDoubt) -> [String; HEADINGS.len()] {
    // What came from the wire must not steer a terminal.
    let plain = |text: &str| text.escape_default().to_string();
    [
        humantime::format_rfc3339_seconds(request.time).to_string(),
        request.request_id.clone(),
        request.phase.as_str().to_owned(),
        request.provider.clone(),
        request.account.clone(),
        request.caller.clone(),
        plain(&request.method),
        plain(&request.path),
        request
            .idempotency_key
            .as_deref()
            .map_or("-".to_owned(), plain),
        request.reference.as_deref().map_or("-".to_owned(), plain),
    ]
}
