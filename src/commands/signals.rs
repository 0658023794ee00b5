//! Signals to the process: SIGTERM and SIGINT drain, a second one ends it, SIGHUP has the configuration read again.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use bursar::server::Server;

/// How long the end takes at most once a second signal has come.
const ENDING: Duration = Duration::from_secs(2);

/// SIGHUP, which would end the process. Taken first of all: one that comes while the configuration is read has it read
/// again, and a signal that ends the process may still do so by itself.
pub(crate) struct Hangup(tokio::signal::unix::Signal);

/// The process's signals; taken before anything is bound, so that none is missed.
pub(crate) struct Signals {
    hangup: Hangup,
    /// Told when it came.
    pub(crate) hung_up: Arc<Notify>,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Hangup {
    /// Within that runtime.
    pub(crate) fn taken(runtime: &Runtime) -> anyhow::Result<Self> {
        let _within = runtime.enter();
        Ok(Self(signal(SignalKind::hangup())?))
    }
}

impl Signals {
    pub(crate) fn new(hangup: Hangup) -> anyhow::Result<Self> {
        Ok(Self {
            hangup,
            hung_up: Arc::default(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Whoever has no configuration to read again need not hear of it.
                _ = self.hangup.0.recv() => self.hung_up.notify_one(),
            }
        }
    }

    /// The first signal drains, a second one ends it as soon as what is under way has been told so.
    pub(crate) async fn until_drained(mut self, server: Server) -> anyhow::Result<ExitCode> {
        let (drain, draining) = tokio::sync::oneshot::channel::<()>();
        let (end, ending) = tokio::sync::oneshot::channel::<()>();
        // Whether it is sent or dropped: it is time.
        let until = async |told: tokio::sync::oneshot::Receiver<()>| drop(told.await);
        let mut drained = std::pin::pin!(server.run(until(draining), until(ending)));
        tokio::select! {
            () = &mut drained => return Ok(ExitCode::SUCCESS),
            () = self.next() => drop(drain),
        }
        tokio::select! {
            () = &mut drained => Ok(ExitCode::SUCCESS),
            () = self.next() => {
                drop(end);
                drop(tokio::time::timeout(ENDING, drained).await);
                anyhow::bail!("ended by a second signal; requests in flight were cut off")
            }
        }
    }
}
