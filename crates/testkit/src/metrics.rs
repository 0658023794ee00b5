//! `/metrics` as Prometheus reads it: name, labels, value.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::caller::{Caller, Reply};
use crate::upstream::full;
use crate::wire::Reader;

/// One scrape.
#[derive(Debug)]
pub struct Scrape {
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// GET at the admin port.
pub async fn admin(address: SocketAddr, path: &str) -> Reply {
    let request = http::Request::builder()
        .uri(path)
        .header("host", "localhost")
        .body(full(""))
        .unwrap();
    Caller::connect(address).await.request(request).await
}

/// `/metrics` as text.
///
/// # Errors
/// Where it does not come, or not whole.
pub async fn text(address: SocketAddr, patience: Duration) -> io::Result<String> {
    let (read, mut write) = TcpStream::connect(address).await?.into_split();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    write.write_all(request.as_bytes()).await?;
    let mut reader = Reader::new(read, patience);
    let head = reader.head().await?;
    let body = reader.whole(head.framing()).await?;
    if head.second() != "200" {
        return Err(io::Error::other(head.start));
    }
    String::from_utf8(body).map_err(io::Error::other)
}

impl Scrape {
    /// `/metrics` at that admin port.
    pub async fn of(address: SocketAddr) -> Self {
        let reply = admin(address, "/metrics").await;
        assert_eq!(reply.status, 200);
        Self::parse(reply.text())
    }

    /// The same; None where it cannot be had.
    pub async fn try_of(address: SocketAddr, patience: Duration) -> Option<Self> {
        Some(Self::parse(&text(address, patience).await.ok()?))
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
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
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
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels)
            .unwrap_or_else(|| panic!("no series {name} {labels:?}"))
    }

    /// Every series, its labels and its value.
    pub fn all(&self) -> &[(String, BTreeMap<String, String>, f64)] {
        &self.series
    }
}
