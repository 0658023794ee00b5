//! Instances on real stores, for tests.

use bursar_config::Config;
use bursar_telemetry::metrics::Metrics;
use bursar_testkit::soon;
use bursar_testkit::store::Store;

use crate::description::Description;
use crate::fleet::Fleet;
use crate::store::{Event, Events};

/// 32 bytes each.
pub(crate) const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
pub(crate) const OTHER_KEY: &str = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";

/// One with those keys, whose store can be used.
pub(crate) async fn join(store: &Store, keys: &str, description: Description) -> (Fleet, Events) {
    join_at(&store.url(), keys, description).await
}

/// The same by a URL.
pub(crate) async fn join_at(url: &str, keys: &str, description: Description) -> (Fleet, Events) {
    let yaml = format!(
        "fleet: {{url: '{url}', keys: [{keys}]}}\nproviders: {{acme: {{hosts: [api.test], client_id: a, client_secret: b, token: {{url: 'https://a.test/'}}}}}}"
    );
    let config = Config::parse(&yaml, std::path::Path::new("")).unwrap();
    let series = Metrics::new(&config).unwrap().fleet.unwrap();
    let settings = config.fleet.as_ref().unwrap();
    let (fleet, mut events) = Fleet::start(settings, description, series).unwrap();
    soon(async { while events.next().await.unwrap() != Event::Up {} }).await;
    (fleet, events)
}
