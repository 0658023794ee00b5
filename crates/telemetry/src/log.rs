//! The log of everything but requests, on standard error: JSON, or readable text at a terminal.
//!
//! Lines are handed to a thread of their own, so that a slow reader of the log does not slow requests.

mod filter;
mod shorten;

use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::access_log::{AccessLog, Format};
use crate::line_writer::{Lines, MAX_LINE_BYTES, Writing, cut_line};
use bursar_base::terminal::{plain, plain_json};
pub use filter::{Invalid, LogFilter, checked as checked_filter};
use shorten::shorten;

/// Of a time stamp, and the space behind it.
const TIME_BYTES: usize = 28;

/// The process's log. Dropping it writes what is left.
#[derive(Debug)]
pub struct Log {
    access: AccessLog,
    filter: LogFilter,
    format: Format,
    writing: Writing,
}

impl Log {
    /// Starts logging: `info` unless `RUST_LOG` says otherwise.
    #[must_use]
    pub fn start() -> Self {
        let format = if io::stderr().is_terminal() {
            Format::Text
        } else {
            Format::Json
        };
        let (lines, writing) = Lines::to_standard_error();
        let filter = subscribe(lines.clone(), format);
        log_panics();
        Self {
            access: AccessLog::to(lines, format),
            filter,
            format,
            writing,
        }
    }

    /// Whether its lines are JSON, and errors are among them.
    #[must_use]
    pub fn takes_errors_as_json(&self) -> bool {
        matches!(self.format, Format::Json) && tracing::enabled!(tracing::Level::ERROR)
    }

    /// Where access lines go.
    #[must_use]
    pub fn access(&self) -> AccessLog {
        self.access.clone()
    }

    /// What is logged.
    #[must_use]
    pub fn filter(&self) -> LogFilter {
        self.filter.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let lines = self.writing.dropped();
        if lines > 0 {
            tracing::warn!(
                lines,
                "log lines were dropped, because the log was not read fast enough or could not be written"
            );
        }
    }
}

/// While the filter stays, it costs what one that cannot change costs: what it says of a place in the code is kept there.
fn subscribe(lines: Lines, format: Format) -> LogFilter {
    // What is no text is none of a filter either, and is told as such.
    let text = std::env::var_os(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let (text, wrong) = filter::sorted_out(&text.to_string_lossy());
    let filter = filter::for_log(&text);
    let usual = filter::parse(&text);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Events { lines, format });
    // It fails only where its log is gone.
    let (started, put): (_, Box<dyn Fn(EnvFilter) + Send + Sync>) = match format {
        Format::Json => {
            let subscriber = subscriber
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_filter_reloading();
            let handle = subscriber.reload_handle();
            let put = move |filter| drop(handle.reload(filter));
            (subscriber.try_init(), Box::new(put))
        }
        Format::Text => {
            let subscriber = subscriber
                .with_target(false)
                .with_ansi(false)
                .with_filter_reloading();
            let handle = subscriber.reload_handle();
            let put = move |filter| drop(handle.reload(filter));
            (subscriber.try_init(), Box::new(put))
        }
    };
    // Somebody else's subscriber stays; only a test has one.
    drop(started);
    if !wrong.is_empty() {
        // As what silences least would have it.
        tracing::error!(
            ignored = wrong,
            "`RUST_LOG` has parts that are ignored: {}",
            Invalid
        );
    }
    LogFilter::new(&usual, put)
}

/// A panic is one line as everything else is, and not several in another form. It ends its task alone.
fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if !tracing::enabled!(tracing::Level::ERROR) {
            return before(panic);
        }
        let said = panic.payload_as_str().unwrap_or_default();
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => Some(backtrace.to_string()),
            _ => None,
        };
        tracing::error!(place, thread = thread.name(), backtrace, "panic: {said}");
    }));
}

/// Where lines of others than requests go.
struct Events {
    lines: Lines,
    format: Format,
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// One line comes in one piece.
impl Write for &Events {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = match self.format {
            Format::Json => plain_json(&text),
            Format::Text => for_terminal(&text).into(),
        };
        let short = match self.format {
            Format::Json if text.len() > MAX_LINE_BYTES => {
                plain_json(&shorten(&text)).into_owned().into()
            }
            Format::Json => text,
            Format::Text => cut_line(&text),
        };
        self.lines.put_now(short.as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line, in which nothing steers the terminal but the colour of its level.
fn for_terminal(line: &str) -> String {
    let line = plain(line.strip_suffix('\n').unwrap_or(line));
    for (level, colour) in [("ERROR", 31), (" WARN", 33)] {
        // Behind the time, whose length is always the same.
        if let Some((time, rest)) = line.split_at_checked(TIME_BYTES)
            && let Some(rest) = rest.strip_prefix(level)
        {
            return format!("{time}\x1b[{colour}m{level}\x1b[0m{rest}\n");
        }
    }
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_at_a_terminal_has_no_control_but_the_colour_of_its_level() {
        let time = "2026-11-29T20:28:02.933987Z ";
        for (line, expected) in [
            (
                " INFO a\u{1b}[2Jb\u{9b}\nc\n",
                " INFO a\\u{1b}[2Jb\\u{9b}\\nc\n",
            ),
            (" WARN x\n", "\u{1b}[33m WARN\u{1b}[0m x\n"),
            ("ERROR \r", "\u{1b}[31mERROR\u{1b}[0m \\r\n"),
        ] {
            let shown = for_terminal(&format!("{time}{line}"));
            assert_eq!(shown, format!("{time}{expected}"));
        }
        assert_eq!(for_terminal("é"), "é\n");
    }
}
