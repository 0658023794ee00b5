//! Events queue: what the store says of itself and what was published, for one reader.
//!
//! Connections write, and never wait; the reader takes. Beyond its limits what was published is dropped as a whole, and
//! [`Event::Lost`] stands for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// No more events wait to be read.
const MAX_EVENTS: usize = 4096;
/// What was published and waits to be read is no longer.
const MAX_BYTES: usize = 8 << 20;

/// What happened at the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It can be used, again or more of it. Whatever was published before may have been missed.
    Up,
    /// It cannot be used.
    Down,
    /// More was published than was read in time, and dropped.
    Lost,
    /// Something was published.
    Message {
        /// Where.
        channel: String,
        /// What.
        payload: Bytes,
    },
}

/// The reader's side.
#[derive(Debug)]
pub struct Events(Arc<Queue>);

/// What happened and was not read yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Of the payloads.
    bytes: usize,
    /// Nobody adds any more.
    is_closed: bool,
}

impl Events {
    pub(super) const fn of(queue: Arc<Queue>) -> Self {
        Self(queue)
    }

    /// What happened next. None: the last handle to the store is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut waiting = self.0.lock();
                if let Some(event) = waiting.take() {
                    return Some(event);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            // A permit is kept for whoever comes late.
            self.0.added.notified().await;
        }
    }
}

impl Queue {
    /// Never waits.
    pub(super) fn add(&self, event: Event) {
        self.lock().add(event);
        self.added.notify_one();
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.added.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS || self.bytes + length(&event) > MAX_BYTES {
            // What the store said of itself last is not known to be `Up`, so that it stays.
            let last = self
                .events
                .iter()
                .rev()
                .find(|event| matches!(event, Event::Up | Event::Down));
            let last = last.cloned();
            self.events.clear();
            self.bytes = 0;
            self.events.extend(last);
            self.events.push_back(Event::Lost);
            if matches!(event, Event::Message { .. } | Event::Lost) {
                return;
            }
        }
        self.bytes += length(&event);
        self.events.push_back(event);
    }

    fn take(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= length(&event);
        Some(event)
    }
}

fn length(event: &Event) -> usize {
    match event {
        Event::Message { channel, payload } => channel.len() + payload.len(),
        Event::Up | Event::Down | Event::Lost => 0,
    }
}
