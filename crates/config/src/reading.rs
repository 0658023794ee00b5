//! How does a text become a configuration? One reading: parsed, references resolved, compiled.

use std::path::Path;

use super::files::{self, Files};
use super::journal::Journal;
use super::node::Node;
use super::problem::{Problem, Problems};
use super::{Config, compile, expand, file, readable};
use bursar_base::regular_file;

/// Neither the configuration nor a secret is longer; a wrong path to a log must not fill the memory.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file's text.
pub(super) fn text(path: &Path, files: &mut Files) -> Result<String, Vec<Problem>> {
    let read = regular_file::read(path, MAX_FILE_BYTES);
    let hangs = matches!(read, Err(regular_file::Error::Hangs));
    if !hangs {
        files.saw(
            path.to_owned(),
            read.as_ref().ok().map(|read| read.as_slice()),
        );
    }
    let text = match read {
        Ok(mut read) => String::from_utf8(std::mem::take(&mut *read))
            .map_err(|_other| "it is not UTF-8".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    text.map_err(|why| {
        vec![Problem {
            path: String::new(),
            line: None,
            message: format!("cannot be read: {why}"),
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
            files::note_named(&file, self.directory, self.files, &mut problems)?;
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
        // What is on the same file system hangs as well, and each file would be waited for.
        let mut hangs = false;
        root.replace_texts(&mut |text, place| {
            let expanded = match hangs && readable::names_file(text) {
                true => Err(expand::Error::NotTried),
                false => expand::expand(text, self.directory, self.files),
            };
            match expanded {
                Ok(expanded) => {
                    if readable::names_open_file(text, self.directory) {
                        problems.warn(place.path, readable::OPEN_FILE);
                    }
                    Some(expanded)
                }
                Err(error) => {
                    hangs |= error.hangs();
                    problems.add_at(place.path.to_owned(), place.line, error.to_string());
                    None
                }
            }
        });
        root.read(problems)
    }
}
