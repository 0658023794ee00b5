//! Signals to the process: SIGTERM and SIGINT drain, a second one ends it, SIGHUP has the configuration read again.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use bursar::server::Server;

/// The process's signals; taken before anything is bound, so that none is missed.
pub(crate) struct Signals {
    hangup: tokio::signal::unix::Signal,
    /// Told when it came.
    pub(crate) hung_up: Arc<Notify>,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
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
                _ = self.hangup.recv() => self.hung_up.notify_one(),
            }
        }
    }

    /// The first signal drains, a second one ends it.
    pub(crate) async fn until_drained(mut self, server: Server) -> anyhow::Result<ExitCode> {
        let (drain, draining) = tokio::sync::oneshot::channel::<()>();
        let mut drained = std::pin::pin!(server.run(async {
            // Whether it is sent or dropped: it is time.
            drop(draining.await);
        }));
        tokio::select! {
            () = &mut drained => return Ok(ExitCode::SUCCESS),
            () = self.next() => drop(drain),
        }
        tokio::select! {
            () = drained => Ok(ExitCode::SUCCESS),
            () = self.next() => anyhow::bail!("ended by a second signal; requests in flight were cut off"),
        }
    }
}
