//! Mirrors of journals on real stores that lose what they had.

use bursar_testkit::store::resp::Value;
use bursar_testkit::store::{Server, Store};

use super::*;
use crate::outcome_rows::{Row, RowChange, RowSet};
use crate::tests::{KEY, join};

const SEEN: &str = "bursar:bursar:{journals}:seen";

/// A journal whose instance touches it, and what that was told last.
struct Journal {
    fleet: Fleet,
    name: &'static str,
    processes: Vec<String>,
    epoch: String,
    seen: Seen,
    told: Option<Told>,
}

impl Journal {
    async fn of(store: &Store, name: &'static str) -> Self {
        let (fleet, _events) = join(store, KEY, Description::default()).await;
        Self {
            fleet,
            name,
            processes: vec![random_text()],
            epoch: String::new(),
            seen: Seen::default(),
            told: None,
        }
    }

    async fn try_touch(&mut self, rows: Option<RowState>, signed_off: bool) -> Touched {
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
            processes: &self.processes,
            epoch: &self.epoch,
            version: self.seen.version,
            before: self.told.as_ref(),
            is_unsure: false,
        };
        let touched = self.fleet.touch_journal(touch).await.unwrap();
        if let Touched::Yes(told) = &touched {
            self.epoch.clone_from(&told.epoch);
            self.seen = told.seen;
            self.told = Some(told.clone());
        }
        touched
    }

    /// As its instance does once a second.
    async fn touch(&mut self) {
        let touched = self.try_touch(Some(RowState::default()), false).await;
        assert!(matches!(touched, Touched::Yes(_)), "{touched:?}");
    }

    /// Its instance ends.
    async fn sign_off(&mut self, count: u64) {
        let tag = "0123456789abcdef".to_owned();
        self.try_touch(Some(RowState { tag, count }), true).await;
    }

    /// Another process begins, which knows what the journal's file has.
    fn restart(&mut self) {
        self.told = None;
        self.seen = Seen {
            version: self.seen.version,
            ..Seen::default()
        };
        self.processes.insert(0, random_text());
    }

    /// What an operator sees of a journal.
    async fn sees(&self, name: &str) -> Option<MirroredJournal> {
        let listed = self.fleet.journals().await.unwrap().journals;
        let journals = listed.into_iter().filter_map(|one| one.journal);
        let mut journals = journals.filter(|journal| journal.instance.name == name);
        journals.next()
    }

    async fn sees_loss(&self) -> bool {
        self.fleet.journals().await.unwrap().lost.is_some()
    }

    /// An operator says that nothing is lost.
    async fn settle(&self) {
        let epoch = self.fleet.journals().await.unwrap().epoch;
        let settled = self.fleet.settle_loss(&epoch, b"settled").await.unwrap();
        assert_eq!(settled, Change::Done);
        assert!(!self.sees_loss().await);
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

/// A fleet of which nothing is unknown.
async fn two() -> Option<(Store, Journal, Journal)> {
    let store = Server::redis().await?.start().await;
    let one = Journal::of(&store, "one").await;
    let two = Journal::of(&store, "two").await;
    one.settle().await;
    Some((store, one, two))
}

async fn empty(store: &Store) {
    store.connect_as_operator().await.call(&["FLUSHALL"]).await;
}

#[tokio::test]
async fn a_store_is_new_until_a_journal_comes_that_was_in_a_fleet_before() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    two.touch().await;
    two.restart();
    empty(&store).await;
    one.touch().await;
    assert!(!one.sees_loss().await);
    two.touch().await;
    assert!(one.sees_loss().await);
}

#[tokio::test]
async fn a_store_that_is_lost_again_is_still_new_to_a_journal_from_before_the_first_time() {
    for is_back_first in [false, true] {
        let Some((store, mut early, mut late)) = two().await else {
            return;
        };
        empty(&store).await;
        early.touch().await;
        early.restart();
        empty(&store).await;
        late.touch().await;
        let mut other = Journal::of(&store, "other").await;
        other.touch().await;
        other.restart();
        late.touch().await;
        empty(&store).await;
        // It was in what is known of, and nothing is said against it.
        other.touch().await;
        if is_back_first {
            early.touch().await;
        }
        late.touch().await;
        assert_eq!(late.sees_loss().await, is_back_first);
        early.touch().await;
        assert!(late.sees_loss().await);
        late.settle().await;
        early.sign_off(0).await;
        early.restart();
        late.touch().await;
        // What was settled stays so.
        empty(&store).await;
        late.touch().await;
        early.touch().await;
        assert!(!late.sees_loss().await);
    }
}

#[tokio::test]
async fn what_is_known_of_other_journals_is_sent_where_the_store_lacks_it_alone() {
    let Some((store, mut one, _two)) = two().await else {
        return;
    };
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        Journal::of(&store, name).await.touch().await;
    }
    one.touch().await;
    let mut operator = store.connect_as_operator().await;
    let mut input = async || {
        let stats = operator.call(&["INFO", "stats"]).await.text();
        let mut lines = stats.lines();
        let bytes = lines.find_map(|line| line.strip_prefix("total_net_input_bytes:"));
        bytes.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = input().await;
    one.touch().await;
    let touched = input().await - before;
    empty(&store).await;
    let before = input().await;
    one.touch().await;
    let told = input().await - before;
    assert!(touched < 800 && told > 3 * touched, "{touched} {told}");
    assert_eq!(one.seen.count, 9);
}

#[tokio::test]
async fn an_entry_of_a_version_that_named_no_process_is_its_journals_own() {
    let Some((store, mut one, _two)) = two().await else {
        return;
    };
    one.touch().await;
    let names = one.fleet.keys().names(KIND, b"one");
    let name = names.first();
    let text = br#"{"instance":{},"signed_off":false,"unmirrored":0,"note":null}"#;
    let binding = Binding::unnumbered(name, KIND);
    let sealed = one.fleet.keys().seal(binding, text).unwrap();
    let value = [b"1", &*sealed].concat();
    let mut operator = store.connect_as_operator().await;
    let write: [&[u8]; 4] = [
        b"HSET",
        b"bursar:bursar:{journals}",
        name.as_bytes(),
        &value,
    ];
    operator.call(&write).await;
    one.restart();
    one.touch().await;
    assert!(one.sees("one").await.is_some());
}

#[tokio::test]
async fn what_an_emptied_store_had_before_is_not_known_until_somebody_says_so() {
    let Some((store, mut one, _two)) = two().await else {
        return;
    };
    one.touch().await;
    one.restart();
    empty(&store).await;
    one.touch().await;
    assert!(one.sees_loss().await);
    let stale = one.fleet.settle_loss("0123456789abcdef", b"").await;
    assert_eq!(stale.unwrap(), Change::Refused);
    one.settle().await;
    one.touch().await;
    assert!(!one.sees_loss().await);
    let said = one.fleet.journals().await.unwrap().said.unwrap();
    assert_eq!(&**said, b"settled");
}

#[tokio::test]
async fn a_journal_that_was_signed_off_is_told_again_with_the_rows_that_it_had() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    two.sign_off(1).await;
    one.touch().await;
    empty(&store).await;
    one.touch().await;
    let seen = one.sees("two").await.unwrap();
    assert_eq!(seen.rows.unwrap().count, 1);
    assert!(seen.signed_off && !one.sees_loss().await);
}

#[tokio::test]
async fn what_an_older_copy_of_the_store_does_not_have_is_told_by_those_who_know_it() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch().await;
    let copy = Copy::of(&store).await;
    two.touch().await;
    one.touch().await;
    copy.bring_back(&store).await;
    let epoch = one.epoch.clone();
    assert!(one.sees("two").await.is_none());
    one.touch().await;
    assert!(one.sees("two").await.is_some());
    assert_ne!(one.epoch, epoch);
    // Nothing is lost any more: the next touches leave it at that.
    let epoch = one.epoch.clone();
    two.touch().await;
    one.touch().await;
    assert_eq!((&one.epoch, &two.epoch), (&epoch, &epoch));
    assert!(!one.sees_loss().await);
}

#[tokio::test]
async fn an_older_copy_that_says_something_else_of_a_journal_is_corrected() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    two.sign_off(1).await;
    let minute_ago = std::time::UNIX_EPOCH.elapsed().unwrap() - Duration::from_secs(60);
    let (score, name) = (
        minute_ago.as_millis().to_string(),
        two.fleet.journal_name("two"),
    );
    let mut operator = store.connect_as_operator().await;
    operator.call(&["ZADD", SEEN, &score, &name]).await;
    one.touch().await;
    let copy = Copy::of(&store).await;
    two.restart();
    two.touch().await;
    one.touch().await;
    copy.bring_back(&store).await;
    assert!(one.sees("two").await.unwrap().signed_off);
    one.touch().await;
    assert!(!one.sees("two").await.unwrap().signed_off);
}

#[tokio::test]
async fn where_nobody_was_there_all_the_time_something_may_be_lost() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch().await;
    two.touch().await;
    two.sign_off(0).await;
    two.restart();
    empty(&store).await;
    // It remembers what there was, but not what came since.
    two.touch().await;
    assert!(one.sees_loss().await);
    // This one was told of everything.
    one.touch().await;
    assert!(!one.sees_loss().await);
    assert!(one.sees("two").await.is_some());
}

#[tokio::test]
async fn a_journal_that_is_opened_again_notices_an_older_copy_of_the_store() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch().await;
    one.sign_off(1).await;
    let copy = Copy::of(&store).await;
    one.restart();
    two.touch().await;
    one.touch().await;
    one.sign_off(1).await;
    one.restart();
    copy.bring_back(&store).await;
    // Neither of the two is told of again by somebody who was there.
    one.processes.truncate(3);
    one.touch().await;
    assert!(one.sees_loss().await);
}

#[tokio::test]
async fn a_list_of_journals_or_of_when_they_were_heard_that_is_lost_alone_loses_nobody() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    let mut operator = store.connect_as_operator().await;
    one.touch().await;
    two.sign_off(1).await;
    one.touch().await;
    operator.call(&["DEL", SEEN]).await;
    let listed = one.fleet.journals().await.unwrap().journals;
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|journal| journal.seen > SILENCE));
    one.touch().await;
    assert_eq!(one.seen.count, 2);
    operator.call(&["DEL", "bursar:bursar:{journals}"]).await;
    one.touch().await;
    assert!(one.sees("two").await.is_some() && !one.sees_loss().await);
}

#[tokio::test]
async fn an_instance_that_was_heard_of_in_the_future_is_not_heard_of() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.touch().await;
    two.touch().await;
    let mut operator = store.connect_as_operator().await;
    let name = two.fleet.journal_name("two");
    operator.call(&["ZINCRBY", SEEN, "600000", &name]).await;
    let listed = one.fleet.journal(&name).await.unwrap().unwrap();
    assert!(listed.seen > SILENCE, "{listed:?}");
    one.touch().await;
    assert_eq!(one.seen.silent, 1);
}

#[tokio::test]
async fn only_a_process_that_comes_after_the_one_before_writes_for_a_journal() {
    let Some((store, mut one, _two)) = two().await else {
        return;
    };
    one.touch().await;
    // It goes on with a copy of the file, older or not: what the other one has written is not its own.
    let mut copied = Journal::of(&store, "one").await;
    copied.processes.push("0123456789abcdef".to_owned());
    let touched = copied.try_touch(None, false).await;
    assert!(matches!(touched, Touched::ByAnother), "{touched:?}");
    // The copy was made while it wrote, and it still does.
    copied.processes.push(one.processes[0].clone());
    let touched = copied.try_touch(None, false).await;
    assert!(matches!(touched, Touched::NotYet), "{touched:?}");
    one.touch().await;
    one.sign_off(1).await;
    copied.touch().await;
    let touched = one.try_touch(None, false).await;
    assert!(matches!(touched, Touched::ByAnother), "{touched:?}");
    // The machine was copied, with the process.
    let mut twin = Journal::of(&store, "one").await;
    twin.processes.clone_from(&copied.processes);
    twin.epoch.clone_from(&copied.epoch);
    twin.told.clone_from(&copied.told);
    twin.seen = copied.seen;
    tokio::time::sleep(Duration::from_millis(2)).await;
    twin.touch().await;
    let touched = copied.try_touch(None, false).await;
    assert!(matches!(touched, Touched::ByAnother), "{touched:?}");
}

#[tokio::test]
async fn whoever_may_not_write_its_journals_value_is_not_heard_of() {
    let Some((store, mut one, _two)) = two().await else {
        return;
    };
    one.touch().await;
    let name = one.fleet.journal_name("one");
    let before = one.fleet.journal(&name).await.unwrap().unwrap().heard;
    let mut operator = store.connect_as_operator().await;
    operator.call(&["ACL", "SETUSER", "default", "-hset"]).await;
    let told = one.told.take();
    let of = MirroredJournal {
        instance: Description::default(),
        signed_off: false,
        unmirrored: 0,
        rows: None,
        note: None,
    };
    let touch = Touch {
        journal: "one",
        of: &of,
        processes: &one.processes,
        epoch: &one.epoch,
        version: one.seen.version,
        before: told.as_ref(),
        is_unsure: true,
    };
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(one.fleet.touch_journal(touch).await.is_err());
    let listed = one.fleet.journal(&name).await.unwrap().unwrap();
    assert_eq!(listed.heard, before);
}

#[tokio::test]
async fn rows_are_written_only_where_they_are_as_they_were_left() {
    let Some((store, one, _two)) = two().await else {
        return;
    };
    let row = |number| Row {
        number,
        text: Zeroizing::new(b"a request".to_vec()),
    };
    let write = async |tag: &str, removed: &[String], rows: &[Row]| {
        let change = RowChange { tag, removed, rows };
        one.fleet.write_rows("one", change).await.unwrap()
    };
    let rows: Vec<Row> = (0..100).map(row).collect();
    let written = write("", &[], &rows).await.unwrap();
    assert_eq!(written.count, 100);
    // With nothing to write it is a look.
    assert_eq!(write(&written.tag, &[], &[]).await.as_ref(), Some(&written));
    assert_eq!(write("", &[], &[row(100)]).await, None);
    let name = one.fleet.journal_name("one");
    let found = one.fleet.rows(&name, RowSet::Listed).await.unwrap();
    assert!(found.are_whole() && found.state == written);
    let resolved = [(one.fleet.row_name("one", 7), b"paid".to_vec())];
    let others = one.fleet.resolve_rows(&name, "", &resolved).await;
    assert_eq!(others.unwrap(), None);
    let left = one.fleet.resolve_rows(&name, &written.tag, &resolved).await;
    let left = left.unwrap().unwrap();
    assert!(left.count == 99 && left.tag != written.tag);
    // Its own instance notices.
    assert_eq!(write(&written.tag, &[], &[]).await, None);
    let names = one.fleet.row_names("one").await.unwrap().names;
    let nothing = write(&left.tag, &names, &[]).await.unwrap();
    assert_eq!(nothing, RowState::default());
    let key = format!("bursar:bursar:{{{name}}}");
    let mut operator = store.connect_as_operator().await;
    assert_eq!(operator.call(&["EXISTS", &key]).await.text(), "0");
}

#[tokio::test]
async fn a_store_whose_clock_was_set_back_does_not_seem_new_until_the_clock_is_there_again() {
    let Some((store, mut one, _two)) = two().await else {
        return;
    };
    one.touch().await;
    let mut operator = store.connect_as_operator().await;
    let key = "bursar:bursar:{journals}";
    let time = operator.call(&["TIME"]).await;
    let seconds: u64 = time.parts()[0].text().parse().unwrap();
    // As it is where the clock was an hour ahead when that was written.
    let since = ((seconds + 3600) * 1000).to_string();
    operator.call(&["HSET", key, "since", &since]).await;
    let epoch = one.fleet.journals().await.unwrap().epoch;
    one.touch().await;
    bursar_testkit::eventually(|| async {
        let listed = one.fleet.journals().await.unwrap();
        assert_eq!(listed.epoch, epoch);
        listed.since > Duration::from_millis(20)
    })
    .await;
    assert!(!one.sees_loss().await);
}

#[tokio::test]
async fn an_older_copy_from_before_the_store_was_lost_says_nothing_of_what_was_there_since() {
    let Some((store, mut one, mut two)) = two().await else {
        return;
    };
    one.sign_off(0).await;
    two.sign_off(0).await;
    let copy = Copy::of(&store).await;
    one.restart();
    two.restart();
    empty(&store).await;
    two.touch().await;
    one.touch().await;
    // Nobody was there all the time, and so it is still when the copy is back.
    assert!(one.sees_loss().await);
    copy.bring_back(&store).await;
    assert!(!one.sees_loss().await);
    let before = one.epoch.clone();
    one.touch().await;
    assert!(one.sees_loss().await);
    assert_ne!(one.epoch, before);
}

#[tokio::test]
async fn what_is_lost_after_somebody_has_looked_is_not_settled_by_that() {
    let Some((store, mut one, _two)) = two().await else {
        return;
    };
    one.touch().await;
    let epoch = one.fleet.journals().await.unwrap().epoch;
    empty(&store).await;
    let settled = one.fleet.settle_loss(&epoch, b"settled").await.unwrap();
    assert_eq!(settled, Change::Refused);
}
