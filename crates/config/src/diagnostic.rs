//! Diagnostics: everything that is wrong with the file, with its key path and, where known, its line.

use std::collections::HashMap;
use std::fmt;

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The dotted key path, empty for the file as a whole.
    pub path: String,
    /// From 1.
    pub line: Option<usize>,
    /// Says what is wrong and what to do; never a value, which might be a secret.
    pub message: String,
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
}

impl Diagnostics {
    /// Learns where the keys of the file stand.
    pub(super) fn learn_line(&mut self, path: &str, line: usize) {
        self.lines.entry(path.to_owned()).or_insert(line);
    }

    /// Reports a problem at a key; a missing key is placed at the mapping that lacks it.
    pub(super) fn add(&mut self, path: &str, message: impl fmt::Display) {
        // A follow-up of a problem that was already reported is noise.
        if !self.is_reported(path) {
            let line = self.line_of(path);
            self.add_at(path.to_owned(), line, message.to_string());
        }
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

    fn is_reported(&self, path: &str) -> bool {
        self.found.iter().any(|problem| {
            path.strip_prefix(problem.path.as_str())
                .is_some_and(|rest| {
                    !problem.path.is_empty() && (rest.is_empty() || rest.starts_with(['.', '[']))
                })
        })
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
