//! How do access lines get out? Gathered in memory and written in one piece by a thread of their own.
//!
//! A line for each request, each with a system call and a thread to wake, cost more than anything else
//! that Bursar does for a request. The price of gathering: a line is seen up to [`GATHER`] later, and a
//! process that is killed takes those last lines along.
//!
//! Requests append under a mutex that is held to copy a line; the thread swaps the full buffer for an
//! empty one under it and writes without it. It sleeps while there is nothing, and the next line wakes it.

use std::io::Write;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the thread waits for further lines.
const GATHER: Duration = Duration::from_millis(50);
/// It waits no longer when so much has come.
const ENOUGH_BYTES: usize = 128 * 1024;
/// Bytes that wait for the reader of the log; lines beyond are dropped and counted.
const MAX_BYTES: usize = 16 << 20;
/// How long the end waits for a reader of the log that does not read.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Where lines are put.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Shared>);

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub struct Writing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    /// Bytes came, enough came, or it is over.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    dropped: u64,
    /// The thread waits for the first line, for as long as that takes.
    is_asleep: bool,
    /// No more lines come.
    is_over: bool,
    /// All of them are written.
    has_ended: bool,
}

impl Shared {
    /// A panic while it was held leaves whole lines.
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> (Self, Writing) {
        let shared = Arc::new(Shared::default());
        let writing = shared.clone();
        // Without the thread nothing would be logged; then the lines stay in their bounded buffer.
        drop(
            std::thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || write(&writing, out)),
        );
        (Self(shared.clone()), Writing(shared))
    }

    /// Puts a line there; never waits for whoever reads.
    pub(super) fn put(&self, line: &[u8]) {
        let mut gathered = self.0.gathered();
        let before = gathered.bytes.len();
        if before + line.len() > MAX_BYTES {
            gathered.dropped += 1;
            return;
        }
        gathered.bytes.extend_from_slice(line);
        let is_enough = before < ENOUGH_BYTES && gathered.bytes.len() >= ENOUGH_BYTES;
        let is_news = mem::take(&mut gathered.is_asleep) || is_enough;
        drop(gathered);
        if is_news {
            self.0.news.notify_all();
        }
    }
}

impl Writing {
    /// Lines that were dropped, because the log was not read fast enough.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.gathered().dropped
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut gathered = self.0.gathered();
        gathered.is_over = true;
        self.0.news.notify_all();
        let is_busy = |gathered: &mut Gathered| !gathered.has_ended;
        let waited = self
            .0
            .news
            .wait_timeout_while(gathered, LAST_WRITE, is_busy);
        drop(waited);
    }
}

/// Until it is over and everything is written.
fn write(shared: &Shared, mut out: impl Write) {
    let mut bytes = Vec::new();
    loop {
        let mut gathered = shared.gathered();
        if gathered.bytes.is_empty() && !gathered.is_over {
            gathered.is_asleep = true;
            let is_idle = |gathered: &mut Gathered| gathered.is_asleep && !gathered.is_over;
            let woken = shared.news.wait_while(gathered, is_idle);
            gathered = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let is_little =
            |gathered: &mut Gathered| gathered.bytes.len() < ENOUGH_BYTES && !gathered.is_over;
        let gathered = shared.news.wait_timeout_while(gathered, GATHER, is_little);
        let (mut gathered, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut gathered.bytes, &mut bytes);
        let is_over = gathered.is_over;
        drop(gathered);
        // Nobody is left to be told that the log cannot be written.
        drop(out.write_all(&bytes).and_then(|()| out.flush()));
        bytes.clear();
        // What a burst has needed is not kept for ever.
        bytes.shrink_to(2 * ENOUGH_BYTES);
        let mut gathered = shared.gathered();
        if is_over && gathered.bytes.is_empty() {
            gathered.has_ended = true;
            shared.news.notify_all();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Hands over what is written, and waits where it is told to.
    struct Out {
        written: Sender<Vec<u8>>,
        go_on: Option<Receiver<()>>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if let Some(go_on) = &self.go_on {
                let _went_on = go_on.recv();
            }
            drop(self.written.send(bytes.to_vec()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_once_and_in_order() {
        let (written, read) = channel();
        let (lines, writing) = Lines::start(Out {
            written,
            go_on: None,
        });
        let expected: String = (0..10_000).map(|number| format!("{number}\n")).collect();
        for number in 0..10_000 {
            lines.put(format!("{number}\n").as_bytes());
        }
        drop(writing);
        let all: Vec<u8> = read.iter().flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }

    #[test]
    fn a_line_comes_out_without_another_one() {
        let (written, read) = channel();
        let (lines, _writing) = Lines::start(Out {
            written,
            go_on: None,
        });
        for line in ["one\n", "two\n"] {
            lines.put(line.as_bytes());
            let came = read.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(came, line.as_bytes());
        }
    }

    #[test]
    fn a_log_that_nobody_reads_takes_bounded_memory_and_holds_nothing_up() {
        let (written, read) = channel();
        let (go_on, waiting) = channel();
        let (lines, writing) = Lines::start(Out {
            written,
            go_on: Some(waiting),
        });
        let line = [b'x'; 64 * 1024];
        for _ in 0..1000 {
            lines.put(&line);
        }
        assert!(writing.dropped() > 0);
        assert!(lines.0.gathered().bytes.len() <= MAX_BYTES);
        drop(go_on);
        drop(writing);
        let bytes: usize = read.iter().map(|piece| piece.len()).sum();
        assert_eq!(bytes % line.len(), 0, "only whole lines are dropped");
    }
}
