//! Several addresses of one name, of which some are dead, and names that change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::support::eventually;
use crate::support::parent::{Action, Parent};
use crate::support::raw::RawUpstream;

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

#[tokio::test]
async fn a_dot_at_the_end_of_a_name_is_for_resolving_alone() {
    let scene = Scene::new().await;
    let port = scene.api.address.port();
    // Names without their dots lead nowhere.
    let here = &["127.0.0.1"][..];
    let table = [("api.test.", here), ("login.test.", here)];
    let yaml = scene.yaml_with_token_host("Api.test.", "login.test.", LOOPBACK);
    let by_upstream = scene.start(&yaml, &table).await;
    assert_eq!(get(&by_upstream).await.status, 200);
    // The same by what `hosts` say, and by what the request says.
    let upstream = format!("    upstream: https://Api.test.:{port}\n");
    let by_hosts = |host: &str| {
        let hosts = format!("hosts: [\"{host}:{port}\"]");
        yaml.replace(&upstream, "")
            .replace("hosts: [api.test]", &hosts)
    };
    for (hosts, asked) in [("api.test.", "api.test"), ("*.test", "api.test.")] {
        let proxy = scene.start(&by_hosts(hosts), &table).await;
        for _ in 0..2 {
            let mut caller = Raw::connect(proxy.listen).await;
            let request = format!("GET /x HTTP/1.1\r\nHost: {asked}:{port}\r\n\r\n");
            assert_eq!(caller.ask(request).await.status(), 200, "{hosts}");
        }
    }
    let seen = scene.api.seen();
    assert_eq!(seen.len(), 5);
    for seen in seen {
        assert_eq!(seen.all("host"), [format!("api.test:{port}")]);
    }
    let login = format!("login.test:{}", scene.idp.address().port());
    assert!(
        scene
            .idp
            .seen()
            .iter()
            .all(|call| call.all("host") == [&*login])
    );
}

#[tokio::test]
async fn a_server_s_name_in_tls_and_for_a_parent_proxy_has_no_dot() {
    let scene = Scene::new().await;
    // It says nothing to a handshake.
    let silent = RawUpstream::start(|_, mut raw| async move { raw.closed().await }).await;
    let yaml = scene.yaml("api.test.", &format!("{LOOPBACK}\n"));
    let to_silent = yaml.replace(
        &scene.api.address.port().to_string(),
        &silent.address.port().to_string(),
    );
    let proxy = scene
        .start(&to_silent, &[("api.test.", &["127.0.0.1"])])
        .await;
    let asking = tokio::spawn(async move { get(&proxy).await });
    let hello = || silent.captured().concat();
    let named = |name: &[u8]| hello().windows(name.len()).any(|part| part == name);
    eventually(|| async { named(b"api.test") }).await;
    assert!(!named(b"api.test."));
    asking.abort();
    let parent = Parent::start(|_| Action::Say("HTTP/1.1 403 Forbidden\r\n\r\n".to_owned())).await;
    let keys = format!("egress: {{proxy: {{api: 'http://{}'}}}}", parent.address);
    let proxy = scene.start(&scene.yaml("api.test.", &keys), &[]).await;
    assert_eq!(get(&proxy).await.status, 502);
    let port = scene.api.address.port();
    assert!(parent.heads()[0].starts_with(&format!("CONNECT api.test:{port} ")));
}
