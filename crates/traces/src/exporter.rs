//! The exporter: one task that sends spans in batches, tries again where the receiver says so, and gives up in time.
//!
//! One batch is under way at a time; meanwhile the queue fills. A pause that the receiver asks for, or that its failures
//! call for, holds for the batches after it as well. What is given up is counted, and told to the log once a minute.

mod client;
mod reply;
mod retry_after;

use std::time::Duration;

use bytes::Bytes;
use prometheus::IntCounter;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::otlp::{ResourceAttributes, encode};
use crate::span::Span;
use bursar_base::log_throttle::LogThrottle;
pub(crate) use client::Client;
use client::Transport;
use reply::Outcome;

/// How long a batch is waited for.
const GATHER: Duration = Duration::from_secs(1);
/// Spans of one batch; each has less than 8 KiB.
const MAX_BATCH: usize = 512;
/// How often one batch is sent.
const MAX_TRIES: u32 = 5;
/// A batch that cannot be sent again by then is given up.
const MAX_AGE: Duration = Duration::from_secs(60);
/// The first pause after a failure; each is twice as long as the one before, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A receiver that asks for a longer pause is asked after this one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// The task.
#[derive(Debug)]
pub(crate) struct Exporter<T> {
    pub(crate) spans: mpsc::Receiver<Span>,
    pub(crate) ending: watch::Receiver<bool>,
    pub(crate) transport: T,
    pub(crate) resource: ResourceAttributes,
    pub(crate) dropped: IntCounter,
    /// As the log has it.
    pub(crate) endpoint: String,
}

/// What is known of the receiver.
#[derive(Debug, Default)]
struct Pace {
    /// Failures in a row.
    failures: u32,
    /// Nothing is sent before. None: at any time.
    pause_until: Option<Instant>,
    log: LogThrottle,
}

impl Pace {
    /// The receiver fails, or has enough, and asks for that pause.
    fn slow_down(&mut self, asked: Option<Duration>, now: Instant) {
        let backoff = BACKOFF.saturating_mul(1 << self.failures.min(10));
        // Instances that have failed together do not come back together.
        let own = || {
            backoff
                .min(MAX_BACKOFF)
                .mul_f64(0.5 + fastrand::f64() / 2.0)
        };
        // Whoever asks for no pause and has failed all the same is given one.
        let asked = asked.filter(|asked| !asked.is_zero());
        let pause = asked.map_or_else(own, |asked| asked.min(MAX_RETRY_AFTER));
        self.failures = self.failures.saturating_add(1);
        self.pause_until = Some(now + pause);
    }

    fn go_on(&mut self) {
        self.failures = 0;
        self.pause_until = None;
    }
}

/// Done once this is the end of the process; a tracer that is gone is not.
async fn ended(ending: &mut watch::Receiver<bool>) {
    if ending.wait_for(|is_ending| *is_ending).await.is_err() {
        std::future::pending().await
    }
}

impl<T: Transport> Exporter<T> {
    /// Until nobody can have spans any more, or the process ends.
    pub(crate) async fn run(mut self) {
        let mut pace = Pace::default();
        while let Some(batch) = self.next_batch().await {
            let count = batch.len();
            let body = encode(&self.resource, batch);
            self.export(body, count, &mut pace).await;
        }
    }

    /// The next spans, or None where there will be none.
    async fn next_batch(&mut self) -> Option<Vec<Span>> {
        let first = tokio::select! {
            biased;
            first = self.spans.recv() => first?,
            () = ended(&mut self.ending) => self.spans.try_recv().ok()?,
        };
        let mut batch = vec![first];
        let deadline = Instant::now() + GATHER;
        while batch.len() < MAX_BATCH {
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                biased;
                count = self.spans.recv_many(&mut batch, room) => if count == 0 {
                    break;
                },
                () = ended(&mut self.ending) => break,
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        Some(batch)
    }

    /// Sends a batch until it is taken, refused or given up.
    async fn export(&mut self, body: Bytes, count: usize, pace: &mut Pace) {
        let began = Instant::now();
        for tried in 1.. {
            if !self.wait(began, pace).await {
                return self.lose(count, "the receiver is not ready", pace);
            }
            let sent = self.transport.send(body.clone()).await;
            match reply::read(sent) {
                Outcome::Taken => return pace.go_on(),
                Outcome::TakenBut { rejected, message } => {
                    pace.go_on();
                    let rejected = usize::try_from(rejected).unwrap_or(count).min(count);
                    return self.lose(rejected, &message, pace);
                }
                Outcome::Refused(why) => {
                    pace.go_on();
                    return self.lose(count, &why, pace);
                }
                Outcome::Later { why, after } => {
                    pace.slow_down(after, Instant::now());
                    if tried >= MAX_TRIES || *self.ending.borrow() {
                        return self.lose(count, &why, pace);
                    }
                }
            }
        }
    }

    /// Waits until the receiver may be asked. False: that is too late for a batch of this age.
    async fn wait(&mut self, began: Instant, pace: &Pace) -> bool {
        let Some(until) = pace.pause_until else {
            return true;
        };
        if until > began + MAX_AGE {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => true,
            () = ended(&mut self.ending) => Instant::now() >= until,
        }
    }

    fn lose(&self, count: usize, why: &str, pace: &mut Pace) {
        self.dropped.inc_by(count as u64);
        if let Some(batches) = pace.log.due(Instant::now()) {
            tracing::warn!(endpoint = %self.endpoint, spans = count, batches, why, "spans were not exported");
        }
    }
}

#[cfg(test)]
mod tests;
