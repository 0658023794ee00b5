//! Replay body: a request body that is streamed while its beginning is buffered, so that it can be sent again.
//!
//! [`ReplayBody`] is the caller's body, [`Sending`] what one upstream connection sends of it. The caller's stream stays
//! with the former, so that a second sending can take over in the middle of the first: it repeats what was buffered,
//! and then goes on where the first had come to.
//!
//! # Who writes, who reads, what orders them
//!
//! One mutex holds everything, for the time of one poll and never across an await. Three take it:
//! - the latest sending, polled by the task that drives its connection. It alone reads the caller's stream.
//! - An earlier sending. Its connection may poll it until it notices that nobody waits for its response any more,
//!   at the same time as the latest and on another thread. It only ever learns that it has been superseded.
//! - The exchange, which pauses reading, begins sendings and ends them, and looks at the progress for its timeouts; and
//!   the request's record, which asks how much was read.
//!
//! `State::sendings` orders them: a sending whose number is not the latest gets no byte, whatever else is true. Whoever
//! changes what a waiting sending waits for wakes it, so that none hangs until the caller sends its next byte.

mod buffer;

use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use buffer::ReplayBuffer;
pub use buffer::{BodyTooLarge, ReplayLimits, ReplayMemory};

use crate::headers::TrailerRules;

/// A caller's body that can be sent a second time. Clones are handles to the same body.
#[derive(Debug)]
pub struct ReplayBody<B>(Arc<Mutex<State<B>>>);

/// One sending of a body, as one connection sends it.
#[derive(Debug)]
pub struct Sending<B> {
    state: Arc<Mutex<State<B>>>,
    /// Which sending of the body this is; only the latest gets frames.
    number: usize,
    /// Buffered frames that this sending has yet to repeat. Its own copy, so that what the stream brings meanwhile
    /// cannot change it.
    repeat: VecDeque<Bytes>,
    /// The trailers that an earlier sending has read already. Those that this one reads itself go out at once.
    repeat_trailers: Option<HeaderMap>,
    /// Bytes yet to be repeated, for the size hint.
    repeat_bytes: u64,
}

#[derive(Debug)]
struct State<B> {
    /// The caller's stream. Not polled again once it has ended or broken off: what it would say then is undefined. None:
    /// the rest of it is not wanted.
    source: Option<B>,
    trailer_rules: TrailerRules,
    /// How many sendings were begun or abandoned: the number of the latest.
    sendings: usize,
    buffer: ReplayBuffer,
    /// As they go on. None: none were read.
    trailers: Option<HeaderMap>,
    /// Bytes, for the record.
    read: u64,
    progress: Progress,
    /// Whether reading waits for the decision about a replay. What is read before it might be too much to buffer, and
    /// so make a replay impossible that was already decided.
    paused: bool,
    /// The sending that waits, for its caller's bytes or for that decision. There is no more than one: an earlier one
    /// was woken when it was superseded, and does not wait again.
    waiter: Option<Waker>,
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

impl Progress {
    /// Whether the caller's stream has nothing more to give.
    fn is_final(self) -> bool {
        matches!(self, Self::Ended(_) | Self::CallerFailed)
    }
}

/// Why a sending ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The caller's stream broke off, or was malformed.
    #[error("the caller's body broke off")]
    Caller(#[source] Box<dyn Error + Send + Sync>),
    /// The caller's stream had broken off before this sending reached its end.
    #[error("the caller's body has broken off")]
    CallerGone,
    /// A replay has taken the stream over, or the rest is not wanted any more.
    #[error("the body is not sent to its end here")]
    Superseded,
}

/// What a poll for a frame says.
type PolledFrame = Poll<Option<Result<Frame<Bytes>, RequestBodyError>>>;

/// By hand: the derived one would ask for a body that is `Clone`.
impl<B> Clone for ReplayBody<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Body> ReplayBody<B> {
    /// Takes a caller's body; None where it has none.
    #[must_use]
    pub fn new(source: B, trailer_rules: TrailerRules, limits: ReplayLimits) -> Option<Self> {
        if source.is_end_stream() {
            return None;
        }
        Some(Self(Arc::new(Mutex::new(State {
            source: Some(source),
            trailer_rules,
            sendings: 0,
            buffer: ReplayBuffer::new(limits),
            trailers: None,
            read: 0,
            progress: Progress::AwaitingProvider(Instant::now()),
            paused: false,
            waiter: None,
        }))))
    }
}

impl<B> ReplayBody<B> {
    /// Begins the next sending of the body, from its first byte; the one before it ends with an error.
    ///
    /// # Errors
    /// Where more was read than was buffered.
    pub fn begin_sending(&self) -> Result<Sending<B>, BodyTooLarge> {
        let mut state = lock(&self.0);
        let repeat = state.buffer.frames()?;
        state.sendings += 1;
        // The provider has yet to take what is repeated. A body that is over stays so: the time for the response's head
        // counts from there.
        if !state.progress.is_final() {
            state.progress = Progress::AwaitingProvider(Instant::now());
        }
        // It ends a pause, too: that was for this decision.
        state.resume();
        Ok(Sending {
            number: state.sendings,
            repeat_bytes: repeat.iter().map(|frame| frame.len() as u64).sum(),
            repeat,
            repeat_trailers: state.trailers.clone(),
            state: self.0.clone(),
        })
    }

    /// Reads no more from the caller until it is decided whether there is a replay; false where there
    /// cannot be one, because too much was read already.
    #[must_use]
    pub fn pause(&self) -> bool {
        let mut state = lock(&self.0);
        state.paused = state.buffer.is_complete();
        state.paused
    }

    /// No replay will follow: lets go of what was buffered, buffers no more, and goes on reading.
    pub fn stop_buffering(&self) {
        let mut state = lock(&self.0);
        state.buffer.release();
        state.resume();
    }

    /// The rest is not wanted any more: whoever is sending it ends with an error, and the caller's stream is let go of, even
    /// where whoever sends does not look here again.
    pub fn abandon(&self) {
        let mut state = lock(&self.0);
        state.buffer.release();
        // No sending has that number.
        state.sendings += 1;
        let source = state.source.take();
        state.resume();
        drop(state);
        drop(source);
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        lock(&self.0).progress
    }

    /// The whole body, where it was read to its end, was buffered and is no larger than that.
    #[must_use]
    pub fn whole(&self, limit: usize) -> Option<Vec<u8>> {
        let state = lock(&self.0);
        match state.progress {
            Progress::Ended(_) => state.buffer.concat(limit),
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

/// A panic in a poll leaves the state as it was before the frame.
fn lock<B>(state: &Mutex<State<B>>) -> MutexGuard<'_, State<B>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> State<B> {
    fn wait(&mut self, context: &Context<'_>) -> PolledFrame {
        // Cloning a waker costs two atomic operations, and most polls come from the same task as the one before.
        if !self
            .waiter
            .as_ref()
            .is_some_and(|waiter| waiter.will_wake(context.waker()))
        {
            self.waiter = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Ends a pause, and wakes the sending that waits: the latest goes on, an earlier one ends. The stream would wake
    /// it only when the caller sends something.
    fn resume(&mut self) {
        self.paused = false;
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

impl<B> State<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The caller's next frame, buffered on its way.
    fn poll_source(&mut self, context: &mut Context<'_>) -> PolledFrame {
        let Some(source) = &mut self.source else {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        };
        let polled = Pin::new(&mut *source).poll_frame(context);
        let is_over = source.is_end_stream();
        let Poll::Ready(frame) = polled else {
            // Since the first of several polls that found nothing: the others come for other reasons.
            if !matches!(self.progress, Progress::AwaitingCaller(_)) {
                self.progress = Progress::AwaitingCaller(Instant::now());
            }
            // The stream wakes this task when there is more; what supersedes it has to be able to, too.
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
                return Poll::Ready(Some(Err(RequestBodyError::Caller(error.into()))));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                self.read += data.len() as u64;
                self.buffer.push(&data);
                Frame::data(data)
            }
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                self.trailer_rules.clean_trailers(&mut trailers);
                self.trailers = Some(trailers.clone());
                Frame::trailers(trailers)
            }
        };
        // Known at once where it can be: who sends by a known length does not ask for the end behind the last byte.
        if is_over || frame.is_trailers() {
            self.progress = Progress::Ended(now);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl<B> Body for Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        let this = self.get_mut();
        let mut state = lock(&this.state);
        // Before anything else: what is left to be repeated would arrive twice, and what the stream brings is the other
        // one's.
        if state.sendings != this.number {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        }
        if let Some(frame) = this.repeat.pop_front() {
            this.repeat_bytes -= frame.len() as u64;
            // What is known of the stream stays known: one that broke off would be polled again below, and hyper's says
            // then that it has ended.
            if !state.progress.is_final() {
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
        let rest = lock(&self.state).source.as_ref().map(Body::size_hint);
        let rest = rest.unwrap_or_default();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + self.repeat_bytes);
        }
        hint.set_lower(rest.lower() + self.repeat_bytes);
        hint
    }
}

#[cfg(test)]
mod tests;
