//! The freeze store on real stores.

use bursar_testkit::store::{Server, Store};

use super::*;
use crate::tests::{KEY, OTHER_KEY};

const HASH: &str = "bursar:bursar:{members}:decisions";

async fn join(store: &Store, keys: &str) -> Fleet {
    let (fleet, _events) = crate::tests::join(store, keys, crate::Description::default()).await;
    fleet
}

fn numbered(number: u64, is_frozen: bool) -> NumberedDecision {
    NumberedDecision {
        number,
        decision: Decision {
            is_frozen,
            since: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            until: is_frozen.then(|| UNIX_EPOCH + Duration::from_millis(1_700_000_060_123)),
            by: Some("ann@host".into()),
            reason: Some("a-reason-to-look-for".into()),
        },
        ends: is_frozen.then_some(number + 60_000),
    }
}

async fn write(fleet: &Fleet, provider: &str, new: &NumberedDecision) {
    let read = fleet.freezes().await.unwrap();
    let written = fleet.write_freeze(&read, provider, new).await.unwrap();
    assert_eq!(written, Written::Yes);
}

#[tokio::test]
async fn a_decision_is_read_with_a_key_in_common_and_says_nothing_without_one() {
    for server in Server::all().await {
        let store = server.start().await;
        let fleet = join(&store, KEY).await;
        assert_eq!(fleet.freezes().await.unwrap().version, 0);
        let frozen = numbered(7, true);
        write(&fleet, "acme-payments", &frozen).await;
        for (keys, expected) in [
            (KEY.to_owned(), Some(&frozen)),
            (format!("{OTHER_KEY}, {KEY}"), Some(&frozen)),
            (OTHER_KEY.to_owned(), None),
        ] {
            let other = join(&store, &keys).await;
            let read = other.freezes().await.unwrap();
            assert_eq!(read.by_provider.get("acme-payments"), expected, "{keys}");
            assert!(read.version > 1_700_000_000_000);
            // Where it is looked for first there is one under the first key only.
            assert_eq!(other.has_freeze(&read, "acme-payments", 7), keys == KEY);
        }
        let dump = store.dump().await;
        for text in ["acme-payments", "ann@host", "a-reason-to-look-for"] {
            let is_in = |dump: &[u8]| dump.windows(text.len()).any(|at| at == text.as_bytes());
            assert!(!is_in(&dump), "{text}");
        }
    }
}

#[tokio::test]
async fn nobody_writes_over_a_decision_that_came_since_they_read() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let fleet = join(&store, KEY).await;
    let read = fleet.freezes().await.unwrap();
    write(&fleet, "acme", &numbered(5, true)).await;
    let late = fleet.write_freeze(&read, "acme", &numbered(6, false)).await;
    assert_eq!(late.unwrap(), Written::Changed);
    let read = fleet.freezes().await.unwrap();
    assert_eq!(read.by_provider["acme"], numbered(5, true));
    write(&fleet, "acme", &numbered(6, false)).await;
    let after = fleet.freezes().await.unwrap();
    assert!(after.version > read.version);
    // Nothing is written where there is something.
    fleet.begin_freezes().await.unwrap();
    assert_eq!(fleet.freezes().await.unwrap().version, after.version);
    store.flush().await;
    assert_eq!(fleet.freezes().await.unwrap().version, 0);
    fleet.begin_freezes().await.unwrap();
    assert!(fleet.freezes().await.unwrap().version >= after.version);
}

#[tokio::test]
async fn whoever_can_write_the_store_makes_no_earlier_decision_the_last_one() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let fleet = join(&store, KEY).await;
    write(&fleet, "acme", &numbered(5, false)).await;
    let read = fleet.freezes().await.unwrap();
    let (name, row) = read.rows.iter().next().unwrap();
    let later = [b"9".as_slice(), &row[1..]].concat();
    let elsewhere = "0".repeat(name.len());
    assert!(fleet.open_row(name, row).is_some());
    assert_eq!(fleet.open_row(name, &later), None);
    assert_eq!(fleet.open_row(&elsewhere, row), None);
    for length in 0..row.len() {
        assert_eq!(fleet.open_row(name, &row[..length]), None);
    }
}

#[tokio::test]
async fn what_others_left_in_its_place_is_nothing_and_is_written_over() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let fleet = join(&store, KEY).await;
    let mut operator = store.connect_as_operator().await;
    write(&fleet, "acme", &numbered(5, true)).await;
    let read = fleet.freezes().await.unwrap();
    let name = read.rows.keys().next().unwrap().clone();
    let long = "x".repeat(10_000);
    let many: Vec<String> = (0..1100).map(|field| field.to_string()).collect();
    let mut flood = vec!["HSET", HASH];
    flood.extend(many.iter().flat_map(|field| [field.as_str(), "x"]));
    let garbage: [&[&str]; 6] = [
        &["HSET", HASH, &name, "garbage"],
        &["HSET", HASH, &name, &long],
        &["HSET", HASH, "n", "garbage"],
        &["HSET", HASH, "n", "1e300"],
        &["SET", HASH, "garbage"],
        &flood,
    ];
    for command in garbage {
        operator.call(command).await;
        let read = fleet.freezes().await.unwrap();
        assert!(read.rows.len() < 1100);
        let found = read.by_provider.get("acme");
        assert!(found.is_none_or(|found| *found == numbered(5, true)));
        write(&fleet, "acme", &numbered(5, true)).await;
        let read = fleet.freezes().await.unwrap();
        assert_eq!(read.by_provider["acme"], numbered(5, true));
        assert!(read.version > 1_700_000_000_000, "{}", read.version);
    }
}

#[tokio::test]
async fn of_decisions_under_two_keys_the_last_one_holds_and_of_two_at_once_the_freeze() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let one = join(&store, &format!("{KEY}, {OTHER_KEY}")).await;
    let other = join(&store, &format!("{OTHER_KEY}, {KEY}")).await;
    for (first, second, expected) in [
        ((1, true), (2, false), (2, false)),
        ((4, true), (3, false), (4, true)),
        ((5, true), (5, false), (5, true)),
        ((6, false), (6, true), (6, true)),
    ] {
        write(&one, "acme", &numbered(first.0, first.1)).await;
        write(&other, "acme", &numbered(second.0, second.1)).await;
        for fleet in [&one, &other] {
            let read = fleet.freezes().await.unwrap();
            let expected = numbered(expected.0, expected.1);
            assert_eq!(read.by_provider["acme"], expected, "{first:?} {second:?}");
        }
    }
}

#[tokio::test]
async fn instants_are_told_by_the_clock_of_the_store() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let fleet = join(&store, KEY).await;
    let before = Instant::now();
    let one = fleet.freezes().await.unwrap();
    let other = fleet.freezes().await.unwrap();
    let (one, other) = (one.at(before), other.at(before));
    assert!(one.abs_diff(other) < 1000, "{one} {other}");
    let earlier = fleet.freezes().await.unwrap();
    let ago = before - Duration::from_secs(60);
    assert!(earlier.at(ago).abs_diff(one - 60_000) < 1000);
}
