//! A body that is hashed on its way, and whose end goes out once the hash is in the journal.
//!
//! The frames pass as they come and are hashed on the way; the last one, or the end where no frame is known
//! to be the last, is held back until the write is done or has failed. A small body that is there already is
//! gathered first, so that it needs no write of its own.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use ring::digest::{self, SHA256};

use super::entry::{BodyObserver, Commit};
use super::request_state::Hash;

/// Bodies that are known to be no larger are gathered before they are sent,
const MAX_GATHERED: u64 = 64 * 1024;
/// for so long.
const GATHERING: Duration = Duration::from_millis(5);

/// A body whose end is held back.
pub struct HashingBody<B: Body> {
    body: B,
    observer: BodyObserver,
    /// What was seen, where the observer looks for a key in it and it is small.
    seen: Option<Vec<u8>>,
    digest: digest::Context,
    /// Gathered, and yet to be sent.
    early: VecDeque<Frame<Bytes>>,
    early_bytes: u64,
    broken: Option<B::Error>,
    stage: Stage,
}

impl<B: Body> fmt::Debug for HashingBody<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HashingBody")
            .finish_non_exhaustive()
    }
}

enum Stage {
    /// There are frames to come.
    Open,
    /// The last frame, or None where only the end is left, waits for the write.
    Held(Commit, Option<Frame<Bytes>>),
    /// The end may go.
    Released,
}

/// Whether every byte of a body came. Its end may come later: HTTP/2 says it apart, and who sends to HTTP/1.1
/// by a known length does not wait for it.
#[must_use]
pub fn is_whole<B: Body>(body: &B) -> bool {
    body.is_end_stream() || body.size_hint().upper() == Some(0)
}

/// The hash of a body without a byte.
#[must_use]
pub fn hash_of_nothing() -> Option<Hash> {
    digest::digest(&SHA256, &[]).as_ref().try_into().ok()
}

impl<B> HashingBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// For one sending of a body.
    #[must_use]
    pub fn new(body: B, observer: BodyObserver) -> Self {
        Self {
            body,
            seen: observer.wants_key().then(Vec::new),
            observer,
            digest: digest::Context::new(&SHA256),
            early: VecDeque::new(),
            early_bytes: 0,
            broken: None,
            stage: Stage::Open,
        }
    }

    /// Takes what is there already, if the whole body may be small; its hash where it came to its end.
    pub async fn gather(&mut self) -> Option<Hash> {
        let limit = self.body.size_hint().upper()?;
        if limit > MAX_GATHERED {
            return None;
        }
        let gathering = poll_fn(|context| self.poll_gather(context));
        // Whatever was gathered by then is sent first.
        tokio::time::timeout(GATHERING, gathering).await.ok()?
    }

    fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<Option<Hash>> {
        let mut is_last = is_whole(&self.body);
        while !is_last {
            is_last = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let is_last = self.see(&frame);
                    self.early_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    self.early.push_back(frame);
                    is_last
                }
                Some(Err(error)) => {
                    self.broken = Some(error);
                    return Poll::Ready(None);
                }
                None => true,
            };
        }
        self.stage = Stage::Released;
        self.tell_key();
        Poll::Ready(self.hash())
    }

    /// The whole body was seen.
    fn tell_key(&mut self) {
        if let Some(seen) = self.seen.take() {
            self.observer.look_for_key(&seen);
        }
    }

    /// Whether what was gathered broke off, so that there is no use in sending it.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Hashes a frame; whether it is the last.
    fn see(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            self.digest.update(data);
            let is_small = |seen: &Vec<u8>| (seen.len() + data.len()) as u64 <= MAX_GATHERED;
            self.seen = self.seen.take().filter(is_small);
            if let Some(seen) = &mut self.seen {
                seen.extend_from_slice(data);
            }
        }
        frame.is_trailers() || is_whole(&self.body)
    }

    fn hash(&self) -> Option<Hash> {
        self.digest.clone().finish().as_ref().try_into().ok()
    }
}

impl<B> Body for HashingBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(frame) = this.early.pop_front() {
            this.early_bytes -= frame.data_ref().map_or(0, |data| data.len() as u64);
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if matches!(this.stage, Stage::Open) {
            let last = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) if this.see(&frame) => Some(frame),
                Some(frame) => return Poll::Ready(Some(frame)),
                None => None,
            };
            this.tell_key();
            let commit = this.hash().and_then(|hash| this.observer.body(hash));
            let Some(commit) = commit else {
                this.stage = Stage::Released;
                return Poll::Ready(last.map(Ok));
            };
            this.stage = Stage::Held(commit, last);
        }
        match &mut this.stage {
            Stage::Held(commit, last) => {
                // Where it failed, the writer has said so: what has begun is not broken off.
                ready!(Pin::new(commit).poll(context));
                let last = last.take();
                this.stage = Stage::Released;
                Poll::Ready(last.map(Ok))
            }
            Stage::Open | Stage::Released => Pin::new(&mut this.body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_empty()
            && self.broken.is_none()
            && matches!(self.stage, Stage::Released)
            && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = match &self.stage {
            Stage::Held(_, Some(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Stage::Held(_, None) | Stage::Open | Stage::Released => 0,
        };
        let more = self.early_bytes + held;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + more);
        }
        hint.set_lower(rest.lower() + more);
        hint
    }
}
