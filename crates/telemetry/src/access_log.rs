//! The access log: one line for each request, as JSON for machines or as text for a person.

mod line;

use std::io::Write;

use prometheus::IntCounter;

use crate::line_writer::Lines;
pub use crate::line_writer::Writing;
use bursar_base::terminal::plain_lines;
pub use line::{Correlation, Line};

/// Where access lines go.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// None: nowhere.
    lines: Option<Lines>,
    format: Format,
}

/// For whom lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For machines.
    Json,
    /// For a person at a terminal.
    Text,
}

impl AccessLog {
    /// Writes to `out` without waiting for it, until the second value is dropped.
    #[must_use]
    pub fn start(out: impl Write + Send + 'static, format: Format) -> (Self, Writing) {
        let (lines, writing) = Lines::start(out);
        (Self::to(lines, format), writing)
    }

    /// Writes to where others write, too.
    #[must_use]
    pub fn to(lines: Lines, format: Format) -> Self {
        Self {
            lines: Some(lines),
            format,
        }
    }

    /// Shows how many lines are lost.
    pub fn show_dropped(&self, counter: &IntCounter) {
        if let Some(lines) = &self.lines {
            lines.show_dropped(counter);
        }
    }

    /// Writes nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            lines: None,
            format: Format::Json,
        }
    }

    /// Writes the line of a request that is over.
    pub fn write(&self, line: &Line<'_>) {
        let Some(lines) = &self.lines else {
            return;
        };
        let is_wanted = match line.is_warning() {
            true => tracing::enabled!(target: "bursar::access", tracing::Level::WARN),
            false => tracing::enabled!(target: "bursar::access", tracing::Level::INFO),
        };
        if !is_wanted {
            return;
        }
        let mut text = Vec::with_capacity(1024);
        match self.format {
            Format::Json => line.write_json(&mut text),
            Format::Text => {
                line.write_text(&mut text);
                let shown = plain_lines(&String::from_utf8_lossy(&text)).into_owned();
                text = shown.into_bytes();
            }
        }
        lines.put(&text);
    }
}
