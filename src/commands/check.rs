//! `bursar check`: the problems of a configuration file, for a person or a program.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::config_file::ConfigFile;
use super::live_check::{self, Tried};
use super::output::{WRONG, how_to_make, print, say};
use bursar_base::terminal::plain_json;
use bursar_config::{Config, Diagnostic, Problem, Rejected, Severity};

/// How long the journal may take to be looked at.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `bursar check`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Also obtain one token for each account and connect to each API host, and say what came back
    #[arg(long)]
    live: bool,
    /// Print the problems, and what `--live` has tried, as JSON, for editors and pipelines
    #[arg(long)]
    json: bool,
    /// Count warnings as problems
    #[arg(long)]
    strict: bool,
}

/// With `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    ok: bool,
    problems: Vec<Problem<'a>>,
    /// None: nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<&'a [Tried]>,
}

/// What is wrong with a file, and what is allowed but probably not meant.
#[derive(Debug)]
struct Found {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

/// Reads the file, and says what is wrong with it.
///
/// # Errors
/// Where nothing can be said.
pub(crate) fn run(options: &Options, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let path = options.file.path();
    let (config, mut found) = match Config::check(&path) {
        Ok(mut config) => {
            let warnings = std::mem::take(&mut config.warnings);
            let errors = Vec::new();
            (Some(config), Found { errors, warnings })
        }
        Err(Rejected { errors, warnings }) => (None, Found { errors, warnings }),
    };
    let is_good = config.is_some() && (found.warnings.is_empty() || !options.strict);
    let config = config.filter(|_| is_good);
    // It is not counted: whoever checks may be another user than the service, or on another machine.
    let journal = config.as_ref().and_then(|config| config.journal.as_ref());
    if let Some(message) = journal.and_then(|journal| runtime.block_on(obstacle(&journal.path))) {
        found.warnings.push(Diagnostic {
            path: "journal.path".to_owned(),
            line: None,
            message,
        });
    }
    let tried = match &config {
        Some(config) if options.live => Some(runtime.block_on(live_check::run(config))?),
        _ => None,
    };
    let is_well = tried.iter().flatten().all(Tried::is_well);
    let code = match (is_good, is_well) {
        (false, _) => ExitCode::from(WRONG),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    };
    if options.json {
        let report = Report {
            ok: is_good && is_well,
            problems: found.problems(),
            live: tried.as_deref(),
        };
        let text = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        return print(&(plain_json(&text).into_owned() + "\n"), code);
    }
    found.report(&path);
    let text = match (&config, &tried) {
        (_, Some(tried)) => live_check::text(tried),
        (Some(config), None) => summary(config),
        (None, None) => String::new(),
    };
    print(&text, code)
}

/// What keeps this user, here, from starting with a journal there.
async fn obstacle(directory: &Path) -> Option<String> {
    let directory = directory.to_owned();
    let looking = tokio::task::spawn_blocking(move || bursar_journal::obstacle(&directory));
    let said = match tokio::time::timeout(PATIENCE, looking).await {
        Ok(looked) => looked.ok()??,
        Err(_) => format!("it was not read within {} s", PATIENCE.as_secs()),
    };
    Some(format!("cannot be used here, by this user: {said}"))
}

impl Found {
    /// All of it in the order of the file; of the file as a whole comes last.
    fn all(&self) -> Vec<(Severity, &Diagnostic)> {
        let errors = self.errors.iter().map(|error| (Severity::Error, error));
        let warnings = (self.warnings.iter()).map(|warning| (Severity::Warning, warning));
        let mut all: Vec<_> = errors.chain(warnings).collect();
        all.sort_by_key(|(_, problem)| problem.line.unwrap_or(usize::MAX));
        all
    }

    fn problems(&self) -> Vec<Problem<'_>> {
        let all = self.all().into_iter();
        all.map(|(severity, problem)| problem.as_problem(severity))
            .collect()
    }

    /// Says it to a person, and how to make a file where there is none.
    fn report(&self, path: &Path) {
        for (severity, problem) in self.all() {
            let severity = match severity {
                Severity::Error => "",
                Severity::Warning => "warning: ",
            };
            say(&format!("{}: {severity}{problem}", path.display()));
        }
        if let Some(hint) = how_to_make(path) {
            say(&format!("bursar: {hint}"));
        }
    }
}

/// The configuration in a few lines.
fn summary(config: &Config) -> String {
    let mut text = String::from("The configuration is good.\n");
    for provider in &config.providers {
        let hosts: Vec<String> = provider.hosts.iter().map(ToString::to_string).collect();
        let environment = provider
            .environment
            .map(|environment| format!(" ({})", environment.as_str()));
        let environment = environment.unwrap_or_default();
        // Writing to a String cannot fail.
        let written = writeln!(
            text,
            "  {}{environment}: {}",
            provider.name,
            hosts.join(", ")
        );
        debug_assert!(written.is_ok());
    }
    text
}
