//! The files that the configuration is made of: their paths, and what was in them when they were read.
//!
//! Contents are kept as digests. One is taken from the very bytes that are used, or before the file is
//! read by others: a file that changes in between is seen to have changed, and never missed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::file;
use crate::file_permissions;
use bursar_base::regular_file;

/// Neither the configuration nor a secret is longer; a wrong path to a log must not fill the memory.
pub(super) const MAX_TEXT_FILE_BYTES: u64 = 1 << 20;

/// No certificate or secret is longer; what comes after that is not looked at.
const MAX_BYTES: u64 = 16 << 20;

/// Files by path. What is no regular file, a pipe for example, cannot be read twice and never changes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Content>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// SHA-256.
    Digest([u8; 32]),
    Unreadable,
    NoFile,
}

/// Tells whether files may have changed, without reading them. Symbolic links are followed.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamps(Vec<Option<[i64; 6]>>);

impl Files {
    /// A file is about to be read, or was just read with that content; the first one counts.
    pub(super) fn record(&mut self, path: PathBuf, content: Option<&[u8]>) {
        self.0.entry(path).or_insert_with_key(|path| match content {
            Some(bytes) if is_file(path) => Content::of(bytes),
            _ => Content::read(regular_file::read(path, MAX_BYTES)),
        });
    }

    /// The same files as they are now. After one that is not read in time the others are not waited for.
    #[must_use]
    pub fn rescan(&self) -> Self {
        self.read_by(|path| regular_file::read(path, MAX_BYTES))
    }

    /// The same, and waits for as long as their file systems do, perhaps for ever.
    #[must_use]
    pub fn rescan_or_hang(&self) -> Self {
        self.read_by(|path| regular_file::read_or_hang(path, MAX_BYTES))
    }

    fn read_by(
        &self,
        read: impl Fn(&Path) -> Result<regular_file::Content, regular_file::Error>,
    ) -> Self {
        let mut hangs = false;
        let now = self.0.keys().map(|path| {
            let content = match hangs {
                true => Err(regular_file::Error::Hangs),
                false => read(path),
            };
            hangs |= matches!(content, Err(regular_file::Error::Hangs));
            (path.clone(), Content::read(content))
        });
        Self(now.collect())
    }

    /// These and further ones; what both have stays.
    #[must_use]
    pub fn with(mut self, further: Self) -> Self {
        for (path, content) in further.0 {
            self.0.entry(path).or_insert(content);
        }
        self
    }

    /// The paths of files whose content is another one there, or that only one of both has.
    #[must_use]
    pub fn changed(&self, now: &Self) -> Vec<String> {
        let mut paths: Vec<&PathBuf> = self.0.keys().chain(now.0.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let changed = paths
            .iter()
            .filter(|path| self.0.get(**path) != now.0.get(**path));
        changed.map(|path| path.display().to_string()).collect()
    }

    /// Those that were replaced where a mount goes on showing what was there before: nothing that is written there is
    /// seen here.
    pub(super) fn warn_of_replaced(&self) -> Vec<Diagnostic> {
        let paths = self.0.keys().cloned().collect();
        // What hangs is told of elsewhere.
        let replaced = regular_file::replaced_below_mounts(paths).unwrap_or_default();
        let warning = |path: PathBuf| Diagnostic {
            path: String::new(),
            line: None,
            message: format!(
                "{} was replaced, and what is mounted is the old one; mount its directory",
                path.display()
            ),
        };
        replaced.into_iter().map(warning).collect()
    }

    /// Cheaper to compare than contents. Waits for as long as their file systems do, perhaps for ever.
    #[must_use]
    pub fn stamps_or_hang(&self) -> Stamps {
        let stamp = |found: Metadata| {
            // Sizes and inodes are only compared.
            let [size, inode, device] =
                [found.size(), found.ino(), found.dev()].map(u64::cast_signed);
            [
                size,
                inode,
                device,
                found.ctime(),
                found.ctime_nsec(),
                found.mtime_nsec(),
            ]
        };
        let stamps = self.0.keys();
        Stamps(
            stamps
                .map(|path| std::fs::metadata(path).ok().map(stamp))
                .collect(),
        )
    }
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        let mut content = [0; 32];
        let digest = digest(&SHA256, bytes);
        content
            .iter_mut()
            .zip(digest.as_ref())
            .for_each(|(to, from)| *to = *from);
        Self::Digest(content)
    }

    fn read(read: Result<regular_file::Content, regular_file::Error>) -> Self {
        match read {
            Ok(bytes) => Self::of(&bytes),
            Err(regular_file::Error::Kind(_)) => Self::NoFile,
            Err(_) => Self::Unreadable,
        }
    }
}

fn is_file(path: &Path) -> bool {
    regular_file::metadata(path).is_ok_and(|found| found.is_file())
}

/// Notes the files that a configuration names by their paths, before others read them. None where one of them is not
/// read in time: whoever reads it would wait, too.
pub(super) fn note_named(
    file: &file::Proxy,
    directory: &Path,
    files: &mut Files,
    problems: &mut Diagnostics,
) -> Option<()> {
    for (key, name) in named(file) {
        let path = directory.join(name);
        match regular_file::read(&path, MAX_BYTES) {
            Ok(bytes) => files.record(path.clone(), Some(&bytes)),
            Err(error @ regular_file::Error::Hangs) => {
                problems.add(&key, error);
                return None;
            }
            Err(_) => files.record(path.clone(), None),
        }
        if key.ends_with("tls.key") && file_permissions::is_open(&path) {
            problems.warn(&key, file_permissions::OPEN_FILE);
        }
    }
    Some(())
}

/// Those files, by their keys.
fn named(file: &file::Proxy) -> impl Iterator<Item = (String, &str)> {
    let listen = file.tls.iter().flat_map(|tls| {
        [
            ("tls.certificate", &tls.certificate),
            ("tls.key", &tls.key),
            ("tls.client_ca", &tls.client_ca),
        ]
    });
    let intercept = file.intercept.iter();
    let authority = intercept.filter_map(|intercept| intercept.ca.as_ref());
    let authority = authority.flat_map(|ca| {
        [
            ("intercept.ca.certificate", &ca.certificate),
            ("intercept.ca.key", &ca.key),
        ]
    });
    let store = file
        .fleet
        .iter()
        .map(|fleet| ("fleet.tls.ca", &fleet.tls.ca));
    let own = listen.chain(authority).chain(store);
    let own = own.map(|(key, name)| (key.to_owned(), name));
    let providers = file.providers.iter().flat_map(|(provider, file)| {
        let tls = &file.tls;
        let names = [
            ("ca", &tls.ca),
            ("certificate", &tls.certificate),
            ("key", &tls.key),
        ];
        names.map(|(key, name)| (format!("providers.{provider}.tls.{key}"), name))
    });
    let all = own.chain(providers);
    all.filter_map(|(key, name)| Some((key, name.as_deref()?)))
}

/// Without digests: a weak secret could be found by them.
impl fmt::Debug for Files {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_noticed_through_a_swapped_link_and_a_touched_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, content) in [("1", "old"), ("2", "new"), ("3", "new")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("secret"), content).unwrap();
        }
        let swap = |version: &str| {
            std::os::unix::fs::symlink(version, at("next")).unwrap();
            std::fs::rename(at("next"), at("..data")).unwrap();
        };
        swap("1");
        std::os::unix::fs::symlink("..data/secret", at("secret")).unwrap();
        let mut files = Files::default();
        files.record(at("secret"), Some(b"old"));
        let stamps = files.stamps_or_hang();
        assert!(files.rescan() == files && files.stamps_or_hang() == stamps);
        swap("2");
        let changed = files.rescan();
        assert!(changed != files && files.stamps_or_hang() != stamps);
        let stamps = files.stamps_or_hang();
        swap("3");
        assert!(files.rescan() == changed && files.stamps_or_hang() != stamps);
        std::fs::remove_file(at("secret")).unwrap();
        assert!(files.rescan() != changed);
    }

    #[test]
    fn after_a_file_that_hangs_the_others_are_not_waited_for_and_are_seen_to_change_later() {
        let mut files = Files::default();
        for name in ["/a", "/b", "/c"] {
            files.record(name.into(), None);
        }
        let read = std::cell::Cell::new(0);
        let now = files.read_by(|path| {
            read.set(read.get() + 1);
            match path == Path::new("/b") {
                true => Err(regular_file::Error::Hangs),
                false => Ok(regular_file::Content::default()),
            }
        });
        assert_eq!(read.get(), 2);
        let later = files.read_by(|_| Ok(regular_file::Content::default()));
        assert!(now != later && now.0.get(Path::new("/a")) == later.0.get(Path::new("/a")));
    }

    #[test]
    fn a_pipe_never_changes_and_nothing_shows_a_digest() {
        let mut files = Files::default();
        files.record("/dev/null".into(), Some(b"read once"));
        assert!(files.rescan() == files);
        assert_eq!(format!("{files:?}"), "{\"/dev/null\"}");
    }
}
