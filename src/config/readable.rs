//! Who else can read the secrets? Warnings about files that every user of the machine can read.
//!
//! It looks at permission bits only; a directory above that keeps others out is not seen, which is why
//! these are warnings. Container platforms mount secrets like that unless they are told otherwise.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::node::{Node, Value};
use super::problem::{Problem, Problems};

/// Keys whose values are secrets.
const SECRETS: [&str; 6] = [
    "admin_token",
    "password",
    "passwords",
    "client_secret",
    "next_client_secret",
    "params",
];

/// Whether users who are neither owner nor of the group may read a file.
fn is_open(path: &Path) -> bool {
    // What cannot be looked at is reported by whoever reads it.
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

/// Warns of `${file:…}` references, and private keys, in files that everybody can read. Called before references are
/// resolved.
pub(super) fn warn_of_open_files(root: &Node, directory: &Path, problems: &mut Problems) {
    root.visit(&mut |node| {
        let Value::Text(text) = &node.value else {
            return;
        };
        let mut references = text.split("${file:").skip(1);
        let is_any_open = references.any(|rest| {
            let path = rest.split_once('}').map(|(path, _)| path);
            path.is_some_and(|path| is_open(&directory.join(path)))
        });
        let is_open_key = node.path.ends_with("tls.key") && is_open(&directory.join(text));
        if is_any_open || is_open_key {
            problems.warn(
                &node.path,
                "its file can be read by every user of this machine; `chmod o-r` it",
            );
        }
    });
}

/// A secret that stands in the configuration file itself, if there is one.
pub(super) fn literal_secret(root: &Node) -> Option<(String, Option<usize>)> {
    let mut found = None;
    root.visit(&mut |node| {
        if let Value::Text(text) = &node.value
            && found.is_none()
            && is_secret(&node.path, text)
            && !is_reference(text)
        {
            found = Some((node.path.clone(), node.line));
        }
    });
    found
}

/// Warns of a secret in a configuration file that everybody can read.
pub(super) fn warn_of_open_configuration(
    path: &Path,
    (secret, line): (String, Option<usize>),
) -> Option<Problem> {
    is_open(path).then(|| Problem {
        path: secret,
        line,
        message: "is a secret in a file that every user of this machine can read; `chmod o-r` the file, or write ${NAME} or ${file:PATH} here".to_owned(),
    })
}

fn is_secret(path: &str, text: &str) -> bool {
    let mut keys = path.split(['.', '[']);
    let is_proxy = path.starts_with("egress.proxy") && text.contains('@');
    is_proxy || keys.any(|key| SECRETS.contains(&key))
}

/// Whether the text, or the part of it that counts, is elsewhere. A hash is no secret.
fn is_reference(text: &str) -> bool {
    text.replace("$${", "").contains("${") || text.starts_with("$argon2") || text.starts_with("$2")
}
