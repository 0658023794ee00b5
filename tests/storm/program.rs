//! Bursar itself: the real program as a child process, whose log is read line by line.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bursar_testkit::metrics::Scrape;
use bursar_testkit::program::{Launch, Program, path};
use serde_json::Value;
use tokio::process::Command;

use crate::plan::Id;
use crate::shared::Shared;

/// No peer in the storm may be silent for so long; whoever is has forgotten somebody.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Of which log and metrics must never hold one.
pub(crate) const SECRET: [&str; 4] = [
    "storm-token-",
    "storm-refresh-",
    "storm-secret-",
    "storm-pass-",
];

/// The last lines that were no access lines.
const MAX_LINES: usize = 40;

/// Waits until it holds; says whether it did.
pub(crate) async fn eventually(condition: impl AsyncFnMut() -> bool) -> bool {
    bursar_testkit::becomes_true(PATIENCE, condition).await
}

/// Takes what the history wants to know; says whether the line is kept.
fn read_line(shared: &Shared, line: &str) -> bool {
    let is_bad = line.contains("panicked") || SECRET.iter().any(|secret| line.contains(secret));
    if is_bad {
        shared.history().violation(format!("in the log: {line}"));
    }
    if !line.contains("\"bursar::access\"") {
        return true;
    }
    if line.contains("\"upstream_timeout\"") || line.contains("\"request_timeout\"") {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let id = line["path"]
            .as_str()
            .and_then(|path| path.rsplit('/').next());
        let id: Option<Id> = id.and_then(|id| id.parse().ok());
        shared.history().timed_out.extend(id);
    }
    false
}

/// Starts it, and waits until it listens.
pub(crate) async fn start(shared: &Arc<Shared>, config: &Path) -> Program {
    let shared = shared.clone();
    let launch = Launch::default()
        .patience(PATIENCE)
        .keeping(move |line| read_line(&shared, line));
    launch.run(config).await
}

/// The last that it logged, access lines left out.
pub(crate) fn last_lines(program: &Program) -> Vec<String> {
    let log = program.logged();
    let count = log.lines().count();
    let lines = log.lines().skip(count.saturating_sub(MAX_LINES));
    lines.map(str::to_owned).collect()
}

/// The sum of all series of a metric that have these labels; None where that cannot be had.
pub(crate) async fn metric(program: &Program, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let scrape = Scrape::try_of(program.admin, PATIENCE).await?;
    scrape.get(name, labels)
}

/// `bursar outcomes`: what is in doubt.
pub(crate) async fn outcomes(config: &Path) -> Vec<Value> {
    let asking = Command::new(path())
        .args(["outcomes", "--json", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE, asking).await;
    let output = output.expect("`bursar outcomes` does not end").unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("outcomes: {error}"))
}
