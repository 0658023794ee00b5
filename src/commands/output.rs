//! Output of commands: text that does not steer the terminal that shows it, and exit statuses.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use bursar_base::terminal::{plain, plain_lines};
use bursar_config::Diagnostic;
use bursar_telemetry::line_writer::cut_line;

/// The configuration or the command line is wrong; nothing was bound.
pub(crate) const WRONG: u8 = 2;

/// One line on standard error.
pub(crate) fn say(text: &str) {
    // Nobody is left to be told that standard error is closed.
    drop(writeln!(io::stderr(), "{}", cut_line(&plain(text))));
}

/// The whole result of a command on standard output.
pub(crate) fn print(text: &str, code: ExitCode) -> anyhow::Result<ExitCode> {
    io::stdout()
        .write_all(plain_lines(text).as_bytes())
        .context("cannot write to standard output")?;
    Ok(code)
}

/// What became of a change, which was made whether or not that can be told: where standard output cannot be written, it
/// goes to standard error, and the exit status is the change's.
pub(crate) fn print_change(text: &str, code: ExitCode) -> ExitCode {
    if let Err(error) = print(text, code) {
        say(&format!("bursar: {error:#}, which would have had:"));
        text.lines().for_each(say);
    }
    code
}

/// What a program reads on standard output, byte by byte.
pub(crate) fn print_as_it_is(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    io::stdout()
        .write_all(bytes)
        .context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with a file, and how to make one where there is none.
pub(crate) fn report(path: &Path, problems: &[Diagnostic]) -> ExitCode {
    for problem in problems {
        say(&format!("{}: {problem}", path.display()));
    }
    if let Some(hint) = how_to_make(path) {
        say(&format!("bursar: {hint}"));
    }
    ExitCode::from(WRONG)
}

/// How to make a file where there is none.
pub(crate) fn how_to_make(path: &Path) -> Option<String> {
    let found = path.symlink_metadata();
    let is_missing = found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_missing.then(|| {
        format!(
            "`bursar init --preset NAME --output {}` writes a first file; --config or BURSAR_CONFIG names another one",
            path.display()
        )
    })
}

/// A path as a shell takes it for one word; in quotation marks where it has to be.
pub(crate) fn shell_quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
    match !path.is_empty() && path.chars().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}
