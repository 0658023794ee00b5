//! Reading of files: regular ones only, opened without waiting, up to a limit, and read for no longer than that.
//!
//! A pipe would be waited for until somebody writes, a device may do something when it is opened, and a file system that
//! is gone hangs in the middle of any call. Symbolic links are followed: Kubernetes mounts secrets by them.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// How long a file may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many calls may hang at a time; beyond that, until one of them ends, all others are taken to hang, too.
const MAX_HANGING: usize = 64;
/// Calls that have not ended.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// A file's content, which may be a secret.
pub type Content = Zeroizing<Vec<u8>>;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the system says.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It is something else.
    #[error("it is {0}, and only regular files are read")]
    Kind(&'static str),
    /// It is larger than this many bytes.
    #[error("it is larger than {} MiB", .0 >> 20)]
    TooLarge(u64),
    /// Its file system hangs.
    #[error("it was not read within {} s; does its file system hang?", PATIENCE.as_secs())]
    Hangs,
}

/// Reads a file of at most that many bytes, and waits no longer than 5 s. What hangs keeps its thread.
///
/// # Errors
/// Where it is no regular file, too large, or cannot be read in that time.
pub fn read(path: &Path, most: u64) -> Result<Content, Error> {
    let path = path.to_owned();
    in_time(move || read_or_hang(&path, most))
}

/// What the system says of a file, within 5 s.
///
/// # Errors
/// Where it says nothing in that time.
pub fn metadata(path: &Path) -> Result<Metadata, Error> {
    let path = path.to_owned();
    in_time(move || Ok(std::fs::metadata(path)?))
}

/// Those of the files that were replaced, while a mount goes on showing what was there before. Within 5 s.
///
/// # Errors
/// Where the system does not say in that time.
pub fn replaced_below_mounts(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, Error> {
    // It has no name left where it is; one that a process has open, such as a shell's here-document, has no path either.
    let is_replaced = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.nlink() == 0)
            && path.canonicalize().is_ok()
    };
    in_time(move || Ok(paths.into_iter().filter(is_replaced).collect()))
}

/// Reads a file of at most that many bytes, and may wait for ever for its file system.
///
/// # Errors
/// Where it is no regular file, too large, or cannot be read.
pub fn read_or_hang(path: &Path, most: u64) -> Result<Content, Error> {
    // Before it is opened, which a device may take for more than that.
    refuse_other(std::fs::metadata(path)?.file_type())?;
    let mut options = File::options();
    // Where it was replaced since, nothing is waited for.
    options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    refuse_other(file.metadata()?.file_type())?;
    let mut content = Content::default();
    file.take(most.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(Error::TooLarge(most));
    }
    Ok(content)
}

fn in_time<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let call = Call::begin()?;
    let (done, result) = channel();
    let thread = std::thread::Builder::new().name("reading".to_owned());
    thread.spawn(move || {
        let read = read();
        drop(call);
        // Nobody waits any more.
        drop(done.send(read));
    })?;
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(Error::Hangs),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("reading it failed").into()),
    }
}

/// Counts it until it ends.
struct Call;

impl Call {
    fn begin() -> Result<Self, Error> {
        let call = Self;
        match CALLS.fetch_add(1, Ordering::Relaxed) {
            MAX_HANGING.. => Err(Error::Hangs),
            _ => Ok(call),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refuse_other(kind: FileType) -> Result<(), Error> {
    let kind = match kind {
        kind if kind.is_file() => return Ok(()),
        // Container runtimes make one where the file to mount is missing.
        kind if kind.is_dir() => {
            "a directory (what a container mounts is one where no file was found)"
        }
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(Error::Kind(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once_and_a_link_to_one_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("file"), "content").unwrap();
        for (link, target) in [("link", "file"), ("link-to-pipe", "pipe"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let said = |path: &Path| read(path, 7).unwrap_err().to_string();
        for (name, expected) in [
            ("pipe", "it is a pipe"),
            ("link-to-pipe", "it is a pipe"),
            ("socket", "it is a socket"),
            ("", "it is a directory ("),
            ("missing", "No such file"),
            ("loop", "symbolic link"),
        ] {
            let said = said(&at(name));
            assert!(said.contains(expected), "{name}: {said}");
        }
        for device in ["/dev/zero", "/dev/null"] {
            assert!(
                said(Path::new(device)).contains("it is a device"),
                "{device}"
            );
        }
        for name in ["file", "link"] {
            assert_eq!(read(&at(name), 7).unwrap().as_slice(), b"content");
        }
        assert!(matches!(
            read_or_hang(&at("file"), 6),
            Err(Error::TooLarge(6))
        ));
        assert!(
            !read(Path::new("/proc/self/stat"), 1 << 20)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_hangs_is_given_up() {
        let (_hold, held) = channel::<()>();
        let hanging = in_time(move || {
            let _never = held.recv();
            Ok(())
        });
        assert!(matches!(hanging, Err(Error::Hangs)));
    }
}
