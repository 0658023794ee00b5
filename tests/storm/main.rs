//! Everything goes wrong at once, and nothing is paid twice: the real program between emulated providers
//! and many callers, while it is killed, starved and lied to.
//!
//! ```sh
//! cargo test --test storm -- --nocapture                                     # 20 seconds, random seeds
//! BURSAR_STORM_SEED=7 BURSAR_STORM_SECONDS=180 cargo test --test storm -- --nocapture
//! ```
//!
//! - [`plan`]: what each request is and what becomes of it, a pure function of the seed;
//! - [`caller`], [`provider`], [`endpoint`]: who sends, who answers, who gives tokens, all byte by byte
//!   over [`bursar_testkit::wire`];
//! - [`setup`]: the configuration and the files around it, [`disk`]: where the journal is; [`program`]:
//!   Bursar as a child process; [`faults`]: what is done to it;
//! - [`outage`]: the store of a fleet, and how it goes away;
//! - [`history`]: what everybody saw; [`promises`] and [`doubt`]: whether the promises were kept.
//!
//! There are two storms, with the same requests, at the same time: of one Bursar, and of a fleet of three.
//!
//! Two runs of a seed have the same requests and the same faults; when what meets what differs. Time decides
//! three things only, each with room for a busy machine: that a peer is silent for 90 seconds, that a token
//! comes 5 seconds after its end, and that more token calls come than the budget has for 5 seconds more.
//!
//! Not emulated: HTTP/2 and TLS, which have tests of their own, and the loss of power.
#![cfg(test)]

mod caller;
mod disk;
mod doubt;
mod endpoint;
mod faults;
mod history;
mod outage;
mod plan;
mod program;
mod promises;
mod provider;
mod setup;
mod shared;

mod storm {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use bursar_testkit::store::Server;

    use crate::faults::Driver;
    use crate::outage::FleetStore;
    use crate::setup::Setup;
    use crate::shared::Shared;
    use crate::{caller, doubt, endpoint, promises, provider};

    /// How many callers there are at once.
    const CALLERS: u32 = 40;

    /// Of a fleet.
    const INSTANCES: usize = 3;

    fn setting(name: &str) -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name}: {text:?} is no number")),
        )
    }

    #[expect(
        clippy::print_stderr,
        reason = "the seed has to be known, whatever happens"
    )]
    fn say(text: &str) {
        eprintln!("{text}");
    }

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_fails_nothing_is_sent_twice_and_everything_is_accounted_for() {
        storm(1, None).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_fails_a_fleet_sends_nothing_twice_and_asks_for_no_token_that_it_has() {
        let Some(server) = Server::redis().await else {
            return;
        };
        storm(INSTANCES, Some(FleetStore::start(&server).await)).await;
    }

    async fn storm(instances: usize, store: Option<FleetStore>) {
        let seed = setting("BURSAR_STORM_SEED").unwrap_or_else(|| fastrand::u64(..));
        let seconds = setting("BURSAR_STORM_SECONDS").unwrap_or(20);
        say(&format!(
            "BURSAR_STORM_SEED={seed} BURSAR_STORM_SECONDS={seconds}"
        ));
        let shared = Arc::new(Shared::new(seed, instances));
        let (tokens, alpha, beta) = (listener().await, listener().await, listener().await);
        let addresses = [&tokens, &alpha, &beta].map(|listener| listener.local_addr().unwrap());
        tokio::spawn(endpoint::serve(shared.clone(), tokens));
        tokio::spawn(provider::serve(shared.clone(), "alpha", alpha));
        tokio::spawn(provider::serve(shared.clone(), "beta", beta));
        let url = store.as_ref().map(|store| store.url.clone());
        let setups = (0..instances).map(|_| Setup::new(addresses, url.clone()));
        let mut driver = Driver::start(&shared, setups.collect(), store).await;
        let callers = (0..CALLERS).map(|caller| tokio::spawn(caller::run(shared.clone(), caller)));
        let callers: Vec<_> = callers.collect();
        driver
            .storm(Instant::now() + Duration::from_secs(seconds))
            .await;
        shared.is_over.send_replace(true);
        for caller in callers {
            assert!(caller.await.unwrap() > 0, "a caller sent nothing");
        }
        let settled = driver.settle().await;
        let in_doubt = driver.outcomes().await;
        driver.end().await;
        let after = driver.outcomes().await;
        let (violations, figures) = {
            let (history, tokens) = (shared.history(), shared.tokens());
            let mut violations = promises::check(seed, &history, &tokens, instances);
            violations.extend(doubt::check(seed, &history, &in_doubt));
            if in_doubt != after {
                violations.push("the end of Bursar changed what is in doubt".to_owned());
            }
            (violations, promises::figures(&history, &tokens))
        };
        say(&format!(
            "{instances} instances, seed {seed}: {figures}{:8}  in doubt\n{settled}",
            in_doubt.len()
        ));
        assert!(
            violations.is_empty(),
            "BURSAR_STORM_SEED={seed}: {} violations\n{}",
            violations.len(),
            promises::shown(&violations)
        );
    }
}
