//! From the file's `journal` to a [`Journal`].

use std::io;
use std::path::Path;

use super::value::{MIB, positive};
use crate::defaults::journal as defaults;
use crate::diagnostic::Diagnostics;
use crate::file::{self, Size};
use crate::journal::Journal;
use bursar_base::disk::Disk;
use bursar_base::regular_file;

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
    match why_no_directory(&path) {
        Some(why) => problems.add("journal.path", why),
        None => warn_of_small_disk(&path, max_size as u64, problems),
    }
    Some(Journal {
        path,
        sync: file.sync.unwrap_or(defaults::SYNC),
        max_size,
        keep,
        on_failure: file.on_failure.unwrap_or_default(),
    })
}

/// What else is at a path where a directory is to be, or to be made. What the system does not say is left to the start.
fn why_no_directory(path: &Path) -> Option<&'static str> {
    for (depth, place) in path.ancestors().enumerate() {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match regular_file::metadata(place) {
            Ok(found) if found.is_dir() => return None,
            Ok(_) if depth == 0 => return Some("is a file, and must be a directory"),
            Ok(_) => return Some("is below a file, and must be a directory"),
            Err(regular_file::Error::System(error)) if is_missing(&error) => {
                match (place.is_symlink(), depth) {
                    (false, _) => {}
                    (true, 0) => return Some("is a symbolic link that leads nowhere"),
                    (true, _) => return Some("is below a symbolic link that leads nowhere"),
                }
            }
            // Of what is below a file the system says that this is no directory.
            Err(regular_file::Error::System(error))
                if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(_) => return None,
        }
    }
    None
}

/// What is there already is not asked for again.
fn warn_of_small_disk(path: &Path, max_size: u64, problems: &mut Diagnostics) {
    let Some(Disk { total, free }) = Disk::of(path) else {
        return;
    };
    let mib = |bytes: u64| bytes / MIB as u64;
    let database = path.join("journal.sqlite");
    let taken = regular_file::metadata(&database).map_or(0, |found| found.len());
    if max_size > total {
        let message = format!("is more than its whole disk has, {} MiB", mib(total));
        problems.warn("journal.max_size", message);
    } else if max_size > free.saturating_add(taken) {
        let message = format!("is more than its disk has left, {} MiB", mib(free));
        problems.warn("journal.max_size", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_directory_can_be_made_the_path_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("made")).unwrap();
        for (link, to) in [("nowhere", "missing/x"), ("linked", "made")] {
            std::os::unix::fs::symlink(at(to), at(link)).unwrap();
        }
        for (name, expected) in [
            ("file", Some("is a file")),
            ("file/below", Some("is below a file")),
            ("file/below/it", Some("is below a file")),
            ("nowhere", Some("is a symbolic link that leads nowhere")),
            ("nowhere/below", Some("is below a symbolic link")),
            ("made", None),
            ("linked", None),
            ("linked/new", None),
            ("new/and/new", None),
        ] {
            let file = file::Journal {
                path: Some(name.to_owned()),
                ..file::Journal::default()
            };
            let mut problems = Diagnostics::default();
            compile(Some(file), directory.path(), &mut problems);
            let found = problems.into_found();
            let [problem] = &found[..] else {
                assert_eq!(expected, None, "{name}: {found:?}");
                continue;
            };
            assert_eq!(problem.path, "journal.path");
            assert!(
                problem.message.starts_with(expected.unwrap()),
                "{name}: {problem}"
            );
        }
    }
}
