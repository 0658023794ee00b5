//! When nothing can be written, or there is no room: what is kept for later, and what must not come back.

use super::*;

async fn eventually(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A journal without room for more requests, all of which are in doubt.
fn full(settings: &config::Journal) {
    let store = Store::open(settings).unwrap();
    fill(&store, Phase::HeadSent);
}

/// Takes some off the list, so that there is room.
fn resolve_some(directory: &Path) {
    for (id, _) in listed(directory).iter().take(64) {
        resolve(directory, &[id], "looked", clock::wall()).unwrap();
    }
}

#[tokio::test]
async fn what_was_refused_for_want_of_room_is_not_in_doubt_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path().to_owned());
    full(&settings);
    let series = series();
    let journal = Journal::open(&settings, series.clone()).unwrap();
    let refused = journal.entry(intent("refused"));
    assert_eq!(refused.sending(None).await, Err(Unavailable));
    drop(refused);
    resolve_some(directory.path());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let late = journal.entry(intent("late"));
        if late.sending(None).await.is_ok() {
            late.unsent().await;
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ended(journal, &directory);
    let listed = listed(directory.path());
    let names = ["refused", "late"];
    assert!(!listed.iter().any(|(id, _)| names.contains(&&**id)));
}

#[tokio::test]
async fn what_goes_on_without_room_is_listed_as_soon_as_there_is_some() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path().to_owned());
    full(&settings);
    settings.on_failure = OnFailure::Warn;
    let journal = Journal::open(&settings, series()).unwrap();
    let warned = journal.entry(intent("warned"));
    warned.sending(hash_of_nothing()).await.unwrap();
    drop(warned);
    // What is kept is tried again with each of them.
    for _ in 0..3 {
        journal.entry(intent("other")).sending(None).await.unwrap();
        flush(&journal).await;
    }
    resolve_some(directory.path());
    let expected = ("warned".to_owned(), Phase::BodySent);
    eventually(|| listed(directory.path()).contains(&expected)).await;
}

#[tokio::test]
async fn a_transaction_that_fails_holds_nobody_up_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let series = series();
    let settings = settings(directory.path().to_owned());
    let journal = Journal::open(&settings, series.clone()).unwrap();
    let other = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    other.busy_timeout(Duration::from_secs(20)).unwrap();
    // Statements fail, and SQLite leaves the transaction open that they were in.
    let fail = "CREATE TRIGGER no_request BEFORE INSERT ON requests WHEN NEW.phase = 1 BEGIN SELECT RAISE(ABORT, 'no'); END;
        CREATE TRIGGER no_freeze BEFORE INSERT ON frozen WHEN NEW.provider = 'acme' BEGIN SELECT RAISE(ABORT, 'no'); END;";
    other.execute_batch(fail).unwrap();
    let refused = journal.entry(intent("1"));
    assert_eq!(refused.sending(None).await, Err(Unavailable));
    // Its row and, with what was kept of that, that it was not sent.
    eventually(|| series.failed.get() == 2).await;
    let entry = journal.entry(intent("2"));
    assert_eq!(entry.sending(hash_of_nothing()).await, Ok(()));
    drop(entry);
    assert_eq!(journal.decide(decided("acme")).await, Err(Unavailable));
    assert_eq!(journal.decide(decided("payu")).await, Ok(()));
    // Nor any other process.
    let mend = "DROP TRIGGER no_request; DROP TRIGGER no_freeze;";
    other.execute_batch(mend).unwrap();
    flush(&journal).await;
    assert_eq!(
        listed(directory.path()),
        [("2".to_owned(), Phase::BodySent)]
    );
}
