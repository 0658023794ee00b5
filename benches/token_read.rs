//! What does reading a token cost while a writer swaps it? 1, 8 and 64 readers on one cell.
//!
//! `cargo bench --bench token_read`. The writer is the real renewal loop: tokens live for a tenth of a
//! second, so the cell is swapped about twelve times a second. Figures are CPU time per read, from the
//! process's own accounting, which is steadier on a shared machine than elapsed time.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark talks to a person"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bursar::config::Config;
use bursar::egress::Egress;
use bursar::metrics::Metrics;
use bursar::token::{Cell, Tokens};
use tokio::time::Instant;

const TIME: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let endpoint = support::token_endpoint(Duration::from_millis(100)).await;
    let text = format!(
        "providers: {{a: {{hosts: [a.example], client_id: i, client_secret: s, token: {{url: \"http://{endpoint}/t\"}}}}}}"
    );
    let config =
        Config::parse(&text, Path::new("")).unwrap_or_else(|problems| panic!("{problems:?}"));
    let metrics = Metrics::new(&config).expect("every metric has a name of its own");
    let egress = Egress::new(&config.egress, metrics.egress.clone());
    let tokens = Tokens::start(&config, &metrics, &egress);
    let cell = tokens.cell(0, 0, 0).clone();
    cell.obtain().await.expect("the endpoint hands out tokens");
    println!(
        "{:>8} {:>12} {:>14} {:>8}",
        "readers", "reads", "CPU ns/read", "swaps"
    );
    for readers in [1, 8, 64] {
        let before = cell.obtain().await.expect("there is a token").generation;
        let (reads, cpu) = tokio::task::spawn_blocking({
            let cell = cell.clone();
            move || measure(&cell, readers)
        })
        .await
        .expect("readers do not panic");
        let after = cell.obtain().await.expect("there is a token").generation;
        let each = cpu.as_nanos() as f64 / reads as f64;
        println!(
            "{readers:>8} {reads:>12} {each:>14.1} {:>8}",
            after - before
        );
    }
}

fn measure(cell: &Arc<Cell>, readers: usize) -> (u64, Duration) {
    let total = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (user, system) = support::cpu_time(std::process::id());
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let mut reads = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    // The clock is read by the request once anyway, so it is not part of the figure.
                    let now = Instant::now();
                    for _ in 0..1000 {
                        drop(std::hint::black_box(cell.read(now)));
                    }
                    reads += 1000;
                }
                total.fetch_add(reads, Ordering::Relaxed);
            });
        }
        std::thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
    });
    let (user_after, system_after) = support::cpu_time(std::process::id());
    (
        total.into_inner(),
        user_after + system_after - user - system,
    )
}
