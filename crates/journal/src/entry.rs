//! The entry of one request: what is written of it, and when. Its transitions are handed in in the order in which they happen.
//!
//! The [`Entry`] belongs to the request's record, and its end is the end of the request. A [`BodyObserver`] goes
//! with the body, which is sent by a connection's own task. Both change the state under one mutex, held
//! while the transition is put into the queue, so that the queue has the transitions in their order.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Timeout;

use super::intent::Intent;
use super::message_queue::Urgency;
use super::queue::{Queue, Unavailable, WRITE_WAIT};
use super::request_state::{Hash, RequestState, Transition};
use super::waiter::Waiter;
use super::writer::{Message, Write};
use bursar_base::json_pointer::Field;
use bursar_config::OnFailure;

/// A request that moves money. Dropping it says that nothing more comes of the request.
#[derive(Debug)]
pub struct Entry(Arc<Shared>);

/// Sees one sending of the request's body.
#[derive(Debug)]
pub struct BodyObserver {
    shared: Arc<Shared>,
    /// Where the request's key is in the body, if no header has it.
    key: Option<Arc<Field>>,
    sending: u32,
}

/// A write that is waited for; it ends with whether the file has it, at the latest after [`WRITE_WAIT`].
#[derive(Debug)]
pub struct Commit(Option<Pin<Box<Timeout<oneshot::Receiver<bool>>>>>);

#[derive(Debug)]
struct Shared {
    queue: Arc<Queue>,
    id: i64,
    intent: Arc<Intent>,
    state: Mutex<RequestState>,
}

impl Entry {
    pub(super) fn new(queue: Arc<Queue>, intent: Intent) -> Self {
        Self(Arc::new(Shared {
            id: queue.number(),
            queue,
            intent: Arc::new(intent),
            state: Mutex::default(),
        }))
    }

    /// For the next sending of the body, in which a key is looked for where it may have one.
    #[must_use]
    pub fn body_observer(&self, key: Option<&Arc<Field>>) -> BodyObserver {
        let prepare = |state: &mut RequestState| (state.prepare(), None);
        let (sending, _) = self.0.change(prepare, Wait::No);
        BodyObserver {
            shared: self.0.clone(),
            key: key.cloned(),
            sending,
        }
    }

    /// Writes down that the head is about to go, and the body with it where its hash is known. It must go at
    /// once then, without waiting for anything else.
    ///
    /// # Errors
    /// Where that cannot be written, and such requests are refused then.
    pub async fn sending(&self, whole: Option<Hash>) -> Result<(), Unavailable> {
        let Ok(room) = self.0.queue.room() else {
            // Nothing that is waited for, and no row that would have to say so.
            self.0.change(|state| (state.unsent(), None), Wait::No);
            return Err(Unavailable);
        };
        let sending = |state: &mut RequestState| ((), Some(state.sending(whole)));
        let ((), commit) = self.0.change_with(room, sending, Wait::Durable);
        let is_written = match commit {
            Some(commit) => commit.await,
            None => false,
        };
        if !is_written && self.0.queue.on_failure == OnFailure::Refuse {
            // It may yet be written, and would be in doubt.
            let unsent = |state: &mut RequestState| ((), Some(state.unsent()));
            self.0.change(unsent, Wait::No);
            return Err(Unavailable);
        }
        self.0.change(|state| (state.hand_over(), None), Wait::No);
        Ok(())
    }

    /// Writes down that the answer has begun; nobody waits for that. Mostly its end is near, and written with it.
    pub fn answering(&self) {
        self.0.change(|state| ((), state.answering()), Wait::Later);
    }

    /// Writes down that the whole answer came. Its end must not go to the caller before that; None where it
    /// is written already.
    #[must_use]
    pub fn answered(&self) -> Option<Commit> {
        let answered = |state: &mut RequestState| ((), state.answered());
        self.0.change(answered, Wait::Written).1
    }

    /// Writes down that the provider certainly did not process the request.
    pub async fn unsent(&self) {
        let unsent = |state: &mut RequestState| ((), Some(state.unsent()));
        if let ((), Some(commit)) = self.0.change(unsent, Wait::Written) {
            commit.await;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.change(|state| ((), state.over()), Wait::No);
    }
}

impl BodyObserver {
    /// Whether it has to see the whole body.
    pub(super) fn wants_key(&self) -> bool {
        self.key.is_some()
    }

    /// That is the whole body. What it is known by is written down with the next transition.
    pub(super) fn look_for_key(&self, body: &[u8]) {
        if let Some(key) = self.key.as_ref().and_then(|field| field.text_in(body)) {
            self.shared.intent.know_key(key);
        }
    }

    /// Writes down that the end of the body is about to go. None where that does not matter any more.
    pub(super) fn body(&self, hash: Hash) -> Option<Commit> {
        let body = |state: &mut RequestState| ((), state.body(self.sending, hash));
        self.shared.change(body, Wait::Durable).1
    }
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    /// Nor has it to be written at once.
    Later,
    /// Other processes see it, whatever becomes of this one.
    Written,
    /// It survives the loss of power, where the configuration wants that.
    Durable,
}

impl Shared {
    fn change<T>(
        &self,
        change: impl FnOnce(&mut RequestState) -> (T, Option<Transition>),
        wait: Wait,
    ) -> (T, Option<Commit>) {
        self.change_with(None, change, wait)
    }

    fn change_with<T>(
        &self,
        room: Option<OwnedSemaphorePermit>,
        change: impl FnOnce(&mut RequestState) -> (T, Option<Transition>),
        wait: Wait,
    ) -> (T, Option<Commit>) {
        // A panic in a change leaves a state that was valid before.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, transition) = change(&mut state);
        let Some(transition) = transition else {
            return (value, None);
        };
        let (waiter, written) = match wait {
            Wait::No | Wait::Later => (None, None),
            Wait::Written | Wait::Durable => {
                let (waiter, written) = Waiter::new();
                (Some(waiter), Some(written))
            }
        };
        let urgency = match wait {
            Wait::Later => Urgency::Soon,
            Wait::No | Wait::Written | Wait::Durable => Urgency::Now,
        };
        let write = Message::Write(Write {
            id: self.id,
            intent: self.intent.clone(),
            transition,
            is_first: state.hand_in(),
            durable: wait == Wait::Durable,
            room,
            waiter,
        });
        let handed_in = self.queue.hand_in(write, urgency);
        drop(state);
        let commit = match (handed_in, written) {
            (_, None) => None,
            (Ok(()), Some(written)) => {
                let limited = tokio::time::timeout(WRITE_WAIT, written);
                Some(Commit(Some(Box::pin(limited))))
            }
            (Err(Unavailable), Some(_)) => Some(Commit(None)),
        };
        (value, commit)
    }
}

impl Future for Commit {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        match &mut self.0 {
            Some(written) => written
                .as_mut()
                .poll(context)
                .map(|written| matches!(written, Ok(Ok(true)))),
            None => Poll::Ready(false),
        }
    }
}
