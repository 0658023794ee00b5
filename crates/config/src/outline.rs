//! Outline of a file: which keys it has, and of each value enough to tell whether another one is the same.
//!
//! It outlives the file, so that a reload can say what has changed by names of keys alone. Values are kept as digests,
//! which nothing shows: a weak secret could be found by its own.

use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use serde::Serialize;

use crate::node::{Node, Value};

/// The keys of a file, by their paths. A list is one value.
#[derive(Clone, Default)]
pub struct Outline {
    keys: BTreeMap<Box<str>, Key>,
    /// Those whose value is in another file: each with that file's path.
    files: Vec<(Box<str>, Box<str>)>,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    owner: Owner,
    /// Half of a SHA-256.
    digest: [u8; 16],
}

/// Whose key it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Caller(Arc<str>),
    Provider(Arc<str>),
    Nobody,
}

/// What is different in another configuration: names alone, never values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Callers.
    pub callers: NameChanges,
    /// The files whose content has changed, and those that are read or no longer read.
    pub files: Vec<String>,
    /// The paths of keys, but for those of providers and callers that are new or gone.
    pub keys: Vec<String>,
    /// Providers.
    pub providers: NameChanges,
}

/// Names that are new, gone, or have other keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NameChanges {
    /// Those that are new.
    pub added: Vec<String>,
    /// Those of which some key has changed.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
}

/// Which of two outlines an owner is in, and whether its keys are the same.
#[derive(Default)]
struct Seen {
    before: bool,
    now: bool,
    differs: bool,
}

impl Outline {
    /// Of a tree whose references are resolved.
    pub(super) fn of(root: &Node) -> Self {
        let mut outline = Self::default();
        if let Value::Map(entries) = &root.value {
            for (name, section) in entries {
                outline.note_section(name, section);
            }
        }
        outline
    }

    /// With the paths of keys whose value is in another file, each with the path of that.
    pub(super) fn with_files(mut self, files: Vec<(Box<str>, Box<str>)>) -> Self {
        self.files = files;
        self
    }

    /// The files that the value of a key, or of one below it, is in.
    pub fn files_of(&self, key: &str) -> impl Iterator<Item = &str> {
        let is_below = move |path: &str| {
            let rest = path.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let files = self.files.iter().filter(move |(path, _)| is_below(path));
        files.map(|(_, file)| &**file)
    }

    fn note_section(&mut self, name: &str, section: &Node) {
        let owner: fn(Arc<str>) -> Owner = match name {
            "callers" => Owner::Caller,
            "providers" => Owner::Provider,
            _ => return self.note(section, &Owner::Nobody),
        };
        match &section.value {
            Value::Map(entries) => {
                for (name, node) in entries {
                    self.note(node, &owner(name.as_str().into()));
                }
            }
            _ => self.note(section, &Owner::Nobody),
        }
    }

    fn note(&mut self, node: &Node, owner: &Owner) {
        if let Value::Map(entries) = &node.value
            && !entries.is_empty()
        {
            return entries
                .iter()
                .for_each(|(_, value)| self.note(value, owner));
        }
        let mut context = Context::new(&SHA256);
        feed(&mut context, node);
        let mut digest = [0; 16];
        let whole = context.finish();
        digest
            .iter_mut()
            .zip(whole.as_ref())
            .for_each(|(to, from)| *to = *from);
        let owner = owner.clone();
        match self.keys.entry(node.path.as_str().into()) {
            Entry::Vacant(vacant) => drop(vacant.insert(Key { owner, digest })),
            // A path that is cut short may stand for several keys.
            Entry::Occupied(mut known) => {
                let known = &mut known.get_mut().digest;
                known
                    .iter_mut()
                    .zip(digest)
                    .for_each(|(to, from)| *to = to.rotate_left(1) ^ from);
            }
        }
    }

    /// What is different in another one.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Changes {
        let mut owners: BTreeMap<&Owner, Seen> = BTreeMap::new();
        let mut paths: Vec<(&str, &Owner)> = Vec::new();
        for (path, key) in &self.keys {
            let is_same = now.keys.get(path) == Some(key);
            let seen = owners.entry(&key.owner).or_default();
            (seen.before, seen.differs) = (true, seen.differs || !is_same);
            if !is_same {
                paths.push((path, &key.owner));
            }
        }
        for (path, key) in &now.keys {
            let seen = owners.entry(&key.owner).or_default();
            seen.now = true;
            if !self.keys.contains_key(path) {
                seen.differs = true;
                paths.push((path, &key.owner));
            }
        }
        let mut changes = Changes::default();
        for (owner, seen) in &owners {
            let (names, name) = match owner {
                Owner::Caller(name) => (&mut changes.callers, name),
                Owner::Provider(name) => (&mut changes.providers, name),
                Owner::Nobody => continue,
            };
            let list = match (seen.before, seen.now) {
                (false, _) => &mut names.added,
                (_, false) => &mut names.removed,
                _ if seen.differs => &mut names.changed,
                _ => continue,
            };
            list.push(name.to_string());
        }
        let stays = |owner: &Owner| {
            let seen = owners.get(owner);
            *owner == Owner::Nobody || seen.is_some_and(|seen| seen.before && seen.now)
        };
        let keys = paths.iter().filter(|(_, owner)| stays(owner));
        changes.keys = keys.map(|(path, _)| (*path).to_owned()).collect();
        changes.keys.sort_unstable();
        changes
    }
}

/// Each kind of value has a mark, and what has parts their number, so that no two values feed the same bytes.
fn feed(context: &mut Context, node: &Node) {
    let mut put = |mark: u8, bytes: &[u8]| {
        context.update(&[mark]);
        context.update(&bytes.len().to_be_bytes());
        context.update(bytes);
    };
    match &node.value {
        Value::Null => put(0, &[]),
        Value::Bool(value) => put(1, &[u8::from(*value)]),
        Value::Integer(number) => put(2, &number.to_be_bytes()),
        Value::Float(number) => put(3, &number.to_bits().to_be_bytes()),
        Value::Text(text) => put(4, text.as_bytes()),
        Value::List(items) => {
            put(5, &items.len().to_be_bytes());
            items.iter().for_each(|item| feed(context, item));
        }
        Value::Map(entries) => {
            put(6, &entries.len().to_be_bytes());
            for (name, value) in entries {
                context.update(&name.len().to_be_bytes());
                context.update(name.as_bytes());
                feed(context, value);
            }
        }
    }
}

/// Without digests, and without keys, of which there may be thousands.
impl fmt::Debug for Outline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outline").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostics;
    use crate::yaml;

    fn outline(text: &str) -> Outline {
        Outline::of(&yaml::parse(text, &mut Diagnostics::default()).unwrap())
    }

    const TEXT: &str = "listen: 127.0.0.1:1\ncallers:\n  till: {password: hunter2}\n  shop: {password: a, allow: [payu]}\nproviders:\n  pay.u: {client_secret: b, token: {margin: 1s, url: c}}\n  old: {client_secret: b}\n  same: {client_secret: 1}\n";

    #[test]
    fn what_has_changed_is_named_by_its_keys() {
        let now = TEXT
            .replace("hunter2", "hunter3")
            .replace("margin: 1s, ", "timeout: 1s, ")
            .replace("  old:", "  new:")
            .replace("shop", "kiosk")
            .replace("127.0.0.1:1", "127.0.0.1:2");
        let changes = outline(TEXT).changes(&outline(&now));
        let names = |added: &[&str], changed: &[&str], removed: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            NameChanges {
                added: owned(added),
                changed: owned(changed),
                removed: owned(removed),
            }
        };
        assert_eq!(changes.callers, names(&["kiosk"], &["till"], &["shop"]));
        assert_eq!(changes.providers, names(&["new"], &["pay.u"], &["old"]));
        assert_eq!(
            changes.keys,
            [
                "callers.till.password",
                "listen",
                "providers.pay.u.token.margin",
                "providers.pay.u.token.timeout"
            ]
        );
        assert!(!format!("{changes:?} {:?}", outline(TEXT)).contains("hunter"));
    }

    #[test]
    fn order_comments_and_style_change_nothing_and_kinds_of_values_do() {
        let same = "# here\nproviders:\n  same:\n    client_secret: 1\n  old: {client_secret: \"b\"}\n  pay.u: {token: {url: c, margin: 1s}, client_secret: b}\ncallers: {shop: {allow: [\"payu\"], password: a}, till: {password: hunter2}}\nlisten: \"127.0.0.1:1\"\n";
        assert_eq!(outline(TEXT).changes(&outline(same)), Changes::default());
        for (one, other) in [
            ("1", "\"1\""),
            ("[a, b]", "[ab]"),
            ("[a, b]", "[b, a]"),
            ("[[a], b]", "[[a, b]]"),
            ("{}", "[]"),
            ("~", "\"\""),
            ("[{a: b}]", "[{a: c}]"),
        ] {
            let changes = outline(&format!("x: {one}")).changes(&outline(&format!("x: {other}")));
            assert_eq!(changes.keys, ["x"], "{one} {other}");
        }
    }
}
