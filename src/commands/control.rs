//! `bursar freeze`, `thaw` and `reload`: what a running Bursar is asked, and what its response says to a person.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use serde::Deserialize;

use super::remote::{self, Error, Remote};

/// For a change that waits for the journal.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// For a reload: longer than the Bursar that is asked waits for it.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(130);

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

/// What a reload comes to.
#[derive(Debug, Deserialize)]
struct Reloaded {
    changed: Option<Changed>,
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Changed {
    callers: Names,
    files: Vec<String>,
    keys: Vec<String>,
    providers: Names,
}

#[derive(Debug, Deserialize)]
struct Names {
    added: Vec<String>,
    removed: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    line: Option<usize>,
    message: String,
    path: String,
    severity: String,
}

/// What `bursar reload` says, and whether the configuration is in force.
#[derive(Debug)]
pub(crate) struct ReloadSaid {
    /// For standard output.
    pub(crate) text: String,
    /// For standard error.
    pub(crate) problems: Vec<String>,
    pub(crate) is_in_force: bool,
}

/// Has the configuration read again, and waits for what comes of it.
///
/// # Errors
/// Where nobody tells.
pub(crate) async fn reload(remote: &Remote) -> Result<ReloadSaid, Error> {
    let reply = remote.post("/reload", RELOAD_TIMEOUT).await?;
    let is_outcome = matches!(
        reply.status,
        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY
    );
    let reloaded = serde_json::from_slice(&reply.body).ok();
    let reloaded: Reloaded = reloaded
        .filter(|_| is_outcome)
        .ok_or_else(|| remote.refused(&reply))?;
    let problems = reloaded.problems.iter().map(Problem::describe);
    Ok(ReloadSaid {
        text: match &reloaded.changed {
            Some(changed) => changed.describe(),
            None => "The configuration is rejected; the old one stays in force.\n".to_owned(),
        },
        problems: problems.collect(),
        is_in_force: reloaded.changed.is_some(),
    })
}

impl Problem {
    fn describe(&self) -> String {
        let mut text = match &*self.severity {
            "error" => String::new(),
            other => format!("{other}: "),
        };
        if let Some(line) = self.line {
            text.push_str(&format!("line {line}: "));
        }
        if !self.path.is_empty() {
            text.push_str(&format!("{}: ", self.path));
        }
        text + &self.message
    }
}

impl Changed {
    fn describe(&self) -> String {
        let lists = [
            ("new providers", &self.providers.added),
            ("providers that are gone", &self.providers.removed),
            ("new callers", &self.callers.added),
            ("callers that are gone", &self.callers.removed),
            ("keys that changed", &self.keys),
            ("files that changed", &self.files),
        ];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty());
        let lines = lists.map(|(what, names)| format!("  {what}: {}\n", names.join(", ")));
        let lines: String = lines.collect();
        match lines.is_empty() {
            true => "The configuration is in force; nothing has changed.\n".to_owned(),
            false => format!("The configuration is in force.\n{lines}"),
        }
    }
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
