//! What does reading a token cost while a writer swaps it? 1, 8 and 64 readers on one cell.
//!
//! `cargo bench --bench token_read`. The writer is the real renewal loop: tokens live for a tenth of a
//! second, so the cell is swapped about twelve times a second. Figures are CPU time per read, from the
//! process's own accounting, which is steadier on a shared machine than elapsed time.
//!
//! Beside the read stand its parts, each alone, and what a copy of the header value for each thread would
//! make of it.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark talks to a person"
)]

mod support;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bursar::config::Config;
use bursar::egress::Egress;
use bursar::metrics::Metrics;
use bursar::token::{Cell, Tokens};
use http::HeaderValue;
use tokio::time::Instant;

const TIME: Duration = Duration::from_secs(2);
const READERS: [usize; 3] = [1, 8, 64];
/// Between two looks at the clock.
const BATCH: u64 = 1000;

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
    let first = cell.obtain().await.expect("the endpoint hands out tokens");
    // A token that nobody takes is left to expire, and some rows take none.
    let taken = cell.clone();
    tokio::spawn(async move {
        loop {
            drop(taken.obtain().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let [one, eight, many] = READERS;
    println!(
        "CPU ns each                         {one:>3} reader {eight:>3} readers {many:>3} readers"
    );
    tokio::task::spawn_blocking(move || rows(&cell, &first.authorization))
        .await
        .expect("readers do not panic");
    let now = tokens.cell(0, 0, 0).obtain().await;
    let now = now.expect("there is a token");
    println!("{} swaps", now.generation - first.generation);
}

/// What a reader does, over and over.
type Read<'a> = dyn Fn(Instant) + Sync + 'a;

fn rows(cell: &Arc<Cell>, value: &HeaderValue) {
    let row = |name: &str, read: &Read<'_>| {
        let figures = READERS.map(|readers| measure(readers, &|| |now| read(now)));
        print(name, figures);
    };
    row("nothing", &|now| {
        black_box(now);
    });
    row("the cell: is it valid?", &|now| {
        black_box(cell.is_valid(now));
    });
    row("the cell, with the header value", &|now| {
        drop(black_box(cell.read(now)));
    });
    let shared = Arc::new(0_u8);
    row("an Arc cloned and dropped", &|_| {
        drop(black_box(shared.clone()));
    });
    row("a header value cloned and dropped", &|_| {
        drop(black_box(value.clone()));
    });
    print(
        "the cell, a copy for each thread",
        READERS.map(|readers| {
            measure(readers, &|| {
                let own = HeaderValue::from_bytes(value.as_bytes());
                let own = own.expect("it is one already");
                move |now| {
                    black_box(cell.is_valid(now));
                    drop(black_box(own.clone()));
                }
            })
        }),
    );
}

fn print(name: &str, [one, eight, many]: [f64; READERS.len()]) {
    println!("{name:<35} {one:>10.1} {eight:>11.1} {many:>11.1}");
}

/// CPU nanoseconds of a read; each reader makes its own.
fn measure<R: Fn(Instant)>(readers: usize, reader: &(impl Fn() -> R + Sync)) -> f64 {
    let total = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (user, system) = support::cpu_time(std::process::id());
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let read = reader();
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) {
                    // The clock is read by the request once anyway, so it is not part of the figure.
                    let now = Instant::now();
                    for _ in 0..BATCH {
                        read(now);
                    }
                    reads += BATCH;
                }
                total.fetch_add(reads, Ordering::Relaxed);
            });
        }
        std::thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
    });
    let (user_after, system_after) = support::cpu_time(std::process::id());
    let cpu = user_after + system_after - user - system;
    cpu.as_nanos() as f64 / total.into_inner() as f64
}
