//! A provider, instances of the program in front of it, and callers that never rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::AUTHORIZATION;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::caller::Caller;
use crate::support::idp::{Idp, TokenCall, reply};
use crate::support::metrics::Scrape;
use crate::support::program::Program;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, becomes_true, eventually};

/// Every token call, and no request.
const RUST_LOG: &str = "info,bursar::access=off";

/// 32 bytes each.
pub(super) const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
pub(super) const OTHER_KEY: &str = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";

/// How soon instances agree once the store is back, doubled for a machine whose cores are all taken.
pub(super) const AGREED: Duration = Duration::from_secs(4);

/// Between two requests of a caller.
const PAUSE: Duration = Duration::from_millis(10);

/// An API that takes tokens which its token endpoint has handed out, as long as they live.
pub(super) struct Provider {
    pub(super) api: Upstream,
    pub(super) idp: Idp,
    calls: Arc<Mutex<Vec<Instant>>>,
    /// When each token ends.
    ends: Arc<Mutex<HashMap<String, Instant>>>,
    refresh_tokens: Arc<Mutex<Vec<String>>>,
}

/// What a provider's tokens are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// They live side by side.
    Plain,
    /// A new one ends the ones before.
    SingleActive,
    /// Each comes with a refresh token that may be used once.
    Rotating,
}

impl Provider {
    pub(super) async fn start(lifetime: Duration) -> Self {
        Self::of(Kind::Plain, lifetime).await
    }

    pub(super) async fn of(kind: Kind, lifetime: Duration) -> Self {
        let ends: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let calls: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let refresh_tokens: Arc<Mutex<Vec<String>>> = Arc::default();
        let (issued, noted, used) = (ends.clone(), calls.clone(), refresh_tokens.clone());
        let idp = Idp::start(move |call: TokenCall| {
            let token = format!("access-token-{}", call.number);
            let mut issued = issued.lock().unwrap();
            if kind == Kind::SingleActive {
                issued.clear();
            }
            issued.insert(token.clone(), Instant::now() + lifetime);
            drop(issued);
            noted.lock().unwrap().push(Instant::now());
            let seconds = lifetime.as_secs();
            let mut body =
                json!({"access_token": token, "token_type": "bearer", "expires_in": seconds});
            used.lock().unwrap().extend(call.field("refresh_token"));
            if kind == Kind::Rotating {
                body["refresh_token"] = format!("refresh-token-{}", call.number).into();
            }
            async move { reply(200, &body) }
        })
        .await;
        let known = ends.clone();
        let api = Upstream::start(move |request| {
            let shown = request.headers().get(AUTHORIZATION);
            let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            let end = shown.and_then(|token| known.lock().unwrap().get(token).copied());
            let status = match end {
                Some(end) if Instant::now() < end => 200,
                _ => 401,
            };
            let shown = shown.unwrap_or_default().to_owned();
            async move { answer(status, shown) }
        })
        .await;
        Self {
            api,
            idp,
            calls,
            ends,
            refresh_tokens,
        }
    }

    /// The refresh tokens that were sent. Each may be sent once.
    pub(super) fn refresh_tokens(&self) -> Vec<String> {
        self.refresh_tokens.lock().unwrap().clone()
    }

    /// Ends every token.
    pub(super) fn revoke(&self) {
        self.ends.lock().unwrap().clear();
    }

    /// How many token calls there were.
    pub(super) fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// How long after the first one each token call was.
    pub(super) fn call_times(&self) -> Vec<Duration> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| *call - calls[0]).collect()
    }

    /// The most token calls in any minute.
    pub(super) fn calls_in_a_minute(&self) -> usize {
        let calls = self.calls.lock().unwrap();
        let minute = |begin: &Instant| {
            let within =
                |call: &&Instant| **call >= *begin && **call < *begin + Duration::from_secs(60);
            calls.iter().filter(within).count()
        };
        calls.iter().map(minute).max().unwrap_or_default()
    }

    /// The file of an instance in the fleet that these lines are of; `provider` has further lines of the provider.
    pub(super) fn yaml(&self, fleet: &str, provider: &str) -> String {
        let acme = acme(&self.api.url(), &self.idp.url(), provider);
        format!("fleet: {{{fleet}}}\n{acme}")
    }
}

/// Instances that act as one.
pub(super) struct Fleet {
    pub(super) programs: Vec<Program>,
}

impl Fleet {
    /// One instance for each file; waits until each has sent a request.
    pub(super) async fn start(files: &[String]) -> Self {
        let mut programs = Vec::new();
        for file in files {
            programs.push(Program::start(file, RUST_LOG).await);
        }
        let fleet = Self { programs };
        for program in &fleet.programs {
            let reply = Caller::connect(program.listen)
                .await
                .send("GET", "/", "")
                .await;
            assert_eq!(reply.status, 200, "{}", program.logged());
        }
        fleet
    }

    /// The fingerprints of all instances' tokens.
    pub(super) async fn fingerprints(&self) -> Vec<String> {
        let mut all = Vec::new();
        for program in &self.programs {
            let status = program.json("/status").await;
            let fingerprint = status["tokens"][0]["fingerprint"].as_str();
            all.push(fingerprint.unwrap_or_default().to_owned());
        }
        all
    }

    /// Whether all instances have the same token.
    pub(super) async fn agrees(&self) -> bool {
        let all = self.fingerprints().await;
        !all[0].is_empty() && all.iter().all(|one| *one == all[0])
    }

    /// Whether all instances can use the store.
    async fn has_store(&self) -> bool {
        for program in &self.programs {
            let scrape = Scrape::of(program.admin).await;
            if scrape.value("bursar_fleet_store_up", &[]) < 1.0 {
                return false;
            }
        }
        true
    }

    /// Waits until no instance can use the store.
    pub(super) async fn store_is_lost(&self) {
        eventually(|| async {
            for program in &self.programs {
                let scrape = Scrape::of(program.admin).await;
                if scrape.value("bursar_fleet_store_up", &[]) > 0.0 {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Waits until all instances can use the store and have the same token; how long that took. Later than promised is
    /// a failure.
    pub(super) async fn agree_soon(&self) -> Duration {
        self.agree_within(AGREED).await
    }

    /// The same, with another promise.
    pub(super) async fn agree_within(&self, patience: Duration) -> Duration {
        let begun = Instant::now();
        let agree = becomes_true(patience, async || {
            self.has_store().await && self.agrees().await
        });
        let agree = agree.await;
        let logs: Vec<String> = self.programs.iter().map(Program::logged).collect();
        assert!(
            agree,
            "{}\n--\n{:?} after {patience:?}",
            logs.join("\n--\n"),
            self.fingerprints().await
        );
        begun.elapsed()
    }
}

/// One caller at each instance, which sends a request after the other.
pub(super) struct Callers {
    stop: CancellationToken,
    calling: JoinSet<Vec<Sent>>,
}

/// What became of a request.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "shown where one failed")]
pub(super) struct Sent {
    pub(super) instance: usize,
    pub(super) status: u16,
    pub(super) body: String,
    took: Duration,
    /// How long after the first one it was sent.
    at: Duration,
}

impl Callers {
    pub(super) fn start(fleet: &Fleet) -> Self {
        let stop = CancellationToken::new();
        let mut calling = JoinSet::new();
        let begun = Instant::now();
        for (instance, program) in fleet.programs.iter().enumerate() {
            let (stop, address) = (stop.clone(), program.listen);
            calling.spawn(async move {
                let mut caller = Caller::connect(address).await;
                let mut all = Vec::new();
                while !stop.is_cancelled() {
                    let sent = Instant::now();
                    let reply = caller.send("GET", "/", "").await;
                    all.push(Sent {
                        instance,
                        status: reply.status.as_u16(),
                        body: reply.text().to_owned(),
                        took: sent.elapsed(),
                        at: sent - begun,
                    });
                    tokio::time::sleep(PAUSE).await;
                }
                all
            });
        }
        Self { stop, calling }
    }

    /// Everything that was sent, once the last response is there.
    pub(super) async fn stop(self) -> Vec<Sent> {
        self.stop.cancel();
        self.calling.join_all().await.concat()
    }
}

/// Fails where a request failed; how many there were, and how long the slowest took.
#[track_caller]
pub(super) fn assert_all_fine(sent: &[Sent]) -> (usize, Duration) {
    let failed: Vec<&Sent> = sent.iter().filter(|sent| sent.status != 200).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:#?}",
        failed.len(),
        sent.len()
    );
    let slowest = sent.iter().map(|sent| sent.took).max();
    (sent.len(), slowest.unwrap_or_default())
}

/// Shows a row of results; `--nocapture` lets it through.
#[expect(clippy::print_stderr, reason = "for whoever asks for results")]
pub(super) fn show(row: &str) {
    eprintln!("{row}");
}
