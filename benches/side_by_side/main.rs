//! Bursar beside nginx, HAProxy, Envoy and a bare hyper proxy, on the same work.
//!
//! `benches/side_by_side/run` installs what is needed and starts it; `--help` says what can be chosen.
//! What is told of a proxy is the system's own account of its process.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark talks to a person"
)]

mod certificates;
mod floor;
mod load;
mod measure;
mod peers;
mod picture;
mod process;
mod report;
mod setup;
mod upstream;
mod wire;
mod work;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum as _};

use measure::Figures;
use peers::Peer;
use report::{Cell, Report};
use work::Work;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Cargo says so
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and write target/side_by_side/RESULTS.md, results.json and picture.svg
    Run(Options),
    #[command(hide = true)]
    Upstream(upstream::Options),
    #[command(hide = true)]
    Floor(floor::Options),
    #[command(hide = true)]
    Load { job: String },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which work, separated by commas; all but `day` without it
    #[arg(long, value_delimiter = ',')]
    work: Vec<Work>,
    /// Which proxies, separated by commas; all without it
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// How long each is measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often each is measured; the median is told
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// The others write an access log too, as Bursar always does
    #[arg(long)]
    peer_logs: bool,
    /// The Bursar that is measured
    #[arg(long, default_value = env!("CARGO_BIN_EXE_bursar"))]
    bursar: PathBuf,
    /// Also write the results to benches/side_by_side/, to be committed
    #[arg(long)]
    save: bool,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(options) => run(&options),
        Command::Upstream(options) => single().block_on(upstream::run(options)),
        Command::Floor(options) => single().block_on(floor::run(options)),
        Command::Load { job } => single().block_on(load::run(serde_json::from_str(&job)?)),
    }
}

fn single() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be started")
}

fn run(options: &Options) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/side_by_side");
    let dir = target.join("run");
    std::fs::create_dir_all(&dir)?;
    certificates::write(&dir)?;
    let all = |chosen: &[Work]| {
        if chosen.is_empty() {
            let short = Work::value_variants().iter().filter(|work| !work.is_long());
            short.copied().collect()
        } else {
            chosen.to_vec()
        }
    };
    let peers = if options.peers.is_empty() {
        Peer::value_variants()
    } else {
        &options.peers
    };
    let mut report = Report::new(peers, options.runs, options.seconds, options.peer_logs);
    let mut failed = 0;
    for work in all(&options.work) {
        let mut runs: Vec<Result<Vec<Figures>, String>> = peers
            .iter()
            .map(|peer| {
                work.impossible(*peer)
                    .map_or(Ok(Vec::new()), |why| Err(why.to_owned()))
            })
            .collect();
        for _ in 0..options.runs {
            for (peer, runs) in peers.iter().zip(&mut runs) {
                let Ok(figures) = runs else { continue };
                match measure::measure(work, *peer, options, &dir) {
                    Ok(run) => {
                        println!("{}: {}: {}", work.name(), peer.name(), report::brief(&run));
                        figures.push(run);
                    }
                    Err(error) => {
                        println!("{}: {}: {error:#}", work.name(), peer.name());
                        failed += 1;
                        *runs = Err("failed".to_owned());
                    }
                }
            }
        }
        report.push(work, runs.into_iter().map(Cell::new).collect());
        report.write(&target)?;
        if options.save {
            report.write(&root.join("benches/side_by_side"))?;
        }
    }
    // Last, so that what was measured is kept.
    anyhow::ensure!(failed == 0, "failed: {failed}; why is above");
    Ok(())
}
