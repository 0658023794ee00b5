//! Checks of secrets: what cannot work is told before it is sent, with its key and never with its value.
//!
//! Every value that is read as a secret passes here, because the tree knows which are. An error is what cannot be meant:
//! white space at an end, a control, a placeholder. What may well be meant, and is probably not, is a warning.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::diagnostic::Diagnostics;
use crate::node::{Node, TakenFor, Value};
use bursar_base::password::Password;
use bursar_base::secret::Secret;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a secret, or what else a provider gives out, cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("begins with a byte-order mark; save its file as UTF-8 without one")]
    ByteOrderMark,
    #[error("holds an invisible character, such as a zero-width space; write it anew")]
    Invisible,
    #[error("ends with a line break; remove it, as `printf %s` does instead of `echo`")]
    LineBreakAtEnd,
    #[error("begins or ends with white space; remove it")]
    WhiteSpace,
    #[error(
        "holds a control character, such as a line break or a tab; only the value itself may stand there"
    )]
    Control,
    #[error("is the name of a variable without braces; write ${{NAME}}")]
    Unbraced,
    #[error("is a template that nothing has filled in (`{{{{…}}}}`)")]
    Template,
    #[error("is a placeholder in angle brackets; put the value itself in its place")]
    AngleBrackets,
    #[error("is a placeholder; put the value itself in its place")]
    Placeholder,
    #[error(
        "is a reference that nothing has resolved; write ${{NAME}} or ${{file:PATH}}, or let what starts Bursar resolve it"
    )]
    Reference,
    #[error(
        "has something before its password hash; a hash begins with `$` (`htpasswd -nB NAME` prints `NAME:` before it)"
    )]
    BeforeHash,
}

/// Why a secret is probably not what is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Doubt {
    // RFC 6749 appendix A.1 and A.2. Some servers take it nevertheless, and no server's secret is refused here.
    #[error(
        "holds a character that is not printable ASCII, which few servers take in a client id or secret (RFC 6749 appendix A); is it what the provider gave out?"
    )]
    NotAscii,
    #[error("has quotes around it, which are part of it; `docker --env-file` keeps them, for one")]
    Quotes,
    #[error("begins with a name and `=`; is it the value alone?")]
    Assignment,
    #[error("is a JSON object; is it the value alone?")]
    Object,
    #[error("begins with `Bearer ` or `Basic `; is it the secret alone?")]
    Scheme,
    #[error("is one character, repeated")]
    Repeated,
    #[error("is among the first that are tried by who guesses")]
    Common,
}

/// Checks all secrets of the file.
pub(crate) fn check(root: &Node, problems: &mut Diagnostics) {
    root.visit(&mut |node| {
        if let Value::Text(text) = &node.value
            && node.taken_for.get() == TakenFor::Secret
            && !node.wrong.get()
            && !text.is_empty()
        {
            check_one(node, text, problems);
        }
    });
}

fn check_one(node: &Node, text: &str, problems: &mut Diagnostics) {
    let kind = Kind::of(node);
    let mut report = |message| problems.add_at(node.path.clone(), node.line, message);
    if let Some(fault) = fault(text, kind) {
        return report(fault.to_string());
    }
    if let Some(fault) = password_of_url(text).and_then(|password| fault_of_any(&password)) {
        return report(format!("has a password that {fault}"));
    }
    if let Some(doubt) = doubt(text, kind) {
        problems.warn(&node.path, doubt);
    }
}

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A client id or secret.
    Client,
    /// A caller's password.
    Caller,
    /// A name, which may be as short as one likes.
    Name,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(node: &Node) -> Self {
        match node.key().split('[').next() {
            Some("client_id" | "client_secret" | "next_client_secret") => Self::Client,
            Some("username") => Self::Name,
            Some("password" | "passwords") if node.path.starts_with("callers.") => Self::Caller,
            _ => Self::Other,
        }
    }
}

fn fault(text: &str, kind: Kind) -> Option<Fault> {
    let of_kind = || match kind {
        Kind::Caller => hash_begins_late(text).then_some(Fault::BeforeHash),
        Kind::Client | Kind::Name | Kind::Other => None,
    };
    fault_of_any(text).or_else(of_kind)
}

/// What no secret is, whatever it is for.
pub(crate) fn fault_of_any(text: &str) -> Option<Fault> {
    let is_invisible = |char| matches!(char, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    let fault = match () {
        () if text.starts_with(BYTE_ORDER_MARK) => Fault::ByteOrderMark,
        () if text.ends_with(['\n', '\r']) => Fault::LineBreakAtEnd,
        () if text.trim().len() != text.len() => Fault::WhiteSpace,
        () if text.contains(char::is_control) => Fault::Control,
        () if text.contains(is_invisible) => Fault::Invisible,
        () => return placeholder(text),
    };
    Some(fault)
}

/// Placeholders, without what joins their words.
const PLACEHOLDERS: [&str; 26] = [
    "changeit",
    "changeme",
    "changethis",
    "clientidhere",
    "clientsecrethere",
    "dummysecret",
    "examplesecret",
    "fillme",
    "fixme",
    "insertsecrethere",
    "null",
    "passwordhere",
    "placeholder",
    "putsecrethere",
    "redacted",
    "replaceme",
    "replacethis",
    "secrethere",
    "tbd",
    "todo",
    "undefined",
    "yourclientid",
    "yourclientsecret",
    "yourpassword",
    "yoursecret",
    "yoursecrethere",
];

/// Of these together, and of none else, is a text that stands for a secret, where one of the first is among them.
const PLACEHOLDER_WORDS: [&[&str]; 2] = [
    &[
        "add",
        "change",
        "dummy",
        "enter",
        "example",
        "fill",
        "here",
        "insert",
        "paste",
        "placeholder",
        "put",
        "replace",
        "sample",
        "your",
    ],
    &[
        "a", "actual", "api", "client", "goes", "id", "in", "it", "key", "me", "my", "password",
        "real", "secret", "the", "this", "token", "value", "with",
    ],
];

/// What other tools write references in: shells and Compose, Kubernetes, Azure Pipelines.
const VARIABLES: [(&str, &str); 3] = [("${", "}"), ("$(", ")"), ("#{", "}#")];

/// Beginnings of what other tools would have replaced by a secret.
const REFERENCES: [&str; 11] = [
    "/etc/bursar/",
    "/run/secrets/",
    "/var/run/secrets/",
    "$ANSIBLE_VAULT;",
    "ENC[",
    "arn:aws:secretsmanager:",
    "arn:aws:ssm:",
    "file:/",
    "op://",
    "ref+",
    "vault:",
];

fn placeholder(text: &str) -> Option<Fault> {
    let is_name = |name: &str| {
        let word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        name.len() >= 3
            && name.bytes().all(word)
            && name.starts_with(|char: char| char.is_ascii_uppercase())
    };
    let is_enclosed = |open: &str, close: &str| {
        (text.strip_prefix(open)?.strip_suffix(close)).filter(|inner| !inner.is_empty())
    };
    let is_reference = |inner: &str| {
        let word = |char: char| char.is_ascii_alphanumeric() || "_:./- ".contains(char);
        inner.chars().all(word) && inner.starts_with(|char: char| char.is_ascii_alphabetic())
    };
    let are_words = |inner: &str| {
        let word = |char: char| char.is_ascii_alphanumeric() || " _-.".contains(char);
        inner.chars().all(word) && inner.contains(|char: char| char.is_ascii_alphabetic())
    };
    let is_masked = |mask: char| text.len() >= 3 && text.chars().all(|char| char == mask);
    let is_template = text
        .split_once("{{")
        .is_some_and(|(before, rest)| rest.contains("}}") || before.is_empty() && are_words(rest));
    let fault = match () {
        () if text.strip_prefix('$').is_some_and(is_name) => Fault::Unbraced,
        () if is_enclosed("%", "%").is_some_and(is_name) => Fault::Unbraced,
        () if is_template => Fault::Template,
        () if is_enclosed("<", ">").is_some_and(are_words) => Fault::AngleBrackets,
        () if VARIABLES
            .iter()
            .any(|(open, close)| is_enclosed(open, close).is_some_and(is_reference)) =>
        {
            Fault::Reference
        }
        () if is_placeholder_word(text) || are_placeholder_words(text) => Fault::Placeholder,
        () if is_masked('*')
            || is_masked('.')
            || (is_masked('x') || is_masked('X')) && text.len() > 3 =>
        {
            Fault::Placeholder
        }
        () if REFERENCES
            .iter()
            .any(|reference| text.starts_with(reference)) =>
        {
            Fault::Reference
        }
        () => return None,
    };
    Some(fault)
}

/// One of the list, whatever joins its words, and with a mark or a number behind it.
fn is_placeholder_word(text: &str) -> bool {
    let joins = |char: &char| !"-_ .!?".contains(*char);
    let plain: String = text.chars().filter(joins).collect();
    let plain = plain.to_ascii_lowercase();
    let plain = match plain.trim_end_matches(|char: char| char.is_ascii_digit()) {
        long if long.len() >= 8 => long,
        _ => &plain,
    };
    PLACEHOLDERS.contains(&plain)
}

fn are_placeholder_words(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let words = || {
        text.split(['-', '_', ' ', '.', '!'])
            .filter(|word| !word.is_empty())
    };
    let [telling, others] = PLACEHOLDER_WORDS;
    let is_known = |word: &str| telling.contains(&word) || others.contains(&word);
    words().count() > 1 && words().all(is_known) && words().any(|word| telling.contains(&word))
}

/// Whether a hash would be one without what stands before it.
fn hash_begins_late(text: &str) -> bool {
    let begins = ["$argon2", "$2a$", "$2b$", "$2y$"];
    let late = begins
        .iter()
        .filter_map(|begin| text.find(begin))
        .filter(|at| *at > 0);
    let hash = late.min().and_then(|at| text.get(at..));
    hash.is_some_and(|hash| {
        let hash = Secret::new(hash.trim_end_matches(['"', '\'']).to_owned());
        matches!(Password::parse(hash), Ok(Password::Hashed(_)))
    })
}

/// The password of a URL, which is percent-encoded there.
fn password_of_url(text: &str) -> Option<Zeroizing<String>> {
    let (scheme, rest) = text.split_once("://")?;
    if !scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let (user, _) = rest.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    let password = percent_decode_str(password).decode_utf8().ok()?;
    Some(Zeroizing::new(password.into_owned()))
}

/// What everybody tries first.
const COMMON: [&str; 14] = [
    "12345678",
    "123456789",
    "1234567890",
    "admin",
    "admin123",
    "bursar",
    "letmein",
    "passw0rd",
    "password",
    "password1",
    "password123",
    "qwerty",
    "secret",
    "test",
];

/// What others call a secret before its value, without what joins their words.
const NAMES: [&str; 8] = [
    "apikey",
    "clientid",
    "clientsecret",
    "key",
    "password",
    "secret",
    "token",
    "username",
];

fn doubt(text: &str, kind: Kind) -> Option<Doubt> {
    let is_quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    let name = text
        .split_once('=')
        .map(|(name, value)| (name, !value.is_empty()));
    let is_assignment = name.is_some_and(|(name, has_value)| {
        let word = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        let is_variable = name.len() > 3 && name.contains('_') && name.bytes().all(word);
        let plain = name.replace(['_', '-', ' '], "").to_ascii_lowercase();
        has_value && (is_variable || NAMES.contains(&&*plain))
    });
    let is_object = text.ends_with('}')
        && (text.strip_prefix('{')).is_some_and(|rest| rest.trim_start().starts_with('"'))
        && text.contains(':');
    let mut chars = text.trim_end_matches('=').chars();
    let first = chars.next();
    let is_repeated = text.len() >= 8 && chars.all(|char| Some(char) == first);
    let is_chosen = matches!(kind, Kind::Caller | Kind::Other);
    let doubt = match () {
        () if is_quoted('"') || is_quoted('\'') => Doubt::Quotes,
        () if is_assignment => Doubt::Assignment,
        () if is_object => Doubt::Object,
        () if text.starts_with("Bearer ") || text.starts_with("Basic ") => Doubt::Scheme,
        () if kind == Kind::Client && !text.is_ascii() => Doubt::NotAscii,
        () if is_chosen && is_repeated => Doubt::Repeated,
        () if is_chosen && COMMON.contains(&&*text.to_ascii_lowercase()) => Doubt::Common,
        () => return None,
    };
    Some(doubt)
}

#[cfg(test)]
mod tests;
