//! Cost of reading a token while a writer swaps it: 1, 8 and 64 readers on one source.
//!
//! `cargo bench --bench token_read`. The writer is the real renewal loop: tokens live for less than
//! half a second, so the source is swapped three times a second. Figures are CPU time per read, from the
//! process's own accounting, which is steadier on a shared machine than elapsed time.
//!
//! Beside the read stand its parts. On two cores of an AMD EPYC, less 1 ns for the loop: the source is 10 ns
//! however many read it; with the header value a read is 28 ns for one reader and 67 ns for 8 and 64. All of
//! the difference is the value's reference count, which both cores write: cloned and dropped it is 10 ns alone
//! and 37 ns together, and more where something is done between the two, because its cache line is taken away
//! twice then. A copy for each thread makes it 20 ns for any number of readers. That is at most 47 ns of a
//! request's 20 µs, 0.2 %, and only where two cores read the same token at the same moment: not worth copies
//! that have to be kept up to date.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark talks to a person"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bursar::token::{Handle, Supply as _, Tokens};
use bursar::upstream::egress::Egress;
use bursar_config::Config;
use bursar_telemetry::metrics::Metrics;
use bursar_testkit::idp;
use bursar_testkit::process::{Cpu, Process};
use http::HeaderValue;
use tokio::time::Instant;

/// Of a token; it is renewed a fifth of that before its end.
const LIFETIME: Duration = Duration::from_millis(400);
const TIME: Duration = Duration::from_secs(2);
const READERS: [usize; 3] = [1, 8, 64];
/// Between two looks at the clock.
const BATCH: u64 = 1000;

#[tokio::main]
async fn main() {
    let endpoint = idp::cheap(LIFETIME).await;
    let text = format!(
        "providers: {{a: {{hosts: [a.example], client_id: i, client_secret: s, token: {{url: \"http://{endpoint}/t\"}}}}}}"
    );
    let config =
        Config::parse(&text, Path::new("")).unwrap_or_else(|problems| panic!("{problems:?}"));
    let metrics = Metrics::new(&config).expect("every metric has a name of its own");
    let egress = Egress::new(&config.egress, &metrics);
    let tokens = Tokens::start(&config, &metrics, &egress, None, None);
    let source = tokens.source(0, 0, 0).clone();
    let first = source
        .obtain(None)
        .await
        .expect("the endpoint hands out tokens");
    // A token that nobody takes is left to expire, and some rows take none.
    let taken = source.clone();
    tokio::spawn(async move {
        loop {
            drop(taken.obtain(None).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let [one, eight, many] = READERS;
    println!(
        "CPU ns each                         {one:>3} reader {eight:>3} readers {many:>3} readers"
    );
    tokio::task::spawn_blocking(move || rows(&source, &first.authorization))
        .await
        .expect("readers do not panic");
    let now = tokens.source(0, 0, 0).obtain(None).await;
    let now = now.expect("there is a token");
    println!("{} swaps", now.generation - first.generation);
}

/// What a reader does, over and over; whether it found something.
type Read<'a> = dyn Fn(Instant) -> bool + Sync + 'a;

fn rows(source: &Handle, value: &HeaderValue) {
    let row = |name: &str, read: &Read<'_>| {
        let figures = READERS.map(|readers| measure(readers, &|| |now| read(now)));
        print(name, figures);
    };
    row("nothing", &|now| now == black_box(now));
    row("the source: is it valid?", &|now| source.is_valid(now));
    row("the source, with the header value", &|now| {
        black_box(source.read(now)).is_some()
    });
    let shared = Arc::new(0_u8);
    row("an Arc cloned and dropped", &|_| {
        drop(black_box(shared.clone()));
        true
    });
    row("a header value cloned and dropped", &|_| {
        drop(black_box(value.clone()));
        true
    });
    row("the source, and a header value of all", &|now| {
        let value = black_box(value.clone());
        let is_valid = source.is_valid(now);
        drop(value);
        is_valid
    });
    print(
        "the source, a copy for each thread",
        READERS.map(|readers| {
            measure(readers, &|| {
                let own = HeaderValue::from_bytes(value.as_bytes());
                let own = own.expect("it is one already");
                move |now| {
                    drop(black_box(own.clone()));
                    source.is_valid(now)
                }
            })
        }),
    );
}

fn print(name: &str, [one, eight, many]: [f64; READERS.len()]) {
    println!("{name:<35} {one:>10.1} {eight:>11.1} {many:>11.1}");
}

/// CPU nanoseconds of a read; each reader makes its own.
fn measure<R: Fn(Instant) -> bool>(readers: usize, reader: &(impl Fn() -> R + Sync)) -> f64 {
    let total = AtomicU64::new(0);
    let total_found = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let Cpu { user, system } = Process::own().cpu();
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let read = reader();
                let mut reads = 0;
                let mut found = 0;
                while !stop.load(Ordering::Relaxed) {
                    // The clock is read by the request once anyway, so it is not part of the figure.
                    let now = Instant::now();
                    for _ in 0..BATCH {
                        found += u64::from(read(now));
                    }
                    reads += BATCH;
                }
                total.fetch_add(reads, Ordering::Relaxed);
                total_found.fetch_add(found, Ordering::Relaxed);
            });
        }
        std::thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
    });
    let after = Process::own().cpu();
    let cpu = after.user + after.system - user - system;
    let (reads, found) = (total.into_inner(), total_found.into_inner());
    // To find none is cheaper.
    assert!(
        found * 100 >= reads * 95,
        "{found} tokens in {reads} reads: the machine is too busy to renew them in time"
    );
    cpu.as_nanos() as f64 / reads as f64
}
