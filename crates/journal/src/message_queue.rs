//! Message queue of the writer: bounded, with one lock for a whole batch, and without a call to the system for what may
//! wait.
//!
//! Waking a thread costs as much as writing a row. So it is woken once for all that comes while it is at work, and not at
//! all for what nobody waits for: that is taken with what comes next, or when the thread looks by itself. Where it is to
//! be woken, the tasks that are ready to run come first, since they may have something for it, too; and so do those that
//! wait for what it did last ([`Gathering`]), since a transaction costs much more than a row of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

/// Where messages are handed in. The receiver is told when it is dropped.
pub(super) struct MessageSender<T>(Arc<Shared<T>>);

/// Where they are taken. The sender is told when it is dropped.
pub(super) struct MessageReceiver<T>(Arc<Shared<T>>);

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotQueued {
    /// There are as many as there may be.
    #[error("its queue is full")]
    Full,
    /// Nobody takes them any more.
    #[error("its thread has ended")]
    Ended,
}

/// How soon a message has to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Now,
    /// With the next one that is urgent, or at the next look.
    Soon,
}

/// For how long what is urgent waits for those who may have more: this many times as long as the receiver was at work.
const GATHERING_TO_WORK: u32 = 4;
/// And no longer than this.
const LONGEST_GATHERING: Duration = Duration::from_millis(2);

struct Shared<T> {
    queue: Mutex<Messages<T>>,
    woken: Condvar,
    most: usize,
    longest_gathering: Duration,
}

struct Messages<T> {
    waiting: VecDeque<T>,
    /// Whether one of them is.
    is_urgent: bool,
    /// Whether the receiver has to be woken.
    is_asleep: bool,
    /// How many may have more for the next batch.
    gathering: usize,
    /// Whether the receiver waits for them.
    is_gathering: bool,
    /// How many batches were taken, the last of them then.
    batches: u64,
    taken: Instant,
    has_sender: bool,
    has_receiver: bool,
}

/// A queue for so many messages.
pub(super) fn message_queue<T>(most: usize) -> (MessageSender<T>, MessageReceiver<T>) {
    message_queue_with(most, LONGEST_GATHERING)
}

fn message_queue_with<T>(
    most: usize,
    longest_gathering: Duration,
) -> (MessageSender<T>, MessageReceiver<T>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Messages {
            waiting: VecDeque::new(),
            is_urgent: false,
            is_asleep: false,
            gathering: 0,
            is_gathering: false,
            batches: 0,
            taken: Instant::now(),
            has_sender: true,
            has_receiver: true,
        }),
        woken: Condvar::new(),
        most,
        longest_gathering,
    });
    (MessageSender(shared.clone()), MessageReceiver(shared))
}

impl<T: Send + 'static> MessageSender<T> {
    /// Hands a message in, behind all others.
    pub(super) fn send(&self, message: T, urgency: Urgency) -> Result<(), NotQueued> {
        let mut queue = self.0.lock();
        if !queue.has_receiver {
            return Err(NotQueued::Ended);
        }
        if queue.waiting.len() >= self.0.most {
            return Err(NotQueued::Full);
        }
        queue.waiting.push_back(message);
        if urgency == Urgency::Now && queue.is_urgent_now() {
            let wake = Wake(self.0.clone());
            drop(queue);
            // It wakes even where it is dropped before it runs.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(async move { drop(wake) });
            }
        }
        Ok(())
    }
}

impl<T> MessageReceiver<T> {
    /// Waits until one is urgent, but not longer than that, and takes them in their order, up to so many. True: there are
    /// no more, and never will be.
    pub(super) fn receive(&self, taken: &mut Vec<T>, most: usize, timeout: Duration) -> bool {
        let mut queue = self.0.lock();
        let work = queue.taken.elapsed();
        queue.is_asleep = true;
        let is_idle = |queue: &mut Messages<T>| !queue.is_urgent && queue.has_sender;
        let waited = self.0.woken.wait_timeout_while(queue, timeout, is_idle);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.is_asleep = false;
        if queue.is_urgent && queue.gathering > 0 {
            queue = self.0.gather(queue, most, work);
        }
        let count = queue.waiting.len().min(most);
        taken.extend(queue.waiting.drain(..count));
        queue.is_urgent = !queue.waiting.is_empty();
        // Who is late comes with the next one.
        queue.gathering = 0;
        queue.batches += 1;
        queue.taken = Instant::now();
        !queue.has_sender && queue.waiting.is_empty()
    }

    /// Somebody may have more for the next batch, until this is dropped.
    pub(super) fn gathering(&self) -> Gathering<T> {
        let mut queue = self.0.lock();
        queue.gathering += 1;
        Gathering {
            shared: self.0.clone(),
            batch: queue.batches,
        }
    }
}

impl<T> Messages<T> {
    /// From now on. Whether the receiver has to be woken for that.
    fn is_urgent_now(&mut self) -> bool {
        self.is_urgent = true;
        std::mem::take(&mut self.is_asleep)
    }
}

/// Wakes the receiver when it is dropped.
struct Wake<T>(Arc<Shared<T>>);

impl<T> Drop for Wake<T> {
    fn drop(&mut self) {
        self.0.woken.notify_one();
    }
}

/// Held by those who were told what became of their messages, until they had their turns.
pub(super) struct Gathering<T> {
    shared: Arc<Shared<T>>,
    /// The last that was taken before.
    batch: u64,
}

impl<T> Drop for Gathering<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if queue.batches != self.batch {
            return;
        }
        queue.gathering -= 1;
        let is_last = queue.gathering == 0 && queue.is_gathering;
        drop(queue);
        if is_last {
            self.shared.woken.notify_one();
        }
    }
}

impl<T> Shared<T> {
    /// A panic while it was locked left whole messages.
    fn lock(&self) -> MutexGuard<'_, Messages<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for those who may have more, for a while that depends on how long the receiver was at work.
    fn gather<'a>(
        &self,
        mut queue: MutexGuard<'a, Messages<T>>,
        most: usize,
        work: Duration,
    ) -> MutexGuard<'a, Messages<T>> {
        let longest = (work * GATHERING_TO_WORK).min(self.longest_gathering);
        queue.is_gathering = true;
        let is_incomplete = |queue: &mut Messages<T>| {
            queue.gathering > 0 && queue.has_sender && queue.waiting.len() < most
        };
        let waited = self.woken.wait_timeout_while(queue, longest, is_incomplete);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.is_gathering = false;
        queue
    }

    /// After the lock is free, so that who is woken does not wait for it.
    fn wake(&self, mut queue: MutexGuard<'_, Messages<T>>) {
        let is_asleep = queue.is_urgent_now();
        drop(queue);
        if is_asleep {
            self.woken.notify_one();
        }
    }
}

impl<T> Drop for MessageSender<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.has_sender = false;
        self.0.wake(queue);
    }
}

impl<T> Drop for MessageReceiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.has_receiver = false;
        // Who waits for one of them is told by its end, and not under the lock.
        let lost = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(lost);
    }
}

impl<T> fmt::Debug for MessageSender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("MessageSender")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn take(receiver: &MessageReceiver<u32>, most: usize, timeout: Duration) -> (Vec<u32>, bool) {
        let mut taken = Vec::new();
        let ended = receiver.receive(&mut taken, most, timeout);
        (taken, ended)
    }

    #[test]
    fn messages_are_taken_in_their_order_and_none_is_left_behind() {
        let (sender, receiver) = message_queue(8);
        for message in 0..5 {
            sender.send(message, Urgency::Now).unwrap();
        }
        assert_eq!(take(&receiver, 2, LONG), (vec![0, 1], false));
        // What is left is as urgent as it was.
        assert_eq!(take(&receiver, 2, LONG), (vec![2, 3], false));
        sender.send(5, Urgency::Soon).unwrap();
        drop(sender);
        assert_eq!(take(&receiver, 1, LONG), (vec![4], false));
        assert_eq!(take(&receiver, 1, LONG), (vec![5], true));
        assert_eq!(take(&receiver, 1, LONG), (vec![], true));
    }

    #[test]
    fn what_may_wait_is_taken_with_what_may_not_or_when_the_time_is_over() {
        let (sender, receiver) = message_queue(8);
        sender.send(1, Urgency::Soon).unwrap();
        assert_eq!(take(&receiver, 8, Duration::ZERO), (vec![1], false));
        let waiting = thread::spawn(move || take(&receiver, 8, LONG));
        while !sender.0.lock().is_asleep {
            thread::yield_now();
        }
        sender.send(2, Urgency::Soon).unwrap();
        assert!(sender.0.lock().is_asleep);
        sender.send(3, Urgency::Now).unwrap();
        assert_eq!(waiting.join().unwrap(), (vec![2, 3], false));
    }

    #[test]
    fn what_is_urgent_waits_for_those_who_may_have_more() {
        let (sender, receiver) = message_queue_with(8, LONG);
        // The receiver was long at work.
        sender.0.lock().taken = Instant::now() - LONG;
        let late = receiver.gathering();
        sender.send(1, Urgency::Now).unwrap();
        let waiting = thread::spawn(move || (take(&receiver, 8, LONG), receiver));
        while !sender.0.lock().is_gathering && !waiting.is_finished() {
            thread::yield_now();
        }
        sender.send(2, Urgency::Soon).unwrap();
        drop(late);
        let (taken, receiver) = waiting.join().unwrap();
        assert_eq!(taken, (vec![1, 2], false));

        // Not for what there is no room for.
        let _late = receiver.gathering();
        for message in 3..6 {
            sender.send(message, Urgency::Now).unwrap();
        }
        sender.0.lock().taken = Instant::now() - LONG;
        assert_eq!(take(&receiver, 2, LONG), (vec![3, 4], false));
        // Nor for those who were late for the batch before.
        sender.0.lock().taken = Instant::now() - LONG;
        assert_eq!(take(&receiver, 2, LONG), (vec![5], false));
    }

    #[test]
    fn who_never_has_more_is_not_waited_for_for_long() {
        let (sender, receiver) = message_queue(8);
        sender.0.lock().taken = Instant::now() - LONG;
        let _late = receiver.gathering();
        sender.send(1, Urgency::Now).unwrap();
        assert_eq!(take(&receiver, 8, LONG), (vec![1], false));
    }

    #[test]
    fn a_queue_that_is_full_or_that_nobody_takes_from_says_so() {
        let (sender, receiver) = message_queue(1);
        sender.send(1, Urgency::Now).unwrap();
        assert_eq!(sender.send(2, Urgency::Now), Err(NotQueued::Full));
        drop(receiver);
        assert_eq!(sender.send(3, Urgency::Now), Err(NotQueued::Ended));
    }
}
