//! Sinks that take lines whole: a file; a pipe or a socket where they come in small pieces.
//!
//! Others may write to the same pipe, and whoever shares it may have made it one that does not block, at any time.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::ioctl_fionread;
use rustix::pipe::fcntl_getpipe_size;

/// A pipe takes so much whole or not at all (POSIX: at least 512; Linux: 4,096).
const PIPE_BYTES: usize = 4096;
/// To a file, in one piece.
const FILE_BYTES: usize = 128 * 1024;

/// How standard error, or what stands for it, takes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// It takes all of them, or it is full.
    File,
    /// Standard error is a pipe.
    Pipe,
    /// A socket, a terminal, or in a test.
    Other,
}

/// Whether a piece is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Now.
    Go,
    /// It might be taken in part.
    Wait,
}

impl Sink {
    /// Nothing is known of it.
    pub(super) const UNKNOWN: Self = Self::Other;

    pub(super) fn of_standard_error() -> Self {
        let kind = fstat(io::stderr()).map(|found| FileType::from_raw_mode(found.st_mode));
        match kind {
            Ok(FileType::RegularFile) => Self::File,
            Ok(FileType::Fifo) => Self::Pipe,
            _ => Self::Other,
        }
    }

    /// How many bytes go in one piece, unless a line is longer.
    pub(super) fn piece_bytes(self) -> usize {
        match self {
            Self::File => FILE_BYTES,
            Self::Pipe | Self::Other => PIPE_BYTES,
        }
    }

    /// Whether a piece of that many bytes that begins with a line goes whole. What is longer than [`PIPE_BYTES`] waits for
    /// room where it does not block, or where the process is about to end and cannot wait for the rest.
    pub(super) fn fit(self, bytes: usize, is_ending: bool) -> Fit {
        let is_sure = self != Self::Pipe || bytes <= PIPE_BYTES;
        match is_sure || pipe_takes(io::stderr(), bytes, is_ending) {
            true => Fit::Go,
            false => Fit::Wait,
        }
    }
}

fn pipe_takes(pipe: impl std::os::fd::AsFd, bytes: usize, is_ending: bool) -> bool {
    let is_blocking = fcntl_getfl(&pipe).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK));
    if is_blocking && !is_ending {
        return true;
    }
    let mut asked = [PollFd::new(&pipe, PollFlags::OUT)];
    let now = Timespec::default();
    let is_broken =
        poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().contains(PollFlags::ERR);
    let (Ok(unread), Ok(size)) = (ioctl_fionread(&pipe), fcntl_getpipe_size(&pipe)) else {
        return true;
    };
    // Its pages are half full at least, except the first one and the last one.
    let taken = usize::try_from(unread).unwrap_or(size).saturating_mul(2);
    let fits = match unread {
        0 => bytes <= size,
        _ => taken + bytes + 2 * PIPE_BYTES <= size,
    };
    // Where it is too small for the line ever, the rest is waited for unless there is no time.
    is_broken || fits || (unread == 0 && !is_ending)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::fcntl_setfl;

    use super::*;

    #[test]
    fn a_long_line_waits_for_room_in_a_pipe_that_does_not_block_or_at_the_end() {
        let (reader, mut pipe) = io::pipe().unwrap();
        let takes = |pipe: &io::PipeWriter, is_ending| pipe_takes(pipe, 16_000, is_ending);
        assert!(takes(&pipe, false) && takes(&pipe, true));
        pipe.write_all(&[0; 40_000]).unwrap();
        assert!(takes(&pipe, false) && !takes(&pipe, true));
        fcntl_setfl(&pipe, fcntl_getfl(&pipe).unwrap() | OFlags::NONBLOCK).unwrap();
        assert!(!takes(&pipe, false));
        // Then writing says so.
        drop(reader);
        assert!(takes(&pipe, false));
    }

    #[test]
    fn a_line_that_a_pipe_never_takes_whole_is_begun_unless_the_process_ends() {
        let (_reader, pipe) = io::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
        fcntl_setfl(&pipe, fcntl_getfl(&pipe).unwrap() | OFlags::NONBLOCK).unwrap();
        assert!(pipe_takes(&pipe, 16_000, false) && !pipe_takes(&pipe, 16_000, true));
    }
}
