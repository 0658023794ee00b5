//! A process as the system tells of it: CPU time, memory, file descriptors, threads; and signals to it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

/// Of the times in `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// A process, by its number. What it was asked for when it is gone is zero or missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

/// CPU time that was used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Outside of the kernel.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What there is of it.
    pub now: u64,
    /// The most that there was.
    pub peak: u64,
}

impl Process {
    /// The one with that number.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self(id)
    }

    /// The one that asks.
    #[must_use]
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// A file about it in `/proc`.
    #[must_use]
    pub fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    fn text(self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// It, its children, and theirs.
    #[must_use]
    pub fn family(self) -> Vec<Self> {
        let children = self.text(&format!("task/{}/children", self.0));
        let children = children
            .split_whitespace()
            .filter_map(|child| child.parse().ok());
        let children: Vec<Self> = children.flat_map(|child| Self(child).family()).collect();
        [vec![self], children].concat()
    }

    /// The CPU time that it has used, without its children's.
    #[must_use]
    pub fn cpu(self) -> Cpu {
        let stat = self.text("stat");
        // The name is in parentheses and may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = |at| {
            let field = fields.split_whitespace().nth(at);
            TICK * field.and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        Cpu {
            user: ticks(11),
            system: ticks(12),
        }
    }

    /// The memory that it really has, without its children's.
    #[must_use]
    pub fn memory(self) -> Memory {
        let status = self.text("status");
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Memory {
            now: kibibytes("VmRSS:"),
            peak: kibibytes("VmHWM:"),
        }
    }

    /// The names of its threads.
    #[must_use]
    pub fn threads(self) -> Vec<String> {
        let threads = std::fs::read_dir(self.file("task")).unwrap();
        // One may have ended meanwhile.
        let name = |thread: io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
        };
        let names = threads.filter_map(name);
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// How many file descriptors are open.
    ///
    /// # Errors
    /// Where it is not dumpable, or gone.
    pub fn open_files(self) -> io::Result<usize> {
        Ok(std::fs::read_dir(self.file("fd"))?.count())
    }

    /// How many file descriptors it may have.
    #[must_use]
    pub fn file_limit(self) -> Option<String> {
        let limits = self.text("limits");
        let mut lines = limits.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
        Some(line.split_whitespace().next()?.to_owned())
    }

    /// Lets it have no more file descriptors than those from now on; false where that cannot be done.
    pub async fn limit_files(self, most: &str) -> bool {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &self.0.to_string(), &format!("--nofile={most}:")]);
        prlimit.status().await.is_ok_and(|status| status.success())
    }

    /// Sends it a signal, e.g. `TERM`.
    pub async fn signal(self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.0.to_string()])
            .status();
        assert!(status.await.unwrap().success(), "no signal {name}");
    }
}
