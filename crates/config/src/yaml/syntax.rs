//! Syntax errors of YAML: what to write instead, by the parser's words and the line where it stopped.
//!
//! The line may hold a secret: it is looked at, and never repeated.

use saphyr_parser::Tag;

use crate::node::Value;

/// What is wrong with a text that has one.
pub(super) const CONFLICT: &str =
    "begins a merge conflict that nobody has resolved; keep one side of it, and remove its marks";

/// What is wrong with a value whose tag is unknown.
pub(super) const UNKNOWN_TAG: &str = "has a tag that has no meaning here, such as `!!binary`; remove it, and write the value as plain text, a number, a list or a mapping";

/// Whether it is a tag of YAML's own that its core schema does not have (YAML 1.2 section 10.3).
pub(super) fn is_unknown_tag(tag: &Tag) -> bool {
    let name = format!("{}{}", tag.handle, tag.suffix);
    let own = name.strip_prefix("tag:yaml.org,2002:");
    own.is_some_and(|name| !["null", "bool", "int", "float", "str", "seq", "map"].contains(&name))
}

/// Whether a line begins a conflict, as version control marks it.
pub(super) fn is_conflict(line: &str) -> bool {
    line.starts_with("<<<<<<< ")
}

/// Whether it is a control character that is wrong.
pub(super) fn names_control(message: &str) -> bool {
    message.contains("control characters are not allowed")
}

/// Whether a line has one that YAML does not allow.
pub(super) fn has_control(line: &str) -> bool {
    line.contains(|char: char| char.is_control() && !matches!(char, '\t' | '\r' | '\u{85}'))
}

/// What is wrong with a text that is no YAML.
pub(super) fn describe(message: &str, line: &str) -> String {
    match advice(message, line) {
        Some(advice) => format!("is not valid YAML: {advice}"),
        // The parser's words for broken syntax name characters in single quotes; where it quotes otherwise, it
        // quotes a value, and that might be a secret.
        None if message.contains(['"', '`']) => {
            "is not valid YAML: a value here does not fit its tag, or is no plain scalar, list or mapping".to_owned()
        }
        None => format!("is not valid YAML: {message}"),
    }
}

fn advice(message: &str, line: &str) -> Option<&'static str> {
    let has = |words: &str| message.contains(words);
    let indentation = line.len() - line.trim_start().len();
    let is_indented_by_tab = line.get(..indentation)?.contains('\t');
    Some(match () {
        () if names_control(message) => "the line has a control character; remove it",
        () if is_indented_by_tab => "the line is indented with a tab; use spaces",
        () if line.contains("{{") => {
            "`{{` begins a template that nothing has filled in, or text that needs quotes"
        }
        () if line.contains("*.") && has("alias") => {
            "a value that begins with `*` needs quotes, as in \"*.example.com\""
        }
        () if has("unknown anchor") => {
            "a value that begins with `*` refers to an anchor (`&`) that is not there; it needs quotes where it is text"
        }
        () if has("YAML without tags") => {
            "tags such as `!vault` or `!env` have no meaning here; write ${NAME} or ${file:PATH}"
        }
        () if has("more than one document") => {
            "there is more than one document in it; remove the lines `---` between them"
        }
        () if has("cannot start any token") => {
            "a value that begins with `@`, `%` or a backtick needs quotes"
        }
        () if has("mapping values are not allowed") => {
            "there is a second `: ` in a line, which needs quotes around the value, or the line is indented more than the one above it"
        }
        () if has("did not find expected key") => {
            "the line is indented unlike those around it, or more follows a value that is quoted"
        }
        () if has("could not find expected ':'") => {
            "a key is followed by a colon and a space, as in `listen: 127.0.0.1:3128`"
        }
        () if has("quoted scalar") && has("end of stream") => "a quote is not closed",
        () if has("unknown escape") => {
            "in double quotes a backslash begins an escape; use single quotes"
        }
        () if has("flow node") && line.contains("[:") => {
            "a value that begins with `[` needs quotes, as in \"[::1]:3128\""
        }
        () => return None,
    })
}

/// What is wrong with a file that is no mapping.
pub(super) fn no_mapping(root: &Value) -> Option<&'static str> {
    match root {
        Value::Map(_) => None,
        Value::Null => Some("is empty; name at least one provider under `providers:`"),
        Value::List(_) => Some(
            "is a list; it must be a mapping with keys such as `listen:` and `providers:`, so remove the `- ` before them",
        ),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => Some(
            "has no keys; each is followed by a colon and a space, as in `listen: 127.0.0.1:3128`",
        ),
    }
}
