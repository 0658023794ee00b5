//! Attempts of a request, and the only retries: one sending, again where it was certainly not processed, and after
//! a 401 at most one replay with another token. A second 401 goes to the caller.
//!
//! It knows nothing of callers and routes: an [`Attempt`] is what the stages before found out. It decides when
//! the same request may go out again, and nothing else does. Connections and tokens are behind [`Client`] and
//! [`Supply`], so that its decisions are tested without either.

mod client;

use std::pin::pin;
use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::attempt_record::AttemptRecord;
use super::authorize::Authorizer;
use super::freezes::{PaymentFlag, not_passing};
use crate::exchange::replay::{ReplayDecision, decide};
use crate::exchange::request_body::{CallerBody, RequestBody, Upstream};
use crate::exchange::respond::Refusal;
use crate::exchange::route::{Destination, Payment};
use crate::token::{AccessToken, Handle, Recovery, Supply};
use crate::upstream::{MAX_UNSENT, Need, OutgoingRequest, SavedRequest, SendError};
use bursar_base::json_pointer::Field;
use bursar_config::ReplayRule;
use bursar_http::connection::ConnectionState;
use bursar_http::replay_body::BodyTooLarge;
use bursar_http::target;
use bursar_journal::{self as journal, Entry, Unavailable};
use bursar_telemetry::metrics::{Cause, ProviderSeries, RefusalDetail, Replay, Unauthorized};
use bursar_traces::Failed;
use client::{Client, Message};

/// A request on its way: what the stages found out about it.
pub(super) struct Attempt<'a, C = Upstream, S = Handle> {
    pub(super) client: &'a C,
    pub(super) series: &'a ProviderSeries,
    /// Whether an operator has payments stopped, perhaps since this one began. None: it is no payment.
    pub(super) payments: Option<&'a PaymentFlag>,
    pub(super) destination: Destination<'a>,
    pub(super) authorizer: Authorizer<'a, S>,
    /// None once it went out.
    pub(super) outgoing: Option<OutgoingRequest>,
    /// The same for when it has to go out again. Most do not, so it is a copy that is cheap to make and rarely read.
    pub(super) saved: SavedRequest,
    pub(super) body: Option<CallerBody>,
    /// Whether the route lets this request be sent again after a 401.
    pub(super) may_be_replayed: bool,
    /// Where its key is in the body, if it may be there.
    pub(super) key_field: Option<&'a Arc<Field>>,
    /// None: it is not written down.
    pub(super) entry: Option<&'a Entry>,
    pub(super) record: &'a mut AttemptRecord,
    /// What the request came on.
    pub(super) caller: &'a ConnectionState,
}

/// A key is looked for in bodies up to this size.
const MAX_KEYED_BODY: usize = 64 * 1024;

/// A provider's response and the connection that it comes on.
pub(super) struct Received<C: Client = Upstream> {
    pub(super) response: Box<Response<C::Body>>,
    pub(super) connection: C::Connection,
}

impl<'a, C: Client, S: Supply> Attempt<'a, C, S> {
    /// Sends the request, and after a 401 renews once and replays.
    pub(super) async fn send_with_replay(&mut self) -> Result<Received<C>, Refusal> {
        let now = Instant::now();
        let (mut access_token, now) = match self.ready_token(now) {
            Ok(access_token) => (access_token, now),
            Err(source) => self.obtain_token(source, now).await?,
        };
        let upload = self.upload().map_err(|BodyTooLarge| Refusal::Overloaded)?;
        let first = self.send(&mut access_token, now, upload).await?;
        self.note_response(&first.response).await;
        let status = first.response.status();
        match decide(status, first.response.headers()) {
            ReplayDecision::Relay => {
                if let Authorizer::Bursar(source) = self.authorizer {
                    source.record_status(access_token.generation, self.route(), status);
                }
                self.stop_buffering();
                Ok(first)
            }
            decision => Box::pin(self.after_401(first, decision, access_token.generation)).await,
        }
    }

    /// What goes to the caller after a 401 to a request with that generation: another response, or the 401.
    async fn after_401(
        &mut self,
        first: Received<C>,
        decision: ReplayDecision,
        sent: u64,
    ) -> Result<Received<C>, Refusal> {
        let (received, replay) = match self.prepare_replay(decision, sent).await {
            Ok((fresh, upload)) => {
                // The first response is not needed any more; its connection is not waited for.
                drop(first);
                self.replay(fresh, upload).await
            }
            Err(replay) => {
                self.stop_buffering();
                (Ok(first), replay)
            }
        };
        self.series.replay(replay);
        self.series.unauthorized(match replay {
            Replay::Ok | Replay::Failed => Unauthorized::Absorbed,
            Replay::NotAllowed
            | Replay::BodyTooLarge
            | Replay::TokenUnchanged
            | Replay::TokenTooYoung
            | Replay::TokenUnavailable
            | Replay::UnauthorizedAgain => Unauthorized::Surfaced,
        });
        received
    }

    /// What to replay with, or why the provider's 401 goes to the caller.
    async fn prepare_replay(
        &mut self,
        decision: ReplayDecision,
        sent: u64,
    ) -> Result<(AccessToken, RequestBody), Replay> {
        let Authorizer::Bursar(source) = self.authorizer else {
            return Err(Replay::NotAllowed);
        };
        if decision == ReplayDecision::InsufficientScope {
            source.insufficient(self.route());
            return Err(Replay::NotAllowed);
        }
        if !self.may_be_replayed && !self.has_key_in_body() {
            source.renew(sent, self.route());
            return Err(Replay::NotAllowed);
        }
        if self.body.as_ref().is_some_and(|body| !body.pause()) {
            source.renew(sent, self.route());
            return Err(Replay::BodyTooLarge);
        }
        self.caller.set_waits(true);
        let since = Instant::now();
        let links = self.record.begin_token_wait(since);
        let route = &self.destination.route;
        let recovered = match source.recover(sent, route, links).await {
            Recovery::Replay(access_token) => Ok(access_token),
            Recovery::Unchanged => Err(Replay::TokenUnchanged),
            Recovery::RenewedTooOften => Err(Replay::TokenTooYoung),
            Recovery::Unavailable => Err(Replay::TokenUnavailable),
        };
        let failed = |replay: &Replay| Failed {
            error: replay.as_str(),
            cause: None,
        };
        self.waited_for_token(since, recovered.as_ref().map(|_| ()).map_err(failed));
        let access_token = recovered?;
        let upload = self.upload().map_err(|BodyTooLarge| Replay::BodyTooLarge)?;
        Ok((access_token, upload))
    }

    /// The second sending, with another token. Whatever comes of it goes to the caller.
    async fn replay(
        &mut self,
        mut access_token: AccessToken,
        upload: RequestBody,
    ) -> (Result<Received<C>, Refusal>, Replay) {
        self.record.begin_replay();
        let replayed = self.send(&mut access_token, Instant::now(), upload).await;
        self.stop_buffering();
        let Ok(Received { response, .. }) = &replayed else {
            return (replayed, Replay::Failed);
        };
        self.note_response(response).await;
        let is_refused = response.status() == StatusCode::UNAUTHORIZED;
        if let Authorizer::Bursar(source) = self.authorizer {
            let (generation, route) = (access_token.generation, self.route());
            if is_refused {
                source.replay_refused(generation, route);
            } else {
                source.record_status(generation, route, response.status());
            }
        }
        let result = if is_refused {
            Replay::UnauthorizedAgain
        } else {
            Replay::Ok
        };
        (replayed, result)
    }

    fn upload(&self) -> Result<RequestBody, BodyTooLarge> {
        RequestBody::next(self.body.as_ref())
    }

    /// Whether the body, as it was read, has a key that lets the request be sent again.
    fn has_key_in_body(&self) -> bool {
        let (Some(field), Some(body)) = (self.key_field, &self.body) else {
            return false;
        };
        self.destination.payment.replay == ReplayRule::IfKeyed
            && body
                .whole(MAX_KEYED_BODY)
                .is_some_and(|body| field.text_in(&body).is_some())
    }

    /// One sending. Only a request that was certainly never processed is given to a second connection. The token
    /// is another one afterwards where it ran out on the way.
    async fn send(
        &mut self,
        access_token: &mut AccessToken,
        mut now: Instant,
        mut upload: RequestBody,
    ) -> Result<Received<C>, Refusal> {
        let mut unsent = 0;
        let mut need = Need {
            upload: upload.size_hint().upper().unwrap_or(u64::MAX),
            moves_money: self.destination.payment.moves_money,
            ..Need::default()
        };
        loop {
            self.caller.set_waits(true);
            let since = now;
            let origin = &self.destination.origin;
            self.record.begin_sending(since, origin);
            let mut connection = match self.client.connection(origin, need, since).await {
                Ok((connection, connected)) => {
                    now = connected;
                    connection
                }
                Err(error) => {
                    self.record.not_connected(since.elapsed(), &error);
                    return Err(Refusal::Connect(error));
                }
            };
            // An idle connection was there at once.
            if now > since {
                self.record.add_upstream(now - since);
            }
            self.record.set_peer(C::peer(&connection));
            if access_token.is_expired(now) {
                // Connecting took longer than the token had left.
                (*access_token, now) = self.access_token().await?;
            }
            self.may_go_on()?;
            if self.entry.is_some() {
                Box::pin(self.write_down(access_token, &mut upload)).await?;
                now = Instant::now();
            }
            // It may have to wait again before it is replayed, and its caller have left by then.
            let is_watched = self.payments.is_some() && self.may_be_replayed;
            self.caller.set_waits(is_watched);
            self.record.set_token(access_token);
            let message = self.message(access_token, upload)?;
            self.record.set_sent();
            let (began, body) = (now, self.body.as_ref());
            let response = {
                // Pinned where it is made: awaiting it as a value would move it once more.
                let sending = pin!(self.client.send(&mut connection, message, body, began));
                sending.await
            };
            now = Instant::now();
            let head = response.as_ref();
            let head = head.map(|response| (response.status(), response.version()));
            self.record.responded(now - began, head);
            match response {
                Ok(response) => {
                    return Ok(Received {
                        response,
                        connection,
                    });
                }
                Err(failed @ (SendError::Unsent | SendError::Refused | SendError::WantsHttp1)) => {
                    unsent += 1;
                    // A server that ends one connection may be ending all of them.
                    need.is_new = unsent > 1;
                    self.note_unsent().await;
                    upload = self.upload_again(failed, unsent)?;
                }
                Err(failed @ (SendError::TimedOutUnsent | SendError::ClientRefused)) => {
                    self.note_unsent().await;
                    return Err(Refusal::Send(failed));
                }
                Err(failed) => return Err(Refusal::Send(failed)),
            }
        }
    }

    /// The request as the next attempt sends it.
    fn message(
        &mut self,
        access_token: &AccessToken,
        upload: RequestBody,
    ) -> Result<Message, Refusal> {
        let outgoing = match self.outgoing.take() {
            Some(outgoing) => outgoing,
            None => {
                let saved = self.saved.outgoing();
                saved.ok_or(Refusal::Send(SendError::Unsent))?
            }
        };
        Ok(Message {
            outgoing,
            authorization: access_token.authorization.clone(),
            upload,
        })
    }

    /// The body for another connection, after that many that have certainly not processed the request.
    fn upload_again(&self, failed: SendError, unsent: usize) -> Result<RequestBody, Refusal> {
        let wants_http1 = matches!(failed, SendError::WantsHttp1);
        if wants_http1 && !self.client.use_http1(&self.destination.origin) {
            return Err(Refusal::Send(failed));
        }
        match self.upload() {
            Ok(again) if unsent <= MAX_UNSENT => Ok(again),
            _ => Err(Refusal::Send(failed)),
        }
    }

    /// Writes down that the request is about to go. Nothing is waited for after the last write, so that what was not
    /// sent is not in doubt.
    async fn write_down(
        &mut self,
        access_token: &mut AccessToken,
        upload: &mut RequestBody,
    ) -> Result<(), Refusal> {
        let Some(entry) = self.entry else {
            return Ok(());
        };
        let digest = upload.hash(entry.body_observer(self.key_field)).await;
        if upload.is_broken() {
            let what = "the request's body broke off or is malformed";
            let broken = target::Error::Malformed(RefusalDetail::BodyBroken, what);
            return Err(Refusal::Target(broken));
        }
        for _ in 0..=MAX_UNSENT {
            entry.sending(digest).await.map_err(Refusal::Journal)?;
            // The disk may have been waited for.
            if let Err(refusal) = self.may_go_on() {
                self.note_unsent().await;
                return Err(refusal);
            }
            if !access_token.is_expired(Instant::now()) {
                return Ok(());
            }
            // That took longer than the token had left.
            self.note_unsent().await;
            (*access_token, _) = self.access_token().await?;
        }
        Err(Refusal::Journal(Unavailable))
    }

    /// Whether the caller is still there and no operator has stopped payments while this one waited.
    fn may_go_on(&self) -> Result<(), Refusal> {
        if self.caller.has_caller_left() {
            return Err(Refusal::CallerLeft);
        }
        self.payments.and_then(not_passing).map_or(Ok(()), Err)
    }

    /// The token, and when it was there.
    async fn access_token(&mut self) -> Result<(AccessToken, Instant), Refusal> {
        let now = Instant::now();
        match self.ready_token(now) {
            Ok(access_token) => Ok((access_token, now)),
            Err(source) => self.obtain_token(source, now).await,
        }
    }

    /// The token if there is one, or its source. Mostly there is, and then nothing is awaited.
    fn ready_token(&self, now: Instant) -> Result<AccessToken, &'a S> {
        match &self.authorizer {
            Authorizer::Bursar(source) => source.read(now).ok_or(*source),
            Authorizer::Caller(access_token) => Ok(AccessToken::clone(access_token)),
        }
    }

    async fn obtain_token(
        &mut self,
        source: &S,
        since: Instant,
    ) -> Result<(AccessToken, Instant), Refusal> {
        self.caller.set_waits(true);
        let links = self.record.begin_token_wait(since);
        let access_token = Box::pin(source.obtain(links)).await;
        let failed = access_token.as_ref().err().map(|missing| Failed {
            error: missing.failure.outcome().as_str(),
            cause: missing.cause.map(Cause::as_str),
        });
        self.waited_for_token(since, failed.map_or(Ok(()), Err));
        Ok((access_token.map_err(Refusal::Token)?, Instant::now()))
    }

    fn waited_for_token(&mut self, since: Instant, result: Result<(), Failed>) {
        let waited = since.elapsed();
        self.record.end_token_wait(waited, result);
        self.series.token_wait.observe(waited.as_secs_f64());
    }

    /// Before anything of a response goes to the caller. After a 401 the provider has not acted.
    async fn note_response(&mut self, response: &Response<C::Body>) {
        if !self.destination.payment.moves_money {
            return;
        }
        let no_body = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        let is_whole = response.status() == StatusCode::UNAUTHORIZED
            || no_body.contains(&response.status())
            || self.saved.method == Method::HEAD
            || journal::is_whole(response.body());
        if is_whole {
            self.record.set_answered();
        }
        let Some(entry) = self.entry else {
            return;
        };
        if !is_whole {
            entry.answering();
        } else if let Some(commit) = entry.answered() {
            commit.await;
        }
    }

    async fn note_unsent(&mut self) {
        self.record.set_unsent();
        if let Some(entry) = self.entry {
            entry.unsent().await;
        }
    }

    /// What is learnt about is the route.
    fn route(&self) -> &Arc<str> {
        &self.destination.route
    }

    /// No replay can follow.
    fn stop_buffering(&self) {
        if let Some(body) = &self.body {
            body.stop_buffering();
        }
    }
}

/// Where a request's key may be in its body: no header has it, and the body is JSON.
pub(super) fn key_field<'a>(payment: Payment<'a>, headers: &HeaderMap) -> Option<&'a Arc<Field>> {
    let field = payment.idempotency_field?;
    (payment.key(headers).is_none() && is_json(headers)).then_some(field)
}

/// Whether a body is JSON as it is, as far as its head says.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let is_json = first.is_none_or(|value| {
        let media_type = value.as_bytes().split(|byte| *byte == b';').next();
        let media_type = media_type
            .unwrap_or_default()
            .trim_ascii()
            .to_ascii_lowercase();
        media_type == b"application/json" || media_type.ends_with(b"+json")
    });
    let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    is_json && second.is_none() && headers.get_all(CONTENT_ENCODING).iter().all(is_plain)
}

#[cfg(test)]
mod tests;
