//! A watch over the room for the journal's files: looked at after each transaction and each second; said once each time
//! that it gets worse.

use std::time::Duration;

use tokio::time::Instant;

use super::files::{Files, Length, PAGE_BYTES, USUAL_LOG};
use super::reserve::Room;
use bursar_telemetry::metrics::JournalSeries;

/// How long nothing could be written until the log is made to begin anew, which may be all the room there is.
pub(super) const RECOVER_AFTER: Duration = Duration::from_secs(3);

/// What was seen last.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) files: Files,
    series: JournalSeries,
    /// Of the log.
    pub(super) length: Length,
    /// Bytes of the log when it was last warned of; 0: it is short since.
    warned: u64,
    is_disk_short: bool,
    full_since: Option<Instant>,
    /// How long the log is to get.
    usual_log: u64,
}

impl Watch {
    pub(super) fn new(files: Files, series: JournalSeries) -> Self {
        series.max_bytes.set(gauge(files.max_bytes()));
        Self {
            files,
            series,
            length: Length::Usual,
            warned: 0,
            is_disk_short: false,
            full_since: None,
            usual_log: USUAL_LOG,
        }
    }

    /// How many pages the log is to have before they are written to the database.
    pub(super) fn checkpoint_pages(&self) -> u64 {
        self.usual_log / PAGE_BYTES as u64
    }

    /// Whether the disk was full, and has no room yet.
    pub(super) fn is_disk_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Whether it is for a moment only yet. Then nothing is forgotten for that, because room may come back.
    pub(super) fn is_disk_full_since_now(&self) -> bool {
        self.full_since
            .is_some_and(|since| since.elapsed() < RECOVER_AFTER)
    }

    /// The disk is full: no file becomes longer, and the log has to begin anew while it has room.
    pub(super) fn disk_is_full(&mut self) -> Room {
        self.full_since.get_or_insert_with(Instant::now);
        self.usual_log = self.usual_log.min(self.files.log_on_disk() / 2);
        Room {
            left: 0,
            may_grow: !self.is_disk_full_since_now(),
            usual_log: self.usual_log,
        }
    }

    /// Looks at the log. It is long only while others do not let it begin anew.
    pub(super) fn log(&mut self) {
        let bytes = self.files.log();
        let length = self.files.judge(bytes);
        let most = self.files.max_log();
        let is_worse = bytes / 2 >= self.warned || length > self.length;
        match length {
            Length::Usual | Length::Long => {
                if std::mem::take(&mut self.warned) > 0 {
                    tracing::info!(bytes, "journal: its log is short again");
                }
            }
            Length::Warn if is_worse => {
                self.warned = bytes;
                tracing::warn!(
                    bytes,
                    most,
                    processes = self.files.users(),
                    "journal: its log grows, because another process has been reading the journal for long; have it end that"
                );
            }
            Length::Full if is_worse => {
                self.warned = bytes;
                tracing::error!(
                    bytes,
                    most,
                    processes = self.files.users(),
                    "journal: its log has reached its limit, because another process has been reading the journal for long; \
                     until it ends that, no request that moves money is written down"
                );
            }
            Length::Warn | Length::Full => {}
        }
        self.length = length;
    }

    /// Looks at all files, and at their disk: what room there is. None: the system does not say.
    pub(super) fn disk(&mut self) -> Option<Room> {
        self.series.bytes.set(gauge(self.files.bytes()));
        let disk = self.files.disk()?;
        let (free, may_need) = (disk.free, self.files.may_need());
        self.series.disk_free.set(gauge(free));
        // One that is at the edge is warned of once.
        let enough = may_need + may_need / 4 * u64::from(self.is_disk_short);
        let is_short = free < enough;
        if is_short && !self.is_disk_short {
            tracing::warn!(
                free,
                may_need,
                "journal: there is less room on its disk than `max_size` says; settled requests are forgotten early, \
                 and where there are none, requests that move money are refused"
            );
        }
        if !is_short && self.is_disk_short {
            tracing::info!(free, "journal: there is enough room on its disk again");
        }
        self.is_disk_short = is_short;
        let left = Files::left_on(disk);
        let usual_log = Files::usual_log(disk);
        if left > 0 {
            self.usual_log = usual_log;
            self.full_since = None;
        } else if free < PAGE_BYTES as u64 {
            self.full_since.get_or_insert_with(Instant::now);
        }
        Some(Room {
            left,
            may_grow: !self.is_disk_full_since_now(),
            usual_log,
        })
    }
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
