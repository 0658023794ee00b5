mod copies;
mod pressure;
mod schema;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::channel::Channel;
use tempfile::TempDir;

use super::*;
use bursar_base::clock;
use bursar_base::decision::Decision;
use bursar_config::{Config, OnFailure};
use bursar_telemetry::metrics::Metrics;

pub(super) fn series() -> JournalSeries {
    let text = "providers: {a: {hosts: [a.test], client_id: a, client_secret: b, token: {url: https://b.test/}}}";
    let config = Config::parse(text, Path::new("")).unwrap();
    Metrics::new(&config).unwrap().journal
}

pub(super) fn settings(path: PathBuf) -> config::Journal {
    config::Journal {
        path,
        sync: false,
        max_size: 1 << 20,
        keep: Duration::from_secs(3600),
        on_failure: OnFailure::Refuse,
    }
}

pub(super) fn intent(id: &str) -> Intent {
    let name = |name: &str| -> Arc<str> { name.into() };
    Intent {
        time: clock::wall(),
        request_id: id.to_owned(),
        caller: name("checkout"),
        provider: name("acme"),
        account: name("default"),
        route: name("POST /pay"),
        method: "POST".to_owned(),
        path: "/pay".to_owned(),
        idempotency_key: OnceLock::new(),
        reference: None,
        caller_request_id: None,
        trace_id: None,
    }
}

/// A row of some size.
fn large(id: &str) -> Intent {
    Intent {
        path: "x".repeat(MAX_TEXT),
        ..intent(id)
    }
}

const MAX_TEXT: usize = 1500;

fn listed(directory: &Path) -> Vec<(String, Phase)> {
    let outcomes = outcomes(directory).unwrap();
    let pair = |request: InDoubt| (request.request_id, request.phase);
    outcomes.into_iter().map(pair).collect()
}

/// The thread has done all that was handed in before.
async fn flush(journal: &Journal) {
    journal.decisions().await.unwrap();
}

fn ended(journal: Journal, directory: &TempDir) {
    drop(journal);
    // The thread lets go of the lock when it has written everything.
    drop(Store::open(&settings(directory.path().to_owned())).unwrap());
}

#[tokio::test]
async fn what_is_under_way_is_listed_only_once_its_process_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/for/it");
    let journal = Journal::open(&settings(path.clone()), series()).unwrap();
    let entry = journal.entry(intent("1"));
    entry.sending(None).await.unwrap();
    assert_eq!(listed(&path), []);
    // As if the process had ended: nothing more is written of the request.
    std::mem::forget(entry);
    let answered = journal.entry(intent("2"));
    answered.sending(hash_of_nothing()).await.unwrap();
    assert!(answered.answered().unwrap().await);
    let broken = journal.entry(intent("3"));
    broken.sending(hash_of_nothing()).await.unwrap();
    broken.answering();
    drop(broken);
    let unsent = journal.entry(intent("4"));
    unsent.sending(None).await.unwrap();
    unsent.unsent().await;
    drop(journal.entry(intent("5")));
    flush(&journal).await;
    assert_eq!(listed(&path), [("3".to_owned(), Phase::ResponseLost)]);
    let now = clock::wall();
    let try_to = |ids: &[&str]| resolve(&path, ids, "paid", now).unwrap();
    let unknown = |id: &str| Resolved::Unknown(id.to_owned());
    assert_eq!(try_to(&["1"]), unknown("1"));
    // All or none.
    assert_eq!(try_to(&["3", "2"]), unknown("2"));
    assert_eq!(listed(&path).len(), 1);
    assert_eq!(try_to(&["3"]), Resolved::Now);
    assert!(matches!(
        try_to(&["3"]),
        Resolved::Before(Resolution { request_id, note, .. }) if request_id == "3" && note == "paid"
    ));
    assert_eq!(listed(&path), []);
}

#[tokio::test]
async fn a_directory_belongs_to_one_process_and_what_it_left_open_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path().to_owned());
    let journal = Journal::open(&settings, series()).unwrap();
    let second = Journal::open(&settings, series());
    assert!(matches!(second, Err(Error::Taken(_))), "{second:?}");
    ended(journal, &directory);
    // As if its process had been killed.
    let store = Store::open(&settings).unwrap();
    let open = request_state::Transition {
        is_open: true,
        ..transition(Phase::HeadSent)
    };
    store.begin().unwrap();
    store.rows().insert(1, &intent("1"), &open).unwrap();
    store.commit().unwrap();
    assert_eq!(listed(directory.path()), []);
    drop(store);
    let expected = [("1".to_owned(), Phase::HeadSent)];
    assert_eq!(listed(directory.path()), expected);
    // Nor is it missing while the next one starts and has not closed it yet.
    let starting = std::fs::File::open(directory.path().join("lock")).unwrap();
    starting.lock().unwrap();
    assert_eq!(listed(directory.path()), expected);
    drop(starting);
    let journal = Journal::open(&settings, series()).unwrap();
    assert_eq!(listed(directory.path()), expected);
    drop(journal);
}

#[test]
fn there_is_nothing_to_read_where_no_journal_was_made() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(outcomes(directory.path()), Err(Error::Missing(_))));
    // What cannot be looked at may well be there.
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(outcomes(&file), Err(Error::Directory { .. })));
}

#[test]
fn nobody_else_may_read_the_files_of_a_directory_that_is_open_to_all() {
    let directory = tempfile::tempdir().unwrap();
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), all).unwrap();
    let store = Store::open(&settings(directory.path().to_owned())).unwrap();
    store.begin().unwrap();
    store
        .rows()
        .insert(1, &intent("1"), &transition(Phase::HeadSent))
        .unwrap();
    store.commit().unwrap();
    let files = std::fs::read_dir(directory.path()).unwrap();
    let modes = files.map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777);
    // The database, its log and what its readers share, and the locks.
    assert_eq!(modes.collect::<Vec<_>>(), [0o600; 5]);
}

/// A freeze that is not known to be in a fleet's store.
fn decided(provider: &str) -> KeptDecision {
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    KeptDecision {
        provider: provider.to_owned(),
        decision: Decision {
            is_frozen: true,
            since: made,
            until: Some(made + Duration::from_secs(1800)),
            by: Some("ann@host".into()),
            reason: Some("#17".into()),
        },
        made,
        number: None,
        after: 3,
    }
}

#[tokio::test]
async fn the_last_decision_on_each_provider_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path().to_owned()), series()).unwrap();
    let (payu, mut acme) = (decided("payu"), decided("acme"));
    journal.decide(acme.clone()).await.unwrap();
    journal.decide(payu.clone()).await.unwrap();
    acme.decision = Decision {
        is_frozen: false,
        until: None,
        by: None,
        reason: None,
        ..acme.decision
    };
    acme.number = Some(1 << 50);
    journal.decide(acme.clone()).await.unwrap();
    ended(journal, &directory);
    let journal = Journal::open(&settings(directory.path().to_owned()), series()).unwrap();
    assert_eq!(journal.decisions().await.unwrap(), [acme, payu]);
}

fn transition(phase: Phase) -> request_state::Transition {
    request_state::Transition {
        phase,
        hash: None,
        is_open: false,
    }
}

/// Rows in that phase until there is no room.
fn fill(store: &Store, phase: Phase) -> i64 {
    let first = store.next_id().unwrap();
    let mut id = first;
    while store.room().unwrap() > 0 {
        store.begin().unwrap();
        for _ in 0..16 {
            let name = id.to_string();
            store
                .rows()
                .insert(id, &large(&name), &transition(phase))
                .unwrap();
            id += 1;
        }
        store.commit().unwrap();
    }
    id - first
}

#[tokio::test]
async fn settled_requests_make_room_and_those_in_doubt_never_do() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path().to_owned());
    let store = Store::open(&settings).unwrap();
    assert!(fill(&store, Phase::Answered) > 100);
    drop(store);
    let journal = Journal::open(&settings, series()).unwrap();
    // Room is made for this one.
    let entry = journal.entry(intent("new"));
    entry.sending(None).await.unwrap();
    drop(entry);
    ended(journal, &directory);
    let store = Store::open(&settings).unwrap();
    let count = fill(&store, Phase::HeadSent) + 1;
    drop(store);
    let series = series();
    let journal = Journal::open(&settings, series.clone()).unwrap();
    for _ in 0..3 {
        let entry = journal.entry(intent("refused"));
        assert_eq!(entry.sending(None).await, Err(Unavailable));
    }
    flush(&journal).await;
    let listed = listed(directory.path());
    assert_eq!(i64::try_from(listed.len()).unwrap(), count);
    // Three that were refused; that nothing was sent of them needs no row.
    assert_eq!(series.failed.get(), 3);
    // Those that were resolved make room, too.
    for (id, _) in listed.iter().take(64) {
        resolve(directory.path(), &[id], "looked", clock::wall()).unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while journal.entry(intent("late")).sending(None).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let size = std::fs::metadata(directory.path().join("journal.sqlite")).unwrap();
    assert!(size.len() <= 1 << 20, "{}", size.len());
}

#[tokio::test]
async fn where_failures_are_only_warned_of_requests_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path().to_owned());
    let store = Store::open(&settings).unwrap();
    fill(&store, Phase::BodySent);
    drop(store);
    settings.on_failure = OnFailure::Warn;
    let series = series();
    let journal = Journal::open(&settings, series.clone()).unwrap();
    let entry = journal.entry(intent("1"));
    entry.sending(hash_of_nothing()).await.unwrap();
    // A later phase that cannot be written breaks nothing.
    let _ = entry.answered().unwrap().await;
    assert!(series.failed.get() >= 1);
}

#[test]
fn old_settled_requests_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(directory.path().to_owned())).unwrap();
    store.begin().unwrap();
    for (id, phase) in [
        (1, Phase::Answered),
        (2, Phase::HeadSent),
        (3, Phase::NotSent),
    ] {
        store
            .rows()
            .insert(id, &intent(&id.to_string()), &transition(phase))
            .unwrap();
    }
    store.commit().unwrap();
    let now = clock::wall();
    assert_eq!(
        store
            .forget(now.checked_sub(Duration::from_secs(60)), 1024)
            .unwrap(),
        0
    );
    let later = now + Duration::from_secs(60);
    assert_eq!(store.forget(Some(later), 1024).unwrap(), 2);
    assert_eq!(
        listed(directory.path()),
        [("2".to_owned(), Phase::HeadSent)]
    );
}

#[test]
fn no_phase_that_is_in_doubt_is_ever_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(directory.path().to_owned())).unwrap();
    let doubtful = [Phase::HeadSent, Phase::BodySent, Phase::ResponseLost];
    store.begin().unwrap();
    for (id, phase) in (1..).zip(doubtful) {
        let intent = intent(&id.to_string());
        store
            .rows()
            .insert(id, &intent, &transition(phase))
            .unwrap();
    }
    store.commit().unwrap();
    let later = clock::wall() + Duration::from_secs(60);
    assert_eq!(store.forget(Some(later), 1024).unwrap(), 0);
    assert_eq!(store.forget(None, 1024).unwrap(), 0);
    assert_eq!(
        listed(directory.path()),
        (1..)
            .zip(doubtful)
            .map(|(id, phase): (i32, _)| (id.to_string(), phase))
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_must_survive_the_loss_of_power_is_synchronised_and_nothing_else_is() {
    for sync in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let settings = config::Journal {
            sync,
            ..settings(directory.path().to_owned())
        };
        let series = series();
        let journal = Journal::open(&settings, series.clone()).unwrap();
        let syncs = |expected: u64| {
            let expected = if sync { expected } else { 0 };
            assert_eq!(series.syncs.get(), expected);
        };
        let entry = journal.entry(intent("1"));
        let observer = entry.body_observer(None);
        entry.sending(None).await.unwrap();
        syncs(1);
        assert!(observer.body([7; 32]).unwrap().await);
        syncs(2);
        entry.answering();
        assert!(entry.answered().unwrap().await);
        drop(entry);
        flush(&journal).await;
        syncs(2);
        let mut decided = decided("acme");
        journal.decide(decided.clone()).await.unwrap();
        syncs(3);
        decided.decision.is_frozen = false;
        journal.decide(decided).await.unwrap();
        syncs(4);
    }
}

#[tokio::test]
async fn of_each_request_in_a_batch_the_last_phase_alone_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path().to_owned()), series()).unwrap();
    let entry = journal.entry(intent("1"));
    entry.sending(hash_of_nothing()).await.unwrap();
    let other = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    let watch = "CREATE TABLE changes (phase INTEGER);
        CREATE TRIGGER change AFTER UPDATE ON requests BEGIN INSERT INTO changes VALUES (NEW.phase); END;
        BEGIN IMMEDIATE;";
    other.execute_batch(watch).unwrap();
    // It keeps the thread waiting, until all of the others are there.
    drop(journal.entry(intent("2")));
    entry.answering();
    let answered = entry.answered().unwrap();
    other.execute_batch("COMMIT").unwrap();
    assert!(answered.await);
    let changes = "SELECT group_concat(phase) FROM changes";
    let changes: String = other.query_row(changes, [], |row| row.get(0)).unwrap();
    assert_eq!(changes, Phase::Answered.number().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_refused_because_its_row_came_late_is_not_in_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path().to_owned()), series()).unwrap();
    let other = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let entry = journal.entry(intent("late"));
    // Time passes while nothing else happens here, so that the wait is over at once.
    assert_eq!(entry.sending(None).await, Err(Unavailable));
    // As if the process ended now: nothing more is written of the request.
    std::mem::forget(entry);
    tokio::time::resume();
    other.execute_batch("ROLLBACK").unwrap();
    flush(&journal).await;
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.sqlite", "journal.sqlite-wal"] {
        std::fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    drop(Store::open(&settings(copy.path().to_owned())).unwrap());
    assert_eq!(listed(copy.path()), []);
}

#[tokio::test]
async fn a_small_body_that_breaks_off_is_known_to_before_it_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path().to_owned()), series()).unwrap();
    for (is_broken, expected) in [(false, hash_of_nothing()), (true, None)] {
        let entry = journal.entry(intent("1"));
        let (sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        match is_broken {
            true => sender.abort(std::io::ErrorKind::UnexpectedEof.into()),
            false => drop(sender),
        }
        let mut body = HashingBody::new(Limited(body), entry.body_observer(None));
        assert_eq!(body.gather().await, expected);
        assert_eq!(body.is_broken(), is_broken);
    }
}

/// A body that says that it is small.
struct Limited(Channel<Bytes, std::io::Error>);

impl Body for Limited {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_upper(5);
        hint
    }
}

#[tokio::test]
async fn how_a_request_ended_is_written_however_many_others_wait_to_be_sent() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path().to_owned());
    settings.max_size = 64 << 20;
    let journal = Journal::open(&settings, series()).unwrap();
    let under_way = journal.entry(intent("under way"));
    under_way.sending(hash_of_nothing()).await.unwrap();
    // Somebody looks at the file by other means, and forgets it.
    let other = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Vec::new();
    for id in 0..queue::MAX_SENDING {
        let entry = journal.entry(intent(&id.to_string()));
        let mut sending = Box::pin(async move { entry.sending(None).await });
        assert!(is_pending_now(&mut sending).await);
        waiting.push(sending);
    }
    let refused = journal.entry(intent("refused"));
    assert_eq!(refused.sending(None).await, Err(Unavailable));
    drop((refused, under_way, waiting));
    other.execute_batch("ROLLBACK").unwrap();
    let expected = [("under way".to_owned(), Phase::BodySent)];
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while listed(directory.path()) != expected {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(journal.entry(intent("late")).sending(None).await, Ok(()));
}

async fn is_pending_now(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending()))
        .await
}

/// The length of SQLite's log.
fn log_length(directory: &Path) -> u64 {
    let found = std::fs::metadata(directory.join("journal.sqlite-wal"));
    found.unwrap().len()
}

async fn settle(journal: &Journal, count: usize) -> usize {
    let mut written = 0;
    for number in 0..count {
        let entry = journal.entry(large(&number.to_string()));
        if entry.sending(None).await.is_ok() {
            written += 1;
            entry.unsent().await;
        }
    }
    written
}

#[test]
fn the_pages_that_came_to_its_log_are_known_and_those_of_others_too() {
    const PAGE_IN_LOG: u64 = 24 + files::PAGE_BYTES as u64;
    const HEADER: u64 = 32;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(directory.path().to_owned())).unwrap();
    let commit = |store: &Store, id| {
        store.begin().unwrap();
        let (mut rows, settled) = (store.rows(), transition(Phase::Answered));
        rows.put(id, &intent("r"), &settled, true, true).unwrap();
        drop(rows);
        store.commit().unwrap();
    };
    commit(&store, 1);
    let of_first = store.newly_logged();
    assert_eq!(store.newly_logged(), 0);
    let before = log_length(directory.path());
    commit(&Store::read(directory.path()).unwrap(), 2);
    commit(&store, 3);
    let grown = log_length(directory.path()) - before;
    assert_eq!(store.newly_logged(), grown / PAGE_IN_LOG);
    assert!(of_first > 0 && before > HEADER);
    // It begins anew.
    assert!(store.checkpoint().unwrap());
    commit(&store, 4);
    assert!((1..=of_first).contains(&store.newly_logged()));
}

#[tokio::test]
async fn its_log_stays_short_and_begins_anew_where_nobody_reads_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&settings(directory.path().to_owned()), series()).unwrap();
    assert_eq!(settle(&journal, 3000).await, 3000);
    assert!(
        log_length(directory.path()) < 6 << 20,
        "{}",
        log_length(directory.path())
    );
}

#[tokio::test]
async fn while_somebody_reads_for_long_its_log_has_a_bound_and_nothing_in_doubt_is_lost() {
    const BOUND: u64 = 32 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let series = series();
    let journal = Journal::open(&settings(path.to_owned()), series.clone()).unwrap();
    let under_way = journal.entry(intent("under way"));
    under_way.sending(hash_of_nothing()).await.unwrap();
    let reader = rusqlite::Connection::open(path.join("journal.sqlite")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |sql: &str| -> i64 { reader.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM requests"), 1);
    let mut written = 0;
    while settle(&journal, 1).await == 1 {
        written += 1;
        assert!(written < 20_000, "nothing bounds its log");
    }
    let long = log_length(path);
    assert!((BOUND / 2..BOUND).contains(&long), "{long}");
    assert_eq!(series.max_bytes.get().cast_unsigned(), BOUND + (1 << 20));
    // What is under way has room.
    assert!(under_way.answered().unwrap().await);
    let doubtful = journal.entry(intent("doubtful"));
    assert!(doubtful.sending(None).await.is_err());
    drop(doubtful);
    assert_eq!(listed(path), []);
    // Nobody has to restart it.
    reader.execute_batch("COMMIT").unwrap();
    let soon = tokio::time::Instant::now() + Duration::from_secs(20);
    while settle(&journal, 1).await == 0 {
        assert!(tokio::time::Instant::now() < soon, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(log_length(path) < 6 << 20, "{}", log_length(path));
}

#[tokio::test]
async fn all_its_files_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let series = series();
    let journal = Journal::open(&settings(path.to_owned()), series.clone()).unwrap();
    settle(&journal, 50).await;
    let all = || {
        let files = ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"];
        let lengths = files.map(|file| std::fs::metadata(path.join(file)).unwrap().len());
        lengths.iter().sum::<u64>()
    };
    let soon = tokio::time::Instant::now() + Duration::from_secs(20);
    while series.bytes.get().cast_unsigned() != all() {
        assert!(tokio::time::Instant::now() < soon, "{:?}", series.bytes);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(log_length(path) > 0 && series.disk_free.get() > 0);
}
