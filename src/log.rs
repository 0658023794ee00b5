//! Where do log lines go, and in which form? Standard error: JSON, or readable text at a terminal.
//!
//! Lines are handed to a thread of their own, so that a slow reader of the log does not slow requests.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::access::{AccessLog, Format, Writing};

/// Lines that wait for the reader of the log; more are dropped.
const MAX_LINES: usize = 65_536;

/// The process's log. Dropping it writes what is left.
#[derive(Debug)]
pub struct Log {
    access: AccessLog,
    /// Before the other, which is told of its losses.
    writing: Writing,
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts logging: `info` unless `RUST_LOG` says otherwise.
    #[must_use]
    pub fn start() -> Self {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(MAX_LINES)
            .finish(std::io::stderr());
        let format = if std::io::stderr().is_terminal() {
            Format::Text
        } else {
            Format::Json
        };
        let dropped = writer.error_counter();
        subscribe(writer, format);
        let (access, writing) = AccessLog::start(std::io::stderr(), format);
        Self {
            access,
            writing,
            dropped,
            _writer: guard,
        }
    }

    /// Where access lines go.
    #[must_use]
    pub fn access(&self) -> AccessLog {
        self.access.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let lines = self.dropped.dropped_lines() as u64 + self.writing.dropped();
        if lines > 0 {
            tracing::warn!(
                lines,
                "log lines were dropped, because the log was not read fast enough"
            );
        }
    }
}

fn subscribe(writer: NonBlocking, format: Format) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let started = match format {
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        Format::Text => lines.with_target(false).try_init(),
    };
    // Somebody else's subscriber stays; only a test has one.
    drop(started);
}
