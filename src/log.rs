//! Where do log lines go, and in which form? Standard error: JSON, or readable text at a terminal.
//!
//! Lines are handed to a thread of their own, so that a slow reader of the log does not slow requests.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::access::{AccessLog, Format};

/// Lines that wait for the reader of the log; more are dropped.
const MAX_LINES: usize = 65_536;

/// Starts logging for the process: `info` unless `RUST_LOG` says otherwise. The guard writes what is
/// left when it is dropped.
pub fn start() -> (AccessLog, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .finish(std::io::stderr());
    let format = if std::io::stderr().is_terminal() {
        Format::Text
    } else {
        Format::Json
    };
    subscribe(writer.clone(), format);
    (AccessLog::new(writer, format), guard)
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
