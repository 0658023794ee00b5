//! `bursar log-level`: what a running Bursar logs, and another filter for a time.

use std::time::Duration;

use clap::Args;
use http::StatusCode;
use serde::Deserialize;

use super::duration;
use super::remote::{self, Error, Reply};
use bursar::server::log_level::TIMES;
use bursar_telemetry::log::checked_filter;

const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `bursar log-level`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Levels on top of what is usual, such as debug or bursar::token=debug,h2=info; without it, say what is logged
    #[arg(value_parser = checked_filter)]
    filter: Option<String>,
    /// For how long, 1s to 24h
    #[arg(long = "for", value_name = "DURATION", requires = "filter", value_parser = filter_time)]
    time: Option<Duration>,
    /// Put back what is usual, before the time is over
    #[arg(long, conflicts_with = "filter")]
    restore: bool,
    #[command(flatten)]
    remote: remote::Options,
}

fn filter_time(text: &str) -> Result<Duration, String> {
    duration::within(text, &TIMES, "from 1s to 24h")
}

#[derive(Debug, Deserialize)]
struct Shown {
    filter: String,
    until: Option<String>,
    usual: String,
}

impl Options {
    /// Asks, and says what is logged then.
    ///
    /// # Errors
    /// Where nobody tells.
    pub(crate) async fn run(&self) -> Result<String, Error> {
        let remote = self.remote.remote();
        let reply = match &self.filter {
            Some(filter) => remote.post(&self.query(filter), CHANGE_TIMEOUT).await?,
            None if self.restore => remote.post("/log-level/restore", CHANGE_TIMEOUT).await?,
            None => remote.get("/log-level").await?,
        };
        let shown = Shown::of(&reply).ok_or_else(|| remote.refused(&reply))?;
        Ok(match shown.until {
            Some(until) => format!(
                "The log's filter is {} until {until}, and then {} again.\n",
                shown.filter, shown.usual
            ),
            None => format!("The log's filter is {}, as usual.\n", shown.filter),
        })
    }

    /// Whether it asks for a change.
    pub(crate) const fn is_change(&self) -> bool {
        self.filter.is_some() || self.restore
    }

    fn query(&self, filter: &str) -> String {
        let path = "/log-level?";
        let mut query = form_urlencoded::Serializer::for_suffix(path.to_owned(), path.len());
        query.append_pair("filter", filter);
        if let Some(time) = self.time {
            let time = humantime::format_duration(time).to_string();
            query.append_pair("for", &time);
        }
        query.finish()
    }
}

impl Shown {
    fn of(reply: &Reply) -> Option<Self> {
        let is_shown = reply.status == StatusCode::OK;
        let shown = serde_json::from_slice(&reply.body).ok();
        shown.filter(|_| is_shown)
    }
}
