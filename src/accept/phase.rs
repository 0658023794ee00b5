//! How near is the end, and which connections hold it up for nothing?

use std::time::Duration;

use tokio::sync::watch;

use crate::stream::CallerSide;

/// How long a connection may be of no use once the phase is [`Phase::Closing`]: before its first request, with
/// half a request's head, without an answer to a ping.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a connection is looked at that is kept for its requests that move money.
const LOOK_AT_PAYMENTS: Duration = Duration::from_millis(50);

/// How far the end has come. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    Serving,
    /// Answers ask for their connection to be closed; new connections are still taken.
    Delay,
    /// New connections are refused, idle ones closed.
    Closing,
    /// Connections that carry no request that moves money are cut off.
    Last,
}

/// Waits for the phase to be [`Phase::Closing`].
pub(super) async fn closing(phase: &mut watch::Receiver<Phase>) {
    // Its sender ends with the process.
    drop(phase.wait_for(|phase| *phase >= Phase::Closing).await);
}

/// Waits for the phase to be [`Phase::Last`].
pub(super) async fn last(phase: &mut watch::Receiver<Phase>) {
    drop(phase.wait_for(|phase| *phase == Phase::Last).await);
}

/// Waits for [`Phase::Closing`], and as long as a connection may be of no use then.
pub(super) async fn left(phase: &mut watch::Receiver<Phase>) {
    closing(phase).await;
    tokio::time::sleep(LEAVING_TIMEOUT).await;
}

/// Waits until a connection is of no use any more: nothing goes on there once the phase is
/// [`Phase::Closing`], or nothing that moves money once it is [`Phase::Last`].
pub(super) async fn useless(mut phase: watch::Receiver<Phase>, side: &CallerSide) {
    closing(&mut phase).await;
    tokio::select! {
        () = side.quiet_for(LEAVING_TIMEOUT) => {}
        () = last(&mut phase) => {
            while side.traffic.moves_money() {
                tokio::time::sleep(LOOK_AT_PAYMENTS).await;
            }
        }
    }
}
