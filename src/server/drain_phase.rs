//! Phases of draining, and waits of connections for them.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::coop::unconstrained;

use bursar_http::connection::ConnectionState;

/// How long a connection may be of no use once the phase is [`DrainPhase::Closing`]: before its first request, with
/// half a request's head, without an answer to a ping.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the responses take at most that requests get which are cut off.
pub(super) const LAST_RESPONSES: Duration = Duration::from_secs(1);
/// How often a connection is looked at that is kept for its requests that move money.
const LOOK_AT_PAYMENTS: Duration = Duration::from_millis(50);

/// How far the end has come. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// Not at all.
    Serving,
    /// Answers ask for their connection to be closed; new connections are still taken.
    Delay,
    /// New connections are refused, idle ones closed.
    Closing,
    /// Connections that carry no request that moves money are cut off.
    CutOff,
    /// All are.
    CutOffAll,
}

/// Waits for the phase to be [`DrainPhase::Closing`]. A connection polls it with all else that it waits for, so it looks
/// only where there may be something new: to look takes a lock that all connections share.
pub(super) async fn until_closing(phase: &mut watch::Receiver<DrainPhase>) {
    let changes = phase.clone();
    // `unconstrained`: out of its coop budget, a poll would return `Pending` without registering our waker.
    let mut reached = pin!(unconstrained(
        phase.wait_for(|phase| *phase >= DrainPhase::Closing)
    ));
    let mut woken: Option<Waker> = None;
    poll_fn(|context| {
        let is_waiting = woken
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()));
        if is_waiting && matches!(changes.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        woken = Some(context.waker().clone());
        // Its sender ends with the process.
        reached.as_mut().poll(context).map(drop)
    })
    .await;
}

/// Waits for the phase to be [`DrainPhase::CutOff`] at least.
pub(super) async fn until_cut_off(phase: &mut watch::Receiver<DrainPhase>) {
    let _ = phase.wait_for(|phase| *phase >= DrainPhase::CutOff).await;
}

/// Waits for [`DrainPhase::Closing`], and as long as a connection may be of no use then.
pub(super) async fn until_left(phase: &mut watch::Receiver<DrainPhase>) {
    until_closing(phase).await;
    tokio::time::sleep(LEAVING_TIMEOUT).await;
}

/// Waits until a connection is of no use any more: nothing goes on there once the phase is
/// [`DrainPhase::Closing`], or nothing that moves money once it is [`DrainPhase::CutOff`], or whatever goes on there. A
/// request that is cut off without a response has had the time to get one from Bursar.
pub(super) async fn until_useless(mut phase: watch::Receiver<DrainPhase>, side: &ConnectionState) {
    until_closing(&mut phase).await;
    tokio::select! {
        () = side.quiet_for(LEAVING_TIMEOUT) => {}
        () = until_cut_off(&mut phase) => {
            while side.traffic.moves_money() && *phase.borrow() < DrainPhase::CutOffAll {
                tokio::time::sleep(LOOK_AT_PAYMENTS).await;
            }
            side.cut_off();
            tokio::time::sleep(LAST_RESPONSES).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use tokio::task::coop::poll_proceed;

    use super::*;

    /// How often a task was woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn the_wait_for_the_end_wakes_the_task_that_polled_it_last() {
        let (sender, mut phase) = watch::channel(DrainPhase::Serving);
        let tasks = [Arc::<Task>::default(), Arc::default()];
        let woken = || tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
        let wakers = tasks.each_ref().map(|task| Waker::from(task.clone()));
        let mut closing = pin!(until_closing(&mut phase));
        let mut poll = |task: usize| {
            let mut context = Context::from_waker(&wakers[task]);
            closing.as_mut().poll(&mut context).is_ready()
        };
        assert!(!poll(0) && !poll(0) && !poll(1) && !poll(1));
        sender.send(DrainPhase::Delay).unwrap();
        assert_eq!(woken(), [0, 1]);
        assert!(!poll(1) && !poll(1) && !poll(0));
        sender.send(DrainPhase::Closing).unwrap();
        assert_eq!(woken(), [1, 1]);
        assert!(poll(0));
    }

    #[tokio::test]
    async fn a_task_without_budget_is_woken_for_the_end_all_the_same() {
        let (sender, mut phase) = watch::channel(DrainPhase::Serving);
        let task = Arc::<Task>::default();
        let waker = Waker::from(task.clone());
        let mut closing = pin!(until_closing(&mut phase));
        poll_fn(|context| {
            while let Poll::Ready(spent) = poll_proceed(context) {
                spent.made_progress();
            }
            let polled = closing.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            Poll::Ready(())
        })
        .await;
        let before = task.0.load(Ordering::Relaxed);
        sender.send(DrainPhase::Closing).unwrap();
        assert_eq!(task.0.load(Ordering::Relaxed), before + 1);
    }
}
