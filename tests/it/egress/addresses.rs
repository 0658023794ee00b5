//! Several addresses of one name, of which some are dead, and names that change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::{TcpSocket, TcpStream};

use super::*;

const LOOPBACK: &str = "egress: {allow_addresses: [127.0.0.0/8, '::1']}";

#[tokio::test]
async fn a_dead_address_costs_no_request_where_another_one_lives() {
    let scene = Scene::new().await;
    let yaml = scene.yaml("api.test", LOOPBACK);
    // Nobody listens at the first ones.
    for addresses in [
        &["127.0.0.9", "127.0.0.1"][..],
        &["::1", "127.0.0.1"],
        &["::1", "127.0.0.9", "127.0.0.8", "127.0.0.1"],
    ] {
        let proxy = scene.start(&yaml, &[("api.test", addresses)]).await;
        let before = scene.api.count();
        assert_eq!(get(&proxy).await.status, 200, "{addresses:?}");
        assert_eq!(scene.api.count(), before + 1);
    }
}

#[tokio::test]
async fn an_address_that_hangs_leaves_time_for_the_next_one() {
    let scene = Scene::new().await;
    // Its queue is full, so that nothing is said to further connections.
    let hanging = TcpSocket::new_v4().unwrap();
    let address = format!("127.0.0.9:{}", scene.api.address.port());
    let address = address.parse().unwrap();
    hanging.bind(address).unwrap();
    let _listener = hanging.listen(1).unwrap();
    let mut fillers = Vec::new();
    for _ in 0..4 {
        fillers.push(tokio::spawn(TcpStream::connect(address)));
    }
    let yaml = scene.yaml("api.test", LOOPBACK);
    let table = [("api.test", &["127.0.0.9", "127.0.0.1"][..])];
    let proxy = scene.start(&yaml, &table).await;
    assert_eq!(get(&proxy).await.status, 200);
    fillers.iter().for_each(|filler| filler.abort());
}

#[tokio::test]
async fn a_name_is_resolved_anew_for_each_new_connection() {
    let scene = Scene::new().await;
    let yaml = scene.yaml("api.test", LOOPBACK);
    let at = |address| Arc::new(entries(&[("api.test", &[address])]));
    let table = Arc::new(ArcSwap::new(at("127.0.0.9")));
    let names = Names::Changing(table.clone());
    let proxy = Proxy::start_naming(scene.directory(), &yaml, names).await;
    let reply = get(&proxy).await;
    assert_eq!(reply.problem()["reason"], "upstream_unreachable");
    table.store(at("127.0.0.1"));
    assert_eq!(get(&proxy).await.status, 200);
    // The connection that is open needs no name.
    table.store(at("127.0.0.9"));
    assert_eq!(get(&proxy).await.status, 200);
    assert_eq!(scene.api.count(), 2);
}
