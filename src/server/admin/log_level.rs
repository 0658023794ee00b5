//! `/log-level`: what is logged, and another filter for a time.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::response::{TEXT, json, text, with_type};
use crate::server::log_level::{LogLevel, TIMES, USUAL_TIME};
use bursar_base::duration;

/// A level and its time, as they are shown.
#[derive(Debug, Serialize)]
struct Shown {
    filter: String,
    until: Option<String>,
    usual: String,
}

/// What is logged now.
pub(super) fn show(level: Option<&LogLevel>) -> Response<Full<Bytes>> {
    let Some(level) = level else {
        return text(StatusCode::NOT_FOUND, "the log is not this Bursar's own\n");
    };
    let shown = level.shown();
    let until = shown.until.map(humantime::format_rfc3339_seconds);
    json(
        StatusCode::OK,
        &Shown {
            filter: shown.filter,
            until: until.map(|until| until.to_string()),
            usual: shown.usual,
        },
    )
}

/// Puts what the query says: `filter`, and `for` how long.
pub(super) fn put(level: Option<&LogLevel>, query: &str) -> Response<Full<Bytes>> {
    let Some(level) = level else {
        return show(None);
    };
    let (mut filter, mut time) = (None, USUAL_TIME);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "filter" => filter = Some(value),
            "for" => match duration::parse(&value) {
                Ok(wanted) if TIMES.contains(&wanted) => time = wanted,
                _ => return refuse("`for` is a duration from 1s to 24h"),
            },
            _ => return refuse("the query has `filter`, and may have `for`"),
        }
    }
    // Whole seconds, as they are shown.
    let time = Duration::from_secs(time.as_secs());
    match filter.map(|filter| level.put(&filter, time)) {
        Some(Ok(())) => show(Some(level)),
        Some(Err(invalid)) => refuse(&format!("`filter` is none: {invalid}")),
        None => refuse("the query has no `filter`"),
    }
}

/// Puts the usual filter back.
pub(super) fn restore(level: Option<&LogLevel>) -> Response<Full<Bytes>> {
    if let Some(level) = level {
        level.restore();
    }
    show(level)
}

fn refuse(said: &str) -> Response<Full<Bytes>> {
    with_type(StatusCode::BAD_REQUEST, TEXT, format!("{said}\n").into())
}
