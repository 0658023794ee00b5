//! Several addresses of one name, of which some are dead, and names that change.

use std::future::pending;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

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

/// What a server does that has no TLS to offer.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Resets,
    Ends,
    SpeaksInClear,
    ShowsAnothersCertificate,
    Hangs,
}

/// Listens there and does that, until it is dropped.
async fn faulty(address: &str, port: u16, fault: Fault) -> AbortOnDropHandle<()> {
    let listener = TcpListener::bind(format!("{address}:{port}")).await;
    let listener = listener.unwrap();
    let stranger = Authority::new().server(&[], ClientCertificate::Ignored);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let stranger = stranger.clone();
            connections.spawn(async move {
                drop(stream.peek(&mut [0]).await);
                match fault {
                    Fault::Resets => stream.set_zero_linger().unwrap(),
                    // With all read, so that it is no reset.
                    Fault::Ends => drop(stream.read(&mut [0; 4096]).await),
                    Fault::SpeaksInClear => {
                        drop(stream.read(&mut [0; 4096]).await);
                        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
                    }
                    Fault::ShowsAnothersCertificate => {
                        drop(TlsAcceptor::from(stranger).accept(stream).await);
                    }
                    Fault::Hangs => pending().await,
                }
            });
        }
    }))
}

#[tokio::test]
async fn an_address_where_tls_fails_or_hangs_costs_no_request_where_another_one_is_well() {
    let scene = Scene::new().await;
    let yaml = scene.yaml_with_token_host("api.test", "login.test", LOOPBACK);
    for (address, fault) in [
        ("127.0.0.2", Fault::Resets),
        ("127.0.0.3", Fault::Ends),
        ("127.0.0.4", Fault::SpeaksInClear),
        ("127.0.0.5", Fault::ShowsAnothersCertificate),
        ("127.0.0.6", Fault::Hangs),
    ] {
        let _api = faulty(address, scene.api.address.port(), fault).await;
        let _idp = faulty(address, scene.idp.address().port(), fault).await;
        let both = &[address, "127.0.0.1"][..];
        let table = [("api.test", both), ("login.test", both)];
        let proxy = scene.start(&yaml, &table).await;
        let (sent, asked) = (scene.api.count(), scene.idp.calls());
        assert_eq!(get(&proxy).await.status, 200, "{fault:?}");
        assert_eq!(scene.api.count(), sent + 1, "{fault:?}");
        assert_eq!(scene.idp.calls(), asked + 1, "{fault:?}");
        let address = format!("127.0.0.1:{}", scene.api.address.port());
        let [line] = &proxy.access_lines(1).await[..] else {
            panic!("one line was expected");
        };
        assert_eq!(line["upstream_address"], address, "{fault:?}");
        // A connection could be had.
        let (_, status) = proxy.json("/status").await;
        for server in status["upstreams"].as_array().unwrap() {
            assert_eq!(server["healthy"], true, "{server}");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_slow_in_tls_may_still_answer_while_the_next_one_is_tried() {
    let scene = Scene::new().await;
    let port = scene.api.address.port();
    let next = TcpListener::bind(format!("127.0.0.9:{port}"))
        .await
        .unwrap();
    let slow = TcpListener::bind(format!("127.0.0.8:{port}"))
        .await
        .unwrap();
    let target = scene.api.address;
    let _relaying = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut caller, _) = slow.accept().await.unwrap();
        // It lets nothing through until the next one is tried, which says nothing.
        let _silent = next.accept().await.unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        drop(copy_bidirectional(&mut caller, &mut server).await);
    }));
    let yaml = scene.yaml("api.test", LOOPBACK);
    let table = [("api.test", &["127.0.0.8", "127.0.0.9"][..])];
    let proxy = scene.start(&yaml, &table).await;
    assert_eq!(get(&proxy).await.status, 200);
    let [line] = &proxy.access_lines(1).await[..] else {
        panic!("one line was expected");
    };
    assert_eq!(line["upstream_address"], format!("127.0.0.8:{port}"));
}

#[tokio::test]
async fn where_tls_fails_at_all_addresses_the_first_one_is_told() {
    let scene = Scene::new().await;
    let yaml = scene.yaml("api.test", LOOPBACK).replace(
        "tls: {ca: ca.pem}",
        "tls: {ca: ca.pem}\n    timeouts: {connect: 2s}",
    );
    let wrong = Fault::ShowsAnothersCertificate;
    for (number, (faults, cause, reason)) in (2..).step_by(2).zip([
        ([wrong, wrong], "tls_unknown_issuer", "upstream_tls"),
        ([wrong, Fault::Resets], "tls_unknown_issuer", "upstream_tls"),
        ([Fault::Resets, wrong], "reset", "upstream_tls"),
        ([wrong, Fault::Hangs], "tls_unknown_issuer", "upstream_tls"),
        ([Fault::Hangs, wrong], "timed_out", "upstream_timeout"),
        (
            [Fault::Hangs, Fault::Hangs],
            "timed_out",
            "upstream_timeout",
        ),
    ]) {
        let port = scene.api.address.port();
        let addresses = [number, number + 1].map(|number| format!("127.0.0.{number}"));
        let [first, second] = [&*addresses[0], &*addresses[1]];
        let _first = faulty(first, port, faults[0]).await;
        let _second = faulty(second, port, faults[1]).await;
        // Nobody listens at the last one.
        let table = [("api.test", &[first, second, "127.0.0.30"][..])];
        let proxy = scene.start(&yaml, &table).await;
        let reply = get(&proxy).await;
        let problem = reply.problem();
        assert_eq!(
            (&problem["reason"], &problem["request_sent"]),
            (&reason.into(), &"no".into()),
            "{faults:?}"
        );
        let [line] = &proxy.access_lines(1).await[..] else {
            panic!("one line was expected");
        };
        assert_eq!(line["cause"], cause, "{faults:?}");
        assert_eq!(line["upstream_address"], format!("{first}:{port}"));
        let labels = [("provider", "acme"), ("cause", cause)];
        let failures = "bursar_upstream_connect_failures_total";
        assert_eq!(proxy.metric(failures, &labels).await, 1.0, "{faults:?}");
    }
}
