//! How does a text become a configuration? One reading: parsed, references resolved, compiled.

use std::path::Path;

use super::files::{self, Files};
use super::journal::Journal;
use super::node::Node;
use super::problem::{Problem, Problems};
use super::{Config, compile, expand, file, readable};

/// A file's text.
pub(super) fn text(path: &Path, files: &mut Files) -> Result<String, Vec<Problem>> {
    let read = std::fs::read_to_string(path);
    files.saw(path.to_owned(), read.as_ref().ok().map(String::as_bytes));
    read.map_err(|error| {
        vec![Problem {
            path: String::new(),
            line: None,
            message: format!("cannot be read: {error}"),
        }]
    })
}

/// One reading of a file's text.
pub(super) struct Reading<'a> {
    pub(super) text: &'a str,
    /// Where relative file names start.
    pub(super) directory: &'a Path,
    /// Whether `intercept` is looked at.
    pub(super) has_authority: bool,
    /// A secret that stands in the text itself, by its key and line.
    pub(super) secret: Option<(String, Option<usize>)>,
    pub(super) files: &'a mut Files,
}

impl<'a> Reading<'a> {
    pub(super) fn of(text: &'a str, path: &'a Path, files: &'a mut Files) -> Self {
        Self {
            text,
            directory: path.parent().unwrap_or(Path::new("")),
            has_authority: true,
            secret: None,
            files,
        }
    }

    pub(super) fn compile(&mut self) -> Result<Config, Vec<Problem>> {
        let mut problems = Problems::default();
        let config = self.read(&mut problems).and_then(|mut file| {
            if !self.has_authority {
                file.intercept = None;
            }
            files::note_named(&file, self.directory, self.files);
            compile::compile(file, self.directory, &mut problems)
        });
        match config {
            Some(mut config) if problems.is_empty() => {
                config.warnings = std::mem::take(&mut problems.warnings);
                config.files = self.files.clone();
                Ok(config)
            }
            _ => Err(problems.into_found()),
        }
    }

    /// From YAML to plain data, references resolved.
    fn read(&mut self, problems: &mut Problems) -> Option<file::Proxy> {
        let root = Node::parse(self.text, problems)?;
        root.visit(&mut |node| {
            if let Some(line) = node.line {
                problems.learn_line(&node.path, line);
            }
        });
        readable::warn_of_open_files(&root, self.directory, problems);
        self.secret = readable::literal_secret(&root);
        self.typed(root, problems)
    }

    /// The journal alone; nothing else is resolved.
    pub(super) fn journal(&mut self) -> Result<Option<Journal>, Vec<Problem>> {
        let mut problems = Problems::default();
        let file = Node::parse(self.text, &mut problems).and_then(|mut root| {
            root.retain_key("journal");
            self.typed(root, &mut problems)
        });
        let journal = file.and_then(|file| {
            compile::journal::compile(file.journal, self.directory, &mut problems)
        });
        if problems.is_empty() {
            Ok(journal)
        } else {
            Err(problems.into_found())
        }
    }

    fn typed(&mut self, mut root: Node, problems: &mut Problems) -> Option<file::Proxy> {
        root.replace_texts(
            &mut |text, place| match expand::expand(text, self.directory, self.files) {
                Ok(expanded) => Some(expanded),
                Err(error) => {
                    problems.add_at(place.path.to_owned(), place.line, error.to_string());
                    None
                }
            },
        );
        root.read(problems)
    }
}
