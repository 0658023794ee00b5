//! Loading: a text becomes a configuration in one reading: parsed, references resolved, compiled.

use std::path::Path;

use zeroize::Zeroizing;

use crate::compile;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::encoding;
use crate::excerpt::{Extent, excerpt};
use crate::expand;
use crate::file;
use crate::file_permissions;
use crate::file_permissions::LiteralSecret;
use crate::files::{self, Files, MAX_TEXT_FILE_BYTES};
use crate::fleet::FleetConfig;
use crate::journal::Journal;
use crate::node::Node;
use crate::outline::Outline;
use crate::{secret_check, typed, yaml};
use bursar_base::regular_file;
use bursar_base::secret::Fingerprint;

/// A file's text, wiped on drop: a secret may be written in it.
fn text(path: &Path, files: &mut Files) -> Result<Zeroizing<String>, Vec<Diagnostic>> {
    let decode = |bytes| encoding::decode(bytes).map_err(|error| error.to_string());
    read_text(path, files, decode)
}

/// The same in whatever encoding, for commands that have to work while the file is broken.
pub(super) fn any_text(
    path: &Path,
    files: &mut Files,
) -> Result<Zeroizing<String>, Vec<Diagnostic>> {
    read_text(path, files, |bytes| Ok(encoding::decode_any(bytes)))
}

fn read_text(
    path: &Path,
    files: &mut Files,
    decode: impl FnOnce(Vec<u8>) -> Result<Zeroizing<String>, String>,
) -> Result<Zeroizing<String>, Vec<Diagnostic>> {
    let read = regular_file::read(path, MAX_TEXT_FILE_BYTES);
    let hangs = matches!(read, Err(regular_file::Error::Hangs));
    if !hangs {
        files.record(
            path.to_owned(),
            read.as_ref().ok().map(|read| read.as_slice()),
        );
    }
    let text = match read {
        Ok(mut read) => decode(std::mem::take(&mut *read)),
        Err(error) => Err(error.to_string()),
    };
    text.map_err(|why| {
        vec![Diagnostic {
            path: String::new(),
            line: None,
            message: format!("cannot be read: {why}"),
        }]
    })
}

/// A file that is no configuration.
#[derive(Debug)]
pub struct Rejected {
    /// Everything that is wrong with it.
    pub errors: Vec<Diagnostic>,
    /// What else is allowed but probably not meant.
    pub warnings: Vec<Diagnostic>,
}

impl From<Vec<Diagnostic>> for Rejected {
    fn from(errors: Vec<Diagnostic>) -> Self {
        let warnings = Vec::new();
        Self { errors, warnings }
    }
}

impl Config {
    /// Reads a file, for somebody who wants to be told of everything at once.
    ///
    /// # Errors
    /// Everything that is wrong with it, and the warnings beside it.
    pub fn check(path: &Path) -> Result<Self, Rejected> {
        read_noting(path, &mut Files::default())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        Self::load_noting(path, &mut Files::default())
    }

    /// The same; which files were read is noted even where something is wrong with them.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load_noting(path: &Path, files: &mut Files) -> Result<Self, Vec<Diagnostic>> {
        read_noting(path, files).map_err(|rejected| rejected.errors)
    }

    /// The same without `intercept`, whose authority is yet to be made.
    ///
    /// # Errors
    /// Everything else that is wrong with it.
    pub fn load_without_authority(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let mut files = Files::default();
        let text = text(path, &mut files)?;
        let mut reading = Reading::of(&text, path, &mut files);
        reading.has_authority = false;
        reading.compile().map_err(|rejected| rejected.errors)
    }

    /// Reads `journal` alone: what the rest of the file refers to need not be there.
    ///
    /// # Errors
    /// Everything that is wrong with that part.
    pub fn load_journal(path: &Path) -> Result<Option<Journal>, Vec<Diagnostic>> {
        let mut files = Files::default();
        let text = any_text(path, &mut files)?;
        let mut reading = Reading::of(&text, path, &mut files);
        let directory = reading.directory;
        reading.key("journal", |file, problems| {
            compile::journal::compile(file.journal, directory, problems)
        })
    }

    /// Reads `fleet` alone: what the rest of the file refers to need not be there.
    ///
    /// # Errors
    /// Everything that is wrong with that part.
    pub fn load_fleet(path: &Path) -> Result<Option<FleetConfig>, Vec<Diagnostic>> {
        let mut files = Files::default();
        let text = any_text(path, &mut files)?;
        let mut reading = Reading::of(&text, path, &mut files);
        let directory = reading.directory;
        reading.key("fleet", |file, problems| {
            compile::fleet::compile_alone(file.fleet, directory, problems)
        })
    }

    /// Reads YAML text; relative file names in it start at `directory`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<Diagnostic>> {
        let mut reading = Reading {
            text: encoding::unmarked(text),
            directory,
            has_authority: true,
            secret: None,
            outline: Outline::default(),
            files: &mut Files::default(),
        };
        reading.compile().map_err(|rejected| rejected.errors)
    }
}

fn read_noting(path: &Path, files: &mut Files) -> Result<Config, Rejected> {
    let text = text(path, files)?;
    let mut reading = Reading::of(&text, path, files);
    let mut read = reading.compile();
    // Where a file system hangs, it was waited for, and the reading was rejected.
    let replaced = match &read {
        Ok(_) => reading.files.warn_of_replaced(),
        Err(_) => Vec::new(),
    };
    let secret = reading.secret.take();
    let warning =
        secret.and_then(|secret| file_permissions::warn_of_open_configuration(path, secret));
    let warnings = match &mut read {
        Ok(config) => &mut config.warnings,
        Err(rejected) => &mut rejected.warnings,
    };
    warnings.extend(warning);
    warnings.extend(replaced);
    read
}

/// One reading of a file's text.
pub(super) struct Reading<'a> {
    pub(super) text: &'a str,
    /// Where relative file names start.
    pub(super) directory: &'a Path,
    /// Whether `intercept` is looked at.
    pub(super) has_authority: bool,
    /// A secret that stands in the text itself.
    pub(super) secret: Option<LiteralSecret>,
    /// What was read.
    pub(super) outline: Outline,
    pub(super) files: &'a mut Files,
}

impl<'a> Reading<'a> {
    pub(super) fn of(text: &'a str, path: &'a Path, files: &'a mut Files) -> Self {
        Self {
            text: encoding::unmarked(text),
            directory: path.parent().unwrap_or(Path::new("")),
            has_authority: true,
            secret: None,
            outline: Outline::default(),
            files,
        }
    }

    fn compile(&mut self) -> Result<Config, Rejected> {
        let mut problems = Diagnostics::default();
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
                config.outline = std::mem::take(&mut self.outline);
                config.hash = Fingerprint::of(self.text);
                Ok(config)
            }
            _ => {
                let mut warnings = std::mem::take(&mut problems.warnings);
                // What follows from an error is none of its own.
                warnings.retain(|warning| {
                    !problems.is_reported(&warning.path) && !problems.has_below(&warning.path)
                });
                let errors = problems.into_found();
                Err(Rejected { errors, warnings })
            }
        }
    }

    /// From YAML to plain data, references resolved.
    fn read(&mut self, problems: &mut Diagnostics) -> Option<file::Proxy> {
        let root = yaml::parse(self.text, problems)?;
        root.visit(&mut |node| {
            if let Some(line) = node.line {
                problems.learn_line(&node.path, line);
            }
        });
        self.secret = file_permissions::literal_secret(&root);
        self.typed(root, problems)
    }

    /// A key of the top level alone, whatever is wrong with the rest of the file: nothing else is resolved.
    pub(super) fn only(&mut self, key: &str, problems: &mut Diagnostics) -> Option<file::Proxy> {
        let mut all = Diagnostics::default();
        let parse = |extent| {
            let excerpt = excerpt(self.text, key, extent)?;
            yaml::parse(&excerpt, &mut Diagnostics::default())
        };
        let root = yaml::parse(self.text, &mut all)
            .or_else(|| [Extent::Block, Extent::Line].into_iter().find_map(parse));
        let Some(mut root) = root else {
            *problems = all;
            return None;
        };
        root.retain_key(key);
        root.report_duplicates(problems);
        self.typed(root, problems)
    }

    fn typed(&mut self, mut root: Node, problems: &mut Diagnostics) -> Option<file::Proxy> {
        // What is on the same file system hangs as well, and each file would be waited for.
        let mut hangs = false;
        let mut origins = Vec::new();
        root.replace_texts(&mut |text, place| {
            let expanded = match hangs && file_permissions::names_file(text) {
                true => Err(expand::Error::NotTried),
                false => expand::expand(text, self.directory, self.files),
            };
            match expanded {
                Ok(expanded) => {
                    let named = expand::files_of(text, self.directory).into_iter();
                    let named = named.map(|file| file.display().to_string());
                    origins.extend(named.map(|file| (place.path.into(), file.into())));
                    if file_permissions::names_open_file(text, self.directory) {
                        problems.warn(place.path, file_permissions::OPEN_FILE);
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
        self.outline = Outline::of(&root).with_files(origins);
        let file = typed::read(&root, problems);
        secret_check::check(&root, problems);
        file
    }
}
