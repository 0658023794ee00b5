//! `/metrics` as Prometheus reads it: name, labels, value.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::caller::{Caller, Reply};
use super::upstream::full;

/// One scrape.
#[derive(Debug)]
pub(crate) struct Scrape {
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// GET at the admin port.
pub(crate) async fn admin(address: SocketAddr, path: &str) -> Reply {
    let request = http::Request::builder()
        .uri(path)
        .header("host", "admin")
        .body(full(""))
        .unwrap();
    Caller::connect(address).await.request(request).await
}

impl Scrape {
    pub(crate) async fn of(address: SocketAddr) -> Self {
        let reply = admin(address, "/metrics").await;
        assert_eq!(reply.status, 200);
        Self::parse(reply.text())
    }

    fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let series = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split("\",");
            let labels = labels.filter_map(|label| label.split_once('='));
            let labels = labels
                .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
                .collect();
            (name.to_owned(), labels, value.parse().unwrap())
        });
        Self {
            series: series.collect(),
        }
    }

    /// The sum of all series of that name that have at least these labels; None where there is none.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |series: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(key, value)| series.get(*key).is_some_and(|found| found == value))
        };
        let mut found = self
            .series
            .iter()
            .filter(|(series, own, _)| series == name && has(own))
            .map(|(_, _, value)| *value)
            .peekable();
        found.peek()?;
        Some(found.sum())
    }

    /// The same; panics where there is none.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels)
            .unwrap_or_else(|| panic!("no series {name} {labels:?}"))
    }

    /// Every series, its labels and its value.
    pub(crate) fn all(&self) -> &[(String, BTreeMap<String, String>, f64)] {
        &self.series
    }
}
