//! The store against real servers.

mod support;

use bursar_testkit::tls::Authority;
use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use support::{CHANNEL, Server, counted, down_for, single, start, until, url, with_user};

const PUBLISH: &str = "return redis.call('PUBLISH', ARGV[1], ARGV[2])";

/// What the book lists, without what scripts of tokens use.
const PERMISSIONS: &str =
    "resetchannels ~bursar:test:* &bursar:test:* -@all +eval +evalsha +subscribe +del";

fn message(payload: &'static [u8]) -> Event {
    Event::Message {
        channel: CHANNEL.to_owned(),
        payload: Bytes::from_static(payload),
    }
}

#[tokio::test]
async fn scripts_run_and_what_they_publish_arrives() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let settings = single(url(server.port));
    let up = settings.up.clone();
    let (store, mut events) = start(settings);
    let unsent = counted(&store, 1).await.unwrap_err();
    assert_eq!((unsent.kind(), unsent.is_unsent()), (Kind::Down, true));
    until(&mut events, &Event::Up).await;
    assert_eq!((up.get(), store.state().down), (1, None));
    assert_eq!(
        *store.state().address,
        *format!("127.0.0.1:{}", server.port)
    );
    assert_eq!(counted(&store, 2).await.unwrap(), Value::Int(2));
    assert_eq!(counted(&store, 3).await.unwrap(), Value::Int(5));
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(counted(&store, 4).await.unwrap(), Value::Int(9));
    let publish = Script::new(PUBLISH);
    let args = [CHANNEL.into(), Arg::Bytes(b"\xff\0")];
    assert_eq!(
        store.run(&publish, &[], &args).await.unwrap(),
        Value::Int(1)
    );
    assert_eq!(events.next().await, Some(message(b"\xff\0")));
    drop(store);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_server_that_is_gone_costs_nothing_until_it_is_back() {
    let Some(mut server) = Server::start(&[]).await else {
        return;
    };
    let (store, mut events) = start(single(url(server.port)));
    until(&mut events, &Event::Up).await;
    counted(&store, 1).await.unwrap();
    server.kill();
    until(&mut events, &Event::Down).await;
    let begun = Instant::now();
    for _ in 0..1000 {
        assert!(counted(&store, 1).await.unwrap_err().is_unsent());
    }
    assert!(begun.elapsed() < Duration::from_millis(500));
    down_for(&store, Kind::Unreachable).await;
    server.run().await;
    until(&mut events, &Event::Up).await;
    assert_eq!(counted(&store, 7).await.unwrap(), Value::Int(7));
    server.cli(&["PUBLISH", CHANNEL, "again"]);
    assert_eq!(events.next().await, Some(message(b"again")));
}

#[tokio::test]
async fn a_server_that_stopped_is_waited_for_once() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let (store, mut events) = start(single(url(server.port)));
    until(&mut events, &Event::Up).await;
    server.signal("STOP");
    let begun = Instant::now();
    let error = counted(&store, 1).await.unwrap_err();
    let waited = begun.elapsed();
    assert_eq!((error.kind(), error.is_unsent()), (Kind::TimedOut, false));
    assert!(
        waited >= connection::RESPONSE_TIMEOUT && waited < Duration::from_secs(4),
        "{waited:?}"
    );
    until(&mut events, &Event::Down).await;
    assert!(counted(&store, 1).await.unwrap_err().is_unsent());
    server.signal("CONT");
    until(&mut events, &Event::Up).await;
    counted(&store, 1).await.unwrap();
}

#[tokio::test]
async fn a_server_that_stopped_is_noticed_though_nobody_asks() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let (store, mut events) = start(single(url(server.port)));
    until(&mut events, &Event::Up).await;
    server.signal("STOP");
    until(&mut events, &Event::Down).await;
    assert!(store.state().down.is_some());
}

#[tokio::test]
async fn a_user_needs_only_what_the_book_lists() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    server.cli(&["ACL", "SETUSER", "default", "on", ">other"]);
    let acl = |permissions: &str| {
        let user = format!("ACL SETUSER bursar reset on >correct {permissions}");
        let words: Vec<&str> = ["-a", "other"].into_iter().chain(user.split(' ')).collect();
        assert_eq!(server.cli(&words), "OK");
    };
    acl(PERMISSIONS);
    let (store, mut events) = start(single(with_user(server.port, "bursar", "correct")));
    until(&mut events, &Event::Up).await;
    // INCRBY is not among them.
    let error = counted(&store, 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_unsent()),
        (Kind::NoPermission, false)
    );
    let shown = format!("{:?} {}", error, std::error::Error::source(&error).unwrap());
    assert!(!shown.contains("count"), "{shown}");
    for missing in [
        "+eval",
        "+subscribe",
        "+del",
        "&bursar:test:*",
        "~bursar:test:*",
    ] {
        let others = PERMISSIONS.split(' ').filter(|word| *word != missing);
        acl(&others.collect::<Vec<_>>().join(" "));
        let (lacking, _events) = start(single(with_user(server.port, "bursar", "correct")));
        down_for(&lacking, Kind::NoPermission).await;
    }
    for (username, password) in [("bursar", "wrong"), ("nobody", "correct"), ("default", "")] {
        let (refused, _events) = start(single(with_user(server.port, username, password)));
        down_for(&refused, Kind::WrongPassword).await;
    }
    let (anonymous, _events) = start(single(url(server.port)));
    down_for(&anonymous, Kind::WrongPassword).await;
}

#[tokio::test]
async fn a_database_is_selected_and_one_that_is_not_there_is_told() {
    let Some(server) = Server::start(&["databases 4"]).await else {
        return;
    };
    let at = |database| {
        single(StoreUrl {
            database,
            ..url(server.port)
        })
    };
    let (store, mut events) = start(at(3));
    until(&mut events, &Event::Up).await;
    counted(&store, 8).await.unwrap();
    assert_eq!(
        server.cli(&["-n", "3", "GET", "bursar:test:{a}:count"]),
        "8"
    );
    let (missing, _events) = start(at(4));
    down_for(&missing, Kind::NoDatabase).await;
}

#[tokio::test]
async fn a_full_memory_refuses_writes_and_nothing_else() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let (store, mut events) = start(single(url(server.port)));
    until(&mut events, &Event::Up).await;
    let error = counted(&store, 1).await.unwrap_err();
    assert_eq!((error.kind(), error.is_unsent()), (Kind::OutOfMemory, true));
    let read = Script::new("return redis.call('GET', KEYS[1])");
    assert_eq!(
        store.run(&read, &["bursar:test:x"], &[]).await.unwrap(),
        Value::Nil
    );
    assert_eq!(store.state().down, None);
}

#[tokio::test]
async fn tls_is_verified() {
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str| files.path().join(name).display().to_string();
    let (authority, other) = (Authority::new(), Authority::new());
    authority.write(&files.path().join("ca.pem"));
    other.write(&files.path().join("other.pem"));
    for (name, host) in [("good", "127.0.0.1"), ("named", "valkey.example")] {
        let (certificate, key) = authority.sign(&[host], "");
        std::fs::write(file(&format!("{name}.pem")), certificate).unwrap();
        std::fs::write(file(&format!("{name}.key")), key).unwrap();
    }
    let start_server = async |certificate: &str, clients: &str| {
        let port = bursar_testkit::free_port();
        let config = [
            "port 0".to_owned(),
            format!("tls-port {port}"),
            format!("tls-cert-file {}", file(&format!("{certificate}.pem"))),
            format!("tls-key-file {}", file(&format!("{certificate}.key"))),
            format!("tls-ca-cert-file {}", file("ca.pem")),
            format!("tls-auth-clients {clients}"),
        ];
        let config: Vec<&str> = config.iter().map(String::as_str).collect();
        Server::start_at(port, &config).await
    };
    let store = |server: &Server, ca: &str| {
        let mut settings = single(StoreUrl {
            tls: true,
            ..url(server.port)
        });
        let roots = bursar_tls::client::roots_from(&files.path().join(ca)).unwrap();
        settings.tls = Some(StoreTls { roots, ca: None });
        start(settings)
    };
    let Some(good) = start_server("good", "no").await else {
        return;
    };
    let (trusting, mut events) = store(&good, "ca.pem");
    until(&mut events, &Event::Up).await;
    counted(&trusting, 1).await.unwrap();
    let (distrusting, _events) = store(&good, "other.pem");
    down_for(&distrusting, Kind::Certificate).await;
    let plain = start(single(url(good.port)));
    down_for(&plain.0, Kind::Disconnected).await;
    let named = start_server("named", "no").await.unwrap();
    down_for(&store(&named, "ca.pem").0, Kind::Certificate).await;
    let asking = start_server("good", "yes").await.unwrap();
    down_for(&store(&asking, "ca.pem").0, Kind::ClientCertificate).await;
    if let Some(clear) = Server::start(&[]).await {
        down_for(&store(&clear, "ca.pem").0, Kind::TimedOut).await;
    }
}
