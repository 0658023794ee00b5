//! File permissions: warnings about files that every user of the machine can read.
//!
//! It looks at permission bits only; a directory above that keeps others out is not seen, which is why
//! these are warnings. Container platforms mount secrets like that unless they are told otherwise.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::node::{Node, Value};

/// Keys whose values are secrets.
const SECRETS: [&str; 6] = [
    "admin_token",
    "password",
    "passwords",
    "client_secret",
    "next_client_secret",
    "params",
];

const FILE: &str = "${file:";

/// Whether users who are neither owner nor of the group may read a file.
pub(super) fn is_open(path: &Path) -> bool {
    // What cannot be looked at is reported by whoever reads it.
    bursar_base::regular_file::metadata(path)
        .is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

/// What is said of such a file.
pub(super) const OPEN_FILE: &str =
    "its file can be read by every user of this machine; `chmod o-r` it";

/// Whether a text refers to a file.
pub(super) fn names_file(text: &str) -> bool {
    text.contains(FILE)
}

/// Whether a text refers to a file that everybody can read. Called once it was read: looking at it does not hang.
pub(super) fn names_open_file(text: &str, directory: &Path) -> bool {
    let mut references = text.split(FILE).skip(1);
    references.any(|rest| {
        let path = rest.split_once('}').map(|(path, _)| path);
        path.is_some_and(|path| is_open(&directory.join(path)))
    })
}

/// A secret that stands in the configuration file itself.
pub(super) struct LiteralSecret {
    /// Its key path.
    key: String,
    line: Option<usize>,
}

/// The first such secret, if there is one.
pub(super) fn literal_secret(root: &Node) -> Option<LiteralSecret> {
    let mut found = None;
    root.visit(&mut |node| {
        if let Value::Text(text) = &node.value
            && found.is_none()
            && is_secret(&node.path, text)
            && !is_reference(text)
        {
            found = Some(LiteralSecret {
                key: node.path.clone(),
                line: node.line,
            });
        }
    });
    found
}

/// Warns of a secret in a configuration file that everybody can read.
pub(super) fn warn_of_open_configuration(path: &Path, secret: LiteralSecret) -> Option<Diagnostic> {
    is_open(path).then(|| Diagnostic {
        path: secret.key,
        line: secret.line,
        message: "is a secret in a file that every user of this machine can read; `chmod o-r` the file, or write ${NAME} or ${file:PATH} here".to_owned(),
    })
}

fn is_secret(path: &str, text: &str) -> bool {
    let mut keys = path.split(['.', '[']);
    let may_be_url = path.starts_with("egress.proxy") || path.starts_with("fleet.");
    let is_url = may_be_url && text.contains('@');
    is_url || path.starts_with("fleet.keys") || keys.any(|key| SECRETS.contains(&key))
}

/// Whether the text, or the part of it that counts, is elsewhere. A hash is no secret, and a default is one.
fn is_reference(text: &str) -> bool {
    let refers = text.replace("$${", "").contains("${");
    let has_default = text.contains(":-") && !text.contains(":-}");
    (refers && !has_default) || text.starts_with("$argon2") || text.starts_with("$2")
}
