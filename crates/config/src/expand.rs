//! Expansion of `${…}`: environment variables and files, put into the strings of the file.
//!
//! `${NAME}` is an environment variable, `${NAME:-default}` one that may be unset or empty, `${file:PATH}` a file's
//! content less one trailing newline (a relative path starts at the configuration file's directory), `${credential:NAME}`
//! that of a credential that systemd has loaded (systemd.exec(5), `LoadCredential=`), and `$${` a literal `${`.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::encoding;
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
    #[error("cannot read the file {path}: {source}")]
    NotText {
        path: String,
        source: encoding::Error,
    },
    #[error("the file {0} is larger than 1 MiB")]
    TooLarge(String),
    #[error("its file was not tried, because another one was not read in time")]
    NotTried,
    #[error("`${{` without `}}`; a literal `${{` is written `$${{`")]
    Unclosed,
    #[error(
        "`${{…}}` holds no name of an environment variable, no `file:PATH` and no `credential:NAME`; a name has letters, digits and `_` alone, and a default is written `${{NAME:-default}}`"
    )]
    BadName,
    #[error("`file:` is written in lower case: `${{file:PATH}}`")]
    FileInCapitals,
    #[error("an environment variable is written `${{NAME}}`, without `env:`")]
    EnvPrefix,
    #[error("a default in `${{NAME:-default}}` holds no further `${{…}}`")]
    NestedDefault,
    #[error(
        "there is no credential `{0}`, because CREDENTIALS_DIRECTORY is not set: systemd sets it for units with `LoadCredential={0}:PATH`"
    )]
    NoCredentials(String),
    #[error("`${{credential:NAME}}` takes the name of a credential and no path")]
    BadCredential,
    #[error("`~` is not expanded in `${{file:PATH}}`; write the whole path")]
    Home,
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
        let value = match reference.split_once(':') {
            Some(("file", path)) if path.starts_with('~') => return Err(Error::Home),
            Some(("file", path)) => read(&directory.join(path), files)?,
            Some(("credential", name)) => read(&credential(name)?, files)?,
            _ => variable(reference)?,
        };
        append(&mut expanded, &value, after.len());
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The files that a text refers to.
pub(super) fn files_of(text: &str, directory: &Path) -> Vec<PathBuf> {
    let mut named = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        rest = after;
        if before.ends_with('$') {
            continue;
        }
        let reference = after.split_once('}').map(|(reference, _)| reference);
        match reference.and_then(|reference| reference.split_once(':')) {
            Some(("file", path)) => named.push(directory.join(path)),
            Some(("credential", name)) => named.extend(credential(name).ok()),
            _ => {}
        }
    }
    named
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

/// The variable of `NAME`, or of `NAME:-default`, where an empty one counts as unset, as in a shell.
fn variable(reference: &str) -> Result<Zeroizing<String>, Error> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    if name.is_empty() || !name.chars().all(word) {
        let begins_with = |prefix: &str| {
            (name.get(..prefix.len())).is_some_and(|it| it.eq_ignore_ascii_case(prefix))
        };
        return Err(match () {
            () if begins_with("file:") => Error::FileInCapitals,
            () if begins_with("env:") => Error::EnvPrefix,
            () => Error::BadName,
        });
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Error::NestedDefault);
    }
    match (std::env::var(name).map(Zeroizing::new), default) {
        (Ok(value), Some(default)) if value.is_empty() => Ok(Zeroizing::new(default.to_owned())),
        (Ok(value), _) => Ok(value),
        (Err(std::env::VarError::NotPresent), Some(default)) => {
            Ok(Zeroizing::new(default.to_owned()))
        }
        (Err(std::env::VarError::NotPresent), None) => Err(Error::Unset(name.to_owned())),
        (Err(std::env::VarError::NotUnicode(_)), _) => Err(Error::NotUnicode(name.to_owned())),
    }
}

/// Where systemd puts a unit's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

fn credential(name: &str) -> Result<PathBuf, Error> {
    if name.is_empty() || name.contains('/') || [".", ".."].contains(&name) {
        return Err(Error::BadCredential);
    }
    let directory = std::env::var_os(CREDENTIALS_DIRECTORY).filter(|it| !it.is_empty());
    let directory = directory.ok_or_else(|| Error::NoCredentials(name.to_owned()))?;
    Ok(PathBuf::from(directory).join(name))
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
    let content = encoding::decode(std::mem::take(&mut *read));
    let mut content = content.map_err(|source| Error::NotText {
        path: named(),
        source,
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
        assert!(message("${FILE:/run/a}").contains("lower case"));
        assert!(message("${env:HOME}").contains("without `env:`"));
        assert!(message("${BURSAR_NOT_SET-a}").contains("`${NAME:-default}`"));
        assert!(message("${BURSAR_NOT_SET:-${HOME}}").contains("no further"));
        assert!(message("${credential:a/b}").contains("no path"));
        assert!(message("${credential:..}").contains("no path"));
        assert!(message("${credential:payu}").contains("LoadCredential=payu:PATH"));
        assert!(message("${file:~/secret}").contains("whole path"));
    }

    #[test]
    fn the_files_that_a_text_refers_to_are_those_that_are_read() {
        let named = files_of("${file:a}:$${file:b}${C}${file:/d}", Path::new("/etc"));
        assert_eq!(named, [Path::new("/etc/a"), Path::new("/d")]);
    }

    #[test]
    fn a_default_stands_for_a_variable_that_is_unset() {
        let expand = |text| expand(text, Path::new(""), &mut Files::default()).unwrap();
        assert_eq!(*expand("<${BURSAR_NOT_SET:-a:-b}>"), "<a:-b>");
        assert_eq!(*expand("<${BURSAR_NOT_SET:-}>"), "<>");
        assert_eq!(*expand("<${CARGO_PKG_NAME:-a}>"), "<bursar-config>");
    }
}
