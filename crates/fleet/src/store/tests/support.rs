//! Stores that use real servers.

use std::time::Duration;

use bursar_testkit::store::Store as Server;
use bursar_testkit::{PATIENCE, soon};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::super::*;
use bursar_base::secret::Secret;

pub(super) const CHANNEL: &str = "bursar:test:tokens";
pub(super) const KEY: &str = "bursar:test:{a}:count";

/// Where it is, and who logs in.
pub(super) fn url(server: &Server) -> StoreUrl {
    let user = server.user.clone();
    StoreUrl {
        username: user
            .as_ref()
            .and_then(|user| user.name.clone())
            .map(Secret::new),
        password: user.map(|user| Secret::new(user.password)),
        ..at(server.address)
    }
}

pub(super) fn at(address: std::net::SocketAddr) -> StoreUrl {
    StoreUrl {
        host: address.ip().to_string().into(),
        port: address.port(),
        tls: false,
        username: None,
        password: None,
        database: 0,
    }
}

pub(super) fn settings(address: StoreAddress) -> Settings {
    Settings {
        address,
        tls: None,
        channels: vec![CHANNEL.to_owned(), "bursar:test:freeze".to_owned()],
        probe_key: "bursar:test:{probe}".to_owned(),
        commands: crate::script::COMMANDS.clone(),
        up: IntGauge::new("up", "up").unwrap(),
    }
}

pub(super) fn single(url: StoreUrl) -> Settings {
    settings(StoreAddress::Single(url))
}

/// With TLS, trusting the authority in that file.
pub(super) fn trusting(mut settings: Settings, ca: &std::path::Path) -> Settings {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    settings.tls = Some(StoreTls {
        roots: roots.into(),
        ca: None,
    });
    let with_tls = |urls: &mut [StoreUrl]| urls.iter_mut().for_each(|url| url.tls = true);
    match &mut settings.address {
        StoreAddress::Single(url) => url.tls = true,
        StoreAddress::Sentinel(sentinel) => with_tls(&mut sentinel.urls),
        StoreAddress::Cluster(urls) => with_tls(urls),
    }
    settings
}

pub(super) fn start(settings: Settings) -> (Store, Events) {
    Store::start(settings).unwrap()
}

/// One that can be used.
pub(super) async fn connect(settings: Settings) -> (Store, Events) {
    let (store, mut events) = start(settings);
    until(&mut events, &Event::Up).await;
    (store, events)
}

/// Waits until that happens; what else does is skipped.
#[track_caller]
pub(super) fn until(events: &mut Events, wanted: &Event) -> impl Future<Output = ()> {
    soon(async move {
        while let Some(event) = events.next().await {
            if event == *wanted {
                return;
            }
        }
        panic!("the store has ended");
    })
}

/// Waits until it is down for that reason.
#[track_caller]
pub(super) fn down_for(store: &Store, kind: Kind) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while store.state().down != Some(kind) {
            let state = store.state();
            assert!(
                Instant::now() < deadline,
                "{place}: {state:?}, not {kind:?}"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Changes the store, and says how often that was done.
pub(super) async fn count(store: &Store, key: &str) -> Result<Value, StoreError> {
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    store.run(&script, &[key], &[Arg::Number(1)]).await
}

/// The same until it succeeds.
pub(super) async fn counted(store: &Store, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = count(store, key).await {
        assert!(Instant::now() < deadline, "{error:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
