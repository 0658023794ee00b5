//! A request under way: its record, and all that it holds until it is over.
//!
//! It goes with the request, then with the response's body or with the tunnel that was opened. Whoever drops it ends the
//! request, whether the response is complete, broken off or was never begun; what the end consists of stands in
//! [`ActiveRequest::finish`], in order, and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::attempt_record::AttemptRecord;
use super::record::Record;
use super::respond::Refusal;
use bursar_base::path::Pattern;
use bursar_http::connection::ConnectionState;
use bursar_journal::{Entry, Journal};
use bursar_limits::caller_limits::RequestPermit;
use bursar_telemetry::access_log::AccessLog;
use bursar_telemetry::metrics::{ByCaller, Limit, Metrics, ProviderSeries, Reason, RefusalDetail};
use bursar_traces::Tracer;

/// Where requests are written down and counted.
#[derive(Debug)]
pub(super) struct Telemetry {
    /// Access lines.
    pub log: AccessLog,
    /// Counters.
    pub metrics: Metrics,
    /// What follows these paths is masked, whosever request it is: a request that is refused early has
    /// no provider yet.
    pub secret_below: Vec<Pattern>,
    /// Spans. None: no request has any.
    pub tracer: Option<Tracer>,
    /// Whether what is still under way ends with the process.
    pub ending: Arc<AtomicBool>,
}

/// One request, from its head to the last byte of its response.
#[derive(Debug)]
pub struct ActiveRequest {
    /// What is known of it.
    pub record: Record,
    telemetry: Arc<Telemetry>,
    pub(super) connection: Arc<ConnectionState>,
    /// Whether its connection counts it among those that move money.
    moves_money: bool,
    /// Whether the provider's response was let go of before its end.
    is_unfinished: bool,
    /// None: its caller has no limits.
    permit: Option<RequestPermit>,
    /// None: it moves no money, or there is no journal.
    entry: Option<Entry>,
}

impl ActiveRequest {
    /// Begins a request that came on that connection.
    #[must_use]
    pub(super) fn begin(
        telemetry: &Arc<Telemetry>,
        request: &Request<Incoming>,
        connection: &Arc<ConnectionState>,
    ) -> Self {
        connection.begin_request();
        Self {
            record: Record::new(request),
            telemetry: telemetry.clone(),
            connection: connection.clone(),
            moves_money: false,
            is_unfinished: false,
            permit: None,
            entry: None,
        }
    }

    /// Decides whether the request has spans, which depends on whether its caller is known. Its caller speaks that HTTP,
    /// over TLS or not.
    pub(super) fn sample(&mut self, version: Version, is_tls: bool) {
        if let Some(tracer) = &self.telemetry.tracer {
            self.record.sample(tracer, version, is_tls);
        }
    }

    /// The request is for that provider, and counted there while it is under way.
    pub fn count_for(&mut self, series: &Arc<ProviderSeries>) {
        series.in_flight.inc();
        self.record.set_provider(series.clone());
    }

    /// The request counts for its caller until it is over.
    pub fn hold(&mut self, permit: RequestPermit) {
        self.permit = Some(permit);
    }

    /// The request does not count for its caller any more: those inside its tunnel do.
    pub fn release_permit(&mut self) {
        self.permit = None;
    }

    /// The request moves money; its connection is cut off last.
    pub fn set_moves_money(&mut self) {
        if !self.moves_money {
            self.moves_money = true;
            self.connection.traffic.pay();
        }
    }

    /// The provider's response is over before its end came.
    pub(super) fn set_unfinished(&mut self) {
        self.is_unfinished = true;
    }

    /// From now on the journal knows of the request; `key` is what the provider knows it again by.
    pub fn write_to(&mut self, journal: &Journal, key: Option<&HeaderValue>) {
        let intent = self.record.intent(key, &self.telemetry.secret_below);
        self.entry = intent.map(|intent| journal.entry(intent));
    }

    /// Its entry in the journal, if it has one.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// Bursar itself responds, or cuts the provider's response off. Counted at once. A reason with several meanings has
    /// a `detail`.
    pub fn fail(&mut self, reason: Reason, detail: Option<RefusalDetail>) {
        self.record.set_reason(reason);
        if let Some(detail) = detail {
            self.record.set_detail(detail);
        }
        self.by_caller().refused(self.record.caller(), reason);
        // Whoever leaves is refused nothing.
        if reason != Reason::CallerLeft {
            let refusal = self.record.as_refusal(reason, self.connection.peer.address);
            self.telemetry.metrics.requests.recent_refusals.add(refusal);
        }
    }

    /// What attempts need of it: its entry, and where they leave what became of them.
    pub(super) fn for_attempt(&mut self) -> (Option<&Entry>, &mut AttemptRecord) {
        (self.entry.as_ref(), &mut self.record.attempts)
    }

    /// Bursar itself responds with that, and the request is over for it: whether and when the caller reads the response
    /// changes nothing, and must not keep the request's body in memory.
    pub(super) fn respond(mut self: Box<Self>, mut response: Response<Bytes>) -> Response<Bytes> {
        self.record.set_own_status(response.status());
        if self.record.is_head() {
            // hyper leaves the body out over HTTP/1 alone (RFC 9110 section 9.3.2).
            let length = std::mem::take(response.body_mut()).len();
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        self.record.add_sent(response.body().len());
        response
    }

    /// The same with a refusal.
    pub(super) fn refuse(mut self: Box<Self>, refusal: Refusal) -> Response<Bytes> {
        if let Some(limit) = refusal.limit() {
            self.count_limit(limit);
        }
        let mut refused = refusal.respond(self.record.id());
        if let Some(phrase) = refused.phrase.take().filter(|_| self.record.is_connect()) {
            refused.response.extensions_mut().insert(phrase);
        }
        if let Some(cause) = refused.cause {
            self.record.set_cause(cause);
        }
        self.fail(refused.reason, refused.detail);
        if let Some(peer) = &refused.peer {
            self.record.attempts.set_peer(Some(peer));
        }
        self.respond(refused.response)
    }

    /// A limit is why.
    pub fn count_limit(&self, limit: Limit) {
        self.telemetry.metrics.limits.reached(limit);
    }

    /// Everything that the end of a request does.
    fn finish(&mut self) {
        let connection = &self.connection;
        // Its connection need not be kept for money any more.
        if self.moves_money {
            connection.traffic.paid();
        }
        // The response is over; nobody wants the rest of the request any more.
        if self.record.is_unread() {
            connection.leave_unread();
            if let Some(upload) = self.record.upload() {
                upload.abandon();
            }
        }
        // A connection that has noticed that its caller does not read drops what was left of the response without a
        // word.
        let is_stuck = || self.connection.ended_with() == Some(Limit::WriteTimeout);
        if self.record.status().is_some() && self.record.reason().is_none() && is_stuck() {
            self.fail(Reason::RequestTimeout, Some(RefusalDetail::WriteTimeout));
        }
        let is_unanswered = self.record.status().is_none();
        if is_unanswered || self.is_unfinished && self.record.reason().is_none() {
            if self.connection.is_cut_off() || self.telemetry.ending.load(Ordering::Relaxed) {
                self.fail(Reason::Draining, Some(RefusalDetail::DrainTimeout));
                if is_unanswered {
                    self.record.set_own_status(StatusCode::SERVICE_UNAVAILABLE);
                }
            } else {
                let detail = (!is_unanswered).then_some(RefusalDetail::ResponseUnread);
                self.fail(Reason::CallerLeft, detail);
            }
        }
        self.record.count_payment();
        let total = self.record.elapsed();
        self.count(total.as_secs_f64());
        let Telemetry {
            log,
            secret_below,
            tracer,
            ..
        } = &*self.telemetry;
        let client = self.connection.peer.address;
        self.record
            .with_line(client, total, secret_below, |line| log.write(line));
        if let Some(tracer) = tracer
            && let Some(spans) = self.record.spans(client, total)
        {
            tracer.put(spans);
        }
        // What it took up is free for others again; the kept body is memory that requests share.
        if let Some(series) = self.record.series() {
            series.in_flight.dec();
        }
        drop(self.record.take_upload());
        self.connection.end_request();
        self.permit = None;
        // Last, the journal: nothing more comes of the request.
        self.entry = None;
    }

    fn count(&self, seconds: f64) {
        if let Some(series) = self.record.series() {
            series.duration.observe(seconds);
        }
        if self.record.is_relayed() {
            let (caller, status) = (self.record.caller(), self.record.final_status());
            self.by_caller().add_response(caller, status);
        }
    }

    fn by_caller(&self) -> &ByCaller {
        match self.record.series() {
            Some(series) => &series.by_caller,
            None => self.telemetry.metrics.requests.without_provider(),
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.finish();
    }
}
