//! The journal beside processes that read it for long, and on disks that are too small.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::journal::full_disk::Disk;
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::metrics::Scrape;
use crate::support::proxy::Program;
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

async fn start(journal: &str) -> (Upstream, Idp, Program) {
    let api = Upstream::start(|_| async { answer(200, "done") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("journal: {{{journal}}}\n{yaml}"), "info").await;
    (api, idp, program)
}

/// Payments on one connection; how many were answered by the provider.
async fn pay(program: &Program, count: usize) -> usize {
    let path = "y".repeat(900);
    let payment = format!("POST /{path} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\n\r\nx");
    let mut caller = Raw::connect(program.listen).await;
    let mut paid = 0;
    for _ in 0..count {
        match caller.ask(&payment).await.status() {
            200 => paid += 1,
            status => assert_eq!(status, 503),
        }
    }
    paid
}

fn size(file: &Path) -> u64 {
    file.metadata().map_or(0, |found| found.len())
}

/// A line of the log about the journal at that level.
fn said(program: &Program, level: &str, words: &str) -> Option<Value> {
    let log = program.logged();
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| {
        line["level"] == level
            && line["message"]
                .as_str()
                .is_some_and(|said| said.contains(words))
    })
}

#[tokio::test]
async fn a_process_that_reads_for_long_is_warned_of_by_name_and_shown_in_the_metrics() {
    let (_api, _idp, program) = start("path: j, max_size: 1MiB, sync: false").await;
    let log: PathBuf = program.directory().join("j/journal.sqlite-wal");
    assert_eq!(pay(&program, 1).await, 1);
    let reader = rusqlite::Connection::open(log.with_file_name("journal.sqlite")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM requests")
        .unwrap();
    let rows: i64 = reader
        .query_row("SELECT count(*) FROM requests", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
    // Longer than it ever is by itself.
    while size(&log) < 14 << 20 {
        assert_eq!(pay(&program, 50).await, 50);
    }
    eventually(|| async { said(&program, "WARN", "its log grows").is_some() }).await;
    let warned = said(&program, "WARN", "its log grows").unwrap();
    let own = std::process::id().to_string();
    assert!(
        warned["processes"].as_str().unwrap().contains(&own),
        "{warned}"
    );
    eventually(|| async {
        let scrape = Scrape::of(program.admin).await;
        let bytes = scrape.value("bursar_journal_bytes", &[]);
        let most = scrape.value("bursar_journal_max_bytes", &[]);
        // The alert that is documented.
        bytes >= size(&log) as f64 && bytes > 0.4 * most
    })
    .await;
    drop(reader);
    eventually(|| async { size(&log) < 6 << 20 }).await;
    eventually(|| async { said(&program, "INFO", "its log is short again").is_some() }).await;
}

#[tokio::test]
async fn a_reader_that_was_stopped_holds_no_payment_up() {
    let (_api, _idp, program) = start("path: j, sync: false").await;
    assert_eq!(pay(&program, 20).await, 20);
    let file = program.directory().join("proxy.yaml");
    let mut outcomes = Command::new(env!("CARGO_BIN_EXE_bursar"));
    outcomes.args(["outcomes", "--config"]).arg(&file);
    let outcomes = outcomes.stdout(Stdio::null()).stderr(Stdio::null());
    for pause in 0..6 {
        let mut reader = outcomes.spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(pause * 5)).await;
        let signal = |name: &str| {
            Command::new("kill")
                .args(["-s", name, &reader.id().to_string()])
                .status()
        };
        assert!(signal("STOP").unwrap().success());
        assert_eq!(pay(&program, 20).await, 20);
        assert!(signal("CONT").unwrap().success());
        assert!(reader.wait().unwrap().success());
    }
}

#[tokio::test]
async fn on_a_disk_that_is_smaller_than_max_size_settled_requests_make_room() {
    let Some(disk) = Disk::mount() else {
        return;
    };
    let place = disk.path().join("journal");
    let (_api, _idp, program) = start(&format!("path: {}, sync: false", place.display())).await;
    let warned = said(&program, "WARN", "configuration").unwrap();
    let warning = warned["warning"].as_str().unwrap();
    assert!(
        warning.contains("journal.max_size: is more than its whole disk has, 3 MiB"),
        "{warning}"
    );
    // Several times what the disk holds.
    assert_eq!(pay(&program, 5000).await, 5000);
    let free = Scrape::of(program.admin)
        .await
        .value("bursar_journal_disk_free_bytes", &[]);
    assert!(free > 0.0, "{free}");
}

#[tokio::test]
async fn a_disk_that_was_full_is_of_use_again_without_a_restart() {
    let Some(disk) = Disk::mount() else {
        return;
    };
    let place = disk.path().join("journal");
    let (_api, _idp, program) = start(&format!("path: {}, sync: false", place.display())).await;
    assert_eq!(pay(&program, 100).await, 100);
    disk.fill();
    eventually(|| async { pay(&program, 10).await < 10 }).await;
    assert!(said(&program, "WARN", "less room on its disk").is_some());
    disk.make_room();
    eventually(|| async { pay(&program, 100).await == 100 }).await;
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
}

#[tokio::test]
async fn a_journal_that_has_reached_the_limit_of_a_files_size_ends_nothing_but_payments() {
    let api = Upstream::start(|_| async { answer(200, "done") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let yaml = format!("journal: {{path: journal, sync: false}}\n{yaml}");
    let program = Program::start_by("ulimit -f 400; exec \"$@\"", &yaml).await;
    assert!(pay(&program, 400).await < 400);
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("GET", "/read", "").await.status, 200);
    let failing = said(&program, "ERROR", "journal: cannot be written");
    assert!(failing.is_some(), "{}", program.logged());
}

#[tokio::test]
async fn a_filled_disk_is_of_use_where_the_journal_may_have_no_more_than_its_log() {
    let Some(disk) = Disk::mount_of(24) else {
        return;
    };
    let place = disk.path().join("journal");
    let keys = format!("path: {}, sync: false, max_size: 3MiB", place.display());
    let (_api, _idp, program) = start(&keys).await;
    // Few small ones, so that no page is free once they are forgotten.
    let pay = async || {
        let mut caller = Caller::connect(program.listen).await;
        caller.send("POST", "/pay", "x").await.status == 200
    };
    for _ in 0..30 {
        assert!(pay().await);
    }
    disk.fill();
    eventually(|| async { !pay().await }).await;
    eventually(|| async { pay().await }).await;
    for _ in 0..30 {
        assert!(pay().await);
    }
    let log = program.logged();
    assert!(!log.contains("nothing in it is settled"), "{log}");
}

#[tokio::test]
async fn a_disk_that_others_have_filled_is_of_use_by_settled_requests_alone() {
    // At once, in the middle of the log, and when the log has begun anew.
    for before in [1, 150, 1000] {
        let Some(disk) = Disk::mount() else {
            return;
        };
        let place = disk.path().join("journal");
        let (_api, _idp, program) = start(&format!("path: {}, sync: false", place.display())).await;
        assert_eq!(pay(&program, before).await, before);
        disk.fill();
        // More than there is room for without forgetting any; refused for some seconds at most.
        let mut paid = 0;
        while paid < 1200 {
            eventually(|| async { pay(&program, 1).await == 1 }).await;
            paid += 1 + pay(&program, 200).await;
        }
        let log = program.logged();
        assert!(!log.contains("nothing in it is settled"), "{log}");
    }
}
