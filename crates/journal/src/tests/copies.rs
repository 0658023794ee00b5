//! Which files the journal is in, and what is said of a part of them.

use rusqlite::Connection;

use super::*;
use crate::files::FILE;

const LOG: &str = "journal.sqlite-wal";

/// A directory with copies of these files alone.
fn copy(directory: &Path, files: &[&str]) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(directory.join(file), copy.path().join(file)).unwrap();
    }
    copy
}

/// A journal with one request in doubt.
async fn with_one_in_doubt(directory: &Path) -> Journal {
    let journal = Journal::open(&settings(directory.to_owned()), series()).unwrap();
    doubt(&journal, "1").await;
    journal
}

async fn doubt(journal: &Journal, id: &str) {
    let entry = journal.entry(intent(id));
    entry.sending(hash_of_nothing()).await.unwrap();
    drop(entry);
    flush(journal).await;
}

/// What an opening, and whoever reads, say of it.
fn said_of(directory: &Path) -> [String; 2] {
    let opened = Journal::open(&settings(directory.to_owned()), series());
    let read = outcomes(directory);
    [
        opened.unwrap_err().to_string(),
        read.unwrap_err().to_string(),
    ]
}

fn assert_said(directory: &Path, words: &str) {
    for said in said_of(directory) {
        let path = directory.join(FILE);
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn from_its_first_moment_the_database_alone_is_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let _journal = with_one_in_doubt(directory.path()).await;
    assert_eq!(listed(copy(directory.path(), &[FILE]).path()), []);
}

#[tokio::test]
async fn what_was_written_back_is_in_the_database_alone() {
    let directory = tempfile::tempdir().unwrap();
    let journal = with_one_in_doubt(directory.path()).await;
    journal.decide(decided("acme")).await.unwrap();
    journal.write_back().await;
    assert_eq!(log_length(directory.path()), 0);
    let copy = copy(directory.path(), &[FILE]);
    let expected = [("1".to_owned(), Phase::BodySent)];
    assert_eq!(listed(copy.path()), expected);
    let kept = Store::read(copy.path()).unwrap().decisions().unwrap();
    assert_eq!(kept, [decided("acme")]);
    // It goes on.
    doubt(&journal, "2").await;
    assert_eq!(listed(directory.path()).len(), 2);
}

#[tokio::test]
async fn while_somebody_reads_its_log_stays_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let journal = with_one_in_doubt(directory.path()).await;
    let reader = Connection::open(directory.path().join(FILE)).unwrap();
    let begin = "BEGIN; SELECT count(*) FROM requests;";
    reader.execute_batch(begin).unwrap();
    doubt(&journal, "2").await;
    journal.write_back().await;
    assert!(log_length(directory.path()) > 0);
    let both = copy(directory.path(), &[FILE, LOG]);
    assert_eq!(listed(both.path()).len(), 2);
}

#[tokio::test]
async fn a_part_of_a_journal_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let journal = with_one_in_doubt(directory.path()).await;
    let log_alone = copy(directory.path(), &[LOG]);
    assert_said(log_alone.path(), "is missing or empty");
    std::fs::write(log_alone.path().join(FILE), "").unwrap();
    assert_said(log_alone.path(), "is missing or empty");
    drop(journal);
    // Earlier versions had the first tables in the log alone.
    let earlier = tempfile::tempdir().unwrap();
    let database = Connection::open(earlier.path().join(FILE)).unwrap();
    let first =
        "PRAGMA journal_mode = WAL; CREATE TABLE requests (id INTEGER); PRAGMA user_version = 1;";
    database.execute_batch(first).unwrap();
    let database_alone = copy(earlier.path(), &[FILE]);
    assert_said(database_alone.path(), "holds nothing");
    // Whoever wants a new one says so.
    std::fs::remove_file(database_alone.path().join(FILE)).unwrap();
    std::fs::remove_file(database_alone.path().join(LOG)).unwrap_or_default();
    let settings = settings(database_alone.path().to_owned());
    Journal::open(&settings, series()).unwrap();
}

#[tokio::test]
async fn a_damaged_database_is_told_by_its_path_and_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let journal = with_one_in_doubt(directory.path()).await;
    journal.write_back().await;
    let copy = copy(directory.path(), &[FILE]);
    let file = copy.path().join(FILE);
    let whole = std::fs::read(&file).unwrap();
    for damaged in [0..100, files::PAGE_BYTES..2 * files::PAGE_BYTES] {
        let mut content = whole.clone();
        content[damaged].fill(0xa5);
        std::fs::write(&file, content).unwrap();
        assert_said(copy.path(), "put a copy in place");
    }
}

#[tokio::test]
async fn what_is_in_the_way_of_a_journal_is_seen_without_writing_anything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let seen = || {
        let names = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(obstacle(path), None);
    assert_eq!(obstacle(&path.join("yet/to/be/made")), None);
    let below_file = obstacle(Path::new("/dev/null/below")).unwrap();
    assert!(below_file.contains("no file can be made"), "{below_file}");
    assert_eq!(seen(), Vec::<std::ffi::OsString>::new());
    let journal = with_one_in_doubt(path).await;
    assert_eq!(obstacle(path), None);
    ended(journal, &directory);
    let (before, whole) = (seen(), std::fs::read(path.join(FILE)).unwrap());
    assert_eq!(obstacle(path), None);
    let says = |words: &str| {
        let said = obstacle(path).unwrap_or_default();
        assert!(said.contains(words), "{words}: {said}");
    };
    for (at, byte, words) in [
        (0, 0xa5, "is damaged"),
        (files::PAGE_BYTES, 0xa5, "is damaged"),
        (63, 99, "format 99"),
        (63, 0, "holds nothing"),
    ] {
        let mut content = whole.clone();
        content[at] = byte;
        std::fs::write(path.join(FILE), content).unwrap();
        says(words);
    }
    assert_eq!(seen(), before);
    std::fs::remove_file(path.join(FILE)).unwrap();
    std::fs::write(path.join(LOG), "x").unwrap();
    says("is missing or empty");
    for name in [LOG, FILE, "lock"] {
        drop(std::fs::remove_file(path.join(name)));
        std::fs::create_dir(path.join(name)).unwrap();
        says("it is no file");
        std::fs::remove_dir(path.join(name)).unwrap();
    }
}
