//! What Redis and Valkey really do where a fleet depends on it, and that the test support shows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::support::eventually;
use crate::support::relay::{Network, Relay};
use crate::support::store::cluster::Cluster;
use crate::support::store::resp::{Connection, Value};
use crate::support::store::sentinel::Watched;
use crate::support::store::{Server, Store};
use crate::support::tls::Authority;

/// What a stopped store is given time to say.
const MOMENT: Duration = Duration::from_millis(300);

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

fn ok() -> Value {
    Value::Text("OK".to_owned())
}

#[track_caller]
fn assert_error(value: &Value, kind: &str) {
    assert!(
        matches!(value, Value::Error(error) if error.starts_with(kind)),
        "no {kind} but {value:?}"
    );
}

#[tokio::test]
async fn a_store_that_starts_again_knows_no_script_and_has_what_it_kept_while_one_that_is_flushed_has_the_scripts()
 {
    for server in Server::all().await {
        for is_kept in [false, true] {
            let launch = server.launch();
            let launch = if is_kept {
                launch.keeping_data()
            } else {
                launch
            };
            let mut store = launch.start().await;
            let mut connection = store.connect().await;
            let script = "return redis.call('SET', KEYS[1], redis.call('TIME')[1])";
            let sha = connection.call(&["SCRIPT", "LOAD", script]).await.text();
            let run = ["EVALSHA", &sha, "1", "name"];
            assert_eq!(connection.call(&run).await, ok(), "{}", server.name);
            store.flush().await;
            assert_eq!(connection.call(&["GET", "name"]).await, Value::Nil);
            assert_eq!(connection.call(&run).await, ok());
            store.kill().await;
            assert!(connection.try_call(&["PING"]).await.is_none());
            assert!(store.start_again().await, "{}", store.log());
            let mut connection = store.connect().await;
            let kept = connection.call(&["GET", "name"]).await;
            assert_eq!(kept != Value::Nil, is_kept, "{}: {kept:?}", server.name);
            assert_error(&connection.call(&run).await, "NOSCRIPT");
        }
    }
}

#[tokio::test]
async fn a_stopped_store_takes_connections_and_says_nothing_and_what_it_was_given_is_done_later() {
    for server in Server::all().await {
        let store = server.start().await;
        let mut connection = store.connect().await;
        store.stop().await;
        let mut late = Connection::open(store.address, None).await.unwrap();
        late.send(&["SET", "name", "value"]).await.unwrap();
        assert!(timeout(MOMENT, late.read()).await.is_err());
        store.go_on().await;
        assert_eq!(late.read().await, Some(ok()));
        assert_eq!(connection.call(&["GET", "name"]).await, text("value"));
    }
}

#[tokio::test]
async fn what_a_script_publishes_comes_as_a_push_on_a_connection_that_is_used_meanwhile() {
    for server in Server::all().await {
        let store = server.start().await;
        let (mut one, mut other) = (store.connect().await, store.connect().await);
        assert!(matches!(one.call(&["HELLO", "3"]).await, Value::Map(_)));
        one.send(&["SUBSCRIBE", "channel"]).await.unwrap();
        assert_eq!(one.push().await[0], text("subscribe"));
        let script = "redis.call('PUBLISH', 'channel', ARGV[1]); return 1";
        let said = other.call(&["EVAL", script, "0", "news"]).await;
        assert_eq!(said, Value::Number(1));
        assert_eq!(one.call(&["GET", "name"]).await, Value::Nil);
        let push = ["message", "channel", "news"].map(text);
        assert_eq!(one.push().await, push, "{}", server.name);
    }
}

#[tokio::test]
async fn a_user_of_some_names_reaches_no_other_by_a_script_and_its_password_is_in_no_log_of_commands()
 {
    let Some(server) = Server::redis().await else {
        return;
    };
    let authority = Arc::new(Authority::new());
    let rules = "~bursar:a:* &bursar:a:* -@all +eval +set +publish +ping";
    let launch = server.launch().user("bursar", "p:a/s@s%", rules);
    let store = launch.tls(&authority).start().await;
    assert_eq!(
        store.url(),
        format!("rediss://bursar:p%3Aa%2Fs%40s%25@{}", store.address)
    );
    let mut plain = Connection::open(store.address, None).await.unwrap();
    assert!(plain.try_call(&["PING"]).await.is_none());
    let monitor = store.monitor().await;
    let mut connection = store.connect().await;
    let set = "return redis.call('SET', KEYS[1] or ARGV[1], 'x')";
    let allowed = connection.call(&["EVAL", set, "1", "bursar:a:1"]).await;
    assert_eq!(allowed, ok());
    let publish = "return redis.call('PUBLISH', ARGV[1], 'x')";
    let allowed = connection.call(&["EVAL", publish, "0", "bursar:a:1"]).await;
    assert_eq!(allowed, Value::Number(0));
    for refused in [
        connection.call(&["EVAL", set, "1", "bursar:b:1"]).await,
        connection.call(&["EVAL", set, "0", "bursar:b:1"]).await,
        connection.call(&["EVAL", publish, "0", "bursar:b:1"]).await,
        connection.call(&["KEYS", "*"]).await,
    ] {
        let Value::Error(error) = &refused else {
            panic!("{refused:?}");
        };
        let is_refused = [
            "NOPERM",
            "ACL failure",
            "The user executing the script can't",
        ];
        let is_refused = is_refused.iter().any(|said| error.contains(said));
        assert!(is_refused, "{error}");
    }
    // What a script does is shown, too, and what came before it.
    monitor.shows("lua").await;
    let lines = String::from_utf8(monitor.lines()).unwrap();
    assert!(lines.contains("\"bursar:a:1\""), "{lines}");
    assert!(
        !lines.contains("a/s@s") && !store.log().contains("a/s@s"),
        "{lines}"
    );
}

#[tokio::test]
async fn a_full_store_refuses_what_writes_by_a_script_but_reads_and_deletes() {
    for server in Server::all().await {
        let launch = server.launch().line("maxmemory-policy noeviction");
        let store = launch.start().await;
        let mut connection = store.connect().await;
        connection.call(&["SET", "name", "value"]).await;
        connection.call(&["CONFIG", "SET", "maxmemory", "1"]).await;
        let script = "return redis.call(unpack(ARGV))";
        let run = async |connection: &mut Connection, words: &[&str]| {
            let command = [&["EVAL", script, "0"], words].concat();
            connection.call(&command).await
        };
        let refused = run(&mut connection, &["SET", "name", "other"]).await;
        let Value::Error(error) = &refused else {
            panic!("{refused:?}");
        };
        assert!(error.contains("OOM"), "{}: {error}", server.name);
        let published = run(&mut connection, &["PUBLISH", "channel", "x"]).await;
        assert_eq!(published, Value::Number(0));
        assert_eq!(run(&mut connection, &["GET", "name"]).await, text("value"));
        let deleted = run(&mut connection, &["DEL", "name"]).await;
        assert_eq!(deleted, Value::Number(1), "{}", server.name);
    }
}

#[tokio::test]
async fn a_replica_refuses_what_writes_until_sentinels_make_it_the_primary_with_what_had_reached_it()
 {
    for server in Server::all().await {
        let mut watched = Watched::start(&server, 1, |launch| launch.password("secret")).await;
        let [primary, replica] = &watched.servers;
        assert_eq!(watched.primary().await, primary.address);
        let mut connection = primary.connect().await;
        connection.call(&["SET", "name", "value"]).await;
        let reached = connection.call(&["WAIT", "1", "30000"]).await;
        assert_eq!(reached, Value::Number(1), "{}", server.name);
        let mut connection = replica.connect().await;
        let script = "return redis.call('SET', KEYS[1], 'x')";
        let refused = connection.call(&["EVAL", script, "1", "other"]).await;
        let Value::Error(error) = &refused else {
            panic!("{refused:?}");
        };
        assert!(
            error.contains("READONLY") || error.contains("read only"),
            "{error}"
        );
        watched.fail_over().await;
        let primary = &watched.servers[1];
        eventually(|| async {
            let mut connection = primary.connect().await;
            connection.call(&["EVAL", script, "1", "other"]).await == ok()
        })
        .await;
        let mut connection = primary.connect().await;
        assert_eq!(connection.call(&["GET", "name"]).await, text("value"));
    }
}

#[tokio::test]
async fn a_cluster_runs_scripts_where_their_names_are_and_tells_every_node_what_is_published() {
    for server in Server::all().await {
        let one = Cluster::start(&server, 1, |launch| launch).await;
        let mut connection = one.nodes[0].connect().await;
        assert_eq!(connection.call(&["SET", "{a}1", "x"]).await, ok());

        let three = Cluster::start(&server, 3, |launch| launch).await;
        let node = three.node_of("{a}1").await;
        let is_other = |store: &&Store| store.address != node.address;
        let other = three.nodes.iter().find(is_other).unwrap();
        let script = "redis.call('SET', KEYS[1], 'x'); redis.call('PUBLISH', 'channel', 'news')";
        let run = ["EVAL", script, "2", "{a}1", "{a}2"];
        let mut elsewhere = other.connect().await;
        let moved = elsewhere.call(&run).await;
        assert_error(&moved, "MOVED");
        assert!(
            moved.text().ends_with(&node.address.to_string()),
            "{moved:?}"
        );
        elsewhere.call(&["HELLO", "3"]).await;
        elsewhere.send(&["SUBSCRIBE", "channel"]).await.unwrap();
        elsewhere.push().await;
        let mut connection = node.connect().await;
        assert_eq!(connection.call(&run).await, Value::Nil);
        assert_eq!(elsewhere.push().await[2], text("news"), "{}", server.name);
        let across = connection
            .call(&["EVAL", script, "2", "{a}1", "{b}1"])
            .await;
        assert_error(&across, "CROSSSLOT");
    }
}

#[tokio::test]
async fn a_dump_and_a_log_of_commands_show_plain_text_where_there_is_any() {
    for server in Server::all().await {
        let store = server.start().await;
        let monitor = store.monitor().await;
        let mut connection = store.connect().await;
        let value = "plain text ".repeat(100);
        connection.call(&["SET", "some-name", &value]).await;
        connection
            .call(&["HSET", "some-hash", "some-field", "short"])
            .await;
        monitor.shows("some-field").await;
        let dump = store.dump().await;
        let dump = String::from_utf8_lossy(&dump);
        for plain in ["some-name", &value, "some-hash", "some-field", "short"] {
            assert!(dump.contains(plain), "{}: {plain}", server.name);
        }
        let names: Vec<_> = store
            .names()
            .await
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}

#[tokio::test]
async fn a_relay_delays_what_passes_without_slowing_what_follows_and_loses_nothing_for_ever() {
    for server in Server::all().await {
        let store = server.start().await;
        let relay = Relay::to(store.address).await;
        let mut connection = Connection::open(relay.address, None).await.unwrap();
        connection.call(&["PING"]).await;
        relay.set(Network::Delays(MOMENT));
        let begun = Instant::now();
        for _ in 0..3 {
            connection.send(&["INCR", "count"]).await.unwrap();
        }
        for count in 1..=3 {
            assert_eq!(connection.read().await, Some(Value::Number(count)));
        }
        let taken = begun.elapsed();
        assert!(taken >= MOMENT, "{taken:?}");
        relay.set(Network::LosesEverything);
        connection.send(&["INCR", "count"]).await.unwrap();
        assert!(timeout(MOMENT, connection.read()).await.is_err());
        relay.set(Network::FINE);
        assert_eq!(connection.read().await, Some(Value::Number(4)));
        relay.set(Network::Refuses);
        assert!(connection.try_call(&["PING"]).await.is_none());
        let refused = Connection::open(relay.address, None).await;
        assert!(refused.unwrap().try_call(&["PING"]).await.is_none());
        relay.set(Network::FINE);
        let mut connection = Connection::open(relay.address, None).await.unwrap();
        assert_eq!(connection.call(&["GET", "count"]).await, text("4"));
    }
}
