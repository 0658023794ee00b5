//! Tokens under a paused clock, with a token endpoint in memory.
//!
//! [`rig`] makes a source whose endpoint answers as a closure says, and runs the real renewal loop beside
//! it. Time passes only when everybody waits, so that instants can be compared exactly.

mod acquirer;
mod endpoint_limiter;
mod failures;
mod grants;
mod reload;
mod renewal;
mod secret_in_use;
mod single_flight;
mod unauthorized;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use prometheus::{Histogram, HistogramOpts};
use serde_json::{Value, json};

use super::super::access_token::{AccessToken, Recovery};
use super::super::acquire::Acquiring;
use super::super::failure::{Detail, ErrorCode};
use super::super::grants::Grants;
use super::super::handle::{Handle, Supply as _};
use super::super::request::Transport;
use super::super::response::{Body, RawResponse};
use super::super::scheduler::run_schedule;
use super::*;
use bursar_config::Config;
use bursar_telemetry::metrics::{Cause, Metrics};

/// One call that the endpoint saw.
#[derive(Debug, Clone)]
struct Call {
    /// From 1.
    number: usize,
    /// Since the rig was made.
    at: Duration,
    /// `client_credentials`, or the refresh token that was offered.
    grant: String,
    /// The client secret that was sent.
    secret: String,
}

/// What the endpoint does with a call.
#[derive(Debug, Clone)]
enum Said {
    /// Status and body; `{n}` in it becomes the call's number.
    Respond(u16, String),
    /// The body is empty, the header says when to come back.
    RetryAfter(u16, Duration),
    /// The same with a body.
    RespondAfter(u16, Duration, String),
    Fails(Failure),
    Never,
    Panics,
    /// So much later.
    After(Duration, Box<Self>),
}

/// A new token with each call: `t1`, `t2`, …
fn lives(seconds: impl Into<Value>) -> Said {
    respond(&json!({ "access_token": "t{n}", "expires_in": seconds.into() }))
}

/// A new access token that lives for 300 s, and a new refresh token: `r1`, `r2`, …
fn with_refresh() -> Said {
    respond(&json!({ "access_token": "t{n}", "expires_in": 300, "refresh_token": "r{n}" }))
}

fn respond(body: &Value) -> Said {
    Said::Respond(200, body.to_string())
}

fn refuses(status: u16, error: &str) -> Said {
    Said::Respond(status, json!({ "error": error }).to_string())
}

fn after(seconds: f64, said: Said) -> Said {
    Said::After(Duration::from_secs_f64(seconds), Box::new(said))
}

/// One after the other; the last one for ever.
fn in_turn(said: impl Into<Vec<Said>>) -> impl Fn(&Call) -> Said + Send + Sync {
    let said = said.into();
    move |call| said[(call.number - 1).min(said.len() - 1)].clone()
}

struct Endpoint<F> {
    start: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    script: F,
}

impl<F: Fn(&Call) -> Said + Send + Sync + 'static> Transport for Endpoint<F> {
    fn call<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        _calls: &'a CallLog,
    ) -> Pin<Box<dyn Future<Output = Result<RawResponse, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let frame = request.into_body().frame().await.unwrap().unwrap();
            let body = frame.into_data().unwrap();
            let field = |key| {
                form_urlencoded::parse(&body)
                    .find(|(name, _)| name == key)
                    .map(|(_, value)| value.into_owned())
            };
            let call = {
                let mut calls = self.calls.lock().unwrap();
                let call = Call {
                    number: calls.len() + 1,
                    at: self.start.elapsed(),
                    grant: field("refresh_token").unwrap_or_else(|| "client_credentials".into()),
                    secret: field("client_secret").unwrap_or_default(),
                };
                calls.push(call.clone());
                call
            };
            let mut said = (self.script)(&call);
            while let Said::After(wait, then) = said {
                tokio::time::sleep(wait).await;
                said = *then;
            }
            let (status, retry_after, body) = match said {
                Said::Respond(status, body) => (status, None, body),
                Said::RetryAfter(status, wait) => (status, Some(wait), String::new()),
                Said::RespondAfter(status, wait, body) => (status, Some(wait), body),
                Said::Fails(failure) => return Err(failure),
                Said::Never => std::future::pending().await,
                Said::Panics | Said::After(..) => panic!("a bug in a flight, for a test"),
            };
            Ok(RawResponse {
                status: StatusCode::from_u16(status).unwrap(),
                retry_after,
                codings: String::new(),
                body: Body::Whole(body.replace("{n}", &call.number.to_string()).into()),
            })
        })
    }
}

struct Rig {
    source: Arc<Source>,
    /// Makes a source, by id, of a key that has that state.
    make: Arc<dyn Fn(usize, Arc<KeyState>) -> Source>,
    start: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// A source with further keys of its `token`, as YAML, and an endpoint.
fn rig(keys: &str, script: impl Fn(&Call) -> Said + Send + Sync + 'static) -> Rig {
    rigs(1, keys, script).pop().unwrap()
}

/// Many sources that share one endpoint, one renewal loop and its count of calls.
fn rigs(
    count: usize,
    keys: &str,
    script: impl Fn(&Call) -> Said + Send + Sync + 'static,
) -> Vec<Rig> {
    rigs_of(count, "client_secret: s3cret", keys, script)
}

/// The same, with keys of the provider as well.
fn rigs_of(
    count: usize,
    provider: &str,
    keys: &str,
    script: impl Fn(&Call) -> Said + Send + Sync + 'static,
) -> Vec<Rig> {
    let text = format!(
        "providers: {{acme: {{hosts: [api.acme.example], client_id: id, {provider}, token: {{url: \"https://login.acme.example/token\", {keys}}}}}}}"
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    let provider = &config.providers[0];
    let (schedule, receiver) = mpsc::channel(2 * count + 16);
    tokio::spawn(run_schedule(receiver));
    let calls = Arc::<Mutex<Vec<Call>>>::default();
    let start = Instant::now();
    let transport = Arc::new(Endpoint {
        start,
        calls: calls.clone(),
        script,
    });
    let secret = Arc::<SecretInUse>::default();
    let series = Metrics::new(&config).unwrap().tokens.endpoint("acme");
    let limiter = EndpointLimiter::new(
        &provider.name,
        provider.token.calls_per_minute,
        series,
        None,
    );
    let limiter = Arc::new(limiter);
    let histogram = || Histogram::with_opts(HistogramOpts::new("h", "h")).unwrap();
    let key = TokenKey::new(provider, 0, &provider.scope_sets[0]);
    let make = Arc::new(move |id, state: Arc<KeyState>| {
        let calls = CallLog::new(Arc::default(), state.latest_call.clone());
        let grants = Grants {
            key: key.clone(),
            secret: secret.clone(),
            limiter: limiter.clone(),
            transport: transport.clone(),
            refresh_token: state.refresh_token.clone(),
            calls: calls.clone(),
            durations: [histogram(), histogram()],
        };
        Source {
            id,
            key: key.clone(),
            at_startup: true,
            state,
            is_shared: false,
            acquirer: Box::new(grants),
            calls,
            secret: secret.clone(),
            limiter: limiter.clone(),
            schedule: schedule.clone(),
            tracer: None,
        }
    });
    let rig = |id| Rig {
        source: make(id, Arc::default()).start(),
        make: make.clone(),
        start,
        calls: calls.clone(),
    };
    (0..count).map(rig).collect()
}

impl Rig {
    /// Another configuration with the same token key; returns the source of the one before.
    fn reload(&mut self) -> Arc<Source> {
        let next = (self.make)(self.source.id, self.source.state.clone());
        let next = next.succeed(&self.source);
        std::mem::replace(&mut self.source, next)
    }

    /// What `Tokens::start` does for the accounts that want a token at start-up.
    fn wants_token_at_startup(&self) {
        self.source.schedule_renewal(self.start);
    }

    /// The token of a request that waits for one.
    async fn obtain(&self) -> Result<String, Failure> {
        let token = self.source.obtain().await;
        token
            .map(|token| text(&token))
            .map_err(|missing| missing.failure)
    }

    /// The token of a request that does not wait.
    fn read(&self) -> Option<String> {
        self.source.read(Instant::now()).map(|token| text(&token))
    }

    /// Obtains a token and has a provider refuse it: makes one flight, without time passing.
    async fn renew(&self) -> Recovery {
        let token = self.source.obtain().await.unwrap();
        self.source.recover(token.generation).await
    }

    fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// When the calls came, in seconds.
    fn times(&self) -> Vec<f64> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| call.at.as_secs_f64()).collect()
    }

    fn gaps(&self) -> Vec<f64> {
        let times = self.times();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn grants(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| call.grant.clone()).collect()
    }

    fn secrets(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| call.secret.clone()).collect()
    }

    fn outcome(&self, outcome: FetchOutcome) -> u64 {
        GrantLabel::ALL
            .iter()
            .map(|grant| self.source.fetches(*grant, outcome))
            .sum()
    }

    /// Until the token's end.
    fn remaining(&self) -> Duration {
        let snapshot = self.source.snapshot(Instant::now());
        snapshot.token.unwrap().remaining().unwrap_or_default()
    }

    async fn until(&self, seconds: f64) {
        tokio::time::sleep_until(self.start + Duration::from_secs_f64(seconds)).await;
    }
}

fn rejected(code: &str) -> Failure {
    Failure::Rejected(Detail::Code(ErrorCode::new(code).unwrap()), None)
}

/// For requests of one route.
impl Source {
    fn handle(self: &Arc<Self>) -> Handle {
        self.clone().into()
    }

    fn read(self: &Arc<Self>, now: Instant) -> Option<AccessToken> {
        self.handle().read(now)
    }

    async fn obtain(self: &Arc<Self>) -> Result<AccessToken, Missing> {
        self.handle().obtain(None).await
    }

    async fn recover_on(self: &Arc<Self>, route: &str, sent: u64) -> Recovery {
        self.handle().recover(sent, &route.into(), None).await
    }

    async fn recover(self: &Arc<Self>, sent: u64) -> Recovery {
        self.recover_on("default", sent).await
    }

    fn renew(self: &Arc<Self>, sent: u64) {
        self.handle().renew(sent, &"default".into());
    }

    fn replay_refused(self: &Arc<Self>, generation: u64) {
        self.handle().replay_refused(generation, &"default".into());
    }
}

fn text(token: &AccessToken) -> String {
    let value = token.authorization.to_str().unwrap();
    value.strip_prefix("Bearer ").unwrap().to_owned()
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Replayed with this token, or a word for the rest.
fn word(recovery: &Recovery) -> String {
    match recovery {
        Recovery::Replay(token) => text(token),
        Recovery::Unchanged => "unchanged".into(),
        Recovery::RenewedTooOften => "too young".into(),
        Recovery::Unavailable => "unavailable".into(),
    }
}
