//! The record of a request: plain data, from which its access line and its journal entry are made.
//!
//! It does nothing by itself: what counts or holds something on a request's behalf is in
//! [`active_request`](super::active_request).

mod host;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::attempt_record::AttemptRecord;
use crate::exchange::request_body::CallerBody;
use bursar_base::clock;
use bursar_base::path::{Path, Pattern};
use bursar_base::secret::hexadecimal;
use bursar_config::Provider;
use bursar_http::headers::{ControlFields, Correlation, Identifier, Via};
use bursar_journal::Intent;
use bursar_telemetry::access_log::{self, Line};
use bursar_telemetry::metrics::{
    ANONYMOUS, Cause, NO_PROVIDER, ProviderSeries, Reason, RecentRefusal, RefusalDetail,
    RefusedRequest,
};
use bursar_traces::{Parent, RequestEnd, RequestHead, Span, SpanContext, Tracer};
use host::Host;

/// What a request is counted as whose caller left before the response; never sent.
const CALLER_LEFT: u16 = 499;

/// Characters of a host that people are shown; those of a name of the DNS.
const MAX_SHOWN_HOST: usize = 255;

/// What a request is for, as far as lines tell it.
#[derive(Debug)]
enum LoggedTarget {
    Path(PathAndQuery),
    /// Of a `CONNECT`.
    Authority(Option<Authority>),
}

/// One request, from its head to the last byte of its response.
#[derive(Debug)]
pub struct Record {
    id: u128,
    started: Instant,
    method: Method,
    target: LoggedTarget,
    has_body: bool,
    form: &'static str,
    /// None: it names none.
    host: Option<Host>,
    /// What its caller knows it by; None: nothing.
    correlation: Option<Box<Correlation>>,
    /// None: nobody known, so far.
    caller: Option<Arc<str>>,
    /// Whose name came with a wrong password.
    claimed_caller: Option<Arc<str>>,
    provider: Option<Arc<ProviderSeries>>,
    route: Option<Arc<str>>,
    /// Index into the provider's accounts.
    account: Option<usize>,
    /// Whether it moves money.
    is_payment: bool,
    /// None: no response was begun.
    status: Option<StatusCode>,
    /// Whether that is Bursar's own.
    is_own: bool,
    /// Why Bursar responded, or cut the response off.
    reason: Option<Reason>,
    /// In which sense.
    detail: Option<RefusalDetail>,
    /// Why there was no connection.
    cause: Option<Cause>,
    upload: Option<CallerBody>,
    /// Bytes of the response, or to the caller through a tunnel.
    sent: u64,
    /// Bytes from the caller through a tunnel.
    tunnelled: u64,
    /// What came of sending it.
    pub(super) attempts: AttemptRecord,
}

impl Record {
    /// Of a request that has just come.
    #[must_use]
    pub fn new(request: &Request<Incoming>) -> Self {
        Self {
            host: Host::of(request),
            form: host::form(request),
            has_body: !request.body().is_end_stream(),
            ..Self::of(request.method().clone(), request.uri())
        }
    }

    /// Of a request of which nothing else is known yet.
    fn of(method: Method, uri: &Uri) -> Self {
        let target = match uri.path_and_query() {
            Some(path) => LoggedTarget::Path(path.clone()),
            None => LoggedTarget::Authority(uri.authority().cloned()),
        };
        Self {
            id: fastrand::u128(..),
            started: Instant::now(),
            method,
            target,
            has_body: false,
            form: "",
            host: None,
            correlation: None,
            caller: None,
            claimed_caller: None,
            provider: None,
            route: None,
            account: None,
            is_payment: false,
            status: None,
            is_own: false,
            reason: None,
            detail: None,
            cause: None,
            upload: None,
            sent: 0,
            tunnelled: 0,
            attempts: AttemptRecord::default(),
        }
    }

    /// Names the request to people: 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// The same for a field.
    pub(super) fn id_field(&self) -> HeaderValue {
        let digits = self.id.to_be_bytes().map(hexadecimal);
        // Digits are always a field's value.
        HeaderValue::from_bytes(digits.as_flattened()).unwrap_or(HeaderValue::from_static(""))
    }

    /// Its caller knows it by that.
    pub(super) fn set_correlation(&mut self, correlation: Option<Box<Correlation>>) {
        self.correlation = correlation;
    }

    /// The same for a request that is over before its fields were looked at.
    pub(super) fn correlate(&mut self, headers: &HeaderMap, via: &Via) {
        if self.correlation.is_none() {
            self.correlation = ControlFields::read(headers, via).correlation;
        }
    }

    fn correlation(&self) -> access_log::Correlation<'_> {
        let trace_id = self.attempts.trace_id();
        let Some(known) = self.correlation.as_deref() else {
            return access_log::Correlation {
                trace_id,
                ..access_log::Correlation::default()
            };
        };
        access_log::Correlation {
            reference: known.reference.as_ref().and_then(text),
            reference_dropped: known.reference.as_ref().and_then(dropped),
            caller_request_id: known.request_id.as_ref().and_then(text),
            // That of its own span, where it has one.
            trace_id: trace_id.or(known.trace.map(|trace| trace.trace_id)),
        }
    }

    /// Decides whether it is sampled, once its caller was verified, or was not.
    pub(super) fn sample(&mut self, tracer: &Tracer, version: Version, is_tls: bool) {
        let trace = self.correlation.as_ref().and_then(|known| known.trace);
        let parent = trace.map(|trace| Parent {
            context: SpanContext {
                trace_id: trace.trace_id,
                span_id: trace.span_id,
            },
            is_sampled: trace.is_sampled,
        });
        let is_known = self.caller.as_deref().is_some_and(|name| name != ANONYMOUS);
        let head = RequestHead {
            came: self.started,
            method: &self.method,
            version,
            is_tls,
        };
        let trace = tracer.sample(parent, is_known, &head);
        self.attempts.set_trace(trace);
    }

    /// Its spans, once it is over. None: it is not sampled.
    pub(super) fn spans(&mut self, client: IpAddr, total: Duration) -> Option<Vec<Span>> {
        let trace = self.attempts.take_trace()?;
        let provider = self.provider();
        let account = provider.and_then(|provider| provider.accounts.get(self.account?));
        // Of a host that no provider has the caller alone decides what it is.
        let host = self.host.as_ref().filter(|_| provider.is_some());
        let host = host.map(Host::name);
        let end = RequestEnd {
            request_id: self.id,
            caller: self.caller(),
            client,
            provider: provider.map(|provider| &*provider.name),
            account: account.map(|account| &*account.name),
            route: self.route.as_deref(),
            host: host.as_deref(),
            status: self.status,
            is_own: self.is_own,
            reason: self.reason.map(Reason::as_str),
            detail: self.detail.map(RefusalDetail::as_str),
            cause: self.cause.map(Cause::as_str),
            is_replayed: self.attempts.is_replayed(),
        };
        Some(trace.finish(&end, total))
    }

    /// Whether the request asks for a tunnel.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method == Method::CONNECT
    }

    /// The request's caller was verified.
    pub fn set_caller(&mut self, name: &Arc<str>) {
        self.caller = Some(name.clone());
    }

    /// Who that is.
    #[must_use]
    pub fn caller(&self) -> &str {
        self.caller.as_deref().unwrap_or(ANONYMOUS)
    }

    /// The request is for that provider.
    pub(super) fn set_provider(&mut self, series: Arc<ProviderSeries>) {
        self.provider = Some(series);
    }

    /// Whose the request is, if it is a provider's.
    #[must_use]
    pub fn provider(&self) -> Option<&Provider> {
        self.series().map(|series| &*series.provider)
    }

    pub(super) fn series(&self) -> Option<&ProviderSeries> {
        self.provider.as_deref()
    }

    /// The request takes that route, for that account of the provider.
    pub fn set_route(&mut self, name: &Arc<str>, account: usize) {
        self.route = Some(name.clone());
        self.account = Some(account);
    }

    /// The request moves money.
    pub(super) fn set_payment(&mut self) {
        self.is_payment = true;
    }

    /// Counts what became of it where it moves money.
    pub(super) fn count_payment(&self) {
        let account = self.account.filter(|_| self.is_payment);
        let payments = self.series().map(|series| &series.payments);
        let payments = payments.zip(account);
        if let Some(payments) = payments.and_then(|(payments, account)| payments.get(account)) {
            payments.add(self.attempts.outcome());
        }
    }

    /// The request goes past all providers, by that rule of `passthrough`.
    pub fn set_passthrough(&mut self, name: &Arc<str>) {
        self.route = Some(name.clone());
    }

    /// The body that is being sent.
    pub fn set_upload(&mut self, upload: &CallerBody) {
        self.upload = Some(upload.clone());
    }

    pub(super) fn upload(&self) -> Option<&CallerBody> {
        self.upload.as_ref()
    }

    pub(super) fn take_upload(&mut self) -> Option<CallerBody> {
        self.upload.take()
    }

    /// Whether there is more of the caller's body to read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.has_body && !self.upload.as_ref().is_some_and(CallerBody::is_read)
    }

    /// The response begins.
    pub fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// A response of Bursar's own begins.
    pub fn set_own_status(&mut self, status: StatusCode) {
        self.is_own = true;
        self.set_status(status);
    }

    /// Whether a response to it has no body.
    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Whether the response is another one than Bursar's own.
    pub(super) fn is_relayed(&self) -> bool {
        self.status.is_some() && !self.is_own
    }

    /// What its caller was answered; None: nothing.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// What the request is counted as: a caller that left has a status of its own.
    pub(super) fn final_status(&self) -> StatusCode {
        let left = || StatusCode::from_u16(CALLER_LEFT).unwrap_or(StatusCode::BAD_REQUEST);
        self.status.unwrap_or_else(left)
    }

    pub(super) fn set_reason(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// Which of its reason's meanings it is. Who knows most says it first.
    pub(super) fn set_detail(&mut self, detail: RefusalDetail) {
        self.detail.get_or_insert(detail);
    }

    /// Whose name came with a wrong password.
    pub(super) fn set_claimed_caller(&mut self, name: Option<Arc<str>>) {
        self.claimed_caller = name;
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// There was no connection, and why.
    pub fn set_cause(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }

    /// Bytes of the response's body went to the caller.
    pub fn add_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// A tunnel carried bytes from and to the caller.
    pub fn add_tunnelled(&mut self, from_caller: u64, to_caller: u64) {
        self.tunnelled += from_caller;
        self.sent += to_caller;
    }

    /// What people are shown of it where it is refused.
    pub(super) fn as_refusal(&self, reason: Reason, client: IpAddr) -> RecentRefusal {
        let provider = self.provider().map(|provider| provider.name.clone());
        let host = self.host.as_ref().filter(|_| provider.is_none());
        RecentRefusal {
            at: clock::wall(),
            reason,
            detail: self.detail,
            cause: self.cause,
            client,
            request: Some(RefusedRequest {
                id: self.id,
                caller: self.caller.clone(),
                claimed_caller: self.claimed_caller.clone(),
                provider,
                route: self.route.clone(),
                host: host.map(|host| host.name().chars().take(MAX_SHOWN_HOST).collect()),
            }),
        }
    }

    /// Since the request came.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the journal writes down before the request is sent; `key` is what the provider knows it again by. None
    /// before it has a route.
    pub(super) fn intent(
        &self,
        key: Option<&HeaderValue>,
        secret_below: &[Pattern],
    ) -> Option<Intent> {
        let provider = self.provider()?;
        let account = provider.accounts.get(self.account?);
        let correlation = self.correlation();
        Some(Intent {
            time: clock::wall(),
            request_id: self.id(),
            caller: self.caller.clone().unwrap_or_else(|| ANONYMOUS.into()),
            provider: provider.name.clone(),
            account: account.map_or_else(|| "".into(), |account| account.name.as_str().into()),
            route: self.route.clone()?,
            method: self.method.to_string(),
            path: self.path(secret_below).into_owned(),
            idempotency_key: key.map_or_else(OnceLock::new, |key| {
                String::from_utf8_lossy(key.as_bytes()).into_owned().into()
            }),
            reference: correlation.reference.map(Into::into),
            caller_request_id: correlation.caller_request_id.map(Into::into),
            trace_id: correlation.trace_id.map(|id| format!("{id:032x}").into()),
        })
    }

    /// Its line in the access log, once it is over.
    pub(super) fn with_line<T>(
        &self,
        client: IpAddr,
        total: Duration,
        secret_below: &[Pattern],
        write: impl FnOnce(&Line<'_>) -> T,
    ) -> T {
        let provider = self.provider();
        let account = provider.and_then(|provider| provider.accounts.get(self.account?));
        let peer = self.attempts.peer();
        write(&Line {
            at: clock::wall(),
            is_own: self.is_own,
            request_id: self.id,
            client,
            claimed_caller: self.claimed_caller.as_deref(),
            form: self.form,
            host: self.host.as_ref().map(Host::name).as_deref(),
            correlation: self.correlation(),
            caller: self.caller(),
            provider: provider.map_or(NO_PROVIDER, |provider| &provider.name),
            account: account.map(|account| &*account.name),
            route: self.route.as_deref(),
            method: self.method.as_str(),
            path: &self.path(secret_below),
            status: self.final_status().as_u16(),
            reason: self.reason.map(Reason::as_str),
            detail: self.detail.map(RefusalDetail::as_str),
            cause: self.cause.map(Cause::as_str),
            upstream_host: peer.map(|peer| &*peer.host),
            upstream_address: peer.and_then(|peer| peer.address),
            token: self.attempts.token(),
            replayed: self.attempts.is_replayed(),
            total,
            token_wait: self.attempts.token_wait(),
            upstream: self.attempts.upstream(),
            request_bytes: self
                .upload
                .as_ref()
                .map_or(self.tunnelled, CallerBody::bytes_read),
            response_bytes: self.sent,
        })
    }

    /// The path without its secrets: what follows one of those prefixes is masked.
    fn path(&self, secret_below: &[Pattern]) -> Cow<'_, str> {
        let raw = match &self.target {
            LoggedTarget::Path(path) => path.path(),
            LoggedTarget::Authority(authority) => {
                let authority = authority.as_ref().map_or("/", Authority::as_str);
                // What stands before an `@` might be a secret.
                return authority.rsplit('@').next().unwrap_or_default().into();
            }
        };
        if secret_below.is_empty() {
            return raw.into();
        }
        let path = Path::new(raw);
        let is_below = |path: &str, prefix: &str| {
            path.split_at_checked(prefix.len())
                .is_some_and(|(head, below)| {
                    head.eq_ignore_ascii_case(prefix) && below.starts_with('/')
                })
        };
        for pattern in secret_below {
            let prefix = pattern.as_str();
            if path.readings().any(|path| is_below(path, prefix)) {
                return format!("{prefix}/***").into();
            }
        }
        raw.into()
    }
}

/// An identifier that is noted.
fn text(identifier: &Identifier) -> Option<&str> {
    identifier.as_ref().ok()?.to_str().ok()
}

/// Why an identifier is not.
fn dropped(identifier: &Identifier) -> Option<&'static str> {
    let why = identifier.as_ref().err()?;
    Some(why.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(uri: &str, secret_below: &[&str]) -> String {
        let record = Record::of(Method::GET, &uri.parse().unwrap());
        let patterns = secret_below
            .iter()
            .map(|text| Pattern::parse(text).unwrap());
        record.path(&patterns.collect::<Vec<_>>()).into_owned()
    }

    #[test]
    fn what_follows_a_secrets_prefix_is_masked_in_every_spelling_and_nothing_else_is() {
        for (uri, expected) in [
            ("/pay/tok/secret", "/pay/tok/***"),
            ("/pay/tok/secret/more", "/pay/tok/***"),
            ("/PAY/Tok/secret", "/pay/tok/***"),
            ("/pay/%74ok/secret", "/pay/tok/***"),
            ("//pay/tok/secret", "/pay/tok/***"),
            ("/pay/tok", "/pay/tok"),
            ("/pay/token/x", "/pay/token/x"),
            ("/pay/abc/def", "/pay/abc/def"),
            ("/", "/"),
        ] {
            assert_eq!(path(uri, &["/pay/tok"]), expected);
        }
        assert_eq!(path("/pay/tok/x", &[]), "/pay/tok/x");
        assert_eq!(path("/b/secret", &["/pay/tok", "/b"]), "/b/***");
    }

    #[test]
    fn of_a_tunnel_the_authority_is_named_without_what_may_be_a_password() {
        assert_eq!(path("user:pass@api.test:443", &["/a"]), "api.test:443");
        assert_eq!(path("api.test:443", &[]), "api.test:443");
    }
}
