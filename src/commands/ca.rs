//! `bursar ca new`: a new authority for interception.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::config_file::ConfigFile;
use bursar_config::Config;
use bursar_tls::authority;

/// The names of its files.
pub(crate) const CERTIFICATE: &str = "ca.pem";
pub(crate) const KEY: &str = "ca.key";

/// What `bursar ca` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an authority that may sign for the configured providers' hosts only
    New(New),
}

/// Arguments of `bursar ca new`.
#[derive(Debug, Args)]
pub(crate) struct New {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Where ca.pem and ca.key are written; it is made where it is missing, and no file is overwritten
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Makes an authority, and says what to do with it.
///
/// # Errors
/// Where a file is there already, or cannot be written.
pub(crate) fn new(config: &Config, directory: &Path) -> anyhow::Result<String> {
    let hosts = config.host_names();
    let (certificate, key) = authority::make(&hosts)?;
    let (certificate_file, key_file) = (directory.join(CERTIFICATE), directory.join(KEY));
    if certificate_file.exists() {
        anyhow::bail!("{} is there already", certificate_file.display());
    }
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    write(&key_file, key.expose(), 0o600)?;
    if let Err(error) = write(&certificate_file, &certificate, 0o644) {
        // A key alone would be in the way of the next attempt, and vouches for nobody.
        let _ = std::fs::remove_file(&key_file);
        return Err(error);
    }
    Ok(format!(
        "Made {} and {}; the authority may sign for {} only.\n\
         Callers are to trust ca.pem; nobody but Bursar is to read ca.key. In the configuration:\n\n\
         intercept:\n  ca: {{ certificate: {}, key: {} }}\n",
        certificate_file.display(),
        key_file.display(),
        hosts.join(", "),
        certificate_file.display(),
        key_file.display(),
    ))
}

fn write(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let opened = options.open(file);
    let mut opened = opened.with_context(|| format!("cannot create {}", file.display()))?;
    let written = opened.write_all(text.as_bytes());
    if written.is_err() {
        // It was not there before.
        let _ = std::fs::remove_file(file);
    }
    written.with_context(|| format!("cannot write {}", file.display()))
}
