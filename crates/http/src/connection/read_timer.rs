//! Read timer: how long a caller has kept a head waiting. Between requests and inside of a head the limits differ, which
//! hyper's one timer cannot say. And a wait between requests that may take a while is a rest.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::deadline_timer::DeadlineTimer;
use crate::framing::{Awaits, Framing};
use bursar_telemetry::metrics::Limit;

/// Idle time before a recently busy connection frees its buffers; any other one frees them at once. That is
/// no more work than the other way round, and many that are opened together do not need their buffers together.
const REST_AFTER: Duration = Duration::from_secs(1);

/// How long a caller may take over HTTP/1.
#[derive(Debug, Clone, Copy)]
pub struct ReadTimeouts {
    /// To begin a request.
    pub idle: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
}

/// A connection's waits for its heads, one after the other.
#[derive(Debug, Default)]
pub(super) struct ReadTimer {
    /// Since when what is waited for, and by how many heads it was preceded.
    since: Option<(Instant, Awaits, u64)>,
    timer: DeadlineTimer,
    /// Whether a request came within [`REST_AFTER`] of the one before it, so that the next one may be near, too.
    is_busy: bool,
    may_rest: bool,
}

impl ReadTimer {
    /// Ready when the caller has taken too long. `requests` were taken so far.
    pub(super) fn poll_over(
        &mut self,
        context: &mut Context<'_>,
        framing: &Framing,
        timeouts: ReadTimeouts,
        requests: u64,
    ) -> Poll<Limit> {
        let ReadTimeouts { idle, head } = timeouts;
        let awaits = framing.awaits();
        let (timeout, limit) = match awaits {
            Awaits::Request => (idle, Limit::IdleTimeout),
            Awaits::Head => (head, Limit::HeadTimeout),
            Awaits::Body | Awaits::Nothing => return Poll::Pending,
        };
        let heads = framing.heads();
        let since = match self.since {
            Some((since, what, when)) if (what, when) == (awaits, heads) => since,
            before => {
                let now = Instant::now();
                self.is_busy = before.is_some_and(|(before, ..)| now < before + REST_AFTER);
                now
            }
        };
        self.since = Some((since, awaits, heads));
        // hyper asks for a head when it has taken all before it, and their answers are ready to be written.
        let is_candidate = !self.may_rest && framing.is_between() && heads == requests;
        if is_candidate && !self.is_busy {
            self.may_rest = true;
            // Polled again, hyper flushes, which shows that nothing is left to be written.
            context.waker().wake_by_ref();
        }
        let first = match is_candidate && self.is_busy {
            true => timeout.min(REST_AFTER),
            false => timeout,
        };
        let mut deadline = since + first;
        let mut timer = self.timer.by(deadline);
        loop {
            ready!(timer.as_mut().poll(context));
            let waited = since.elapsed();
            if waited >= timeout {
                return Poll::Ready(limit);
            }
            if waited >= first {
                self.may_rest = true;
                deadline = since + timeout;
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// Whether nothing of the next request has come, and none is expected soon.
    pub(super) fn may_rest(&self) -> bool {
        self.may_rest
    }

    /// Something has come, or is about to happen. Whether it was a rest.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(&mut self.may_rest)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const TIMEOUTS: ReadTimeouts = ReadTimeouts {
        idle: Duration::from_secs(10),
        head: Duration::from_secs(10),
    };

    /// One poll; whether it is a rest.
    async fn rests(waiting: &mut ReadTimer, framing: &Framing, requests: u64) -> bool {
        let poll = |context: &mut Context<'_>| {
            Poll::Ready(waiting.poll_over(context, framing, TIMEOUTS, requests))
        };
        assert!(poll_fn(poll).await.is_pending());
        waiting.may_rest()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_at_once_or_a_second_after_requests_that_came_together() {
        let (mut waiting, mut framing) = (ReadTimer::default(), Framing::new());
        assert!(rests(&mut waiting, &framing, 0).await);
        assert!(waiting.end());
        for requests in 1..4 {
            framing.read(GET).unwrap();
            assert!(!rests(&mut waiting, &framing, requests).await);
        }
        tokio::time::sleep(REST_AFTER * 2).await;
        assert!(rests(&mut waiting, &framing, 3).await);
        waiting.end();
        framing.read(GET).unwrap();
        assert!(rests(&mut waiting, &framing, 4).await);
        let over = poll_fn(|context| waiting.poll_over(context, &framing, TIMEOUTS, 4)).await;
        assert_eq!(over, Limit::IdleTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_byte_of_a_request_or_one_that_was_not_taken_it_does_not_rest() {
        for bytes in [&b"\r"[..], b"G", b"GET / HTTP/1.1\r\n", GET] {
            let (mut waiting, mut framing) = (ReadTimer::default(), Framing::new());
            framing.read(bytes).unwrap();
            assert!(!rests(&mut waiting, &framing, 0).await);
            tokio::time::sleep(REST_AFTER * 2).await;
            assert!(!rests(&mut waiting, &framing, 0).await, "{bytes:?}");
        }
    }
}
