//! What happened to a request? One record per request, written once, when the request is over.
//!
//! The record goes with the request and then with the answer's body; dropping it writes the access line
//! and counts the request, so that one that ends early is neither forgotten nor counted twice.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::exchange::request_body::CallerBody;
use crate::http::connection::{Busy, CallerSide};
use crate::token::AccessToken;
use bursar_base::clock;
use bursar_base::path::{Path, Pattern};
use bursar_base::secret::Fingerprint;
use bursar_config::Provider;
use bursar_journal::{Entry, Facts, Journal};
use bursar_limits::caller_limits::RequestPermit;
use bursar_telemetry::access_log::{AccessLog, Line};
use bursar_telemetry::metrics::{
    ANONYMOUS, Cause, Limit, Metrics, NO_PROVIDER, ProviderSeries, Reason,
};

/// What a request is counted as whose caller left before the answer; never sent.
const CALLER_LEFT: u16 = 499;

/// Where requests are written down and counted.
#[derive(Debug)]
pub struct Telemetry {
    /// Access lines.
    pub log: AccessLog,
    /// Counters.
    pub metrics: Metrics,
    /// What follows these paths is masked, whosever request it is: a request that is refused early has
    /// no provider yet.
    pub secret_below: Vec<Pattern>,
}

/// One request, from its head to the last byte of its answer.
#[derive(Debug)]
pub struct Record {
    telemetry: Arc<Telemetry>,
    id: u128,
    started: Instant,
    method: Method,
    uri: Uri,
    /// None: nobody known, so far.
    caller: Option<Arc<str>>,
    provider: Option<Served>,
    route: Option<Arc<str>>,
    /// A place in the provider's accounts.
    account: Option<usize>,
    /// None: no answer was begun.
    status: Option<StatusCode>,
    /// Why Bursar answered, or cut the answer off.
    reason: Option<Reason>,
    /// Why there was no connection.
    cause: Option<Cause>,
    token: Option<(u64, Fingerprint)>,
    replayed: bool,
    token_wait: Duration,
    upstream: Duration,
    upload: Option<CallerBody>,
    has_body: bool,
    side: Busy,
    moves_money: bool,
    sent: u64,
    /// Bytes that the caller sent through a tunnel.
    tunnelled: u64,
    /// None: its caller has no limits.
    slot: Option<RequestPermit>,
    /// None: it moves no money, or there is no journal.
    entry: Option<Entry>,
}

/// By a provider; the request is counted there while it is.
#[derive(Debug)]
struct Served(Arc<ProviderSeries>);

/// By hand, because a [`Counted`](bursar_telemetry::metrics::Counted) would be one reference more for each request.
impl Drop for Served {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

impl Record {
    /// Begins a request.
    #[must_use]
    pub fn begin(
        telemetry: &Arc<Telemetry>,
        request: &Request<Incoming>,
        side: &Arc<CallerSide>,
    ) -> Self {
        Self {
            telemetry: telemetry.clone(),
            id: fastrand::u128(..),
            started: Instant::now(),
            method: request.method().clone(),
            uri: match request.uri().path_and_query() {
                // All that is needed of it, and less to clone.
                Some(target) => target.clone().into(),
                None => request.uri().clone(),
            },
            caller: None,
            provider: None,
            route: None,
            account: None,
            status: None,
            reason: None,
            cause: None,
            token: None,
            replayed: false,
            token_wait: Duration::ZERO,
            upstream: Duration::ZERO,
            upload: None,
            has_body: !request.body().is_end_stream(),
            side: Busy::new(side),
            moves_money: false,
            sent: 0,
            tunnelled: 0,
            slot: None,
            entry: None,
        }
    }

    /// Names the request to people: 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// The request's caller was verified.
    pub fn caller(&mut self, name: &Arc<str>) {
        self.caller = Some(name.clone());
    }

    /// The request goes past all providers, by that entry of `passthrough`.
    pub fn passthrough(&mut self, name: &Arc<str>) {
        self.route = Some(name.clone());
    }

    /// Who that is.
    #[must_use]
    pub fn caller_name(&self) -> &str {
        self.caller.as_deref().unwrap_or(ANONYMOUS)
    }

    /// The request takes up that until it is over.
    pub fn hold(&mut self, slot: RequestPermit) {
        self.slot = Some(slot);
    }

    /// Whatever comes of the request takes up what it needs by itself.
    pub fn let_go(&mut self) {
        self.slot = None;
    }

    /// The request is for that provider.
    pub fn provider(&mut self, series: &Arc<ProviderSeries>) {
        series.in_flight.inc();
        self.provider = Some(Served(series.clone()));
    }

    /// Whose it is, if it is a provider's.
    #[must_use]
    pub fn served_by(&self) -> Option<&Provider> {
        let Served(series) = self.provider.as_ref()?;
        Some(&series.provider)
    }

    /// The request takes that route, for that account of the provider.
    pub fn route(&mut self, name: &Arc<str>, account: usize) {
        self.route = Some(name.clone());
        self.account = Some(account);
    }

    /// From now on the request is written down; `key` is what the provider knows it again by.
    pub fn keep_in(&mut self, journal: &Journal, key: Option<&HeaderValue>) {
        let (Some(Served(series)), Some(route), Some(account)) =
            (&self.provider, &self.route, self.account)
        else {
            return;
        };
        let provider = &series.provider;
        let account = provider.accounts.get(account);
        self.entry = Some(journal.entry(Facts {
            time: clock::wall(),
            request_id: self.id(),
            caller: self.caller.clone().unwrap_or_else(|| ANONYMOUS.into()),
            provider: provider.name.clone(),
            account: account.map_or_else(|| "".into(), |account| account.name.as_str().into()),
            route: route.clone(),
            method: self.method.to_string(),
            path: self.path().into_owned(),
            idempotency_key: key.map_or_else(OnceLock::new, |key| {
                String::from_utf8_lossy(key.as_bytes()).into_owned().into()
            }),
        }));
    }

    /// Where the request is written down, if it is.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// The request moves money; its connection is cut off last.
    pub fn moves_money(&mut self) {
        if !self.moves_money {
            self.moves_money = true;
            self.side.side().traffic.pay();
        }
    }

    /// The request still carried an `Authorization` of its own.
    pub fn credentials_replaced(&self) {
        if let Some(Served(series)) = &self.provider {
            let by_caller = &series.by_caller;
            by_caller.credentials_replaced(self.caller_name());
        }
    }

    /// The request waited for its token since then.
    pub fn waited_for_token(&mut self, since: Instant) {
        let waited = since.elapsed();
        self.token_wait += waited;
        if let Some(Served(series)) = &self.provider {
            series.token_wait.observe(waited.as_secs_f64());
        }
    }

    /// The request is sent with that token.
    pub fn token(&mut self, token: &AccessToken) {
        self.token = Some((token.generation, token.fingerprint));
    }

    /// The provider was busy with the request for so long.
    pub fn upstream(&mut self, time: Duration) {
        self.upstream += time;
    }

    /// The request is being sent a second time.
    pub fn replayed(&mut self) {
        self.replayed = true;
    }

    /// The body that is being sent.
    pub fn upload(&mut self, upload: &CallerBody) {
        self.upload = Some(upload.clone());
    }

    /// Whether there is more of the caller's body to read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.has_body && !self.upload.as_ref().is_some_and(CallerBody::is_read)
    }

    /// The answer begins.
    pub fn answer(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Bursar itself answers, or cuts the provider's answer off.
    pub fn reason(&mut self, reason: Reason) {
        self.reason = Some(reason);
        self.telemetry.metrics.requests.refused(reason);
    }

    /// That is because of a connection that could not be had.
    pub fn cause(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }

    /// A limit cuts the answer off.
    pub fn limit(&self, limit: Limit) {
        self.telemetry.metrics.limits.reached(limit);
    }

    /// Bytes of the answer's body went to the caller.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// A tunnel carried bytes from and to the caller.
    pub fn carried(&mut self, from_caller: u64, to_caller: u64) {
        self.tunnelled += from_caller;
        self.sent += to_caller;
    }

    fn account(&self) -> Option<&str> {
        let Served(series) = self.provider.as_ref()?;
        let account = series.provider.accounts.get(self.account?)?;
        Some(&account.name)
    }

    fn path(&self) -> Cow<'_, str> {
        let raw = self.uri.path();
        if raw.is_empty() {
            // `CONNECT`. What stands before an `@` might be a secret.
            let authority = self
                .uri
                .authority()
                .map_or("/", |authority| authority.as_str());
            return authority.rsplit('@').next().unwrap_or_default().into();
        }
        if self.telemetry.secret_below.is_empty() {
            return raw.into();
        }
        let path = Path::new(raw);
        let is_below = |path: &str, prefix: &str| {
            path.split_at_checked(prefix.len())
                .is_some_and(|(head, below)| {
                    head.eq_ignore_ascii_case(prefix) && below.starts_with('/')
                })
        };
        for pattern in &self.telemetry.secret_below {
            let prefix = pattern.as_str();
            if path.readings().any(|path| is_below(path, prefix)) {
                return format!("{prefix}/***").into();
            }
        }
        raw.into()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.moves_money {
            self.side.side().traffic.paid();
        }
        if self.is_unread() {
            // The answer is over; nobody wants the rest of the request any more.
            self.side.side().leave_unread();
            if let Some(upload) = &self.upload {
                upload.abandon();
            }
        }
        let is_stuck = || self.side.side().ended_with() == Some(Limit::WriteTimeout);
        if self.status.is_some() && self.reason.is_none() && is_stuck() {
            // Its connection has noticed, and drops what was left of the answer without a word.
            self.reason(Reason::RequestTimeout);
        }
        let total = self.started.elapsed();
        let left = || StatusCode::from_u16(CALLER_LEFT).unwrap_or(StatusCode::BAD_REQUEST);
        let status = self.status.unwrap_or_else(left);
        let (provider, by_caller) = match &self.provider {
            Some(Served(series)) => {
                series.duration.observe(total.as_secs_f64());
                (&*series.provider.name, &series.by_caller)
            }
            None => (
                NO_PROVIDER,
                self.telemetry.metrics.requests.without_provider(),
            ),
        };
        by_caller.answered(self.caller_name(), status);
        let line = Line {
            at: clock::wall(),
            request_id: self.id,
            caller: self.caller_name(),
            provider,
            account: self.account(),
            route: self.route.as_deref(),
            method: self.method.as_str(),
            path: &self.path(),
            status: status.as_u16(),
            reason: self.reason.map(Reason::as_str),
            cause: self.cause.map(Cause::as_str),
            token: self.token,
            replayed: self.replayed,
            total,
            token_wait: self.token_wait,
            upstream: self.upstream,
            request_bytes: self
                .upload
                .as_ref()
                .map_or(self.tunnelled, CallerBody::bytes_read),
            response_bytes: self.sent,
        };
        self.telemetry.log.write(&line);
    }
}
