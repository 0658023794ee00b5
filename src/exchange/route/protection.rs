//! Protection of token endpoints: whether a path is one, in whatever spelling.

use bursar_base::path::Path;
use bursar_config::Provider;

/// What PHP takes for the program, and the rest for its path (`/index.php/oauth/token`).
pub(super) const SCRIPT: &[u8] = b".php";

/// Compared without regard to case, to a format suffix, which Rails takes (`/oauth/token.json`), and to what Windows
/// takes for a stream of the file (`/oauth/token:x`).
pub(super) fn is_token_endpoint(provider: &Provider, path: &Path<'_>) -> bool {
    let protects = |path: &str| {
        let path = path.as_bytes();
        let is_one_of = |all: &[Box<str>], slash| {
            all.iter()
                .any(|protected| protects(protected.as_bytes(), path, slash))
        };
        is_one_of(&provider.protected, false) || is_one_of(&provider.protected_below, true)
    };
    if path.is_plain() {
        return protects(path.raw());
    }
    path.all_readings().any(protects)
}

/// With `slash` what is below it is protected as well.
fn protects(protected: &[u8], path: &[u8], slash: bool) -> bool {
    // The root has no name that a suffix could belong to.
    if protected == b"/" {
        return path == protected;
    }
    // What comes after it first: most paths differ there.
    let ends = match path.get(protected.len()) {
        None | Some(b'.' | b':') => true,
        Some(b'/') => slash,
        Some(_) => false,
    };
    let is_it = ends
        && path
            .get(..protected.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(protected));
    is_it || is_below_script(protected, path)
}

fn is_below_script(protected: &[u8], path: &[u8]) -> bool {
    let start = path.len().checked_sub(protected.len());
    let split = start.and_then(|start| path.split_at_checked(start));
    let Some((script, rest)) = split else {
        return false;
    };
    // Most paths have no slash there.
    rest.first() == Some(&b'/')
        && rest.eq_ignore_ascii_case(protected)
        && script
            .len()
            .checked_sub(SCRIPT.len())
            .and_then(|start| script.get(start..))
            .is_some_and(|end| end.eq_ignore_ascii_case(SCRIPT))
}
