//! Errors of a start: lines of the log where that is JSON, so that whoever collects it has them.

use std::path::Path;
use std::process::ExitCode;

use bursar_config::Diagnostic;
use bursar_telemetry::log::Log;

use super::output::{WRONG, how_to_make, report, say};

/// What is wrong with the file that Bursar was to start with.
pub(crate) fn report_start(path: &Path, problems: &[Diagnostic], log: &Log) -> ExitCode {
    if !log.takes_errors_as_json() {
        return report(path, problems);
    }
    let file = path.display();
    for problem in problems {
        let (key, line) = (&problem.path, problem.line);
        tracing::error!(%file, key, line, %problem, "the configuration is wrong; Bursar does not start");
    }
    if let Some(hint) = how_to_make(path) {
        tracing::error!(%file, "{hint}");
    }
    ExitCode::from(WRONG)
}

/// Why Bursar ends.
pub(crate) fn report_end(error: &anyhow::Error, log: Option<Log>) {
    match log {
        Some(log) if log.takes_errors_as_json() => tracing::error!("{error:#}"),
        log => {
            // Whoever is told of an error by a line of its own has the log's lines before it.
            drop(log);
            say(&format!("bursar: {error:#}"));
        }
    }
}
