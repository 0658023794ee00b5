//! Where the journal is: a small file system of its own that can be filled, where mounting is permitted.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct Disk {
    directory: TempDir,
    is_mounted: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
            .arg(directory.path())
            .output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        let is_required = std::env::var_os("BURSAR_REQUIRE_PEERS").is_some();
        assert!(is_mounted || !is_required, "mounting is not permitted");
        Self {
            directory,
            is_mounted,
        }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// Another process that is about to write the journal. Nobody else can while this lives.
    pub(crate) fn hold_journal(&self) -> Connection {
        let writer = Connection::open(self.journal().join("journal.sqlite")).unwrap();
        writer.busy_timeout(Duration::from_secs(10)).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        writer
    }

    /// Takes all that is left; false where that would be a disk of others.
    pub(crate) fn fill(&self) -> bool {
        if !self.is_mounted {
            return false;
        }
        let mut size = 1 << 20;
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while size > 0 {
            // A short write took a part of it.
            if file.write(&vec![0; size]).is_err() {
                size /= 2;
            }
        }
        true
    }

    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.directory.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            let mut unmount = Command::new("umount");
            drop(unmount.arg("-l").arg(self.directory.path()).status());
        }
    }
}
