//! Files of other versions: what an earlier one has written, and what it does with a file of this one.

use rusqlite::Connection;

use super::*;
use crate::files::FILE;

/// What the first version made.
const FIRST: &str = "
CREATE TABLE requests (
    id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, time INTEGER NOT NULL, caller TEXT NOT NULL,
    provider TEXT NOT NULL, account TEXT NOT NULL, route TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    idempotency_key TEXT, body_sha256 BLOB, phase INTEGER NOT NULL, is_open INTEGER NOT NULL, resolved INTEGER, note TEXT
) STRICT;
CREATE INDEX in_doubt ON requests (is_open) WHERE phase BETWEEN 1 AND 3 AND resolved IS NULL;
CREATE INDEX resolved ON requests (resolved) WHERE resolved IS NOT NULL;
CREATE TABLE frozen (provider TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT;
PRAGMA user_version = 1;
";

/// How the first version writes a request that is in doubt.
fn write_as_first(directory: &TempDir, id: i64) {
    let database = Connection::open(directory.path().join(FILE)).unwrap();
    let sql = "INSERT INTO requests (id, request_id, time, caller, provider, account, route, method, path, \
        idempotency_key, body_sha256, phase, is_open) VALUES (?1, ?2, 0, 'c', 'p', 'a', 'r', 'm', '/', NULL, NULL, 1, 0)";
    database.execute(sql, (id, id.to_string())).unwrap();
}

fn known_by(directory: &TempDir) -> Vec<[Option<String>; 3]> {
    let outcomes = outcomes(directory.path()).unwrap();
    let known = |request: InDoubt| {
        [
            request.reference,
            request.caller_request_id,
            request.trace_id,
        ]
    };
    outcomes.into_iter().map(known).collect()
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_read_taken_over_and_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let database = Connection::open(directory.path().join(FILE)).unwrap();
    database.execute_batch(FIRST).unwrap();
    drop(database);
    write_as_first(&directory, 1);
    // Beside the process that writes it nothing is changed.
    assert_eq!(known_by(&directory), [[None, None, None]]);
    let settings = settings(directory.path().to_owned());
    for id in ["2", "4"] {
        let journal = Journal::open(&settings, series()).unwrap();
        let entry = journal.entry(Intent {
            reference: Some("order-17".into()),
            caller_request_id: Some("r-1".into()),
            trace_id: Some("ab".into()),
            ..intent(id)
        });
        entry.sending(None).await.unwrap();
        drop(entry);
        flush(&journal).await;
        ended(journal, &directory);
        write_as_first(&directory, id.parse::<i64>().unwrap() + 1);
    }
    let none = [None, None, None];
    let all = ["order-17", "r-1", "ab"].map(|text| Some(text.to_owned()));
    let expected = [none.clone(), all.clone(), none.clone(), all, none];
    assert_eq!(known_by(&directory), expected);
}

#[tokio::test]
async fn what_an_earlier_version_froze_and_thawed_holds_and_it_finds_what_is_frozen_now() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    let run = |sql: &str| Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    run(FIRST);
    run("INSERT INTO frozen VALUES ('early', 1), ('both', 1)");
    let settings = settings(directory.path().to_owned());
    let journal = Journal::open(&settings, series()).unwrap();
    for provider in ["both", "late", "thawed"] {
        let mut decided = decided(provider);
        decided.number = Some(7);
        journal.decide(decided.clone()).await.unwrap();
        if provider == "thawed" {
            decided.decision.is_frozen = false;
            journal.decide(decided).await.unwrap();
        }
    }
    ended(journal, &directory);
    let early = Connection::open(&file).unwrap();
    let sql = "SELECT group_concat(provider) FROM (SELECT provider FROM frozen ORDER BY provider)";
    let frozen: String = early.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(frozen, "both,early,late");
    drop(early);
    // It decides once more.
    run("DELETE FROM frozen WHERE provider = 'late'; INSERT INTO frozen VALUES ('thawed', 5)");
    let journal = Journal::open(&settings, series()).unwrap();
    let kept = journal.decisions().await.unwrap();
    let shown = kept.iter().map(|kept| {
        let decision = &kept.decision;
        (
            &*kept.provider,
            decision.is_frozen,
            decision.by.is_some(),
            kept.number,
            kept.after,
        )
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("both", true, true, Some(7), 3),
            ("early", true, false, None, 0),
            ("late", false, false, None, 7),
            ("thawed", true, false, None, 7),
        ]
    );
    let thawed = &kept[3];
    assert_eq!(thawed.made, thawed.decision.since);
    assert_eq!(kept[2].made, decided("late").made);
}

#[tokio::test]
async fn decisions_of_a_version_without_ends_are_kept_and_new_ones_have_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    let run = |sql: &str| Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    run(FIRST);
    run(
        "CREATE TABLE decisions (provider TEXT PRIMARY KEY, is_frozen INTEGER NOT NULL, since INTEGER NOT NULL,
            made INTEGER NOT NULL, number INTEGER, after INTEGER NOT NULL, made_by TEXT, reason TEXT) STRICT;
        INSERT INTO decisions VALUES ('early', 1, 5, 5, NULL, 0, 'ann@host', '#17');
        INSERT INTO frozen VALUES ('early', 5);",
    );
    let settings = settings(directory.path().to_owned());
    let journal = Journal::open(&settings, series()).unwrap();
    journal.decide(decided("late")).await.unwrap();
    ended(journal, &directory);
    let journal = Journal::open(&settings, series()).unwrap();
    let kept = journal.decisions().await.unwrap();
    let ends = kept
        .iter()
        .map(|kept| (&*kept.provider, kept.decision.until));
    let end = decided("late").decision.until;
    assert!(end.is_some());
    assert_eq!(ends.collect::<Vec<_>>(), [("early", None), ("late", end)]);
    assert_eq!(kept[0].decision.by.as_deref(), Some("ann@host"));
}
