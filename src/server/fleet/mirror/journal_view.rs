//! View of the journal beside its writer: which of its requests are not settled, and what of them was written elsewhere.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use bursar_fleet::Row;
use bursar_journal::{self as journal, MirrorRow, Phase, Reader, Unsettled};

/// What has been seen for so long is written at the latest a second after it began.
const UNDER_WAY: Duration = Duration::from_millis(750);
/// The store has no more rows of a journal.
const MAX_ROWS: usize = 10_000;

/// What the journal has, as it was looked at last.
pub(super) struct JournalView {
    directory: PathBuf,
    /// None: a look at the journal has failed.
    reader: Option<Reader>,
    unsettled: Vec<Unsettled>,
    unmirrored: u64,
    requests: HashMap<i64, Request>,
}

/// A request that is not settled.
#[derive(Debug, Clone, Copy)]
struct Request {
    first: Instant,
    /// What was written of it.
    written: Option<(Phase, bool)>,
}

/// The journal cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the journal cannot be read")]
    Journal(#[from] journal::Error),
    #[error("the thread that reads the journal has failed")]
    Thread(#[from] tokio::task::JoinError),
}

impl JournalView {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            reader: None,
            unsettled: Vec::new(),
            unmirrored: 0,
            requests: HashMap::new(),
        }
    }

    /// Looks at the journal.
    pub(super) async fn read(&mut self) -> Result<(), ReadError> {
        let look = |reader: &mut Reader| match reader.has_changed()? {
            true => reader.unsettled(MAX_ROWS).map(Some),
            false => Ok(None),
        };
        if let Some((unsettled, count)) = self.with_reader(look).await? {
            self.unmirrored = count.saturating_sub(unsettled.len() as u64);
            self.unsettled = unsettled;
        }
        Ok(())
    }

    async fn with_reader<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, journal::Error> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (directory, reader) = (self.directory.clone(), self.reader.take());
        let read = move || {
            let mut reader = match reader {
                Some(reader) => reader,
                None => Reader::open(&directory)?,
            };
            let found = read(&mut reader)?;
            Ok::<_, journal::Error>((reader, found))
        };
        let (reader, found) = tokio::task::spawn_blocking(read).await??;
        self.reader = Some(reader);
        Ok(found)
    }

    /// How many more there are than are written.
    pub(super) const fn unmirrored(&self) -> u64 {
        self.unmirrored
    }

    /// How many are written.
    pub(super) fn written(&self) -> u64 {
        let requests = self.requests.values();
        requests.filter(|seen| seen.written.is_some()).count() as u64
    }

    /// Nobody knows what is written.
    pub(super) fn forget_written(&mut self) {
        for seen in self.requests.values_mut() {
            seen.written = None;
        }
    }

    /// The requests that are to be written, and are not, or otherwise.
    pub(super) fn due(&mut self, ends: bool) -> Vec<Unsettled> {
        let now = Instant::now();
        let mut due = Vec::new();
        for one in &self.unsettled {
            let seen = self.requests.entry(one.number).or_insert(Request {
                first: now,
                written: None,
            });
            let is_wanted = ends || !one.is_open || now - seen.first >= UNDER_WAY;
            if is_wanted && seen.written != Some((one.phase, one.is_open)) {
                due.push(*one);
            }
        }
        due
    }

    /// The numbers of requests that are written and settled.
    pub(super) fn settled(&self) -> Vec<i64> {
        let unsettled = self.numbers();
        let written = self.requests.iter();
        let written = written.filter(|(_, seen)| seen.written.is_some());
        let settled = written.map(|(number, _)| *number);
        settled
            .filter(|number| !unsettled.contains(number))
            .collect()
    }

    /// What the journal has of these; those that are settled meanwhile are missing.
    pub(super) async fn rows(&mut self, due: &[Unsettled]) -> Result<Vec<Row>, ReadError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let due = due.to_vec();
        let read = move |reader: &mut Reader| {
            let mut rows = Vec::with_capacity(due.len());
            for one in due {
                if let Some(request) = reader.request(one.number)? {
                    let is_open = one.is_open;
                    let text = MirrorRow { is_open, request }.to_bytes();
                    rows.push(Row {
                        number: one.number,
                        text: Zeroizing::new(text),
                    });
                }
            }
            Ok(rows)
        };
        self.with_reader(read).await
    }

    /// These rows are written, of these requests, and what is settled is taken off.
    pub(super) fn wrote(&mut self, rows: &[Row], due: &[Unsettled]) {
        let unsettled = self.numbers();
        self.requests.retain(|number, _| unsettled.contains(number));
        let written: HashSet<i64> = rows.iter().map(|row| row.number).collect();
        for one in due.iter().filter(|one| written.contains(&one.number)) {
            if let Some(seen) = self.requests.get_mut(&one.number) {
                seen.written = Some((one.phase, one.is_open));
            }
        }
    }

    fn numbers(&self) -> HashSet<i64> {
        self.unsettled.iter().map(|one| one.number).collect()
    }
}
