//! How is a request sent, and what does a 401 change? One sending, at most one replay.
//!
//! It knows nothing of callers and routes: a [`Attempt`] is what the stages before found out. It decides when
//! the same request may go out again, and nothing else does.

use std::pin::pin;
use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::admin_control::AdminControl;
use super::bearer::Bearer;
use crate::exchange::record::Record;
use crate::exchange::replay::{Verdict, verdict};
use crate::exchange::request_body::{CallerBody, Connection, RequestBody, Upstream};
use crate::exchange::respond::Refusal;
use crate::exchange::route::{Destination, Payment};
use crate::http::replay_body::BodyTooLarge;
use crate::http::target;
use crate::token::{AccessToken, Handle, Missing, Recovery};
use crate::upstream::{MAX_UNSENT, Need, Outgoing, SavedRequest, SendError};
use bursar_base::json_pointer::Field;
use bursar_config::ReplayRule;
use bursar_journal::{self as journal, Unavailable};
use bursar_telemetry::metrics::{ProviderSeries, Replay, Unauthorized};

/// A request on its way: what the stages found out about it.
pub(super) struct Attempt<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) series: &'a Arc<ProviderSeries>,
    /// Who may have stopped payments while this one waited.
    pub(super) admin_control: &'a AdminControl,
    pub(super) destination: Destination<'a>,
    pub(super) token: Bearer<'a>,
    /// None once it went out.
    pub(super) outgoing: Option<Outgoing>,
    /// The same for when it has to go out again. Most do not, so it is kept as what costs least to make.
    pub(super) saved: SavedRequest,
    pub(super) body: Option<CallerBody>,
    /// Whether the route lets this request be sent again after a 401.
    pub(super) may_be_replayed: bool,
    /// Where its key is in the body, if it may be there.
    pub(super) key_field: Option<&'a Arc<Field>>,
}

/// A key is looked for in bodies up to this size.
const MAX_KEYED_BODY: usize = 64 * 1024;

/// A provider's answer and the connection that it comes on.
pub(super) type Answered = (Response<Incoming>, Connection);

impl Attempt<'_> {
    /// Sends the request, and after a 401 renews once and replays.
    pub(super) async fn send_with_replay(
        &mut self,
        record: &mut Record,
    ) -> Result<Answered, Refusal> {
        let (mut access_token, now) = self.access_token(record).await?;
        let upload = self.upload().map_err(|BodyTooLarge| Refusal::Overloaded)?;
        let answered = self.send(record, (&mut access_token, now), upload).await?;
        self.note_response(record, &answered.0).await;
        let verdict = verdict(answered.0.status(), answered.0.headers());
        let outcome = match (verdict, &self.token) {
            (Verdict::Relay, token) => {
                if let Bearer::Bursar(source) = token {
                    source.answered(access_token.generation, self.route(), answered.0.status());
                }
                self.settle();
                return Ok(answered);
            }
            (_, Bearer::Caller(_)) => Err(Replay::NotAllowed),
            (Verdict::InsufficientScope, Bearer::Bursar(source)) => {
                source.insufficient(self.route());
                Err(Replay::NotAllowed)
            }
            (Verdict::Renew, Bearer::Bursar(source))
                if self.may_be_replayed || self.has_key_in_body() =>
            {
                Box::pin(self.recover(record, source, access_token.generation)).await
            }
            (Verdict::Renew, Bearer::Bursar(source)) => {
                source.renew(access_token.generation, self.route());
                Err(Replay::NotAllowed)
            }
        };
        match outcome {
            Ok((fresh, upload)) => {
                // The first answer is not needed any more; its connection is not waited for.
                drop(answered);
                Box::pin(self.replay(record, fresh, upload)).await
            }
            Err(result) => {
                self.settle();
                self.series.replay(result);
                self.series.unauthorized(Unauthorized::Surfaced);
                Ok(answered)
            }
        }
    }

    /// The second sending, with another token.
    async fn replay(
        &mut self,
        record: &mut Record,
        mut access_token: AccessToken,
        upload: RequestBody,
    ) -> Result<Answered, Refusal> {
        record.replayed();
        let since = Instant::now();
        let replayed = self.send(record, (&mut access_token, since), upload).await;
        self.settle();
        if let Ok((response, _)) = &replayed {
            self.note_response(record, response).await;
        }
        match &replayed {
            Ok((response, _)) if response.status() == StatusCode::UNAUTHORIZED => {
                if let Bearer::Bursar(source) = self.token {
                    source.replay_refused(access_token.generation, self.route());
                }
                self.series.replay(Replay::UnauthorizedAgain);
                self.series.unauthorized(Unauthorized::Surfaced);
            }
            Ok((response, _)) => {
                if let Bearer::Bursar(source) = self.token {
                    source.answered(access_token.generation, self.route(), response.status());
                }
                self.series.replay(Replay::Ok);
                self.series.unauthorized(Unauthorized::Absorbed);
            }
            Err(_) => {
                self.series.replay(Replay::Failed);
                self.series.unauthorized(Unauthorized::Absorbed);
            }
        }
        replayed
    }

    /// What to replay with, or why the provider's 401 goes to the caller.
    async fn recover(
        &self,
        record: &mut Record,
        source: &Handle,
        sent: u64,
    ) -> Result<(AccessToken, RequestBody), Replay> {
        if self.body.as_ref().is_some_and(|body| !body.pause()) {
            source.renew(sent, self.route());
            return Err(Replay::BodyTooLarge);
        }
        let since = Instant::now();
        let recovery = source.recover(sent, self.route()).await;
        record.waited_for_token(since);
        match recovery {
            Recovery::Replay(access_token) => Ok((
                access_token,
                self.upload().map_err(|BodyTooLarge| Replay::BodyTooLarge)?,
            )),
            Recovery::Unchanged => Err(Replay::TokenUnchanged),
            Recovery::RenewedTooOften => Err(Replay::TokenTooYoung),
            Recovery::Unavailable => Err(Replay::TokenUnavailable),
        }
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
        record: &mut Record,
        (access_token, mut now): (&mut AccessToken, Instant),
        mut upload: RequestBody,
    ) -> Result<Answered, Refusal> {
        let mut unsent = 0;
        let mut need = Need {
            upload: upload.size_hint().upper().unwrap_or(u64::MAX),
            is_alone: self.destination.payment.moves_money,
            needs_settings: self.destination.payment.moves_money,
            is_new: false,
        };
        loop {
            let since = now;
            let origin = &self.destination.origin;
            let connecting = self.upstream.connection(origin, need, since);
            let mut connection = match connecting.await {
                Ok((connection, connected)) => {
                    now = connected;
                    connection
                }
                Err(error) => {
                    record.upstream(since.elapsed());
                    return Err(Refusal::Connect(error));
                }
            };
            record.upstream(now - since);
            if access_token.is_expired(now) {
                // Connecting took longer than the token had left.
                (*access_token, now) = self.access_token(record).await?;
            }
            if self.destination.payment.moves_money {
                self.admin_control
                    .pass_payment(self.destination.provider.index)?;
            }
            if record.entry().is_some() {
                Box::pin(self.write_down(record, access_token, &mut upload)).await?;
                now = Instant::now();
            }
            record.token(access_token);
            let outgoing = self.outgoing.take().or_else(|| self.saved.outgoing());
            let outgoing = outgoing.ok_or(Refusal::Send(SendError::Unsent))?;
            let authorization = Some(access_token.authorization.clone());
            let request = outgoing.request(&connection, authorization, upload);
            let sending = pin!(connection.send(request));
            let began = now;
            let body = self.body.as_ref();
            let response = self.upstream.answer(&mut connection, sending, body, began);
            let response = response.await;
            now = Instant::now();
            record.upstream(now - began);
            match response {
                Ok(response) => return Ok((response, connection)),
                Err(failed @ (SendError::Unsent | SendError::Refused | SendError::WantsHttp1)) => {
                    unsent += 1;
                    // A server that ends one connection may be ending all of them.
                    need.is_new = unsent > 1;
                    note_unsent(record).await;
                    if matches!(failed, SendError::WantsHttp1)
                        && !self.upstream.use_http1(&self.destination.origin)
                    {
                        return Err(Refusal::Send(failed));
                    }
                    upload = match self.upload() {
                        Ok(again) if unsent <= MAX_UNSENT => again,
                        _ => return Err(Refusal::Send(failed)),
                    };
                }
                Err(failed) => return Err(Refusal::Send(failed)),
            }
        }
    }

    /// Nothing is waited for after the last write, so that what was not sent is not in doubt.
    async fn write_down(
        &self,
        record: &mut Record,
        access_token: &mut AccessToken,
        upload: &mut RequestBody,
    ) -> Result<(), Refusal> {
        let mut hash = None;
        if let Some(entry) = record.entry() {
            hash = upload.seal(entry.witness(self.key_field)).await;
            if upload.is_broken() {
                let what = "the request's body broke off or is malformed";
                return Err(Refusal::Target(target::Error::Malformed(what)));
            }
        }
        for _ in 0..=MAX_UNSENT {
            if let Some(entry) = record.entry() {
                entry.sending(hash).await.map_err(Refusal::Journal)?;
            }
            if !access_token.is_expired(Instant::now()) {
                return Ok(());
            }
            // That took longer than the token had left.
            note_unsent(record).await;
            (*access_token, _) = self.access_token(record).await?;
        }
        Err(Refusal::Journal(Unavailable))
    }

    /// The token, and when it was there.
    async fn access_token(&self, record: &mut Record) -> Result<(AccessToken, Instant), Refusal> {
        let now = Instant::now();
        let source = match &self.token {
            Bearer::Bursar(source) => source,
            Bearer::Caller(access_token) => return Ok((AccessToken::clone(access_token), now)),
        };
        if let Some(access_token) = source.read(now) {
            return Ok((access_token, now));
        }
        let access_token: Result<AccessToken, Missing> = Box::pin(source.obtain()).await;
        record.waited_for_token(now);
        Ok((access_token.map_err(Refusal::Token)?, Instant::now()))
    }

    /// Before anything of an answer goes to the caller. After a 401 the provider has not acted.
    async fn note_response(&self, record: &Record, response: &Response<Incoming>) {
        let Some(entry) = record.entry() else {
            return;
        };
        let no_body = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        let is_whole = response.status() == StatusCode::UNAUTHORIZED
            || no_body.contains(&response.status())
            || self.saved.method == Method::HEAD
            || journal::is_whole(response.body());
        if !is_whole {
            entry.answering();
        } else if let Some(commit) = entry.answered() {
            commit.await;
        }
    }

    /// What is learnt about is the route.
    fn route(&self) -> &Arc<str> {
        &self.destination.route
    }

    /// No replay can follow.
    fn settle(&self) {
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

async fn note_unsent(record: &Record) {
    if let Some(entry) = record.entry() {
        entry.unsent().await;
    }
}
