//! One server.

use bursar_testkit::relay::{Network, Relay};
use bursar_testkit::store::Server;
use bursar_testkit::tls::Authority;
use bursar_testkit::{eventually, soon};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::link::Task;
use super::super::*;
use super::scripted::{Scripted, fine};
use super::support::{
    CHANNEL, KEY, at, connect, count, counted, down_for, single, start, trusting, until, url,
};
use bursar_base::secret::Secret;

/// What the book lists, without what scripts of tokens use.
const PERMISSIONS: &str =
    "resetchannels ~bursar:test:* &bursar:test:* +eval +evalsha +subscribe +del";

fn message(payload: &'static [u8]) -> Event {
    Event::Message {
        channel: CHANNEL.to_owned(),
        payload: Bytes::from_static(payload),
    }
}

#[tokio::test]
async fn scripts_run_and_what_they_publish_arrives() {
    for server in Server::all().await {
        let server = server.start().await;
        let settings = single(url(&server));
        let up = settings.up.clone();
        let (store, mut events) = start(settings);
        let unsent = count(&store, KEY).await.unwrap_err();
        assert_eq!((unsent.kind(), unsent.is_unsent()), (Kind::Down, true));
        until(&mut events, &Event::Up).await;
        assert_eq!((up.get(), store.state().down), (1, None));
        assert_eq!(*store.state().address, *server.address.to_string());
        assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(1));
        assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(2));
        let mut operator = server.connect_as_operator().await;
        operator.call(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(3));
        let publish = Script::new("return redis.call('PUBLISH', ARGV[1], ARGV[2])");
        let args = [CHANNEL.into(), Arg::Bytes(b"\xff\0")];
        assert_eq!(
            store.run(&publish, &[], &args).await.unwrap(),
            Value::Int(1)
        );
        assert_eq!(events.next().await, Some(message(b"\xff\0")));
        drop(store);
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn a_server_that_is_gone_costs_nothing_until_it_is_back() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let mut server = server.start().await;
    let (store, mut events) = connect(single(url(&server))).await;
    count(&store, KEY).await.unwrap();
    server.kill().await;
    until(&mut events, &Event::Down).await;
    let begun = Instant::now();
    for _ in 0..1000 {
        assert!(count(&store, KEY).await.unwrap_err().is_unsent());
    }
    assert!(begun.elapsed() < Duration::from_millis(500));
    down_for(&store, Kind::Unreachable).await;
    assert!(server.start_again().await);
    until(&mut events, &Event::Up).await;
    assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(1));
    server
        .connect()
        .await
        .call(&["PUBLISH", CHANNEL, "again"])
        .await;
    assert_eq!(events.next().await, Some(message(b"again")));
}

#[tokio::test]
async fn a_server_that_stopped_is_waited_for_once() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.start().await;
    let (store, mut events) = connect(single(url(&server))).await;
    server.stop().await;
    let begun = Instant::now();
    let error = count(&store, KEY).await.unwrap_err();
    assert_eq!((error.kind(), error.is_unsent()), (Kind::TimedOut, false));
    assert!(begun.elapsed() >= connection::RESPONSE_TIMEOUT);
    let error = count(&store, KEY).await.unwrap_err();
    assert_eq!((error.kind(), error.is_unsent()), (Kind::Down, true));
    until(&mut events, &Event::Down).await;
    server.go_on().await;
    until(&mut events, &Event::Up).await;
    counted(&store, KEY).await;
}

#[tokio::test]
async fn a_network_that_loses_everything_is_noticed_though_nobody_asks() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.start().await;
    let relay = Relay::to(server.address).await;
    let (store, mut events) = connect(single(at(relay.address))).await;
    relay.set(Network::LosesEverything);
    until(&mut events, &Event::Down).await;
    assert_eq!(store.state().down, Some(Kind::TimedOut));
    relay.set(Network::FINE);
    until(&mut events, &Event::Up).await;
    counted(&store, KEY).await;
}

#[tokio::test]
async fn a_slow_network_is_slow_and_not_down() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.start().await;
    let relay = Relay::to(server.address).await;
    relay.set(Network::Delays(Duration::from_secs(1)));
    let (store, _events) = connect(single(at(relay.address))).await;
    assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(1));
    let mut operator = server.connect().await;
    operator.call(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(2));
    assert_eq!(store.state().down, None);
}

#[tokio::test]
async fn tls_over_a_slow_network_is_slow_and_not_down() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    authority.write(&ca);
    let tls = authority.server_with(&["127.0.0.1"], |_| {});
    let server = Scripted::start(Some(tls), fine).await;
    let relay = Relay::to(server.address).await;
    relay.set(Network::Delays(Duration::from_secs(1)));
    let (store, _events) = connect(trusting(single(at(relay.address)), &ca)).await;
    assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(1));
}

#[tokio::test]
async fn a_user_needs_only_what_the_book_lists() {
    for server in Server::all().await {
        let start_with = async |rules: &str| {
            let launch = server.launch();
            let launch = launch.line("user default on nopass ~* &* +@all");
            launch.user("bursar", "correct", rules).start().await
        };
        let server = start_with(PERMISSIONS).await;
        let (store, _events) = connect(single(url(&server))).await;
        // INCRBY is not among them.
        let error = count(&store, KEY).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_unsent()),
            (Kind::NoPermission, false)
        );
        for (username, password) in [("bursar", "wrong"), ("nobody", "correct")] {
            let [username, password] =
                [username, password].map(|text| Some(Secret::new(text.to_owned())));
            let (refused, _events) = start(single(StoreUrl {
                username,
                password,
                ..url(&server)
            }));
            down_for(&refused, Kind::WrongPassword).await;
        }
        for missing in [
            "+eval",
            "+subscribe",
            "+del",
            "&bursar:test:*",
            "~bursar:test:*",
        ] {
            let others = PERMISSIONS.split(' ').filter(|word| *word != missing);
            let server = start_with(&others.collect::<Vec<_>>().join(" ")).await;
            let (lacking, _events) = start(single(url(&server)));
            down_for(&lacking, Kind::NoPermission).await;
        }
    }
}

#[tokio::test]
async fn a_missing_password_is_a_wrong_one_and_a_user_that_is_ended_is_noticed() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.launch().password("correct").start().await;
    let (anonymous, _events) = start(single(at(server.address)));
    down_for(&anonymous, Kind::WrongPassword).await;
    let (store, mut events) = connect(single(url(&server))).await;
    let mut operator = server.connect_as_operator().await;
    operator
        .call(&["CONFIG", "SET", "requirepass", "other"])
        .await;
    // Who is logged in stays so.
    count(&store, KEY).await.unwrap();
    operator.call(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    until(&mut events, &Event::Down).await;
    down_for(&store, Kind::WrongPassword).await;
}

#[tokio::test]
async fn a_database_is_selected_and_one_that_is_not_there_is_told() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.launch().line("databases 4").start().await;
    let of = |database| {
        single(StoreUrl {
            database,
            ..url(&server)
        })
    };
    let (store, _events) = connect(of(3)).await;
    count(&store, KEY).await.unwrap();
    let mut operator = server.connect_as_operator().await;
    operator.call(&["SELECT", "3"]).await;
    assert_eq!(operator.call(&["GET", KEY]).await.text(), "1");
    let (missing, _events) = start(of(4));
    down_for(&missing, Kind::NoDatabase).await;
}

#[tokio::test]
async fn a_full_memory_refuses_writes_and_nothing_else() {
    for server in Server::all().await {
        let server = server.launch().line("maxmemory 1").start().await;
        let (store, _events) = connect(single(url(&server))).await;
        let error = count(&store, KEY).await.unwrap_err();
        assert_eq!((error.kind(), error.is_unsent()), (Kind::OutOfMemory, true));
        let read = Script::new("return redis.call('GET', KEYS[1])");
        assert_eq!(store.run(&read, &[KEY], &[]).await.unwrap(), Value::Nil);
        assert_eq!(store.state().down, None);
    }
}

#[tokio::test]
async fn a_replica_is_down_and_so_is_a_primary_once_it_is_a_replica() {
    for server in Server::all().await {
        let (server, other) = (server.start().await, server.start().await);
        let ip = other.address.ip().to_string();
        let port = other.address.port().to_string();
        let (store, mut events) = connect(single(url(&server))).await;
        let mut operator = server.connect_as_operator().await;
        operator.call(&["REPLICAOF", &ip, &port]).await;
        let error = count(&store, KEY).await.unwrap_err();
        assert_eq!((error.kind(), error.is_unsent()), (Kind::ReadOnly, true));
        let error = count(&store, KEY).await.unwrap_err();
        assert_eq!((error.kind(), error.is_unsent()), (Kind::Down, true));
        until(&mut events, &Event::Down).await;
        down_for(&store, Kind::ReadOnly).await;
        operator.call(&["REPLICAOF", "NO", "ONE"]).await;
        until(&mut events, &Event::Up).await;
        counted(&store, KEY).await;
    }
}

#[tokio::test]
async fn a_server_of_too_many_clients_says_so() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.launch().line("maxclients 2").start().await;
    let _others = (server.connect().await, server.connect().await);
    let (store, _events) = start(single(url(&server)));
    down_for(&store, Kind::TooManyClients).await;
}

#[tokio::test]
async fn a_script_without_end_takes_no_script_with_it() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.launch().line("lua-time-limit 100").start().await;
    let (store, _events) = connect(single(url(&server))).await;
    let mut other = server.connect().await;
    other
        .send(&["EVAL", "while true do end", "0"])
        .await
        .unwrap();
    let deadline = Instant::now() + bursar_testkit::PATIENCE;
    let error = loop {
        assert!(Instant::now() < deadline);
        match count(&store, KEY).await {
            Err(error) => break error,
            Ok(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(
        (error.kind(), error.is_unsent()),
        (Kind::ScriptRunning, true)
    );
    server.connect().await.call(&["SCRIPT", "KILL"]).await;
    counted(&store, KEY).await;
}

#[tokio::test]
async fn certificates_are_verified() {
    let Some(redis) = Server::redis().await else {
        return;
    };
    let (authority, other) = (Arc::new(Authority::new()), Arc::new(Authority::new()));
    let server = redis.launch().tls(&authority).start().await;
    let distrusted = redis.launch().tls(&other).start().await;
    let (store, _events) = connect(trusting(single(url(&server)), &server.ca())).await;
    count(&store, KEY).await.unwrap();
    let (refused, _events) = start(trusting(single(url(&server)), &distrusted.ca()));
    down_for(&refused, Kind::Certificate).await;
    // Its certificate is for an address.
    let named = StoreUrl {
        host: "localhost".into(),
        ..url(&server)
    };
    let relay = Relay::to(server.address).await;
    let named = StoreUrl {
        port: relay.address.port(),
        ..named
    };
    let (refused, _events) = start(trusting(single(named), &server.ca()));
    down_for(&refused, Kind::Certificate).await;
}

#[tokio::test]
async fn where_one_side_alone_speaks_tls_it_is_said_how_the_url_has_to_begin() {
    let Some(redis) = Server::redis().await else {
        return;
    };
    let server = redis
        .launch()
        .tls(&Arc::new(Authority::new()))
        .start()
        .await;
    let clear = redis.start().await;
    let (refused, _events) = start(single(url(&server)));
    let (silent, _events) = start(trusting(single(url(&clear)), &server.ca()));
    // A plain one that says at once that it has understood nothing.
    let (listener, address) = bursar_testkit::listen().await;
    let _answering = Task::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.read(&mut [0; 1 << 14]).await);
            drop(stream.write_all(b"-ERR unknown command\r\n").await);
        }
    });
    let (odd, _events) = start(trusting(single(at(address)), &server.ca()));
    for (store, why, scheme) in [
        (refused, "disconnected", "begin with rediss://"),
        (silent, "timed_out", "begin with redis://"),
        (odd, "tls", "begin with redis://"),
    ] {
        let is_said = async || {
            let state = store.state();
            let said = state.describe().unwrap_or_default();
            state.down.is_some_and(|down| down.as_str() == why) && said.ends_with(scheme)
        };
        let becomes = bursar_testkit::becomes_true(bursar_testkit::PATIENCE, is_said);
        assert!(becomes.await, "{why} {:?}", store.state());
    }
}

/// A server that shows the certificate in that file.
fn showing(certificate: &std::path::Path, key: &str) -> Arc<rustls::ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

/// As `openssl req -x509` makes it, trusted by itself.
#[tokio::test]
async fn of_a_certificate_that_is_an_authoritys_it_is_said_what_to_do() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    authority.write(&ca);
    let server = Scripted::start(Some(showing(&ca, &authority.key_pem())), fine).await;
    let (refused, _events) = start(trusting(single(at(server.address)), &ca));
    down_for(&refused, Kind::AuthorityCertificate).await;
    let state = refused.state();
    assert_eq!(state.down.unwrap().as_str(), "certificate");
    let said = state.describe().unwrap();
    assert!(said.contains("basicConstraints=CA:FALSE"), "{said}");
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_told_apart() {
    let Some(redis) = Server::redis().await else {
        return;
    };
    let authority = Arc::new(Authority::new());
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let launch = redis.launch().tls(&authority);
        let server = launch
            .line(format!("tls-protocols \"{protocols}\""))
            .start()
            .await;
        let mut operator = server.connect_as_operator().await;
        operator
            .call(&["CONFIG", "SET", "tls-auth-clients", "yes"])
            .await;
        let (refused, _events) = start(trusting(single(url(&server)), &server.ca()));
        down_for(&refused, Kind::ClientCertificate).await;
    }
}

#[tokio::test]
async fn what_is_published_faster_than_it_is_read_is_lost_and_that_is_told() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.start().await;
    let (store, mut events) = connect(single(url(&server))).await;
    let flood = "for i = 1, 10000 do redis.call('PUBLISH', ARGV[1], i) end";
    store
        .run(&Script::new(flood), &[], &[CHANNEL.into()])
        .await
        .unwrap();
    soon(until(&mut events, &Event::Lost)).await;
    count(&store, KEY).await.unwrap();
}

#[tokio::test]
async fn many_scripts_at_once_have_each_its_own_response() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.start().await;
    let (store, _events) = connect(single(url(&server))).await;
    let echo = Arc::new(Script::new("return ARGV[1]"));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..2000 {
        // Some do not wait for theirs.
        if number % 7 == 0 {
            let given_up = store.run(&echo, &[], &[Arg::Bytes(b"another")]);
            tokio::select! {
                biased;
                _ = given_up => {}
                () = std::future::ready(()) => {}
            }
        }
        let (store, echo) = (store.clone(), echo.clone());
        running.spawn(async move {
            let value = store.run(&echo, &[], &[Arg::Number(number)]).await.unwrap();
            assert_eq!(value, Value::BulkString(number.to_string().into_bytes()));
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_refuses_what_instances_need_is_said_to_while_it_does() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let refusals = [
        (
            ["ACL", "SETUSER", "default", "-zrem"],
            ["ACL", "SETUSER", "default", "+zrem"],
            Kind::NoPermission,
            Some("zrem"),
        ),
        (
            ["CONFIG", "SET", "maxmemory", "1"],
            ["CONFIG", "SET", "maxmemory", "0"],
            Kind::OutOfMemory,
            Some("hset"),
        ),
        (
            ["CONFIG", "SET", "min-replicas-to-write", "1"],
            ["CONFIG", "SET", "min-replicas-to-write", "0"],
            Kind::WritesRefused,
            // No script is run at all.
            None,
        ),
    ];
    let mut tried = tokio::task::JoinSet::new();
    for (refuse, allow, kind, command) in refusals {
        let server = server.start().await;
        tried.spawn(async move {
            let settings = single(url(&server));
            let up = settings.up.clone();
            let (store, _events) = Store::start(settings).unwrap();
            eventually(|| async { store.state().down.is_none() }).await;
            let mut operator = server.connect_as_operator().await;
            operator.call(&refuse).await;
            eventually(|| async { store.state().why() == Some(kind) }).await;
            assert_eq!(store.state().command.as_deref(), command);
            assert_eq!(up.get(), 0);
            operator.call(&allow).await;
            eventually(|| async { store.state().why().is_none() && up.get() == 1 }).await;
        });
    }
    tried.join_all().await;
}

#[tokio::test]
async fn a_command_that_has_another_name_is_named() {
    let Some(redis) = Server::redis().await else {
        return;
    };
    for command in ["EVAL", "SUBSCRIBE"] {
        let launch = redis
            .launch()
            .line(format!("rename-command {command} other"));
        let server = launch.start().await;
        let (store, _events) = start(single(url(&server)));
        down_for(&store, Kind::UnknownCommand).await;
        let command = command.to_lowercase();
        assert_eq!(store.state().command, Some(command.into()));
    }
    let launch = redis.launch().line("rename-command EVALSHA other");
    let server = launch.start().await;
    let (store, _events) = connect(single(url(&server))).await;
    count(&store, KEY).await.unwrap();
    let error = count(&store, KEY).await.unwrap_err();
    let found = (error.kind(), error.command(), error.is_unsent());
    assert_eq!(found, (Kind::UnknownCommand, Some("evalsha"), true));
}

#[tokio::test]
async fn a_user_who_may_use_the_fleets_channels_and_no_other_is_refused_nothing() {
    for server in Server::all().await {
        let settings = single(url(&server.start().await));
        let rules = settings
            .channels
            .iter()
            .map(|channel| format!("&{channel}"));
        let rules = rules.collect::<Vec<_>>().join(" ");
        let rules = format!("resetchannels {rules} ~bursar:test:* +@all");
        let server = server
            .launch()
            .user("bursar", "secret", &rules)
            .start()
            .await;
        let (store, _events) = connect(single(url(&server))).await;
        let tried = async || {
            let keys = ["bursar:test:{probe}"];
            let tried = store.run(&crate::script::COMMANDS, &keys, &[]);
            StoreError::first_of(&tried.await.unwrap())
        };
        tried().await.unwrap();
        let mut operator = server.connect_as_operator().await;
        operator
            .call(&["ACL", "SETUSER", "bursar", "-publish"])
            .await;
        let error = tried().await.unwrap_err();
        assert_eq!(error.command(), Some("publish"));
    }
}
