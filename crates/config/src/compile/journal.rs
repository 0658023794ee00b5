//! From the file's `journal` to a [`Journal`].

use std::path::Path;

use super::value::{MIB, positive};
use crate::defaults::journal as defaults;
use crate::diagnostic::Diagnostics;
use crate::file::{self, Size};
use crate::journal::Journal;
use bursar_base::disk::Disk;

/// Less holds too few requests to be of use.
const MIN_SIZE: usize = MIB;

pub(crate) fn compile(
    file: Option<file::Journal>,
    directory: &Path,
    problems: &mut Diagnostics,
) -> Option<Journal> {
    let file = file?;
    let keep = positive("journal.keep", file.keep, defaults::KEEP, problems);
    let max_size = file.max_size.map_or(defaults::MAX_SIZE, |Size(size)| size);
    if max_size < MIN_SIZE {
        problems.add("journal.max_size", "must be 1MiB or more");
    }
    let Some(path) = file.path.filter(|path| !path.is_empty()) else {
        problems.add(
            "journal.path",
            "is missing; name a directory, which is made where there is none",
        );
        return None;
    };
    let path = directory.join(path);
    warn_of_small_disk(&path, max_size as u64, problems);
    Some(Journal {
        path,
        sync: file.sync.unwrap_or(defaults::SYNC),
        max_size,
        keep,
        on_failure: file.on_failure.unwrap_or_default(),
    })
}

/// What is there already is not asked for again.
fn warn_of_small_disk(path: &Path, max_size: u64, problems: &mut Diagnostics) {
    let Some(Disk { total, free }) = Disk::of(path) else {
        return;
    };
    let mib = |bytes: u64| bytes / MIB as u64;
    let database = path.join("journal.sqlite");
    let taken = bursar_base::regular_file::metadata(&database).map_or(0, |found| found.len());
    if max_size > total {
        let message = format!("is more than its whole disk has, {} MiB", mib(total));
        problems.warn("journal.max_size", message);
    } else if max_size > free.saturating_add(taken) {
        let message = format!("is more than its disk has left, {} MiB", mib(free));
        problems.warn("journal.max_size", message);
    }
}
