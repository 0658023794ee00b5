//! Sentinels.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bursar_testkit::store::Server;
use bursar_testkit::store::sentinel::{MASTER, Watched};
use bursar_testkit::tls::Authority;

use super::super::*;
use super::scripted::{Response, Scripted};
use super::support::{KEY, at, connect, counted, down_for, settings, start, trusting, until, url};
use bursar_base::secret::Secret;

fn watched(watched: &Watched) -> Settings {
    let user = watched.servers[0].user.clone();
    settings(StoreAddress::Sentinel(bursar_config::Sentinel {
        urls: watched.sentinels.iter().map(url).collect(),
        master: MASTER.into(),
        username: user
            .as_ref()
            .and_then(|user| user.name.clone())
            .map(Secret::new),
        password: user.map(|user| Secret::new(user.password)),
    }))
}

#[tokio::test]
async fn the_replica_that_became_the_primary_is_found() {
    for server in Server::all().await {
        let mut watched_servers =
            Watched::start(&server, 3, |launch| launch.password("secret")).await;
        let (store, mut events) = connect(watched(&watched_servers)).await;
        counted(&store, KEY).await;
        watched_servers.fail_over().await;
        until(&mut events, &Event::Down).await;
        until(&mut events, &Event::Up).await;
        counted(&store, KEY).await;
    }
}

#[tokio::test]
async fn sentinels_that_are_gone_or_know_nothing_are_passed_over() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let mut servers = Watched::start(&server, 3, |launch| launch).await;
    for sentinel in &mut servers.sentinels[..2] {
        sentinel.kill().await;
    }
    let (store, _events) = connect(watched(&servers)).await;
    counted(&store, KEY).await;
    let mut unknown = watched(&servers);
    if let StoreAddress::Sentinel(sentinel) = &mut unknown.address {
        sentinel.master = "another".into();
    }
    let (unknown, _events) = start(unknown);
    down_for(&unknown, Kind::NoMaster).await;
    servers.sentinels[2].kill().await;
    down_for(&start(watched(&servers)).0, Kind::Unreachable).await;
    // Who is connected does not need them.
    counted(&store, KEY).await;
}

#[tokio::test]
async fn sentinels_and_servers_speak_tls() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let authority = Arc::new(Authority::new());
    let primary = server.launch().tls(&authority).start().await;
    let sentinel = Scripted::start(
        Some(authority.server_with(&["127.0.0.1"], |_| {})),
        move |command| names(command, primary.address),
    );
    let sentinel = sentinel.await;
    let settings = by(&[&sentinel]);
    let (store, _events) = connect(trusting(settings, &primary.ca())).await;
    counted(&store, KEY).await;
}

#[tokio::test]
async fn a_sentinel_that_is_behind_is_outvoted_and_one_that_catches_up_is_heard() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (primary, old) = (server.start().await, server.start().await);
    let (now, before) = (primary.address, old.address);
    let behind = async |is_behind: &Arc<AtomicBool>| {
        let is_behind = is_behind.clone();
        Scripted::start(None, move |command| {
            let named = if is_behind.load(Ordering::Relaxed) {
                before
            } else {
                now
            };
            names(command, named)
        })
        .await
    };
    let [no, yes] = [false, true].map(|is_behind| Arc::new(AtomicBool::new(is_behind)));
    let sentinels = [behind(&yes).await, behind(&no).await, behind(&no).await];
    let (store, _events) = connect(by(&sentinels.each_ref())).await;
    counted(&store, KEY).await;
    assert_eq!(
        primary.connect().await.call(&["EXISTS", KEY]).await.text(),
        "1"
    );
    // All are behind, and name a server that is gone.
    let mut old = old;
    old.kill().await;
    let late = Arc::new(AtomicBool::new(true));
    let sentinels = [behind(&late).await, behind(&late).await];
    let (store, mut events) = start(by(&sentinels.each_ref()));
    down_for(&store, Kind::Unreachable).await;
    late.store(false, Ordering::Relaxed);
    until(&mut events, &Event::Up).await;
    counted(&store, KEY).await;
}

fn by(sentinels: &[&Scripted]) -> Settings {
    settings(StoreAddress::Sentinel(bursar_config::Sentinel {
        urls: sentinels
            .iter()
            .map(|sentinel| at(sentinel.address))
            .collect(),
        master: MASTER.into(),
        username: None,
        password: None,
    }))
}

/// What a Sentinel responds that knows the primary there.
fn names(command: &[String], primary: SocketAddr) -> Response {
    assert_eq!(command, ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
    let (host, port) = (primary.ip().to_string(), primary.port().to_string());
    let parts = [host, port].map(|part| format!("${}\r\n{part}\r\n", part.len()));
    Response::Bytes(format!("*2\r\n{}", parts.concat()).into_bytes())
}

fn asked_often(sentinels: &[Scripted]) -> Sentinels {
    let sentinel = |sentinel: &Scripted| {
        Arc::new(Sentinel {
            place: place_of(&at(sentinel.address)),
            login: Login::default(),
            tls: None,
        })
    };
    Sentinels {
        sentinels: sentinels.iter().map(sentinel).collect(),
        master: MASTER.into(),
        recheck: Duration::from_millis(20),
    }
}

#[tokio::test]
async fn a_primary_is_left_however_late_most_sentinels_say_so() {
    let [before, after] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut sentinels = Vec::new();
    for own in 0..3 {
        let respond = move |command: &[String]| match names(command, after) {
            _ if own == 0 => names(command, before),
            Response::Bytes(bytes) => Response::Late(bytes, Duration::from_secs(1)),
            response => response,
        };
        sentinels.push(Scripted::start(None, respond).await);
    }
    let asked = asked_often(&sentinels);
    let told = |is_confirmed: bool| assert!(is_confirmed, "they responded");
    bursar_testkit::soon(asked.replaced(&place_of(&at(before)), told)).await;
}

#[tokio::test]
async fn a_primary_that_most_sentinels_have_replaced_is_left() {
    const ALONE: usize = 9;
    let places = [
        at(SocketAddr::from(([127, 0, 0, 1], 1))),
        at(SocketAddr::from(([127, 0, 0, 1], 2))),
    ];
    let [before, after] = places
        .each_ref()
        .map(|url| SocketAddr::new(url.host.parse().unwrap(), url.port));
    let knowing = Arc::<AtomicUsize>::default();
    let mut sentinels = Vec::new();
    for own in 0..3 {
        let knowing = knowing.clone();
        let respond = move |command: &[String]| match knowing.load(Ordering::Relaxed) {
            // It alone responds.
            ALONE if own > 0 => Response::Close,
            known if own < known => names(command, after),
            _ => names(command, before),
        };
        sentinels.push(Scripted::start(None, respond).await);
    }
    let asked = asked_often(&sentinels);
    let place = place_of(&places[0]);
    let is_confirmed = AtomicBool::new(false);
    let told = |confirmed| is_confirmed.store(confirmed, Ordering::Relaxed);
    let mut replaced = std::pin::pin!(asked.replaced(&place, told));
    for (known, confirmed) in [(0, true), (1, true), (ALONE, false), (0, true)] {
        knowing.store(known, Ordering::Relaxed);
        let becomes = bursar_testkit::eventually(|| async {
            is_confirmed.load(Ordering::Relaxed) == confirmed
        });
        tokio::select! {
            () = becomes => {}
            () = &mut replaced => panic!("{known}"),
        }
        let waited = tokio::time::timeout(Duration::from_millis(100), &mut replaced).await;
        assert!(waited.is_err(), "{known}");
    }
    knowing.store(2, Ordering::Relaxed);
    bursar_testkit::soon(replaced).await;
}

#[tokio::test]
async fn a_former_primary_that_can_still_be_reached_is_left_within_seconds() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let (former, next) = (server.start().await, server.start().await);
    let (before, after) = (former.address, next.address);
    let is_replaced = Arc::<AtomicBool>::default();
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        let is_replaced = is_replaced.clone();
        let respond = move |command: &[String]| match is_replaced.load(Ordering::Relaxed) {
            true => names(command, after),
            false => names(command, before),
        };
        sentinels.push(Scripted::start(None, respond).await);
    }
    let [one, two, three] = &*sentinels else {
        unreachable!()
    };
    let (store, mut events) = connect(by(&[one, two, three])).await;
    counted(&store, KEY).await;
    is_replaced.store(true, Ordering::Relaxed);
    // Nothing else has the connection end: the server takes writes.
    let down = until(&mut events, &Event::Down);
    let left = tokio::time::timeout(Duration::from_secs(9), down).await;
    assert!(left.is_ok());
    until(&mut events, &Event::Up).await;
    counted(&store, KEY).await;
    assert_eq!(
        next.connect().await.call(&["EXISTS", KEY]).await.text(),
        "1"
    );
}
