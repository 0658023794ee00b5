//! Replay buffer: what was read of one body, kept for another sending, within its own limit and that of all bodies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

/// Frames shorter than this are joined, so that a body in tiny chunks costs no more than its bytes.
const JOIN_BELOW: usize = 1024;

/// The memory that all replay buffers share.
///
/// Every body of every worker reserves and releases here, and it orders nothing else: the counter alone has to
/// be exact, so no order with other memory is needed.
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

    /// Changes the limit. What is buffered beyond it stays buffered.
    pub fn limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Bytes buffered now.
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

/// How much of a body may be buffered, and where that is accounted for.
#[derive(Debug, Clone)]
pub struct ReplayLimits {
    /// The most bytes of this body.
    pub buffer: usize,
    /// The memory that they have to fit into, with those of all other bodies.
    pub memory: Arc<ReplayMemory>,
}

/// More of a body was read than may be buffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more of the body was read than may be kept")]
pub struct BodyTooLarge;

/// The beginning of a body, or the knowledge that it is not kept.
#[derive(Debug)]
pub(super) struct ReplayBuffer {
    limits: ReplayLimits,
    saved: Saved,
    /// As reserved in the shared memory.
    bytes: usize,
}

#[derive(Debug)]
enum Saved {
    /// All that was read so far.
    All { frames: Vec<Bytes>, tail: BytesMut },
    /// More was read than may be buffered, or no replay can follow any more. A part is of no use to a replay.
    Nothing,
}

impl ReplayBuffer {
    pub(super) fn new(limits: ReplayLimits) -> Self {
        Self {
            limits,
            saved: Saved::All {
                frames: Vec::new(),
                tail: BytesMut::new(),
            },
            bytes: 0,
        }
    }

    /// Whether it has everything that was read.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.saved, Saved::All { .. })
    }

    /// Adds what was read, or gives everything up where that is too much. Then the sending at hand goes on, and no
    /// other can follow.
    pub(super) fn push(&mut self, data: &Bytes) {
        let Saved::All { frames, tail } = &mut self.saved else {
            return;
        };
        let total = self.bytes + data.len();
        if total > self.limits.buffer || !self.limits.memory.reserve(data.len()) {
            self.release();
            return;
        }
        self.bytes = total;
        if data.len() < JOIN_BELOW {
            tail.extend_from_slice(data);
        } else {
            if !tail.is_empty() {
                frames.push(tail.split().freeze());
            }
            // Shared with the frame that is being sent, not copied.
            frames.push(data.clone());
        }
    }

    /// All frames, for another sending.
    pub(super) fn frames(&mut self) -> Result<VecDeque<Bytes>, BodyTooLarge> {
        let Saved::All { frames, tail } = &mut self.saved else {
            return Err(BodyTooLarge);
        };
        if !tail.is_empty() {
            frames.push(tail.split().freeze());
        }
        Ok(VecDeque::from(frames.clone()))
    }

    /// All bytes in one piece, where they are no more than that.
    pub(super) fn concat(&self, limit: usize) -> Option<Vec<u8>> {
        match &self.saved {
            Saved::All { frames, tail } if self.bytes <= limit => {
                let mut bytes = frames.concat();
                bytes.extend_from_slice(tail);
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Forgets everything, and buffers no more.
    pub(super) fn release(&mut self) {
        self.saved = Saved::Nothing;
        self.limits.memory.release(std::mem::take(&mut self.bytes));
    }
}

impl Drop for ReplayBuffer {
    fn drop(&mut self) {
        self.release();
    }
}
