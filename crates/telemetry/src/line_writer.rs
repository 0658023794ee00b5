//! The writer of log lines: gathered in memory and written in one piece by a thread of their own, each of them whole.
//!
//! A line for each request, each with a system call and a thread to wake, cost more than anything else
//! that Bursar does for a request. The price of gathering: a line is seen up to [`GATHER`] later, and a
//! process that is killed takes those last lines along. Lines that are not about requests do not wait.
//!
//! Requests append under a mutex that is held to copy a line; the thread swaps the full buffer for an
//! empty one under it and writes without it. It sleeps while there is nothing, and the next line wakes it.
//!
//! There is one thread, because two that write to one pipe would come into the middle of each other's lines. Whoever
//! shares the pipe may have made it one that does not block: lines go in pieces that it takes whole or not at all, what
//! does not go at once is tried again, and what is lost is lost in whole lines, and counted.

mod cut;
mod sink;

use std::io::{ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use cut::{MAX_LINE_BYTES, cut, cut_line};
use prometheus::IntCounter;
use sink::{Fit, Sink};

/// How long the thread waits for further lines.
const GATHER: Duration = Duration::from_millis(50);
/// It waits no longer when so much has come.
const ENOUGH_BYTES: usize = 128 * 1024;
/// Bytes that wait for the reader of the log; lines beyond are dropped and counted.
const MAX_BYTES: usize = 16 << 20;
/// Between two tries to write to what does not block, at first and at most.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(64));
/// How long the end waits for a reader of the log that does not read, and then once more for the end of a line.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Where lines are put.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Shared>);

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub struct Writing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    /// Bytes came, enough came, or it is over.
    news: Condvar,
    /// Says to the thread while it writes how near the end is.
    end: Arc<AtomicU8>,
}

/// Nothing is near.
const RUNNING: u8 = 0;
/// No line is begun that may not go whole at once.
const ENDING: u8 = 1;
/// No further line is begun.
const ENDED: u8 = 2;

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    dropped: u64,
    /// Where that is shown, once there is such a place.
    shown: Option<IntCounter>,
    /// Some of it is not to wait for more.
    is_urgent: bool,
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

impl Gathered {
    fn drop_lines(&mut self, count: u64) {
        self.dropped += count;
        if let Some(shown) = &self.shown {
            shown.inc_by(count);
        }
    }
}

impl Lines {
    /// Starts the thread that writes to standard error.
    #[must_use]
    pub fn to_standard_error() -> (Self, Writing) {
        Self::start_with(std::io::stderr(), Sink::of_standard_error())
    }

    /// Starts the thread that writes to `out`.
    #[must_use]
    pub fn start(out: impl Write + Send + 'static) -> (Self, Writing) {
        Self::start_with(out, Sink::UNKNOWN)
    }

    fn start_with(out: impl Write + Send + 'static, sink: Sink) -> (Self, Writing) {
        let shared = Arc::new(Shared::default());
        let writing = shared.clone();
        // Without the thread nothing would be logged; then the lines stay in their bounded buffer.
        drop(
            std::thread::Builder::new()
                .name("log".to_owned())
                .spawn(move || write(&writing, out, sink)),
        );
        (Self(shared.clone()), Writing(shared))
    }

    /// Puts a line there; never waits for whoever reads.
    pub fn put(&self, line: &[u8]) {
        self.add(line, false);
    }

    /// The same, and it is written at once.
    pub fn put_now(&self, line: &[u8]) {
        self.add(line, true);
    }

    /// Shows how many lines are lost, and those that were lost before.
    pub fn show_dropped(&self, counter: &IntCounter) {
        let mut gathered = self.0.gathered();
        counter.inc_by(gathered.dropped);
        gathered.shown = Some(counter.clone());
    }

    fn add(&self, line: &[u8], is_urgent: bool) {
        let mut gathered = self.0.gathered();
        let before = gathered.bytes.len();
        if before + line.len() > MAX_BYTES {
            gathered.drop_lines(1);
            return;
        }
        gathered.bytes.extend_from_slice(line);
        let is_enough = before < ENOUGH_BYTES && gathered.bytes.len() >= ENOUGH_BYTES;
        gathered.is_urgent |= is_urgent;
        let is_news = mem::take(&mut gathered.is_asleep) || is_enough || is_urgent;
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
        for end in [ENDING, ENDED] {
            self.0.end.store(end, Ordering::Relaxed);
            self.0.news.notify_all();
            let is_busy = |gathered: &mut Gathered| !gathered.has_ended;
            let waited = self
                .0
                .news
                .wait_timeout_while(gathered, LAST_WRITE, is_busy);
            (gathered, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Until it is over and everything is written.
fn write(shared: &Shared, out: impl Write, sink: Sink) {
    let mut out = Out {
        out,
        sink,
        begun: Vec::new(),
        end: shared.end.clone(),
    };
    let mut bytes = Vec::new();
    loop {
        let mut gathered = shared.gathered();
        if gathered.bytes.is_empty() && !gathered.is_over {
            gathered.is_asleep = true;
            let is_idle = |gathered: &mut Gathered| gathered.is_asleep && !gathered.is_over;
            let woken = shared.news.wait_while(gathered, is_idle);
            gathered = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let is_little = |gathered: &mut Gathered| {
            gathered.bytes.len() < ENOUGH_BYTES && !gathered.is_urgent && !gathered.is_over
        };
        let gathered = shared.news.wait_timeout_while(gathered, GATHER, is_little);
        let (mut gathered, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut gathered.bytes, &mut bytes);
        gathered.is_urgent = false;
        let is_over = gathered.is_over;
        drop(gathered);
        let lost = out.write_lines(&mut bytes);
        if lost > 0 {
            shared.gathered().drop_lines(lost);
        }
        bytes.clear();
        // What a burst has needed is not kept for ever.
        bytes.shrink_to(2 * ENOUGH_BYTES);
        let mut gathered = shared.gathered();
        let has_ended = shared.end.load(Ordering::Relaxed) == ENDED;
        if is_over && (gathered.bytes.is_empty() || has_ended) {
            gathered.has_ended = true;
            shared.news.notify_all();
            return;
        }
    }
}

/// What lines are written to.
struct Out<W> {
    out: W,
    sink: Sink,
    /// The rest of a line whose beginning was written before it went wrong; it goes first.
    begun: Vec<u8>,
    end: Arc<AtomicU8>,
}

impl<W: Write> Out<W> {
    /// Writes all of them, however long that takes. Where it goes wrong, how many were lost.
    fn write_lines(&mut self, lines: &mut Vec<u8>) -> u64 {
        let rest = self.begun.len();
        lines.splice(..0, self.begun.drain(..));
        let (mut written, mut pause) = (0, TRY_AGAIN.0);
        while let Some(left) = lines.get(written..).filter(|left| !left.is_empty()) {
            let end = self.end.load(Ordering::Relaxed);
            let is_at_line = match written {
                0 => rest == 0,
                _ => lines.get(written - 1) == Some(&b'\n'),
            };
            if end == ENDED && (written == 0 || is_at_line) {
                return self.lose(left, false);
            }
            let piece = piece(left, self.sink.piece_bytes());
            let fit = match is_at_line {
                true => self.sink.fit(piece.len(), end != RUNNING),
                false => Fit::Go,
            };
            let result = match fit {
                Fit::Go => self.out.write(piece),
                Fit::Wait => Err(ErrorKind::WouldBlock.into()),
            };
            match result {
                Ok(taken @ 1..) => {
                    written += taken;
                    pause = TRY_AGAIN.0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(TRY_AGAIN.1);
                }
                result => {
                    let is_read = !result.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe);
                    return self.lose(
                        lines.get(written..).unwrap_or_default(),
                        !is_at_line && is_read,
                    );
                }
            }
        }
        // Nobody is left to be told that the log cannot be written.
        drop(self.out.flush());
        0
    }

    /// How many lines are lost; the rest of one that was begun is kept where somebody may have its beginning.
    fn lose(&mut self, mut left: &[u8], is_begun: bool) -> u64 {
        if is_begun {
            let rest = first_line(left);
            self.begun.extend_from_slice(rest);
            left = left.get(rest.len()..).unwrap_or_default();
        }
        memchr::memchr_iter(b'\n', left).count() as u64
    }
}

/// As many whole lines as there are in that many bytes, or the first one.
fn piece(lines: &[u8], most: usize) -> &[u8] {
    let first = lines.get(..most).unwrap_or(lines);
    let whole = memchr::memrchr(b'\n', first).and_then(|end| lines.get(..=end));
    whole.unwrap_or_else(|| first_line(lines))
}

fn first_line(lines: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', lines);
    end.and_then(|end| lines.get(..=end)).unwrap_or(lines)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Hands over what is written, and waits where it is told to.
    struct HandOver {
        written: Sender<Vec<u8>>,
        go_on: Option<Receiver<()>>,
    }

    impl Write for HandOver {
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
        let (lines, writing) = Lines::start(HandOver {
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
        let (lines, _writing) = Lines::start(HandOver {
            written,
            go_on: None,
        });
        for line in ["one\n", "two\n"] {
            lines.put(line.as_bytes());
            let came = read.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(came, line.as_bytes());
        }
    }

    /// What does not block: takes so much each time, and every other time nothing.
    struct Narrow {
        widths: Vec<usize>,
        tries: usize,
        taken: Vec<Vec<u8>>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.tries += 1;
            if self.tries.is_multiple_of(2) {
                return Err(ErrorKind::WouldBlock.into());
            }
            let width = self.widths[self.tries / 2 % self.widths.len()];
            let taken = &bytes[..bytes.len().min(width)];
            self.taken.push(taken.to_vec());
            Ok(taken.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_go_at_once_goes_on_where_it_ended_and_then_in_whole_lines() {
        let lines: String = (0..400).map(|number| format!("{number:0>60}\n")).collect();
        for widths in [vec![7000], vec![1, 7000], vec![100, 4096, 33]] {
            let out = Narrow {
                widths,
                tries: 0,
                taken: Vec::new(),
            };
            let mut out = Out {
                out,
                begun: Vec::new(),
                sink: Sink::UNKNOWN,
                end: Arc::default(),
            };
            assert_eq!(out.write_lines(&mut lines.clone().into_bytes()), 0);
            let taken = out.out.taken;
            assert_eq!(String::from_utf8(taken.concat()).unwrap(), lines);
            // A pipe takes those whole or not at all, so nobody's line comes into the middle of one.
            assert!(taken.iter().all(|piece| piece.len() <= 4096));
        }
    }

    /// Fails when its bytes are used up, with that error.
    struct Failing(usize, ErrorKind, Vec<u8>);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(self.1.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            self.2.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn where_writing_fails_whole_lines_are_lost_and_counted_and_a_half_one_is_completed() {
        let written = |room, error| {
            let out = Failing(room, error, Vec::new());
            let mut out = Out {
                out,
                begun: Vec::new(),
                sink: Sink::UNKNOWN,
                end: Arc::default(),
            };
            let first = out.write_lines(&mut b"one\ntwo\nthree\n".to_vec());
            let again = out.write_lines(&mut b"four\n".to_vec());
            out.out.0 = 1000;
            let last = out.write_lines(&mut b"five\n".to_vec());
            (String::from_utf8(out.out.2).unwrap(), (first, again, last))
        };
        let full = ErrorKind::StorageFull;
        assert_eq!(written(0, full), ("five\n".to_owned(), (3, 1, 0)));
        assert_eq!(written(4, full), ("one\nfive\n".to_owned(), (2, 1, 0)));
        assert_eq!(written(6, full), ("one\ntwo\nfive\n".to_owned(), (1, 1, 0)));
        // Whoever reads from now on has not seen the beginning.
        let broken = written(6, ErrorKind::BrokenPipe);
        assert_eq!(broken, ("one\ntwfive\n".to_owned(), (2, 1, 0)));
    }

    #[test]
    fn lost_lines_are_shown_whenever_they_were_lost() {
        let (written, _read) = channel();
        let (go_on, waiting) = channel();
        let (lines, writing) = Lines::start(HandOver {
            written,
            go_on: Some(waiting),
        });
        let line = [b'x'; 64 * 1024];
        // More than the buffer holds twice: the thread may take one.
        let fill = || (0..1000).for_each(|_| lines.put(&line));
        fill();
        let before = writing.dropped();
        let counter = IntCounter::new("a", "b").unwrap();
        lines.show_dropped(&counter);
        assert!(before > 0 && counter.get() == before);
        fill();
        assert_eq!(counter.get(), writing.dropped());
        assert!(counter.get() > before);
        drop(go_on);
    }

    #[test]
    fn a_log_that_nobody_reads_takes_bounded_memory_and_holds_nothing_up() {
        let (written, read) = channel();
        let (go_on, waiting) = channel();
        let (lines, writing) = Lines::start(HandOver {
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
