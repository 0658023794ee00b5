//! Signals to the process: SIGTERM, SIGINT and SIGQUIT drain, a second one ends it, SIGHUP has the configuration read again,
//! SIGUSR1 and SIGUSR2 do nothing, and SIGXFSZ leaves what a file has no room for to whoever writes it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use bursar::server::Server;
use bursar_base::process::FILE_SIZE_SIGNAL;

/// How long the end takes at most once a second signal has come.
const ENDING: Duration = Duration::from_secs(2);

/// Signals that would end the process, though none of them asks for that. Taken first of all: SIGHUP while the
/// configuration is read has it read again, and a signal that ends the process may still do so by itself.
pub(crate) struct Harmless {
    hangup: Signal,
    /// Elsewhere they have a log opened again, or the program replaced: whoever sends them by habit expects no end.
    user: [Signal; 2],
    /// A file that has reached the limit of this process (`ulimit -f`) is as one whose disk is full.
    _file_size: Signal,
}

/// The process's signals; taken before anything is bound, so that none is missed.
pub(crate) struct Signals {
    harmless: Harmless,
    /// Told when SIGHUP came.
    pub(crate) hung_up: Arc<Notify>,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Harmless {
    /// Within that runtime.
    pub(crate) fn taken(runtime: &Runtime) -> anyhow::Result<Self> {
        let _within = runtime.enter();
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
            _file_size: signal(SignalKind::from_raw(FILE_SIZE_SIGNAL))?,
        })
    }
}

impl Signals {
    pub(crate) fn new(harmless: Harmless) -> anyhow::Result<Self> {
        Ok(Self {
            harmless,
            hung_up: Arc::default(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// One that ends the process. While it drains, nothing reads the configuration any more.
    async fn next(&mut self, is_draining: bool) {
        let Harmless {
            hangup,
            user: [user1, user2],
            ..
        } = &mut self.harmless;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = hangup.recv() => match is_draining {
                    // Whoever has no configuration to read again need not hear of it.
                    false => self.hung_up.notify_one(),
                    true => tracing::info!(
                        signal = "SIGHUP",
                        "this signal is ignored: Bursar is draining, and reads no configuration any more"
                    ),
                },
                _ = user1.recv() => log_ignored("SIGUSR1"),
                _ = user2.recv() => log_ignored("SIGUSR2"),
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
            () = self.next(false) => drop(drain),
        }
        tokio::select! {
            () = &mut drained => Ok(ExitCode::SUCCESS),
            () = self.next(true) => {
                drop(end);
                drop(tokio::time::timeout(ENDING, drained).await);
                anyhow::bail!("ended by a second signal; requests in flight were cut off")
            }
        }
    }
}

fn log_ignored(signal: &str) {
    tracing::info!(
        signal,
        "this signal is ignored: there is no log file to open again, because the log goes to standard error"
    );
}
