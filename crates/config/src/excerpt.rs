//! Excerpt of one top-level key of a file, for commands that have to work while the rest of it is broken.
//!
//! It goes by lines alone: a key begins at the start of a line, and ends before the next line that begins there.

use zeroize::Zeroizing;

/// How much belongs to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its line, and what is indented below it.
    Block,
    /// Its line alone, where what is indented below it is what is broken.
    Line,
}

/// The lines of a key, in their places; all others are empty. None: no line begins with that key.
pub(super) fn excerpt(text: &str, key: &str, extent: Extent) -> Option<Zeroizing<String>> {
    let (mut is_meant, mut is_found) = (false, false);
    // It may hold a secret, and must not grow: a copy would be left behind that nobody wipes.
    let mut excerpt = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text.lines() {
        // A tab indents nothing in YAML.
        if !line.is_empty() && !line.starts_with([' ', '#']) {
            is_meant = begins(line, key);
            is_found |= is_meant;
        } else if extent == Extent::Line {
            is_meant = false;
        }
        if is_meant {
            excerpt.push_str(line);
        }
        excerpt.push('\n');
    }
    is_found.then_some(excerpt)
}

fn begins(line: &str, key: &str) -> bool {
    let name = line.split_once(':').map(|(name, _)| name.trim_end());
    let unquoted = |name: &str| -> Option<String> {
        let inner = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
        inner('"').or_else(|| inner('\'')).map(str::to_owned)
    };
    name.is_some_and(|name| name == key || unquoted(name).as_deref() == Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_lines_and_nothing_else() {
        let text = "admin_token: x\n\"admin\" :\n  # here\n  127.0.0.1:1\n}{ broken\nproviders:\n  admin: no\n";
        let excerpt_of = |key, extent| excerpt(text, key, extent).map(|found| found.to_string());
        let excerpt = |key| excerpt_of(key, Extent::Block);
        assert_eq!(
            excerpt("admin").as_deref(),
            Some("\n\"admin\" :\n  # here\n  127.0.0.1:1\n\n\n\n")
        );
        assert_eq!(
            excerpt("admin_token").as_deref(),
            Some("admin_token: x\n\n\n\n\n\n\n")
        );
        assert_eq!(excerpt("journal"), None);
        assert_eq!(
            excerpt_of("admin", Extent::Line).as_deref(),
            Some("\n\"admin\" :\n\n\n\n\n\n")
        );
    }
}
