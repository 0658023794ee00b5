//! Expansion of `${…}`: environment variables and files, put into the strings of the file.
//!
//! `${NAME}` is an environment variable, `${file:PATH}` a file's content less one trailing newline
//! (a relative path starts at the configuration file's directory), and `$${` a literal `${`.

use std::path::Path;

use zeroize::Zeroizing;

use crate::files::{Files, MAX_TEXT_FILE_BYTES};
use bursar_base::regular_file;

/// Why a reference could not be resolved.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("environment variable {0} is not set")]
    Unset(String),
    #[error("environment variable {0} is not UTF-8")]
    NotUnicode(String),
    #[error("cannot read the file {path}: {source}")]
    File {
        path: String,
        source: regular_file::Error,
    },
    #[error("cannot read the file {0}: it is not UTF-8")]
    NotText(String),
    #[error("the file {0} is larger than 1 MiB")]
    TooLarge(String),
    #[error("its file was not tried, because another one was not read in time")]
    NotTried,
    #[error("`${{` without `}}`; a literal `${{` is written `$${{`")]
    Unclosed,
    #[error("`${{…}}` holds no name of an environment variable and no `file:PATH`")]
    BadName,
}

impl Error {
    /// Whether a file was not read in time.
    pub(super) fn hangs(&self) -> bool {
        matches!(
            self,
            Self::File {
                source: regular_file::Error::Hangs,
                ..
            }
        )
    }
}

/// Resolves every reference in `text`; a file's content is not looked into for further ones. What is read is
/// noted in `files`. It may be a secret, so the result is wiped on drop, and so is what it was put together from.
pub(super) fn expand(
    text: &str,
    directory: &Path,
    files: &mut Files,
) -> Result<Zeroizing<String>, Error> {
    let mut expanded = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let (reference, after) = after.split_once('}').ok_or(Error::Unclosed)?;
        let value = match reference.strip_prefix("file:") {
            Some(path) => read(&directory.join(path), files)?,
            None => variable(reference)?,
        };
        append(&mut expanded, &value, after.len());
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Where there is no room, the text moves by hand: growing would leave a copy behind that nobody wipes.
fn append(text: &mut Zeroizing<String>, more: &str, to_come: usize) {
    if text.capacity() - text.len() < more.len() + to_come {
        let mut moved = Zeroizing::new(String::with_capacity(text.len() + more.len() + to_come));
        moved.push_str(text);
        *text = moved;
    }
    text.push_str(more);
}

fn variable(name: &str) -> Result<Zeroizing<String>, Error> {
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    if name.is_empty() || !name.chars().all(word) {
        return Err(Error::BadName);
    }
    let value = std::env::var(name).map(Zeroizing::new);
    value.map_err(|error| match error {
        std::env::VarError::NotPresent => Error::Unset(name.to_owned()),
        std::env::VarError::NotUnicode(_) => Error::NotUnicode(name.to_owned()),
    })
}

fn read(path: &Path, files: &mut Files) -> Result<Zeroizing<String>, Error> {
    let named = || path.display().to_string();
    let read = regular_file::read(path, MAX_TEXT_FILE_BYTES);
    if !matches!(read, Err(regular_file::Error::Hangs)) {
        files.record(
            path.to_owned(),
            read.as_ref().ok().map(|read| read.as_slice()),
        );
    }
    let mut read = read.map_err(|source| match source {
        regular_file::Error::TooLarge(_) => Error::TooLarge(named()),
        source => Error::File {
            path: named(),
            source,
        },
    })?;
    let content = String::from_utf8(std::mem::take(&mut *read)).map(Zeroizing::new);
    let mut content = content.map_err(|other| {
        drop(Zeroizing::new(other.into_bytes()));
        Error::NotText(named())
    })?;
    if content.ends_with('\n') {
        content.pop();
        if content.ends_with('\r') {
            content.pop();
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_loses_one_trailing_newline_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), "a${B}c\n\n").unwrap();
        let expanded = expand("<${file:secret}>", directory.path(), &mut Files::default()).unwrap();
        assert_eq!(*expanded, "<a${B}c\n>");
    }

    #[test]
    fn a_doubled_dollar_is_a_literal() {
        assert_eq!(
            *expand("a$${HOME}$b$$", Path::new(""), &mut Files::default()).unwrap(),
            "a${HOME}$b$$"
        );
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let message = |text| {
            expand(text, Path::new("/"), &mut Files::default())
                .unwrap_err()
                .to_string()
        };
        assert!(message("${BURSAR_NOT_SET}").contains("BURSAR_NOT_SET is not set"));
        assert!(message("${file:/no/such}").contains("/no/such"));
        assert!(message("a${b").contains("without"));
        assert!(message("${a b}").contains("no name"));
    }
}
