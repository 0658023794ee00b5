//! Processes, and what the system says of them: CPU time and memory, children included.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use bursar_testkit::process::{Cpu, Memory, Process};
use tokio::time::Instant;

/// Of the times in `/proc/stat`.
const TICK_US: f64 = 10_000.0;
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that ends when this is dropped.
pub(crate) struct Running(Child);

/// Starts a program on some cores, its output going to a file.
pub(crate) fn start(
    cores: &str,
    program: &str,
    args: &[String],
    log: &Path,
) -> anyhow::Result<Running> {
    let log = fs::File::create(log)?;
    let child = Command::new("taskset")
        .args(["-c", cores, program])
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    child
        .map(Running)
        .with_context(|| format!("cannot start {program}"))
}

impl Running {
    /// What it and its children have used so far.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut sum = Cpu::default();
        for process in Process::new(self.0.id()).family() {
            let cpu = process.cpu();
            sum.user += cpu.user;
            sum.system += cpu.system;
        }
        sum
    }

    /// What it and its children have.
    pub(crate) fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        for process in Process::new(self.0.id()).family() {
            let memory = process.memory();
            sum.now += memory.now;
            sum.peak += memory.peak;
        }
        sum
    }

    pub(crate) fn signal(&self, name: &str) {
        // The shell's own, because an image that only compiles has no program of that name.
        let kill = [
            "-c",
            "kill -s \"$1\" \"$0\"",
            &self.0.id().to_string(),
            name,
        ];
        drop(Command::new("sh").args(kill).status());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Asks it to end, and waits; whether it has. Where it is killed nginx leaves its workers behind, and Bursar no
    /// profile of what it did.
    pub(crate) fn end(&mut self) -> bool {
        if !self.has_ended() {
            self.signal("TERM");
        }
        let since = Instant::now();
        while !self.has_ended() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.has_ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.end() {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// The first two of the cores that this program may run on; where there is one, that one twice.
pub(crate) fn two_cores() -> anyhow::Result<[u32; 2]> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.unwrap_or_default().trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Ok(first.parse()?..=last.parse()?)
    });
    let ranges = ranges.collect::<anyhow::Result<Vec<std::ops::RangeInclusive<u32>>>>()?;
    let mut cores = ranges.into_iter().flatten();
    let first = cores.next().context("no core may be used")?;
    Ok([first, cores.next().unwrap_or(first)])
}

/// What a core did so far, all processes together, in microseconds.
pub(crate) fn busy(core: u32) -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix(&name))
        .unwrap_or("");
    let ticks: Vec<f64> = line
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let at = |at: usize| ticks.get(at).copied().unwrap_or(0.0);
    (at(0) + at(1) + at(2) + at(5) + at(6) + at(7)) * TICK_US
}

/// A process that is talked to line by line.
pub(crate) struct Talker {
    _running: Running,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Talker {
    pub(crate) fn start(cores: &str, program: &str, args: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", cores, program])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("standard output is piped")?;
        Ok(Self {
            stdin,
            stdout: BufReader::new(stdout),
            _running: Running(child),
        })
    }

    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "the load generator ended early");
        Ok(line)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // That is how it is told to end.
        self.stdin.take();
    }
}
