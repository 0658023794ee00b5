//! A cluster.

use bursar_testkit::store::cluster::Cluster as Nodes;
use bursar_testkit::store::{Launch, Server};
use bursar_testkit::tls::Authority;
use bytes::Bytes;

use super::super::*;
use super::scripted::{Response, Scripted, fine};
use super::support::{
    CHANNEL, KEY, at, connect, count, counted, down_for, settings, single, start, trusting, until,
    url,
};

fn nodes(nodes: &Nodes) -> Settings {
    settings(StoreAddress::Cluster(nodes.nodes.iter().map(url).collect()))
}

/// Keys in many slots.
fn keys() -> impl Iterator<Item = String> {
    (0..50).map(|number| format!("bursar:test:{{{number}}}:count"))
}

#[tokio::test]
async fn scripts_go_to_the_node_of_their_keys_and_messages_come_from_all() {
    for server in Server::all().await {
        let cluster = Nodes::start(&server, 3, |launch| launch).await;
        let (store, mut events) = connect(nodes(&cluster)).await;
        for key in keys() {
            counted(&store, &key).await;
        }
        let publish = Script::new("return redis.call('PUBLISH', ARGV[1], KEYS[1])");
        for key in keys().take(10) {
            store
                .run(&publish, &[&key], &[CHANNEL.into()])
                .await
                .unwrap();
            let message = Event::Message {
                channel: CHANNEL.to_owned(),
                payload: Bytes::from(key),
            };
            until(&mut events, &message).await;
        }
        // One node alone is no store.
        let (one, _events) = start(single(url(&cluster.nodes[0])));
        let (other, _events) = start(single(url(&cluster.nodes[1])));
        let down = async || one.state().down.or(other.state().down) == Some(Kind::Redirects);
        assert!(bursar_testkit::becomes_true(bursar_testkit::PATIENCE, down).await);
    }
}

#[tokio::test]
async fn a_node_that_is_gone_fails_its_own_slots_and_no_others() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let lines = |launch: Launch| launch.line("cluster-require-full-coverage no");
    let mut cluster = Nodes::start(&server, 3, lines).await;
    let (store, mut events) = connect(nodes(&cluster)).await;
    let probe = cluster.node_of("bursar:test:{probe}").await.address;
    let at = cluster
        .nodes
        .iter()
        .position(|node| node.address != probe)
        .unwrap();
    cluster.nodes[at].kill().await;
    let gone = cluster.nodes[at].address;
    let (mut failed, mut succeeded) = (0, 0);
    for key in keys() {
        match count(&store, &key).await {
            Ok(_) => succeeded += 1,
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 0 && succeeded > 0, "{gone} {failed} {succeeded}");
    assert!(cluster.nodes[at].start_again().await);
    until(&mut events, &Event::Up).await;
    for key in keys() {
        counted(&store, &key).await;
    }
}

#[tokio::test]
async fn slots_that_move_are_followed() {
    for server in Server::all().await {
        // With no more than the permissions that the book lists.
        let permissions = "resetchannels ~bursar:test:* &bursar:test:* +eval +evalsha +subscribe +del +cluster|slots +asking +incrby +exists";
        let with_user = |launch: Launch| launch.user("bursar", "secret", permissions);
        let cluster = Nodes::start(&server, 3, with_user).await;
        let (store, _events) = connect(nodes(&cluster)).await;
        let key = "bursar:test:{moves}:count";
        count(&store, key).await.unwrap();
        let from = cluster.node_of(key).await;
        let to = cluster
            .nodes
            .iter()
            .find(|node| node.address != from.address)
            .unwrap();
        let (mut source, mut target) = (
            from.connect_as_operator().await,
            to.connect_as_operator().await,
        );
        let slot = source.call(&["CLUSTER", "KEYSLOT", key]).await.text();
        let ids = [
            source.call(&["CLUSTER", "MYID"]).await.text(),
            target.call(&["CLUSTER", "MYID"]).await.text(),
        ];
        target
            .call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]])
            .await;
        source
            .call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]])
            .await;
        // Still there.
        assert_eq!(count(&store, key).await.unwrap(), Value::Int(2));
        let (ip, port) = (to.address.ip().to_string(), to.address.port().to_string());
        source
            .call(&["MIGRATE", &ip, &port, key, "0", "5000"])
            .await;
        // ASK, more than once.
        assert_eq!(count(&store, key).await.unwrap(), Value::Int(3));
        assert_eq!(count(&store, key).await.unwrap(), Value::Int(4));
        // Some of the keys are here and some are there.
        let both = Script::new("return redis.call('EXISTS', KEYS[1], KEYS[2])");
        let error = store
            .run(&both, &[key, "bursar:test:{moves}:other"], &[])
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.is_unsent()), (Kind::ClusterDown, true));
        for node in [&mut target, &mut source] {
            node.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]])
                .await;
        }
        // MOVED.
        assert_eq!(count(&store, key).await.unwrap(), Value::Int(5));
        assert_eq!(count(&store, key).await.unwrap(), Value::Int(6));
    }
}

#[tokio::test]
async fn nodes_with_certificates_for_a_name_of_the_configuration_are_trusted() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let authority = Arc::new(Authority::new());
    let with_tls = |launch: Launch| launch.tls(&authority).line("tls-cluster yes");
    let cluster = Nodes::start(&server, 2, with_tls).await;
    let ca = cluster.nodes[0].ca();
    let (store, _events) = connect(trusting(nodes(&cluster), &ca)).await;
    for key in keys() {
        counted(&store, &key).await;
    }
}

#[tokio::test]
async fn a_replica_that_became_the_primary_is_found() {
    for server in Server::all().await {
        // Else all nodes say that the cluster is down.
        let partly = |launch: Launch| launch.line("cluster-require-full-coverage no");
        let mut cluster = Nodes::start(&server, 3, partly).await;
        let at = &cluster.nodes[0].address;
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        let replica = server
            .launch()
            .line("cluster-enabled yes")
            .line("cluster-announce-ip IP")
            .line("cluster-node-timeout 2000")
            .start()
            .await;
        let mut operator = replica.connect().await;
        operator.call(&["CLUSTER", "MEET", &ip, &port]).await;
        let id = cluster.nodes[0]
            .connect()
            .await
            .call(&["CLUSTER", "MYID"])
            .await
            .text();
        bursar_testkit::eventually(async || {
            let said = replica
                .connect()
                .await
                .call(&["CLUSTER", "REPLICATE", &id])
                .await;
            said.text() == "OK"
        })
        .await;
        bursar_testkit::eventually(async || {
            let said = replica.connect().await.call(&["INFO", "replication"]).await;
            said.text().contains("master_link_status:up")
        })
        .await;
        // Subscribed to a node that stays.
        let one = StoreAddress::Cluster(vec![url(&cluster.nodes[1])]);
        let (store, mut events) = connect(settings(one)).await;
        let mut key = keys();
        let key = loop {
            let key = key.next().unwrap();
            if cluster.node_of(&key).await.address == cluster.nodes[0].address {
                break key;
            }
        };
        count(&store, &key).await.unwrap();
        bursar_testkit::eventually(async || {
            let mut reader = replica.connect().await;
            reader.call(&["READONLY"]).await;
            reader.call(&["GET", &key]).await.text() == "1"
        })
        .await;
        cluster.nodes[0].kill().await;
        until(&mut events, &Event::Up).await;
        counted(&store, &key).await;
        let value = replica.connect().await.call(&["GET", &key]).await.text();
        assert_eq!(value, "2");
    }
}

/// One node of a cluster, at `localhost`, whose certificate has only that name; it announces its address.
#[tokio::test]
async fn a_certificate_for_a_name_of_the_configuration_is_as_good_as_one_for_the_address() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    authority.write(&ca);
    let port = Arc::new(std::sync::OnceLock::<u16>::new());
    let own = port.clone();
    let tls = authority.server_with(&["localhost"], |_| {});
    let server = Scripted::start(Some(tls), move |command| match &*command[0] {
        "CLUSTER" => {
            let node = format!(
                "*3\r\n$9\r\n127.0.0.1\r\n:{}\r\n$2\r\nid\r\n",
                own.get().unwrap()
            );
            let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n{node}");
            Response::Bytes(slots.into_bytes())
        }
        _ => fine(command),
    })
    .await;
    port.set(server.address.port()).unwrap();
    let at = |host: &str| {
        let url = StoreUrl {
            host: host.into(),
            ..at(server.address)
        };
        trusting(settings(StoreAddress::Cluster(vec![url])), &ca)
    };
    let (store, _events) = connect(at("localhost")).await;
    assert_eq!(count(&store, "bursar:test:x").await.unwrap(), Value::Int(1));
    let (refused, _events) = start(at("127.0.0.1"));
    down_for(&refused, Kind::Certificate).await;
}

#[tokio::test]
async fn nodes_that_send_a_script_round_in_circles_are_given_up() {
    let port = Arc::new(std::sync::OnceLock::<u16>::new());
    let own = port.clone();
    let key = "bursar:test:{circle}";
    // Addresses are missing, and so are those of the one that is asked.
    let server = Scripted::start(None, move |command| {
        let port = own.get().unwrap();
        match &*command[0] {
            "CLUSTER" => {
                let node = format!("*3\r\n_\r\n:{port}\r\n$2\r\nid\r\n");
                let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n{node}");
                Response::Bytes(slots.into_bytes())
            }
            _ if command.iter().any(|word| word == key) => {
                Response::Bytes(format!("-MOVED 5 :{port}\r\n").into_bytes())
            }
            _ => fine(command),
        }
    })
    .await;
    port.set(server.address.port()).unwrap();
    let (store, _events) = connect(settings(StoreAddress::Cluster(vec![at(server.address)]))).await;
    let error = count(&store, key).await.unwrap_err();
    assert_eq!((error.kind(), error.is_unsent()), (Kind::Redirects, true));
}

/// What CLUSTER SLOTS says where that port of this machine serves all slots but the last, and the other one that.
fn slots(most: u16, last: u16) -> Response {
    let range = |first: u16, last: u16, port: u16| {
        format!("*3\r\n:{first}\r\n:{last}\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$2\r\nid\r\n")
    };
    let ranges = range(0, 16382, most) + &range(16383, 16383, last);
    Response::Bytes(format!("*2\r\n{ranges}").into_bytes())
}

/// Where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    bursar_testkit::listen().await.1
}

#[tokio::test]
async fn a_node_of_the_configuration_that_is_gone_is_passed_over_at_once() {
    let port = Arc::new(std::sync::OnceLock::<u16>::new());
    let own = port.clone();
    let server = Scripted::start(None, move |command| match &*command[0] {
        "CLUSTER" => slots(*own.get().unwrap(), *own.get().unwrap()),
        _ => fine(command),
    })
    .await;
    port.set(server.address.port()).unwrap();
    // Each begins with any of them.
    for _ in 0..12 {
        let places = vec![at(nobody().await), at(server.address)];
        let (store, _events) = start(settings(StoreAddress::Cluster(places)));
        let tried = async || store.state().down != Some(Kind::Starting);
        assert!(bursar_testkit::becomes_true(bursar_testkit::PATIENCE, tried).await);
        assert_eq!(store.state().down, None);
    }
}

#[tokio::test]
async fn a_script_that_is_sent_on_to_a_node_that_is_gone_goes_where_others_say() {
    let ports = Arc::new(std::sync::OnceLock::<[u16; 2]>::new());
    let gone = nobody().await.port();
    let known = ports.clone();
    let behind = Scripted::start(None, move |command| match &*command[0] {
        "CLUSTER" => {
            let [behind, other] = *known.get().unwrap();
            slots(behind, other)
        }
        _ if command.iter().any(|word| word == KEY) => {
            Response::Bytes(format!("-MOVED 5 127.0.0.1:{gone}\r\n").into_bytes())
        }
        _ => fine(command),
    })
    .await;
    let known = ports.clone();
    let other = Scripted::start(None, move |command| match &*command[0] {
        "CLUSTER" => {
            let [_, other] = *known.get().unwrap();
            slots(other, other)
        }
        _ => fine(command),
    })
    .await;
    ports
        .set([behind.address.port(), other.address.port()])
        .unwrap();
    let seeds = StoreAddress::Cluster(vec![at(behind.address)]);
    let (store, _events) = connect(settings(seeds)).await;
    assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(1));
}

#[tokio::test]
async fn a_server_without_cluster_is_told() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let server = server.start().await;
    let (store, _events) = start(settings(StoreAddress::Cluster(vec![url(&server)])));
    down_for(&store, Kind::NoCluster).await;
}

#[tokio::test]
async fn a_cluster_is_not_given_up_because_a_node_of_the_configuration_is_gone() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let cluster = Nodes::start(&server, 3, |launch| launch).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = gone.local_addr().unwrap();
    // Which one is tried first is left to chance.
    for _ in 0..6 {
        let urls = [at(gone), url(&cluster.nodes[0])];
        let (store, _events) = start(settings(StoreAddress::Cluster(urls.into())));
        bursar_testkit::eventually(|| async {
            store.state().down != Some(Kind::Starting) && !store.tries_another_server()
        })
        .await;
        assert_eq!(store.state().down, None);
    }
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_replicas_is_told_that() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let rules = "~* &* +@all -wait";
    let user = |launch: Launch| launch.user("bursar", "secret", rules);
    let cluster = Nodes::start(&server, 3, user).await;
    let (store, _events) = connect(nodes(&cluster)).await;
    counted(&store, KEY).await;
    let error = store.may_wait(KEY).await.unwrap_err();
    let found = (error.kind(), error.command());
    assert_eq!(found, (Kind::NoPermission, Some("wait")));
    let refused = async || store.state().why() == Some(Kind::NoPermission);
    assert!(bursar_testkit::becomes_true(bursar_testkit::PATIENCE, refused).await);
    assert_eq!(store.state().command.as_deref(), Some("wait"));
}
