//! The mirror of a journal at a real store, while the journal changes or cannot be written.

use std::path::Path;
use std::sync::OnceLock;

use bursar_base::clock;
use bursar_config::Config;
use bursar_fleet::store::{Event, Events};
use bursar_journal::{Entry, Intent, hash_of_nothing};
use bursar_telemetry::metrics::Metrics;
use bursar_testkit::store::{Server, Store};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// An instance with a journal.
struct Instance {
    mirrored: Mirrored,
    task: Task,
    directory: TempDir,
    _events: Events,
}

impl Instance {
    async fn of(store: &Store) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let yaml = format!(
            "fleet: {{url: '{}', keys: [{KEY}]}}
journal: {{path: {}}}
providers: {{a: {{hosts: [a.test], client_id: a, client_secret: b, token: {{url: 'https://b.test/'}}}}}}",
            store.url(),
            directory.path().join("journal").display()
        );
        let config = Config::parse(&yaml, Path::new("")).unwrap();
        let metrics = Metrics::new(&config).unwrap();
        let (settings, series) = (config.fleet.as_ref().unwrap(), metrics.fleet.clone());
        let description = Description::default();
        let (fleet, mut events) = Fleet::start(settings, description, series.unwrap()).unwrap();
        while events.next().await.unwrap() != Event::Up {}
        let settings = config.journal.unwrap();
        let mirrored = Mirrored {
            fleet,
            journal: Journal::open(&settings, metrics.journal.clone()).unwrap(),
            directory: settings.path,
            instance: Description::default(),
        };
        Self {
            task: Task::begin(&mirrored).await.unwrap(),
            mirrored,
            directory,
            _events: events,
        }
    }

    /// A request that is under way.
    async fn begin(&self, id: &str) -> Entry {
        let name = |name: &str| -> Arc<str> { name.into() };
        let entry = self.mirrored.journal.entry(Intent {
            time: clock::wall(),
            request_id: id.to_owned(),
            caller: name("checkout"),
            provider: name("a"),
            account: name("default"),
            route: name("POST /pay"),
            method: "POST".to_owned(),
            path: "/pay".to_owned(),
            idempotency_key: OnceLock::new(),
            reference: None,
            caller_request_id: None,
            trace_id: None,
        });
        entry.sending(hash_of_nothing()).await.unwrap();
        entry
    }

    async fn look(&mut self) -> Result<(), Error> {
        self.task.touched = None;
        self.task.look(&self.mirrored, false).await
    }

    fn execute(&self, sql: &str) {
        let file = self.directory.path().join("journal/journal.sqlite");
        Connection::open(file).unwrap().execute_batch(sql).unwrap();
    }
}

#[tokio::test]
async fn rows_are_known_again_though_requests_are_settled_while_they_are_written() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut instance = Instance::of(&store).await;
    let (first, second) = (instance.begin("1").await, instance.begin("2").await);
    let fleet = instance.mirrored.fleet.clone();
    let task = &mut instance.task;
    task.view.read().await.unwrap();
    task.write(&fleet, true, true).await.unwrap();
    assert_eq!(task.rows.count, 2);
    task.is_unsure = true;
    task.view.read().await.unwrap();
    assert!(first.answered().unwrap().await);
    task.write(&fleet, true, true).await.unwrap();
    assert_eq!((task.rows.count, task.is_unsure), (1, false));
    drop(second);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_keeps_its_name_in_the_store() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut instance = Instance::of(&store).await;
    instance.look().await.unwrap();
    let name = instance.task.state.journal.clone();
    instance.execute(
        "CREATE TRIGGER full BEFORE UPDATE ON mirror BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    // Whoever comes makes the store say something new.
    Instance::of(&store).await.look().await.unwrap();
    for _ in 0..3 {
        instance.look().await.unwrap();
    }
    assert_eq!(instance.task.state.journal, name);
    assert_ne!(instance.task.state, instance.task.remembered);
    // Somebody else has written for it, which costs it the name: not before the file has the new one.
    instance.task.told = None;
    instance.task.state.processes = vec![random_text()];
    let looked = instance.look().await;
    assert!(matches!(looked, Err(Error::Unavailable(_))), "{looked:?}");
    assert_eq!(instance.task.state.journal, name);
    instance.execute("DROP TRIGGER full");
    let looked = instance.look().await;
    assert!(matches!(looked, Err(Error::NotYet)), "{looked:?}");
    instance.look().await.unwrap();
    assert_ne!(instance.task.state.journal, name);
    let kept = instance.mirrored.journal.mirror_state().await.unwrap();
    assert_eq!(kept, instance.task.state);
}
