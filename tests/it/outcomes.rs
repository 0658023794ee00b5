//! `bursar outcomes` as an operator uses it: filters, exit statuses, and `resolve` of one or many.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bursar_config::Config;
use bursar_journal::Journal;
use bursar_telemetry::metrics::Metrics;
use rusqlite::{Connection, params};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::acme;
use crate::support::program::{Said, run_in};

const HOUR: u64 = 3600;

/// A request in doubt: id, provider, caller, and how many hours ago it came.
type Row<'a> = (&'a str, &'a str, &'a str, u64);

/// Those that most tests have.
const ROWS: [Row<'_>; 4] = [
    ("aaaa1111", "payu", "shop", 30),
    ("aaaa2222", "payu", "till", 20),
    ("bbbb3333", "paylater", "shop", 10),
    ("cccc4444", "payu", "shop", 1),
];

/// A directory with a configuration and a journal that has these requests in doubt.
fn journal(rows: &[Row<'_>]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "journal: {{path: journal}}\n{}",
        acme("http://127.0.0.1:1", "http://127.0.0.1:1/t", "")
    );
    std::fs::write(directory.path().join("proxy.yaml"), &text).unwrap();
    let config = Config::parse(&text, directory.path()).unwrap();
    let series = Metrics::new(&config).unwrap().journal;
    drop(Journal::open(&config.journal.unwrap(), series).unwrap());
    let database = Connection::open(directory.path().join("journal/journal.sqlite")).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    for (id, provider, caller, hours) in rows {
        let time = bursar_base::clock::wall() - Duration::from_secs(hours * HOUR);
        let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let sql = "INSERT INTO requests (request_id, time, caller, provider, account, route, method, path, phase, is_open) \
                   VALUES (?1, ?2, ?3, ?4, 'default', 'x', 'POST', '/x', 2, 0)";
        let micros = i64::try_from(time.as_micros()).unwrap();
        database
            .execute(sql, params![id, micros, caller, provider])
            .unwrap();
    }
    directory
}

async fn outcomes(directory: &Path, arguments: &[&str]) -> Said {
    run_in(directory, &[&["outcomes"], arguments].concat(), &[]).await
}

/// The ids that are listed with these arguments.
async fn listed(directory: &Path, arguments: &[&str]) -> Vec<String> {
    let said = outcomes(directory, &[&["--json"], arguments].concat()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let list: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let id = |request: &Value| request["request_id"].as_str().unwrap().to_owned();
    list.iter().map(id).collect()
}

#[tokio::test]
async fn filters_leave_those_that_are_meant() {
    let directory = journal(&ROWS);
    let day = humantime::format_rfc3339_seconds(
        bursar_base::clock::wall() - Duration::from_secs(24 * HOUR),
    );
    let day = day.to_string();
    for (arguments, expected) in [
        (
            &[][..],
            &["aaaa1111", "aaaa2222", "bbbb3333", "cccc4444"][..],
        ),
        (
            &["--provider", "payu"],
            &["aaaa1111", "aaaa2222", "cccc4444"],
        ),
        (&["--caller", "till"], &["aaaa2222"]),
        (&["--since", "24h"], &["aaaa2222", "bbbb3333", "cccc4444"]),
        (&["--before", &day], &["aaaa1111"]),
        (
            &["--since", &day, "--before", "2h", "--provider", "payu"],
            &["aaaa2222"],
        ),
        (&["--provider", "quidkey"], &[]),
    ] {
        assert_eq!(
            listed(directory.path(), arguments).await,
            expected,
            "{arguments:?}"
        );
    }
    let said = outcomes(directory.path(), &["--provider", "quidkey"]).await;
    assert_eq!(
        said.out,
        "No request in doubt matches; there are 4 in all.\n"
    );
}

#[tokio::test]
async fn doubts_are_an_exit_status_only_where_that_is_asked_for() {
    let directory = journal(&ROWS);
    for (arguments, code) in [
        (&[][..], 0),
        (&["--fail"], 3),
        (&["--fail", "--json", "--provider", "payu"], 3),
        (&["--fail", "--provider", "quidkey"], 0),
        (&["--since", "9999-01-01T00:00:00Z"], 2),
        (&["--since", "2026-11-29"], 2),
        (&["--since", "1h", "--before", "2h"], 2),
        (&["--fail", "resolve", "aaaa1111", "--note", "x"], 2),
        (
            &["--provider", "payu", "resolve", "aaaa1111", "--note", "x"],
            2,
        ),
    ] {
        let said = outcomes(directory.path(), arguments).await;
        assert_eq!(said.code, Some(code), "{arguments:?} {said:?}");
    }
    assert_eq!(listed(directory.path(), &[]).await.len(), 4);
}

#[tokio::test]
async fn the_beginning_of_an_id_is_enough_unless_it_is_that_of_several() {
    let directory = journal(&ROWS);
    let resolve = async |ids: &[&str]| {
        let arguments = [&["resolve", "--note", "paid"], ids].concat();
        outcomes(directory.path(), &arguments).await
    };
    for (ids, code, text) in [
        (
            &["aaaa"][..],
            1,
            "aaaa may be any of 2 requests: aaaa1111 (",
        ),
        (&["aaaa"], 1, "aaaa2222 ("),
        (&["bbbb", "aaaa"], 1, "nothing was changed"),
        (
            &["bbbb", "dddd"],
            1,
            "no request dddd is in doubt; nothing was changed",
        ),
        (&["bbb"], 2, "4 characters at least"),
        (&[""], 2, "4 characters at least"),
        (&[], 2, "--provider and --before"),
    ] {
        let said = resolve(ids).await;
        assert_eq!(said.code, Some(code), "{ids:?} {said:?}");
        assert!(said.error.contains(text), "{ids:?} {said:?}");
        assert_eq!(listed(directory.path(), &[]).await.len(), 4, "{ids:?}");
    }
    let said = resolve(&["AAAA1", "bbbb3333", "bbbb"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.starts_with("2 requests are off the list.\nTIME"),
        "{said:?}"
    );
    assert_eq!(
        listed(directory.path(), &[]).await,
        ["aaaa2222", "cccc4444"]
    );
    assert_eq!(resolve(&["aaaa"]).await.out, "aaaa2222 is off the list.\n");
    let said = resolve(&["cccc4444", "aaaa2222"]).await;
    assert!(
        said.error.contains("aaaa2222 was taken off the list at 2")
            && said.error.contains(": paid; nothing"),
        "{said:?}"
    );
    assert_eq!(listed(directory.path(), &[]).await, ["cccc4444"]);
}

#[tokio::test]
async fn all_of_a_provider_before_a_time_are_resolved_together() {
    let directory = journal(&ROWS);
    let resolve = async |filter: &[&str]| {
        let arguments = [&["resolve", "--note", "looked"], filter].concat();
        outcomes(directory.path(), &arguments).await
    };
    for (filter, code, text) in [
        (&["--provider", "payu"][..], 2, "--before"),
        (&["--before", "2h"], 2, "--provider"),
        (
            &["--before", "9999-01-01T00:00:00Z", "--provider", "payu"],
            2,
            "in the future",
        ),
        (
            &["--before", "2h", "--provider", "payu", "aaaa1111"],
            2,
            "by their ids, or",
        ),
        (
            &["--before", "2h", "--since", "1h", "--provider", "payu"],
            2,
            "not earlier",
        ),
        (
            &["--before", "40h", "--provider", "payu"],
            1,
            "no request in doubt matches",
        ),
    ] {
        let said = resolve(filter).await;
        assert_eq!(said.code, Some(code), "{filter:?} {said:?}");
        assert!(said.error.contains(text), "{filter:?} {said:?}");
        assert_eq!(listed(directory.path(), &[]).await.len(), 4, "{filter:?}");
    }
    let said = resolve(&["--provider", "payu", "--before", "2h"]).await;
    assert!(
        said.out.starts_with("2 requests are off the list.\n"),
        "{said:?}"
    );
    assert_eq!(
        listed(directory.path(), &[]).await,
        ["bbbb3333", "cccc4444"]
    );
}

#[tokio::test]
async fn a_long_path_or_key_makes_no_long_lines_in_the_table_and_is_whole_for_programs() {
    let directory = journal(&ROWS);
    let database = Connection::open(directory.path().join("journal/journal.sqlite")).unwrap();
    let (path, key) = (format!("/{}", "é".repeat(900)), "k".repeat(2048));
    let sql = "UPDATE requests SET path = ?1, idempotency_key = ?2, method = ?2, reference = 'order-17' \
               WHERE request_id = 'aaaa1111'";
    database.execute(sql, params![path, key]).unwrap();
    let table = outcomes(directory.path(), &[]).await.out;
    let widest = table.lines().map(|line| line.chars().count()).max();
    assert!(widest < Some(320), "{table}");
    let long: Vec<&str> = table.lines().filter(|line| line.contains('…')).collect();
    assert!(matches!(*long, [line] if line.contains("aaaa1111") && line.ends_with("order-17")));
    let json = outcomes(directory.path(), &["--json"]).await.out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["path"], *path);
    assert_eq!(json[0]["idempotency_key"], *key);
}

#[tokio::test]
async fn nothing_in_the_journal_steers_a_terminal() {
    let directory = journal(&[("dddd\u{1b}[2J5", "pay\u{9b}u", "shop\nTIME", 1)]);
    let table = outcomes(directory.path(), &[]).await.out;
    assert_eq!(table.lines().count(), 2, "{table:?}");
    let json = outcomes(directory.path(), &["--json"]).await.out;
    assert!(json.contains("pay\\u009bu"), "{json:?}");
    let unseen = |text: &str| !text.contains(|char: char| char.is_control() && char != '\n');
    assert!(unseen(&table) && unseen(&json));
    let note = ["resolve", "dddd", "--note", "see\u{1b}[31m"];
    let resolved = outcomes(directory.path(), &note).await.out;
    let again = ["resolve", "dddd\u{1b}[2J5", "--note", "x"];
    let again = outcomes(directory.path(), &again).await.error;
    assert!(again.contains("see\\u{1b}[31m"), "{again:?}");
    assert!(unseen(&resolved) && unseen(&again), "{resolved:?}");
}
