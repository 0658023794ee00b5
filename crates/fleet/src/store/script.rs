//! Lua scripts, by their SHA-1.

use std::time::Duration;

use redis::Cmd;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use bursar_base::secret::hexadecimal;

/// A script. Servers know it by its digest once they have run it.
#[derive(Debug, Clone)]
pub struct Script {
    body: &'static str,
    sha1: String,
}

/// An argument of a script.
#[derive(Clone, Copy)]
pub enum Arg<'a> {
    /// As it is.
    Bytes(&'a [u8]),
    /// In decimal digits.
    Number(i64),
}

impl std::fmt::Debug for Arg<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Arg(…)")
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl From<i64> for Arg<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Arg<'_> {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// In milliseconds.
impl From<Duration> for Arg<'_> {
    fn from(duration: Duration) -> Self {
        Self::Number(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

/// As 1 or 0.
impl From<bool> for Arg<'_> {
    fn from(is_so: bool) -> Self {
        Self::Number(is_so.into())
    }
}

impl Script {
    /// With that body.
    #[must_use]
    pub fn new(body: &'static str) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, body.as_bytes());
        let digits = digest.as_ref().iter().flat_map(|byte| hexadecimal(*byte));
        Self {
            body,
            sha1: digits.map(char::from).collect(),
        }
    }

    pub(super) fn sha1(&self) -> &str {
        &self.sha1
    }

    /// The command that runs it where it is known already.
    pub(super) fn evalsha(&self, keys: &[&str], args: &[Arg<'_>]) -> Cmd {
        command("EVALSHA", &self.sha1, keys, args)
    }

    /// The command that runs it anywhere.
    pub(super) fn eval(&self, keys: &[&str], args: &[Arg<'_>]) -> Cmd {
        command("EVAL", self.body, keys, args)
    }
}

fn command(name: &str, script: &str, keys: &[&str], args: &[Arg<'_>]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(*key);
    }
    for arg in args {
        match arg {
            Arg::Bytes(bytes) => command.arg(*bytes),
            Arg::Number(number) => command.arg(*number),
        };
    }
    command
}
