//! What is shown: Markdown, JSON and a picture.

use std::path::Path;

use serde::Serialize;

use crate::measure::Figures;
use crate::peers::Peer;
use crate::picture;
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
    #[serde(skip)]
    kind: Work,
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
        token_calls_at_once: of(&|run| run.token_calls_at_once),
        listening_ms: of(&|run| run.listening_ms),
        disturbed: of(&|run| run.disturbed),
        syncs_per_second: of(&|run| run.syncs_per_second),
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
            kind: work,
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
        let drawn = self.works.iter().filter(|row| row.kind.is_drawn());
        let groups: Vec<picture::Group<'_>> =
            drawn.map(|row| (row.work, self.measured(row))).collect();
        picture::write(&dir.join("picture.svg"), &groups)?;
        Ok(())
    }

    fn measured<'a>(&'a self, row: &'a Row) -> Vec<(&'a str, &'a Figures)> {
        let cells = self.peers.iter().zip(&row.cells);
        let measured = cells.filter_map(|(peer, cell)| match cell {
            Cell::Measured { median, .. } => Some((*peer, median)),
            Cell::Impossible { .. } => None,
        });
        measured.collect()
    }

    fn markdown(&self) -> String {
        let logs = if self.peer_logs {
            "The others write an access log too."
        } else {
            "The others write no access log."
        };
        let mut text = format!(
            "# Side by side\n\n{PREFACE}\n\n{logs} {}; the median of {} measurements of {} s, the proxies in turn. \
             How busy others kept the proxy's core stands beside each figure.\n\n![CPU per request](picture.svg)\n\n\
             | work | what is told | {} |\n|---|---|{}\n",
            self.machine,
            self.runs,
            self.seconds,
            self.peers.join(" | "),
            "---|".repeat(self.peers.len())
        );
        for row in &self.works {
            let cells = row.cells.iter().map(|cell| match cell {
                Cell::Impossible { why } => why.clone(),
                Cell::Measured { median, .. } => headline(row.kind, median),
            });
            let cells: Vec<String> = cells.collect();
            text += &format!(
                "| {} | {} | {} |\n",
                row.work,
                told(row.kind),
                cells.join(" | ")
            );
        }
        for row in &self.works {
            text += &format!("\n## {}\n\n{HEAD}", row.work);
            text.extend(self.measured(row).iter().map(|(peer, run)| line(peer, run)));
        }
        text
    }
}

const PREFACE: &str = "Written by `benches/side_by_side/run`, which says in its files how each proxy is set up. Callers speak plain HTTP/1.1 in gateway \
form; every proxy keeps connections to a provider behind TLS 1.3 (AES-128-GCM) and verifies its certificate. The proxy has one core, callers and provider \
the other. Bursar has everything on: a caller's password, routes with scopes, metrics, tokens renewed every few seconds, bodies kept for a replay, and an \
access log in a file. nginx and HAProxy set a fixed `Authorization`; Envoy runs `credential_injector` with OAuth 2.0 (with many hosts a fixed header for each, because it knows one account); the bare hyper proxy (`floor.rs`) does \
nothing else at all. Bursar is the one that `build` makes, by a profile of this work, and with an allocator of its own; the bare hyper proxy has neither. Many hosts are asked in a shuffled order, the same each time. CPU is the system's account of the process, with all threads and children.";

/// What the overview has of a work.
fn told(work: Work) -> &'static str {
    match work {
        Work::One | Work::PostOne | Work::PaymentOne => "median latency, and CPU",
        Work::Idle => "memory of each connection",
        Work::Down | Work::Up => "MB a second, CPU for all of it, and the most memory",
        Work::Start => {
            "ms until it listens, token calls a second, most of them at once (each takes 200 ms), and memory"
        }
        Work::Storm => "until all were answered, token calls, failures",
        Work::Day => "added latency at p50, p99 and p99.9, growth of memory, failures",
        Work::TunnelNew => "CPU each, and connections a second",
        Work::TwoCores => "CPU µs, and requests a second",
        Work::Payment => "CPU µs, requests a second, and waits for the disk",
        Work::Accounts1 | Work::Accounts100 | Work::Accounts10000 => "CPU µs (user), and memory",
        Work::Get
        | Work::Post1k
        | Work::Post64k
        | Work::TunnelGet
        | Work::GetHttp2
        | Work::Post1kHttp2 => "CPU µs (user)",
    }
}

fn headline(work: Work, run: &Figures) -> String {
    let cpu = cpu(run);
    match work {
        Work::One | Work::PostOne | Work::PaymentOne => {
            format!("{:.0} µs, {cpu:.0} µs", run.p50_us)
        }
        Work::Idle => format!("{:.1} kB", run.grown / run.requests / 1e3),
        Work::Down | Work::Up => format!(
            "{:.0}, {:.0} ms, {:.0} MB",
            run.per_second * 200.0,
            cpu / 1e3,
            run.resident_peak / 1e6
        ),
        Work::Start => format!(
            "{:.0}, {:.0}, {:.0}, {:.1} MB",
            run.listening_ms,
            run.token_calls / run.seconds,
            run.token_calls_at_once,
            run.resident / 1e6
        ),
        Work::Storm => format!(
            "{:.0} ms, {:.0}, {:.0}",
            run.seconds * 1e3,
            run.token_calls,
            run.failures
        ),
        Work::Day => format!(
            "{:.1} ms, {:.1}, {:.1}, {:+.1} MB, {:.0}",
            run.p50_us / 1e3,
            run.p99_us / 1e3,
            run.p999_us / 1e3,
            run.grown / 1e6,
            run.failures
        ),
        Work::Payment => format!(
            "{cpu:.1}, {:.0}, {:.0}",
            run.per_second, run.syncs_per_second
        ),
        Work::TunnelNew | Work::TwoCores => {
            format!("{cpu:.1}, {:.0}", run.per_second)
        }
        Work::Accounts1 | Work::Accounts100 | Work::Accounts10000 => {
            format!(
                "{cpu:.1} ({:.1}), {:.1} MB",
                run.user_us,
                run.resident / 1e6
            )
        }
        Work::Get
        | Work::Post1k
        | Work::Post64k
        | Work::TunnelGet
        | Work::GetHttp2
        | Work::Post1kHttp2 => {
            format!("{cpu:.1} ({:.1})", run.user_us)
        }
    }
}

const HEAD: &str = "| proxy | CPU µs/request | user | system | requests/s | p50 µs | p99 | p99.9 | resident MB | failures | listening after ms | others on its core |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";

fn line(peer: &str, run: &Figures) -> String {
    format!(
        "| {peer} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} | {:.0} | {:.0} % |\n",
        cpu(run),
        run.user_us,
        run.system_us,
        run.per_second,
        run.p50_us,
        run.p99_us,
        run.p999_us,
        run.resident / 1e6,
        run.failures,
        run.listening_ms,
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
