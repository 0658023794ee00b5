//! What is in a body, and how long is it kept? Reading with a limit, and the upload that can be replayed.
//!
//! A caller's body is streamed to the provider while its first bytes are kept. [`Sending`] is what a
//! connection sends; the caller's stream itself stays with [`ReplayBody`], so that a second upload can
//! take it over in the middle: it sends what was kept and then the rest. The mutex between them is held
//! only while a frame is polled, and only one of the two uploads is alive to the stream at any time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::http::headers;

/// Frames shorter than this are joined, so that a body in tiny chunks costs no more than its bytes.
const JOIN_BELOW: usize = 1024;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is larger than the limit.
    #[error("the body is too large")]
    TooLarge,
    /// The stream broke.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// Where it is larger, or breaks off.
pub async fn read_limited(mut body: Incoming, limit: usize) -> Result<Bytes, ReadError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() {
            if read.len() + data.len() > limit {
                return Err(ReadError::TooLarge);
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// Has a caller over HTTP/1.1 be told to send its body, which it expects, before anything is decided. hyper reads the
/// body, and says `100 Continue`, only once somebody has asked. False, which is not to be: something was there before.
pub async fn trigger_continue(body: &mut Incoming) -> bool {
    let ask = poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context)));
    let is_untouched = ask.await.is_pending();
    // hyper says it when it is polled again, and not if there is an answer by then.
    tokio::task::yield_now().await;
    is_untouched
}

/// The memory that all kept bodies share.
#[derive(Debug)]
pub struct ReplayMemory {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl ReplayMemory {
    /// `limit` in bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    /// From now on that is the limit; what is kept beyond it is kept.
    pub fn limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Bytes kept now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How much of a body is kept, and where that is accounted.
#[derive(Debug, Clone)]
pub struct ReplayLimits {
    /// At most so many bytes of this body.
    pub buffer: usize,
    /// And no more than fit in here.
    pub memory: Arc<ReplayMemory>,
}

/// A caller's body that can be sent a second time. Clones are handles to the same body.
#[derive(Debug, Clone)]
pub struct ReplayBody(Arc<Mutex<State>>);

/// One sending of a body.
#[derive(Debug)]
pub struct Sending {
    state: Arc<Mutex<State>>,
    /// Which sending of the body this is; only the latest gets frames.
    number: usize,
    /// Kept frames that this sending has yet to repeat.
    repeat: VecDeque<Bytes>,
    repeat_trailers: Option<HeaderMap>,
    /// Bytes yet to be repeated, for the size hint.
    repeat_bytes: u64,
}

#[derive(Debug)]
struct State {
    source: Incoming,
    /// What the request's head says of its trailers.
    cleaned: headers::TrailerRules,
    sendings: usize,
    keeping: ReplayLimits,
    kept: Kept,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    read: u64,
    progress: Progress,
    /// Whether reading waits for the decision about a replay.
    paused: bool,
    waiter: Option<Waker>,
}

#[derive(Debug)]
enum Kept {
    /// All that was read so far.
    All { frames: Vec<Bytes>, tail: BytesMut },
    /// More was read than may be kept.
    TooLarge,
    /// No replay can follow any more.
    Settled,
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The next bytes are for the caller to send, since then.
    AwaitingCaller(Instant),
    /// The next bytes are for the provider to take, since then.
    AwaitingProvider(Instant),
    /// The last byte was handed over then.
    Ended(Instant),
    /// The caller's stream broke off.
    CallerFailed,
}

/// Why an upload ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The caller's stream broke off, or was malformed.
    #[error("the caller's body broke off")]
    Caller(#[source] hyper::Error),
    /// The caller's stream had broken off before this sending reached its end.
    #[error("the caller's body has broken off")]
    CallerGone,
    /// A replay has taken the stream over, or the rest is not wanted any more.
    #[error("the body is not sent to its end here")]
    Superseded,
}

impl ReplayBody {
    /// Takes a caller's body; None where it has none.
    #[must_use]
    pub fn new(
        source: Incoming,
        cleaned: headers::TrailerRules,
        keeping: ReplayLimits,
    ) -> Option<Self> {
        if source.is_end_stream() {
            return None;
        }
        Some(Self(Arc::new(Mutex::new(State {
            source,
            cleaned,
            sendings: 0,
            keeping,
            kept: Kept::All {
                frames: Vec::new(),
                tail: BytesMut::new(),
            },
            kept_bytes: 0,
            trailers: None,
            read: 0,
            progress: Progress::AwaitingProvider(Instant::now()),
            paused: false,
            waiter: None,
        }))))
    }

    /// The next sending of the body, from its first byte; the one before it ends with an error.
    ///
    /// # Errors
    /// Where more was read than was kept.
    pub fn begin_sending(&self) -> Result<Sending, BodyTooLarge> {
        let mut state = lock(&self.0);
        let frames = match &mut state.kept {
            Kept::All { frames, tail } => {
                if !tail.is_empty() {
                    frames.push(tail.split().freeze());
                }
                VecDeque::from(frames.clone())
            }
            Kept::TooLarge | Kept::Settled => return Err(BodyTooLarge),
        };
        state.sendings += 1;
        if !matches!(state.progress, Progress::Ended(_) | Progress::CallerFailed) {
            state.progress = Progress::AwaitingProvider(Instant::now());
        }
        state.resume();
        let upload = Sending {
            number: state.sendings,
            repeat_bytes: frames.iter().map(|frame| frame.len() as u64).sum(),
            repeat: frames,
            repeat_trailers: state.trailers.clone(),
            state: self.0.clone(),
        };
        drop(state);
        Ok(upload)
    }

    /// Reads no more from the caller until it is decided whether there is a replay; false where there
    /// cannot be one, because too much was read already.
    #[must_use]
    pub fn pause(&self) -> bool {
        let mut state = lock(&self.0);
        state.paused = matches!(state.kept, Kept::All { .. });
        state.paused
    }

    /// No replay will follow: lets go of what was kept, keeps no more, and goes on reading.
    pub fn stop_buffering(&self) {
        let mut state = lock(&self.0);
        state.let_go(Kept::Settled);
        state.resume();
    }

    /// The rest is not wanted any more: whoever is sending it ends with an error.
    pub fn abandon(&self) {
        let mut state = lock(&self.0);
        state.let_go(Kept::Settled);
        state.sendings += 1;
        state.resume();
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        lock(&self.0).progress
    }

    /// The whole body, where it was read to its end, was kept and is no larger than that.
    #[must_use]
    pub fn whole(&self, limit: usize) -> Option<Vec<u8>> {
        let state = lock(&self.0);
        match (&state.kept, state.progress) {
            (Kept::All { frames, tail }, Progress::Ended(_)) if state.kept_bytes <= limit => {
                let mut body = frames.concat();
                body.extend_from_slice(tail);
                Some(body)
            }
            _ => None,
        }
    }

    /// Whether the caller's bytes were read to their end.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.progress(), Progress::Ended(_))
    }

    /// Bytes read from the caller.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        lock(&self.0).read
    }
}

/// More of a body was read than may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more of the body was read than may be kept")]
pub struct BodyTooLarge;

/// A panic in a poll leaves the state as it was before the frame.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let polled = Pin::new(&mut self.source).poll_frame(context);
        let Poll::Ready(frame) = polled else {
            if !matches!(self.progress, Progress::AwaitingCaller(_)) {
                self.progress = Progress::AwaitingCaller(Instant::now());
            }
            return self.wait(context);
        };
        let now = Instant::now();
        self.progress = Progress::AwaitingProvider(now);
        let frame = match frame {
            None => {
                self.progress = Progress::Ended(now);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                self.progress = Progress::CallerFailed;
                return Poll::Ready(Some(Err(RequestBodyError::Caller(error))));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                self.read += data.len() as u64;
                self.keep(&data);
                Frame::data(data)
            }
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                self.cleaned.clean_trailers(&mut trailers);
                self.trailers = Some(trailers.clone());
                Frame::trailers(trailers)
            }
        };
        if self.source.is_end_stream() || frame.is_trailers() {
            self.progress = Progress::Ended(now);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn wait(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if !self
            .waiter
            .as_ref()
            .is_some_and(|waiter| waiter.will_wake(context.waker()))
        {
            self.waiter = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Wakes whoever waits: the current sending goes on, an earlier one ends.
    fn resume(&mut self) {
        self.paused = false;
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    fn keep(&mut self, data: &Bytes) {
        let Kept::All { frames, tail } = &mut self.kept else {
            return;
        };
        let total = self.kept_bytes + data.len();
        if total > self.keeping.buffer || !self.keeping.memory.reserve(data.len()) {
            self.let_go(Kept::TooLarge);
            return;
        }
        self.kept_bytes = total;
        if data.len() < JOIN_BELOW {
            tail.extend_from_slice(data);
        } else {
            if !tail.is_empty() {
                frames.push(tail.split().freeze());
            }
            frames.push(data.clone());
        }
    }

    fn let_go(&mut self, kept: Kept) {
        self.kept = kept;
        self.keeping
            .memory
            .release(std::mem::take(&mut self.kept_bytes));
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.let_go(Kept::Settled);
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = self.get_mut();
        let mut state = lock(&this.state);
        if state.sendings != this.number {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        }
        if let Some(frame) = this.repeat.pop_front() {
            this.repeat_bytes -= frame.len() as u64;
            if !matches!(state.progress, Progress::Ended(_)) {
                state.progress = Progress::AwaitingProvider(Instant::now());
            }
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if matches!(state.progress, Progress::Ended(_)) {
            return Poll::Ready(
                this.repeat_trailers
                    .take()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            );
        }
        if state.progress == Progress::CallerFailed {
            // A stream that broke off must not look like one that ended.
            return Poll::Ready(Some(Err(RequestBodyError::CallerGone)));
        }
        if state.paused {
            return state.wait(context);
        }
        state.poll_source(context)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        self.repeat.is_empty()
            && self.repeat_trailers.is_none()
            // One that was superseded must end with an error, never as if it were complete.
            && state.sendings == self.number
            && matches!(state.progress, Progress::Ended(_))
    }

    fn size_hint(&self) -> SizeHint {
        let rest = lock(&self.state).source.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + self.repeat_bytes);
        }
        hint.set_lower(rest.lower() + self.repeat_bytes);
        hint
    }
}
