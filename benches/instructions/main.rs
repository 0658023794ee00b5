//! Instruction counts by callgrind, so that a regression is seen on any machine.
//!
//! `cargo bench --package bursar-instructions` fails where a figure is beyond its margin over the committed one in
//! `figures.json`; `-- --write` rewrites that file. Valgrind runs this program anew for each piece of work,
//! and counts only inside of [`counted`]; what the kernel does is not in the figures. Valgrind shows every
//! program the same older processor, so the figures of two machines with one compiler differ little.
//!
//! Valgrind is called without a crate for it: all that such a crate would save is reading one number. This is a package of
//! its own, so that the program, which nobody runs here, is not compiled with it, nor what only tests need.

#![expect(clippy::print_stdout, reason = "a benchmark talks to a person")]

mod pieces;
mod request;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

/// How far over the committed figure is too far, of 1. The same program counts the same to a thousandth;
/// but the compiler decides anew what it inlines when anything in the crate changes, which has moved a
/// small piece by 5 % and a whole request by 1 %.
const MARGIN: f64 = 0.1;
const MARGIN_OF_REQUESTS: f64 = 0.05;
type Figures = BTreeMap<String, f64>;

/// A piece of work: its name, and what does it some times.
type Work = (&'static str, fn() -> usize);

const WORKS: [Work; 13] = [
    ("token_read", pieces::token_read),
    ("token_read_and_header", pieces::token_read_and_header),
    ("caller", pieces::caller),
    ("routing", pieces::routing),
    ("request_headers", pieces::request_headers),
    ("response_headers", pieces::response_headers),
    ("request_get", request::get),
    ("request_get_unsampled", request::get_unsampled),
    ("request_get_in_fleet", request::get_in_fleet),
    ("request_get_hashed", request::get_hashed),
    ("request_get_routed", request::get_routed),
    ("request_post_1k", request::post),
    ("request_post_1k_with_journal", request::post_with_journal),
];

/// What a key costs requests that have nothing of it (`traces` those that are not sampled, `fleet` all), and what
/// twenty more routes do; and how much that may be, of 1.
const PAIRS: [(&str, &str, f64); 3] = [
    ("request_get_unsampled", "request_get", 0.01),
    ("request_get_in_fleet", "request_get", 0.01),
    ("request_get_routed", "request_get", 0.05),
];

/// What callgrind looks for. Never inlined, never called by itself.
#[inline(never)]
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> T {
    std::hint::black_box(work())
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen = arguments.iter().find(|argument| !argument.starts_with('-'));
    if let Some((_, work)) = chosen.and_then(|name| WORKS.iter().find(|work| work.0 == name)) {
        // Under valgrind. The count is for the one who counts.
        println!("{}", work());
        return Ok(ExitCode::SUCCESS);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.json");
    let mut figures = Figures::new();
    for (name, _) in WORKS {
        figures.insert(name.to_owned(), count(name)?);
    }
    if arguments.iter().any(|argument| argument == "--write") {
        std::fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    let committed =
        std::fs::read_to_string(&file).context("no committed figures; --write makes them")?;
    let is_well = compare(&figures, &serde_json::from_str(&committed)?) & cost_little(&figures);
    Ok(ExitCode::from(u8::from(!is_well)))
}

/// Instructions for one of the works.
fn count(name: &str) -> anyhow::Result<f64> {
    let out = tempfile::NamedTempFile::new()?;
    let run = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--quiet",
            "--toggle-collect=*instructions::counted*",
        ])
        .arg(format!("--callgrind-out-file={}", out.path().display()))
        .arg(std::env::current_exe()?)
        .arg(name)
        .output()
        .context("valgrind has to be installed")?;
    anyhow::ensure!(
        run.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    let times: f64 = String::from_utf8_lossy(&run.stdout).trim().parse()?;
    let profile = std::fs::read_to_string(out.path())?;
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = total.context("callgrind counted nothing")?.trim().parse()?;
    anyhow::ensure!(
        total > 0.0,
        "{name}: callgrind did not find the function; was the program stripped?"
    );
    Ok((total / times).round())
}

fn cost_little(figures: &Figures) -> bool {
    let of = |name: &str| figures.get(name).copied().unwrap_or_default();
    let mut is_well = true;
    for (with, without, little) in PAIRS {
        let cost = of(with) / of(without) - 1.0;
        let is_little = cost <= little;
        is_well &= is_little;
        let remark = if is_little { "" } else { "  too much" };
        println!("{with:>28} {:>+25.2}%{remark}", cost * 100.0);
    }
    is_well
}

fn compare(figures: &Figures, committed: &Figures) -> bool {
    let mut is_well = true;
    println!(
        "{:>28} {:>10} {:>10} {:>8}",
        "instructions", "now", "committed", "change"
    );
    for (name, now) in figures {
        // What is only compared with another needs no figure of its own.
        let is_paired = PAIRS.iter().any(|(with, ..)| with == name);
        if is_paired && !committed.contains_key(name) {
            continue;
        }
        let Some(before) = committed.get(name) else {
            println!("{name:>28} {now:>10} {:>10}", "missing");
            is_well = false;
            continue;
        };
        let margin = if name.starts_with("request_get") || name.starts_with("request_post") {
            MARGIN_OF_REQUESTS
        } else {
            MARGIN
        };
        let change = now / before - 1.0;
        let remark = if change > margin {
            is_well = false;
            "  too many"
        } else if change < -margin {
            "  fewer: commit that with --write"
        } else {
            ""
        };
        println!(
            "{name:>28} {now:>10} {before:>10} {:>+7.1}%{remark}",
            change * 100.0
        );
    }
    is_well
}
