//! `bursar freeze`, `thaw` and `reload`: what a running Bursar is asked, and what its response says to a person.

use std::time::Duration;

use clap::Args;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::duration;
use super::operator;
use super::remote::{self, Error, Remote};
use bursar_base::decision::{FREEZE_TIMES, Text};
use bursar_base::terminal::plain;

/// For a change that waits for the journal.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// For a reload: longer than the Bursar that is asked waits for it.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(130);

/// Arguments of `bursar freeze`.
#[derive(Debug, Args)]
pub(crate) struct Freeze {
    #[command(flatten)]
    decision: Decision,
    /// For how long, such as 30m; from 1s to 365d. Without it, until a thaw
    #[arg(long = "for", value_name = "DURATION", value_parser = freeze_time)]
    time: Option<Duration>,
}

fn freeze_time(text: &str) -> Result<Duration, String> {
    duration::within(text, &FREEZE_TIMES, "from 1s to 365d")
}

/// Arguments of `bursar thaw`.
#[derive(Debug, Args)]
pub(crate) struct Thaw {
    #[command(flatten)]
    decision: Decision,
}

/// Arguments of both.
#[derive(Debug, Args)]
#[group(skip)]
struct Decision {
    /// The provider's name
    provider: String,
    /// Why, for whoever meets it later; at most 200 characters
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    remote: remote::Options,
}

/// What a freeze or a thaw comes to.
#[derive(Debug, Deserialize)]
struct Frozen {
    /// Of all providers.
    all_frozen: Vec<String>,
    /// An earlier version has no such thing.
    #[serde(default)]
    before: Option<Before>,
    by: Option<String>,
    /// Of an earlier version's configuration it always is.
    #[serde(default = "yes")]
    configured: bool,
    frozen: bool,
    /// An earlier version has no such thing.
    #[serde(default)]
    in_file: bool,
    /// An earlier version has no such thing.
    #[serde(default)]
    may_have_reached_fleet: bool,
    outlasts_restart: bool,
    provider: String,
    reach: Reach,
    reason: Option<String>,
    since: String,
    #[serde(default)]
    until: Option<String>,
    was_frozen: bool,
    why: Option<String>,
}

const fn yes() -> bool {
    true
}

/// A freeze that another decision has taken the place of.
#[derive(Debug, Deserialize)]
struct Before {
    by: Option<String>,
    reason: Option<String>,
    until: Option<String>,
}

/// Where a freeze or a thaw holds for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    Alone,
    Fleet,
    ThisInstance,
}

/// What is said with a freeze or a thaw.
#[derive(Debug, Serialize)]
struct Said {
    by: Option<Box<str>>,
    reason: Option<Box<str>>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

/// What `bursar freeze` and `thaw` say.
#[derive(Debug)]
pub(crate) struct FreezeSaid {
    /// For standard output.
    pub(crate) text: String,
    /// Whether it holds wherever it should, and nothing holds against it.
    pub(crate) is_as_asked: bool,
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
    /// Freezes the provider; says what the state is then.
    ///
    /// # Errors
    /// Where that was not done.
    pub(crate) async fn run(&self) -> Result<FreezeSaid, Error> {
        // Without months, of which Bursar knows none.
        let time = self.time.map(|time| format!("{}ms", time.as_millis()));
        self.decision.send("freeze", time).await
    }
}

impl Thaw {
    /// Thaws the provider; says what the state is then.
    ///
    /// # Errors
    /// Where that was not done.
    pub(crate) async fn run(&self) -> Result<FreezeSaid, Error> {
        self.decision.send("thaw", None).await
    }
}

impl Decision {
    async fn send(&self, verb: &str, time: Option<String>) -> Result<FreezeSaid, Error> {
        let provider = &self.provider;
        let remote = self.remote.remote();
        let is_named = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        if !provider.chars().all(is_named) {
            let said = format!("no provider has the name {provider}");
            return Err(Error::NoProvider(said));
        }
        let reason = self.reason.as_deref().map(|text| Text::Reason.check(text));
        let reason = reason.transpose();
        let said = Said {
            by: Text::By.fit(&operator::name()),
            reason: reason
                .map_err(|unfit| Error::Unfit("reason", unfit))?
                .flatten(),
            time,
        };
        // Texts can always be written.
        let said = serde_json::to_vec(&said).unwrap_or_default();
        let reply = remote
            .post_body(&format!("/{verb}/{provider}"), said.into(), CHANGE_TIMEOUT)
            .await?;
        let is_against_file = reply.status == StatusCode::CONFLICT;
        match reply.status {
            StatusCode::OK | StatusCode::CONFLICT => {}
            StatusCode::NOT_FOUND => return Err(Error::NoProvider(reply.first_line())),
            _ => return Err(remote.refused(&reply)),
        }
        let frozen: Result<Frozen, _> = serde_json::from_slice(&reply.body);
        let frozen = frozen.map_err(|_other| remote.refused(&reply))?;
        Ok(FreezeSaid {
            text: frozen.describe(is_against_file),
            is_as_asked: frozen.reach != Reach::ThisInstance && !is_against_file,
        })
    }
}

impl Frozen {
    /// After a thaw that changes nothing because the file freezes the provider, or after any other change.
    fn describe(&self, is_against_file: bool) -> String {
        let provider = &self.provider;
        let refused = format!(
            "requests that move money are refused with 503 `frozen` {}",
            self.describe_end()
        );
        let text = match (is_against_file, self.frozen, self.was_frozen) {
            (true, ..) => format!(
                "{provider} stays frozen, because the configuration says so (`providers.{provider}.frozen`): {refused}.\n"
            ),
            (false, true, false) => format!("{provider} is frozen: {refused}.\n"),
            (false, true, true) => {
                format!("{provider} was frozen before and still is: {refused}.\n")
            }
            (false, false, _) if !self.configured => format!(
                "{provider} is no provider of the configuration; its freeze is forgotten.\n"
            ),
            (false, false, true) => {
                format!("{provider} is thawed: requests that move money pass again.\n")
            }
            (false, false, false) => {
                format!("{provider} was not frozen: requests that move money pass.\n")
            }
        };
        text + &self.describe_reach()
            + &self.describe_decision()
            + &self.describe_before()
            + &self.describe_others()
    }

    /// Until when it is frozen.
    fn describe_end(&self) -> String {
        if self.in_file {
            return "for as long as the configuration says so".to_owned();
        }
        let end = match self.until.as_deref() {
            Some(until) => format!("until {}, or until it is thawed", plain(until)),
            None => "until it is thawed".to_owned(),
        };
        let or_ends = match (self.outlasts_restart, self.reach) {
            (true, _) => "",
            (false, Reach::Alone) => ", or Bursar ends, because there is no `journal`",
            (false, _) => {
                ", or Bursar ends before the store is back, because there is no `journal`"
            }
        };
        end + or_ends
    }

    fn describe_reach(&self) -> String {
        if self.reach != Reach::ThisInstance {
            return String::new();
        }
        let why = plain(self.why.as_deref().unwrap_or("it is not known why"));
        if self.may_have_reached_fleet {
            return format!(
                "It may have reached the other instances, and it may not: the fleet's store has not confirmed it ({why}). Those that do not know it hear of it when the store can be used.\n"
            );
        }
        format!(
            "This instance only: the fleet's store cannot be used ({why}). The other instances hear of it when it can.\n"
        )
    }

    fn describe_others(&self) -> String {
        let others: Vec<&str> = (self.all_frozen.iter())
            .filter(|name| **name != self.provider)
            .map(String::as_str)
            .collect();
        match others.is_empty() {
            true => "No other provider is frozen.\n".to_owned(),
            false => format!("Also frozen: {}.\n", others.join(", ")),
        }
    }

    /// Who has frozen it, when and why.
    fn describe_decision(&self) -> String {
        if !self.frozen {
            return String::new();
        }
        let fit =
            |kind: Text, text: &Option<String>| text.as_deref().and_then(|text| kind.fit(text));
        let by = fit(Text::By, &self.by);
        let by = match by.as_deref() {
            Some(by) => by,
            None if self.in_file => "the configuration",
            None => "somebody",
        };
        let reason = fit(Text::Reason, &self.reason);
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        format!("Since {} by {by}{reason}\n", plain(&self.since))
    }

    /// What it was frozen by, which does not hold any more: somebody may count on it.
    fn describe_before(&self) -> String {
        let Some(before) = &self.before else {
            return String::new();
        };
        let fit =
            |kind: Text, text: &Option<String>| text.as_deref().and_then(|text| kind.fit(text));
        let by = fit(Text::By, &before.by);
        let by = by.as_deref().unwrap_or("somebody");
        let reason = fit(Text::Reason, &before.reason);
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let until = match before.until.as_deref() {
            Some(until) => format!("until {}", plain(until)),
            None => "until a thaw".to_owned(),
        };
        format!("Before, it was frozen {until} by {by}{reason}\n")
    }
}
