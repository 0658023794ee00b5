//! `bursar health`, `freeze` and `thaw`: what a running Bursar is asked, and what its response says to a person.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use serde::Deserialize;

use super::remote::{self, Error, Remote};

/// For a change that waits for the journal.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `bursar freeze` and `thaw`.
#[derive(Debug, Args)]
pub(crate) struct Freeze {
    /// The provider's name
    provider: String,
    #[command(flatten)]
    pub(crate) remote: remote::Options,
}

/// What a freeze or a thaw comes to.
#[derive(Debug, Deserialize)]
struct Frozen {
    /// Of all providers.
    all_frozen: Vec<String>,
    frozen: bool,
    outlasts_restart: bool,
    provider: String,
    was_frozen: bool,
}

impl Freeze {
    /// Freezes the provider, or thaws it; says what the state is then.
    ///
    /// # Errors
    /// Where that was not done.
    pub(crate) async fn run(&self, remote: &Remote, is_frozen: bool) -> Result<String, Error> {
        let verb = if is_frozen { "freeze" } else { "thaw" };
        let provider = &self.provider;
        let is_named = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        if !provider.chars().all(is_named) {
            let said = format!("no provider has the name {provider}");
            return Err(Error::NoProvider(said));
        }
        let reply = remote
            .post(&format!("/{verb}/{provider}"), CHANGE_TIMEOUT)
            .await?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Error::NoProvider(reply.first_line())),
            _ => return Err(remote.refused(&reply)),
        }
        let frozen = serde_json::from_slice(&reply.body);
        frozen
            .map(|frozen: Frozen| frozen.describe())
            .map_err(|_other| remote.refused(&reply))
    }
}

impl Frozen {
    fn describe(&self) -> String {
        let provider = &self.provider;
        let until = match self.outlasts_restart {
            true => "until it is thawed",
            false => "until it is thawed, or Bursar ends, because there is no `journal`",
        };
        let refused = format!("requests that move money are refused with 503 `frozen` {until}");
        let mut text = match (self.frozen, self.was_frozen) {
            (true, false) => format!("{provider} is frozen: {refused}.\n"),
            (true, true) => format!("{provider} was frozen before and still is: {refused}.\n"),
            (false, true) => {
                format!("{provider} is thawed: requests that move money pass again.\n")
            }
            (false, false) => {
                format!("{provider} was not frozen: requests that move money pass.\n")
            }
        };
        let others: Vec<&str> = (self.all_frozen.iter())
            .filter(|name| *name != provider)
            .map(String::as_str)
            .collect();
        let others = match others.is_empty() {
            true => "No other provider is frozen.".to_owned(),
            false => format!("Also frozen: {}.", others.join(", ")),
        };
        // Writing to a String cannot fail.
        let written = writeln!(text, "{others}");
        debug_assert!(written.is_ok());
        text
    }
}
