//! What instances find at real stores.

use bursar_testkit::soon;
use bursar_testkit::store::{Server, Store as Process};

use super::*;
use crate::message::{News, read_message};
use crate::store::{Event, Events};
use crate::tests::{KEY as ONE, OTHER_KEY as TWO, join};
use bursar_base::secret::Secret;

const LEASE: Duration = Duration::from_secs(12);
const LIFETIME: Duration = Duration::from_secs(300);

const ENTRY: TokenEntry<'static> = TokenEntry {
    canonical: b"provider account secret",
    context: "sandbox",
    proof: b"none",
};

/// An instance with those keys.
async fn instance(store: &Process, keys: &str) -> (Fleet, Events) {
    join(store, keys, crate::Description::default()).await
}

/// A store, and so many instances with one key. None: there is no store here.
async fn fleet_of<const COUNT: usize>() -> Option<(Process, [Fleet; COUNT], Vec<Events>)> {
    let store = Server::redis().await?.start().await;
    let (mut fleets, mut events) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        let (fleet, heard) = instance(&store, ONE).await;
        fleets.push(fleet);
        events.push(heard);
    }
    Some((store, fleets.try_into().ok()?, events))
}

fn wanting(known: &[u64]) -> Question<'_> {
    Question {
        known,
        highest: 0,
        lease: Some(LEASE),
        wants_refresh_token: true,
        is_awaited: true,
    }
}

fn value(text: &str) -> TokenValue {
    TokenValue {
        access_token: Secret::new(text.to_owned()),
        lifetime: Some(LIFETIME),
        scope: None,
        after_unauthorized: false,
        refresh_token: Some(crate::RefreshValue {
            text: Secret::new(format!("refresh-{text}")),
            lifetime: None,
        }),
        secret: None,
    }
}

async fn win(fleet: &Fleet, known: &[u64]) -> Lease {
    match fleet.ask(ENTRY, wanting(known)).await.unwrap() {
        Answer::Won(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn publish(fleet: &Fleet, number: u64, text: &str) -> Published {
    let value = value(text);
    let publication = Publication {
        number,
        issued: Instant::now(),
        lifetime: LIFETIME,
        value: &value,
    };
    fleet.publish(ENTRY, publication).await.unwrap()
}

fn token(found: &Found) -> Option<&str> {
    found
        .value
        .as_ref()
        .map(|value| value.access_token.expose())
}

async fn found(fleet: &Fleet, known: &[u64]) -> Found {
    match fleet.ask(ENTRY, wanting(known)).await.unwrap() {
        Answer::Value(found) => found,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_instance_asks_the_endpoint_and_the_others_are_told_what_came() {
    for server in Server::all().await {
        let store = server.start().await;
        let (one, _events) = instance(&store, ONE).await;
        let (two, mut events) = instance(&store, ONE).await;
        let lease = win(&one, &[]).await;
        let held = two.ask(ENTRY, wanting(&[])).await.unwrap();
        assert!(
            matches!(held, Answer::Held(left) if left > Duration::ZERO && left <= LEASE),
            "{held:?}"
        );
        // Its own lease again.
        let again = win(&one, &[]).await;
        assert!(again.number > lease.number);
        let published = publish(&one, again.number, "first").await;
        assert!(matches!(published, Published::Now { was_late: false }));
        let pushed = soon(async {
            loop {
                if let Event::Message { payload, .. } = events.next().await.unwrap() {
                    break payload;
                }
            }
        })
        .await;
        let message = read_message(&pushed).unwrap();
        let News::Value(pushed) = message.news else {
            panic!("{message:?}");
        };
        assert_eq!(token(&two.open(ENTRY, message.name, pushed)), Some("first"));
        // Read a second later.
        let at = pushed.at - 1000;
        let read_late = two.open(ENTRY, message.name, Pushed { at, ..pushed });
        assert!(read_late.issued.elapsed() >= Duration::from_secs(1));
        let looked = found(&two, &[]).await;
        assert_eq!(
            (looked.number, token(&looked)),
            (again.number, Some("first"))
        );
        // Who knows it gets the next lease.
        assert!(win(&two, &[again.number]).await.number > again.number);
    }
}

#[tokio::test]
async fn who_comes_late_writes_over_nothing_newer_and_gives_no_lease_of_others_back() {
    let Some((_store, [one, two, three], _events)) = fleet_of().await else {
        return;
    };
    let question = Question {
        lease: Some(Duration::from_millis(1)),
        ..wanting(&[])
    };
    let late = match one.ask(ENTRY, question).await.unwrap() {
        Answer::Won(lease) => lease,
        other => panic!("{other:?}"),
    };
    bursar_testkit::eventually(|| async {
        matches!(two.ask(ENTRY, wanting(&[])).await, Ok(Answer::Won(_)))
    })
    .await;
    one.report_failure(ENTRY, Failed::default()).await.unwrap();
    let held = three.ask(ENTRY, wanting(&[])).await.unwrap();
    assert!(matches!(held, Answer::Held(_)), "{held:?}");
    let lease = win(&two, &[]).await;
    publish(&two, lease.number, "newer").await;
    let Published::Older(there) = publish(&one, late.number, "older").await else {
        panic!("it was written over");
    };
    assert_eq!(token(&there), Some("newer"));
    assert_eq!(token(&found(&three, &[]).await), Some("newer"));
}

#[tokio::test]
async fn a_refresh_token_is_given_to_one_lease_and_never_again() {
    let Some((_store, [one, two], _events)) = fleet_of().await else {
        return;
    };
    let number = win(&one, &[]).await.number;
    publish(&one, number, "first").await;
    let lease = win(&two, &[number]).await;
    let refresh = lease.refresh.unwrap().value.refresh_token.unwrap();
    assert_eq!(refresh.text.expose(), "refresh-first");
    // Given back without a token, or lost with its holder: nobody knows what has become of the refresh token.
    two.report_failure(ENTRY, Failed::default()).await.unwrap();
    assert!(win(&one, &[number]).await.refresh.is_none());
}

#[tokio::test]
async fn a_failure_holds_for_all_that_prove_themselves_alike_and_for_as_long_as_it_says() {
    let Some((_store, [one, two], _events)) = fleet_of().await else {
        return;
    };
    win(&one, &[]).await;
    let failed = Failed {
        failure: b"refused",
        awaited: Duration::from_secs(5),
        background: Duration::from_secs(60),
    };
    one.report_failure(ENTRY, failed).await.unwrap();
    let Answer::Failed {
        failure,
        awaited,
        background,
    } = two.ask(ENTRY, wanting(&[])).await.unwrap()
    else {
        panic!("it is asked again");
    };
    assert_eq!(failure.unwrap().as_slice(), b"refused");
    assert!(awaited <= failed.awaited && background > failed.awaited);
    let other = TokenEntry {
        proof: b"another second secret",
        ..ENTRY
    };
    let asked = two.ask(other, wanting(&[])).await.unwrap();
    assert!(matches!(asked, Answer::Won(_)), "{asked:?}");
}

#[tokio::test]
async fn no_pause_that_the_store_tells_is_longer_than_any_refusal() {
    let Some((_store, [one, two], _events)) = fleet_of().await else {
        return;
    };
    win(&one, &[]).await;
    let failed = Failed {
        failure: b"refused",
        awaited: Duration::from_secs(5),
        background: Duration::from_secs(3000 * 365 * 86400),
    };
    one.report_failure(ENTRY, failed).await.unwrap();
    match two.ask(ENTRY, wanting(&[])).await.unwrap() {
        Answer::Failed { background, .. } => assert_eq!(background, LONGEST_REFUSAL),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_somebody_else_left_in_an_entry_is_passed_over_and_replaced() {
    let Some((store, [fleet], _events)) = fleet_of().await else {
        return;
    };
    let key = format!("bursar:bursar:{{{}}}", fleet.token_names(ENTRY).first());
    let mut connection = store.connect().await;
    let huge = "x".repeat(1 << 20);
    let far = "99999999999999";
    for garbage in [
        vec!["SET", &key, "text"],
        vec!["RPUSH", &key, "list"],
        vec!["HSET", &key, "c", "many", "n", "-1", "h", "x", "l", "soon"],
        vec!["HSET", &key, "h", "somebody", "l", far],
        vec!["HSET", &key, "n", "7", "v", &huge, "e", far],
        vec!["HSET", &key, "f", &huge, "a", far, "b", far, "q", "none"],
    ] {
        connection.call(&["DEL", &key]).await;
        connection.call(&garbage).await;
        let lease = win(&fleet, &[]).await;
        publish(&fleet, lease.number, "good").await;
        assert_eq!(
            token(&found(&fleet, &[]).await),
            Some("good"),
            "{:?}",
            &garbage[..3]
        );
    }
    connection.call(&["HSET", &key, "v", "garbage"]).await;
    let unreadable = found(&fleet, &[]).await;
    assert!(unreadable.value.is_none());
    let lease = win(&fleet, &[unreadable.number]).await;
    publish(&fleet, lease.number, "again").await;
    assert_eq!(token(&found(&fleet, &[]).await), Some("again"));
}

#[tokio::test]
async fn while_keys_are_changed_instances_find_each_others_tokens_and_exclude_each_other() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let (before, _events) = instance(&store, &format!("{ONE}, {TWO}")).await;
    let (after, _events) = instance(&store, &format!("{TWO}, {ONE}")).await;
    let (stranger, _events) = instance(&store, TWO).await;
    let first = win(&before, &[]).await.number;
    for other in [&after, &stranger] {
        let held = other.ask(ENTRY, wanting(&[])).await.unwrap();
        assert!(matches!(held, Answer::Held(_)), "{held:?}");
    }
    publish(&before, first, "first").await;
    assert_eq!(token(&found(&after, &[]).await), Some("first"));
    let lease = win(&after, &[first]).await;
    assert!(lease.number > first);
    assert_eq!(lease.refresh.unwrap().number, first);
    publish(&after, lease.number, "second").await;
    assert_eq!(token(&found(&before, &[first]).await), Some("second"));
    assert_eq!(token(&found(&stranger, &[]).await), Some("second"));
    // Nobody's lease is left.
    win(&before, &[first, lease.number]).await;
}

/// What the field of an entry is now.
async fn field(store: &Process, fleet: &Fleet, field: &str, to: &str) {
    let key = format!("bursar:bursar:{{{}}}", fleet.token_names(ENTRY).first());
    store.connect().await.call(&["HSET", &key, field, to]).await;
}

/// The store's clock an hour from now, in milliseconds.
fn in_an_hour() -> String {
    let hour = Duration::from_secs(3600);
    let at = std::time::UNIX_EPOCH.elapsed().unwrap() + hour;
    at.as_millis().to_string()
}

#[tokio::test]
async fn instants_that_a_clock_before_this_one_has_put_an_hour_ahead_are_not_believed() {
    let Some((store, [one, two], _events)) = fleet_of().await else {
        return;
    };
    // Somebody's lease.
    win(&one, &[]).await;
    field(&store, &one, "l", &in_an_hour()).await;
    win(&two, &[]).await;
    // A refusal, for whoever waits and for whoever does not.
    let failed = Failed {
        failure: b"refused",
        awaited: Duration::from_secs(5),
        background: Duration::from_secs(60),
    };
    two.report_failure(ENTRY, failed).await.unwrap();
    field(&store, &one, "a", &in_an_hour()).await;
    field(&store, &one, "b", &in_an_hour()).await;
    let lease = win(&one, &[]).await;
    // A token that has not been issued yet.
    publish(&one, lease.number, "first").await;
    field(&store, &one, "i", &in_an_hour()).await;
    win(&two, &[]).await;
}

#[tokio::test]
async fn instances_whose_leases_are_short_wait_for_those_of_others_that_are_long() {
    let Some((_store, [one, two], _events)) = fleet_of().await else {
        return;
    };
    let asking = |seconds| Question {
        lease: Some(Duration::from_secs(seconds)),
        ..wanting(&[])
    };
    let won = one.ask(ENTRY, asking(62)).await.unwrap();
    assert!(matches!(won, Answer::Won(_)), "{won:?}");
    let held = two.ask(ENTRY, asking(3)).await.unwrap();
    assert!(matches!(held, Answer::Held(_)), "{held:?}");
}

#[tokio::test]
async fn two_tokens_never_have_one_number_although_the_store_forgets_what_it_gave() {
    let Some((store, [one, two], _events)) = fleet_of().await else {
        return;
    };
    let mut operator = store.connect_as_operator().await;
    for _ in 0..8 {
        let first = win(&one, &[]).await.number;
        operator.call(&["FLUSHALL"]).await;
        let second = win(&two, &[]).await.number;
        assert_ne!(first, second);
        operator.call(&["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn a_token_does_not_take_the_place_of_another_one_under_the_same_number() {
    let Some((_store, [one], _events)) = fleet_of().await else {
        return;
    };
    let number = win(&one, &[]).await.number;
    publish(&one, number, "first").await;
    let Published::Older(there) = publish(&one, number, "second").await else {
        panic!("one number stands for two tokens");
    };
    assert_eq!(token(&there), Some("first"));
    assert!(matches!(
        publish(&one, crate::above(number), "second").await,
        Published::Now { .. }
    ));
}

#[tokio::test]
async fn a_known_value_that_cannot_be_read_any_more_is_not_taken_for_the_same() {
    let Some((store, [one], _events)) = fleet_of().await else {
        return;
    };
    let number = win(&one, &[]).await.number;
    publish(&one, number, "first").await;
    let known = [number];
    let look = Question::look(&known, number);
    let found = one.ask(ENTRY, look).await.unwrap();
    assert!(
        matches!(
            found,
            Answer::Nothing(Nothing {
                has_known: true,
                ..
            })
        ),
        "{found:?}"
    );
    field(&store, &one, "v", "garbage").await;
    let found = one.ask(ENTRY, look).await.unwrap();
    assert!(
        matches!(found, Answer::Value(Found { value: None, .. })),
        "{found:?}"
    );
}
