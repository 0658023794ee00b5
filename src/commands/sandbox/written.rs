//! What `bursar sandbox --write` leaves in a directory, for a proxy of one's own in front of the same providers.

use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::configuration::{CERTIFICATE, Variable};

/// The configuration; one that is there stays as it is.
pub(super) const CONFIGURATION: &str = "proxy.yaml";
/// `NAME=VALUE` lines. That it is there also says that the other files are a sandbox's.
pub(super) const ENVIRONMENT: &str = "sandbox.env";

/// How long one that was told to end may still have the directory, and how often that is looked at.
const ENDING: Duration = Duration::from_secs(2);
const TRY_AGAIN: Duration = Duration::from_millis(50);

const HEAD: &str = "\
# A proxy in front of the emulated providers of a sandbox that runs, written by `bursar sandbox --write`. What changes with
# each start of the sandbox is in sandbox.env. In this directory:
#
#   set -a; . ./sandbox.env; set +a
#   bursar check --live && bursar run
#
# Change it as you like: the sandbox leaves a file that is there as it is.

";

/// What became of the configuration.
#[derive(Debug)]
pub(super) enum Left {
    Written,
    Kept,
}

impl Left {
    /// For whoever expects to find it as new.
    pub(super) const fn note(&self) -> &'static str {
        match self {
            Self::Written => "",
            Self::Kept => "; proxy.yaml was there, and stays as it was",
        }
    }
}

/// Makes the directory, and says no to one that holds such files of somebody else.
///
/// # Errors
/// Where it cannot be made, or what is in it would be lost.
pub(super) fn prepare(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    if directory.join(ENVIRONMENT).exists() {
        return Ok(());
    }
    for name in [CONFIGURATION, CERTIFICATE] {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            anyhow::bail!(
                "{} is there already and no sandbox wrote it; give --write another directory",
                path.display()
            );
        }
    }
    Ok(())
}

/// Has the directory for this sandbox alone, for as long as what is returned lives: a proxy that runs by what another one has
/// left would find other providers.
///
/// # Errors
/// Where another one has it.
pub(super) async fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.display();
    let opened = File::open(directory);
    let opened = opened.with_context(|| format!("cannot open the directory {path}"))?;
    let end = Instant::now() + ENDING;
    while let Err(TryLockError::WouldBlock) = opened.try_lock() {
        if Instant::now() >= end {
            anyhow::bail!(
                "another sandbox writes to {path}, and runs; end it, or give --write another directory"
            );
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
    // Not every file system has locks.
    Ok(opened)
}

/// The certificate, which is public.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn write_certificate(directory: &Path, pem: &str) -> anyhow::Result<()> {
    replace(directory, CERTIFICATE, pem, 0o644)
}

/// The variables, then the certificate; `text` becomes the configuration where there is none.
///
/// # Errors
/// Where they cannot be written.
pub(super) fn write(
    directory: &Path,
    variables: &[Variable],
    ca_pem: &str,
    text: &str,
) -> anyhow::Result<Left> {
    let lines: String = variables
        .iter()
        .map(|Variable { name, value }| format!("{name}={value}\n"))
        .collect();
    replace(directory, ENVIRONMENT, &lines, 0o600)?;
    write_certificate(directory, ca_pem)?;
    if directory.join(CONFIGURATION).symlink_metadata().is_ok() {
        return Ok(Left::Kept);
    }
    replace(directory, CONFIGURATION, &format!("{HEAD}{text}"), 0o644)?;
    Ok(Left::Written)
}

/// The configuration of the sandbox's own proxy, with its secrets.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn write_own(directory: &Path, text: &str) -> anyhow::Result<()> {
    replace(directory, CONFIGURATION, text, 0o600)
}

/// Whole or not at all: a proxy that runs reads these files again when they change.
fn replace(directory: &Path, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    use std::io::Write as _;
    let path = directory.join(name);
    let written = || {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        let mut file = builder.tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
        Ok::<_, std::io::Error>(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// That address on loopback, or where its port is taken another one.
pub(super) fn free_address(port: u16) -> anyhow::Result<SocketAddr> {
    let bound = TcpListener::bind(("127.0.0.1", port));
    let bound = bound.or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    let address = bound.and_then(|listener| listener.local_addr());
    address.context("no port is free")
}
