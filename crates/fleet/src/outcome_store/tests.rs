//! Mirrors of journals on real stores that lose what they had.

use bursar_testkit::store::resp::Value;
use bursar_testkit::store::{Server, Store};

use super::*;
use crate::tests::{KEY, join};

/// A journal whose instance touches it, and what that was told last.
struct Journal {
    fleet: Fleet,
    name: &'static str,
    known: Option<Vec<KnownJournal>>,
    told: Touched,
}

impl Journal {
    async fn of(store: &Store, name: &'static str) -> Self {
        let (fleet, _events) = join(store, KEY, Description::default()).await;
        let told = Touched {
            epoch: String::new(),
            seen: Seen::default(),
            heard: 0,
            is_shared: false,
            known: Vec::new(),
        };
        Self {
            fleet,
            name,
            known: None,
            told,
        }
    }

    /// As its instance does once a second.
    async fn touch(&mut self, rows: u64, signed_off: bool) {
        let of = MirroredJournal {
            instance: Description {
                name: self.name.to_owned(),
                ..Description::default()
            },
            signed_off,
            unmirrored: 0,
            rows,
            note: None,
        };
        let touch = Touch {
            journal: self.name,
            of: &of,
            has_rows: rows > 0,
            epoch: &self.told.epoch,
            known: self.known.as_deref(),
            seen: self.told.seen,
            heard: self.told.heard,
        };
        let told = self.fleet.touch_journal(touch).await.unwrap();
        let is_news = told.epoch != self.told.epoch || told.seen != self.told.seen;
        if is_news || self.known.is_none() {
            self.known = Some(told.known.clone());
        }
        self.told = told;
    }

    /// Its instance ends, and another one begins that knows what the journal's file has.
    fn restart(&mut self) {
        self.known = None;
        self.told.heard = 0;
    }

    /// What an operator sees of another journal.
    async fn sees(&self, name: &str) -> Option<ListedJournal> {
        let listed = self.fleet.journals().await.unwrap().journals;
        let is_it = |one: &ListedJournal| {
            let journal = one.journal.as_ref();
            journal.is_some_and(|journal| journal.instance.name == name)
        };
        listed.into_iter().find(is_it)
    }

    async fn sees_loss(&self) -> bool {
        self.fleet.journals().await.unwrap().is_lost
    }
}

/// What a store had, to be brought back.
struct Copy(Vec<(String, Vec<u8>)>);

impl Copy {
    async fn of(store: &Store) -> Self {
        let mut operator = store.connect_as_operator().await;
        let mut all = Vec::new();
        for part in ["", ":seen"] {
            let key = format!("bursar:bursar:{{journals}}{part}");
            let Value::Bytes(dump) = operator.call(&["DUMP", &key]).await else {
                panic!("there is no {key}");
            };
            all.push((key, dump));
        }
        Self(all)
    }

    async fn bring_back(&self, store: &Store) {
        let mut operator = store.connect_as_operator().await;
        for (key, dump) in &self.0 {
            let restore: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), b"0", dump, b"REPLACE"];
            operator.call(&restore).await;
        }
    }
}

async fn two() -> Option<(Store, Journal, Journal)> {
    let store = Server::redis().await?.start().await;
    let one = Journal::of(&store, "one").await;
    let two = Journal::of(&store, "two").await;
    Some((store, one, two))
}

#[tokio::test]
async fn a_journal_that_was_signed_off_with_rows_is_known_to_have_lost_them_with_the_store() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    two.touch(1, true).await;
    one.touch(0, false).await;
    store.connect_as_operator().await.call(&["FLUSHALL"]).await;
    one.touch(0, false).await;
    let seen = one.sees("two").await.unwrap();
    assert!(seen.has_lost_rows, "{seen:?}");
    assert!(!one.sees_loss().await);
    // It is opened again, and has them.
    two.touch(1, false).await;
    assert!(!one.sees("two").await.unwrap().has_lost_rows);
}

#[tokio::test]
async fn what_an_older_copy_of_the_store_does_not_have_is_told_by_those_who_know_it() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch(0, false).await;
    let copy = Copy::of(&store).await;
    two.touch(1, false).await;
    one.touch(0, false).await;
    copy.bring_back(&store).await;
    let epoch = one.told.epoch.clone();
    assert!(one.sees("two").await.is_none());
    one.touch(0, false).await;
    assert!(one.sees("two").await.unwrap().has_lost_rows);
    assert_ne!(one.told.epoch, epoch);
    // Nothing is lost any more: the next touches leave it at that.
    let epoch = one.told.epoch.clone();
    two.touch(1, false).await;
    one.touch(0, false).await;
    assert_eq!((&one.told.epoch, &two.told.epoch), (&epoch, &epoch));
    assert!(!one.sees_loss().await);
}

#[tokio::test]
async fn an_older_copy_that_says_something_else_of_a_journal_is_corrected() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    two.touch(1, true).await;
    let minute_ago = std::time::UNIX_EPOCH.elapsed().unwrap() - Duration::from_secs(60);
    let (score, name) = (
        minute_ago.as_millis().to_string(),
        two.fleet.journal_name("two"),
    );
    let set_back = ["ZADD", "bursar:bursar:{journals}:seen", &score, &name];
    store.connect_as_operator().await.call(&set_back).await;
    let copy = Copy::of(&store).await;
    two.told.heard = 0;
    two.touch(1, false).await;
    one.touch(0, false).await;
    copy.bring_back(&store).await;
    one.touch(0, false).await;
    let seen = one.sees("two").await.unwrap();
    assert!(
        seen.has_lost_rows && !seen.journal.as_ref().unwrap().signed_off,
        "{seen:?}"
    );
}

#[tokio::test]
async fn where_all_have_ended_what_the_store_has_lost_is_said_until_as_many_are_back() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch(0, false).await;
    two.touch(1, false).await;
    one.touch(0, false).await;
    one.restart();
    two.restart();
    store.connect_as_operator().await.call(&["FLUSHALL"]).await;
    one.touch(0, false).await;
    assert!(one.sees_loss().await);
    two.touch(1, false).await;
    assert!(!one.sees_loss().await);
}

#[tokio::test]
async fn a_journal_that_is_opened_again_notices_an_older_copy_of_the_store() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch(0, false).await;
    let copy = Copy::of(&store).await;
    two.touch(1, false).await;
    one.touch(0, false).await;
    one.restart();
    copy.bring_back(&store).await;
    one.touch(0, false).await;
    assert!(one.sees_loss().await);
}

#[tokio::test]
async fn whoever_was_there_all_the_time_knows_better_than_those_who_come_back() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    two.touch(0, false).await;
    one.touch(0, false).await;
    two.touch(0, false).await;
    two.restart();
    store.connect_as_operator().await.call(&["FLUSHALL"]).await;
    two.touch(0, false).await;
    assert!(one.sees_loss().await);
    one.touch(0, false).await;
    assert!(!one.sees_loss().await);
}

#[tokio::test]
async fn two_instances_that_have_one_journal_are_told_so_for_as_long_as_both_have_it() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    let mut copied = Journal::of(&store, "one").await;
    one.touch(0, false).await;
    two.touch(0, false).await;
    copied.touch(0, false).await;
    for _ in 0..2 {
        one.touch(0, false).await;
        assert!(one.told.is_shared && two.sees("one").await.unwrap().is_shared);
        copied.touch(0, false).await;
        assert!(copied.told.is_shared && two.sees("one").await.unwrap().is_shared);
    }
    two.touch(0, false).await;
    assert!(!two.told.is_shared);
    one.touch(0, false).await;
    one.touch(0, false).await;
    assert!(!one.told.is_shared && !two.sees("one").await.unwrap().is_shared);
    // Another process goes on with the journal: the one before has ended.
    let mut next = Journal::of(&store, "one").await;
    next.touch(0, false).await;
    next.touch(0, false).await;
    assert!(!next.told.is_shared);
}

#[tokio::test]
async fn who_was_heard_of_by_a_clock_ahead_or_when_nobody_knows_is_not_alive_and_still_listed() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch(0, false).await;
    two.touch(1, false).await;
    assert!(one.sees("two").await.unwrap().seen < SILENCE);
    let mut operator = store.connect_as_operator().await;
    let seen = "bursar:bursar:{journals}:seen";
    let later = std::time::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(600);
    let (score, name) = (later.as_millis().to_string(), two.fleet.journal_name("two"));
    operator.call(&["ZADD", seen, &score, &name]).await;
    one.touch(0, false).await;
    assert_eq!(one.told.seen.silent, 1);
    assert!(one.sees("two").await.unwrap().seen > SILENCE);
    operator.call(&["DEL", seen]).await;
    assert!(one.sees("two").await.unwrap().seen > SILENCE);
}
