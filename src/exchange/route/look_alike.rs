//! Look-alikes: paths that some server takes for one another, although no reading of the one is the other.
//!
//! They are parts of the path, so nothing is copied.

use super::protection::SCRIPT;

/// Of a path, so many scripts are looked at, and so many suffixes of its last name: none has more for an honest reason.
const MAX: usize = 4;

/// The path itself, and what is left of it without a script before it (`/index.php/refund`) and a suffix behind it
/// (`/refund.json`), each alone and both.
pub(super) fn look_alikes(path: &str) -> impl Iterator<Item = &str> {
    let scripts = path
        .bytes()
        .any(|byte| byte == b'.')
        .then(|| below_scripts(path));
    let paths = std::iter::once(path).chain(scripts.into_iter().flatten());
    paths.flat_map(|path| std::iter::once(path).chain(without_suffixes(path)))
}

/// What follows each `.php`.
fn below_scripts(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/');
    let below = slashes.filter_map(|(at, _)| {
        let (before, below) = path.split_at_checked(at)?;
        let start = before.len().checked_sub(SCRIPT.len())?;
        let end = before.as_bytes().get(start..)?;
        end.eq_ignore_ascii_case(SCRIPT).then_some(below)
    });
    below.take(MAX)
}

/// Without a format, as Rails and Symfony take it. A colon is left alone: what follows it is a method of its own at many
/// APIs (`/payments:search`).
fn without_suffixes(path: &str) -> impl Iterator<Item = &str> {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let marks = path.rmatch_indices('.').map(|(at, _)| at);
    // A name that begins with one is none without it.
    let marks = marks.take_while(move |at| *at > name);
    marks.filter_map(|at| path.get(..at)).take(MAX)
}
