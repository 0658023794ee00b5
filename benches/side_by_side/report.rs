//! What is shown: Markdown, JSON and a picture.

use std::path::Path;

use serde::Serialize;

use crate::measure::Figures;
use crate::peers::Peer;
use crate::work::Work;

/// What came of one work at one peer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    Measured { median: Figures, runs: Vec<Figures> },
    Impossible { why: String },
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    peers: Vec<&'static str>,
    runs: usize,
    seconds: f64,
    peer_logs: bool,
    works: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    work: &'static str,
    cells: Vec<Cell>,
}

impl Cell {
    pub(crate) fn new(runs: Result<Vec<Figures>, String>) -> Self {
        match runs {
            Err(why) => Self::Impossible { why },
            Ok(runs) => Self::Measured {
                median: median(&runs),
                runs,
            },
        }
    }
}

/// Of each figure by itself.
fn median(runs: &[Figures]) -> Figures {
    let of = |figure: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    // The split of the run in the middle, so that the parts add up.
    let mut by_cpu: Vec<&Figures> = runs.iter().collect();
    by_cpu.sort_by(|one, other| f64::total_cmp(&cpu(one), &cpu(other)));
    let middle = by_cpu
        .get(by_cpu.len() / 2)
        .copied()
        .cloned()
        .unwrap_or_default();
    Figures {
        user_us: middle.user_us,
        system_us: middle.system_us,
        per_second: of(&|run| run.per_second),
        p50_us: of(&|run| run.p50_us),
        p99_us: of(&|run| run.p99_us),
        p999_us: of(&|run| run.p999_us),
        resident: of(&|run| run.resident),
        resident_peak: of(&|run| run.resident_peak),
        grown: of(&|run| run.grown),
        requests: of(&|run| run.requests),
        failures: of(&|run| run.failures),
        seconds: of(&|run| run.seconds),
        token_calls: of(&|run| run.token_calls),
        disturbed: of(&|run| run.disturbed),
    }
}

fn cpu(figures: &Figures) -> f64 {
    figures.user_us + figures.system_us
}

/// One run on one line.
pub(crate) fn brief(run: &Figures) -> String {
    format!(
        "{:.2} us of CPU ({:.2} user, {:.2} system), {:.0}/s, p50 {:.0} us, p99 {:.0}, p99.9 {:.0}, {:.1} MB, {} failures, others {:.0} %",
        cpu(run),
        run.user_us,
        run.system_us,
        run.per_second,
        run.p50_us,
        run.p99_us,
        run.p999_us,
        run.resident / 1e6,
        run.failures,
        run.disturbed * 100.0,
    )
}

impl Report {
    pub(crate) fn new(peers: &[Peer], runs: usize, seconds: f64, peer_logs: bool) -> Self {
        Self {
            machine: machine(),
            peers: peers.iter().map(|peer| peer.name()).collect(),
            runs,
            seconds,
            peer_logs,
            works: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, work: Work, cells: Vec<Cell>) {
        self.works.push(Row {
            work: work.name(),
            cells,
        });
    }

    /// Writes everything that is known so far.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        std::fs::write(dir.join("RESULTS.md"), self.markdown())?;
        std::fs::write(
            dir.join("results.json"),
            serde_json::to_string_pretty(self)? + "\n",
        )?;
        Ok(())
    }

    fn markdown(&self) -> String {
        let mut text = self.preface();
        for row in &self.works {
            text += &format!("\n## {}\n\n{HEAD}", row.work);
            for (peer, cell) in self.peers.iter().zip(&row.cells) {
                text += &match cell {
                    Cell::Impossible { why } => format!("| {peer} | {why} | | | | | | | | |\n"),
                    Cell::Measured { median, .. } => line(peer, median),
                };
            }
        }
        text
    }

    fn preface(&self) -> String {
        format!(
            "# Side by side\n\n{}. {} runs of {} s each, in turn; medians.\n",
            self.machine, self.runs, self.seconds
        )
    }
}

const HEAD: &str = "| proxy | CPU µs/request | user | system | requests/s | p50 µs | p99 | p99.9 | resident MB | others on its core |\n|---|---|---|---|---|---|---|---|---|---|\n";

fn line(peer: &str, run: &Figures) -> String {
    format!(
        "| {peer} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} % |\n",
        cpu(run),
        run.user_us,
        run.system_us,
        run.per_second,
        run.p50_us,
        run.p99_us,
        run.p999_us,
        run.resident / 1e6,
        run.disturbed * 100.0
    )
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("");
    let count = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{count} x {}, Linux {}",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    )
}
