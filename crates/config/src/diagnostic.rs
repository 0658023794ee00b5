//! Diagnostics: everything that is wrong with the file, with its key path and, where known, its line.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The dotted key path, empty for the file as a whole.
    pub path: String,
    /// From 1.
    pub line: Option<usize>,
    /// Says what is wrong and what to do; never a value that might be a secret.
    pub message: String,
}

/// A diagnostic as programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem<'a> {
    path: &'a str,
    line: Option<usize>,
    message: &'a str,
    severity: Severity,
}

/// Whether a file is rejected because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is.
    Error,
    /// It is allowed, but probably not meant.
    Warning,
}

impl Diagnostic {
    /// For programs.
    #[must_use]
    pub fn as_problem(&self, severity: Severity) -> Problem<'_> {
        Problem {
            path: &self.path,
            line: self.line,
            message: &self.message,
            severity,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// The problems found so far, and the lines to place further ones.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    found: Vec<Diagnostic>,
    /// Things that are allowed but probably not meant.
    pub(super) warnings: Vec<Diagnostic>,
    lines: HashMap<String, usize>,
    /// Values that are no secrets, as a message repeats them.
    values: HashMap<String, String>,
    /// Keys that are there under another name, which was reported.
    superseded: Vec<String>,
}

impl Diagnostics {
    /// Learns where the keys of the file stand.
    pub(super) fn learn_line(&mut self, path: &str, line: usize) {
        self.lines.entry(path.to_owned()).or_insert(line);
    }

    /// Learns a value that is no secret.
    pub(super) fn learn_value(&mut self, path: &str, value: String) {
        self.values.insert(path.to_owned(), value);
    }

    /// That a key is missing is no further problem: it is there under another name.
    pub(super) fn supersede(&mut self, path: String) {
        self.superseded.push(path);
    }

    /// Reports a problem at a key; a missing key is placed at the mapping that lacks it.
    pub(super) fn add(&mut self, path: &str, message: impl fmt::Display) {
        // A follow-up of a problem that was already reported is noise.
        if !self.is_reported(path) {
            let line = self.line_of(path);
            self.add_given(path, line, message.to_string());
        }
    }

    /// Reports that nothing is there, unless what is there was reported.
    pub(super) fn add_missing(&mut self, path: &str, message: &str) {
        if !self.has_below(path) {
            self.add(path, message);
        }
    }

    /// Reports a problem where the line is already known, and repeats the value where it is no secret.
    pub(super) fn add_given(&mut self, path: &str, line: Option<usize>, mut message: String) {
        if let Some(given) = self.values.get(path)
            && !message.contains(given.trim_matches('"'))
        {
            message.push_str(&format!(" (given: {given})"));
        }
        self.add_at(path.to_owned(), line, message);
    }

    /// Reports a problem where the line is already known.
    pub(super) fn add_at(&mut self, path: String, line: Option<usize>, message: String) {
        self.found.push(Diagnostic {
            path,
            line,
            message,
        });
    }

    /// Reports something that is allowed but probably not meant.
    pub(super) fn warn(&mut self, path: &str, message: impl fmt::Display) {
        self.warnings.push(Diagnostic {
            path: path.to_owned(),
            line: self.line_of(path),
            message: message.to_string(),
        });
    }

    /// Everything wrong, in the order of the file.
    pub(super) fn into_found(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether a problem was reported there, or of all that is there.
    pub(super) fn is_reported(&self, path: &str) -> bool {
        let found = self.found.iter().map(|problem| &problem.path);
        found.chain(&self.superseded).any(|reported| {
            path.strip_prefix(reported.as_str()).is_some_and(|rest| {
                !reported.is_empty() && (rest.is_empty() || rest.starts_with(['.', '[']))
            })
        })
    }

    /// Whether a problem was reported of what is below there.
    pub(super) fn has_below(&self, path: &str) -> bool {
        let below = |problem: &Diagnostic| {
            (problem.path.strip_prefix(path)).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        self.found.iter().any(below)
    }

    /// Whether the file has that key.
    pub(super) fn has_line(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    fn line_of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = path.rsplit_once(['.', '['])?.0;
        }
    }
}
