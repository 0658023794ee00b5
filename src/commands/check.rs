//! `bursar check`: the problems of a configuration file, for a person or a program.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::config_file::ConfigFile;
use super::live_check;
use super::output::{WRONG, print, report, say};
use bursar_base::terminal::plain_json;
use bursar_config::{Config, Diagnostic, Problem, Severity};

/// Arguments of `bursar check`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Also obtain one token for each account and connect to each API host, and say what came back
    #[arg(long, conflicts_with = "json")]
    live: bool,
    /// Print the problems as JSON, for editors and pipelines
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
}

/// Reads the file, and says what is wrong with it.
///
/// # Errors
/// Where nothing can be said.
pub(crate) fn run(options: &Options, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let path = options.file.path();
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(problems) if options.json => return print_report(false, &problems, Severity::Error),
        Err(problems) => return Ok(report(&path, &problems)),
    };
    let is_good = config.warnings.is_empty() || !options.strict;
    if options.json {
        return print_report(is_good, &config.warnings, Severity::Warning);
    }
    warn(&path, &config.warnings);
    if !is_good {
        return Ok(ExitCode::from(WRONG));
    }
    if !options.live {
        return print(&summary(&config), ExitCode::SUCCESS);
    }
    let (text, all_well) = runtime.block_on(live_check::run(&config))?;
    let code = match all_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    print(&text, code)
}

fn print_report(ok: bool, problems: &[Diagnostic], severity: Severity) -> anyhow::Result<ExitCode> {
    let problems = problems.iter().map(|problem| problem.as_problem(severity));
    let report = Report {
        ok,
        problems: problems.collect(),
    };
    let text = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
    let code = match ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(WRONG),
    };
    print(&(plain_json(&text).into_owned() + "\n"), code)
}

fn warn(path: &Path, warnings: &[Diagnostic]) {
    for warning in warnings {
        say(&format!("{}: warning: {warning}", path.display()));
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
