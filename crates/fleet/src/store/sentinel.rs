//! Sentinels: which server is the primary now.
//!
//! All are asked at once, and the server that most of them name is taken: one that is gone costs no time, and one that is
//! behind is outvoted. Their responses are hints; whether a server takes writes it says itself.
//!
//! A server that is connected is left where more than half of all Sentinels name another one: as many it takes to replace
//! it. A former primary that only they cannot reach would otherwise go on, with those who are connected to it alone. Fewer
//! say nothing: one that was started with an old file names a former primary, too.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::{Connection, Login};
use super::dial::{Dial, Place};
use super::error::{Kind, StoreError};

/// While a server is looked for: once one has responded, the others have as long to do so, too.
const GRACE: Duration = Duration::from_millis(500);

/// A response may be late: so often in a row most Sentinels have to say nothing before that is told.
const UNCONFIRMED: usize = 2;

/// The Sentinels of one primary.
pub(super) struct Sentinels {
    pub(super) sentinels: Vec<Arc<Sentinel>>,
    /// The name by which they know the primary.
    pub(super) master: Arc<str>,
    /// While a server is connected, they are asked again about as often: it may be cut off from
    /// them, and replaced.
    pub(super) recheck: Duration,
}

/// What more than half of all Sentinels say of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Majority {
    /// It is the primary.
    Confirms,
    /// Another one is.
    NamesAnother,
    /// There is none: they do not respond, or do not agree.
    None,
}

/// One of them.
pub(super) struct Sentinel {
    pub(super) place: Place,
    pub(super) login: Login,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Sentinels {
    /// The primary. Where as many name one as another, attempts take turns.
    pub(super) async fn primary(&self, attempt: usize) -> Result<Place, StoreError> {
        let mut ranked = ranked(self.votes(attempt).await?);
        let most = ranked.first().map(|(_, votes)| *votes);
        ranked.retain(|(_, votes)| Some(*votes) == most);
        let at = attempt.checked_rem(ranked.len()).unwrap_or(0);
        let chosen = ranked.into_iter().nth(at).map(|(place, _)| place);
        chosen.ok_or(StoreError::unsent(Kind::NoMaster))
    }

    /// Waits until most of all Sentinels name another server than that. Meanwhile it tells whether most of them confirm
    /// this one.
    pub(super) async fn replaced(&self, current: &Place, confirmed: impl Fn(bool)) {
        let mut unconfirmed = 0;
        loop {
            // Instances do not all ask at the same time.
            sleep(self.recheck.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            match self.majority(current).await {
                Majority::NamesAnother => return,
                Majority::Confirms => {
                    unconfirmed = 0;
                    confirmed(true);
                }
                Majority::None => {
                    unconfirmed += 1;
                    if unconfirmed >= UNCONFIRMED {
                        confirmed(false);
                    }
                }
            }
        }
    }

    /// Asks all of them at once. Each has timeouts of its own.
    fn ask_all(&self, attempt: usize) -> JoinSet<Result<Place, StoreError>> {
        let mut asked = JoinSet::new();
        for sentinel in &self.sentinels {
            let (sentinel, master) = (sentinel.clone(), self.master.clone());
            asked.spawn(async move { sentinel.ask(&master, attempt).await });
        }
        asked
    }

    /// What most say of a server that is connected. Nobody is in a hurry: all that respond are heard, however far away they
    /// are, until most of them agree.
    async fn majority(&self, current: &Place) -> Majority {
        let mut asked = self.ask_all(0);
        let mut votes = Vec::new();
        while let Some(next) = asked.join_next().await {
            let Ok(Ok(place)) = next else { continue };
            votes.push(place);
            match majority(votes.clone(), self.sentinels.len(), current) {
                Majority::None => {}
                agreed => return agreed,
            }
        }
        Majority::None
    }

    /// What those say that respond in time.
    async fn votes(&self, attempt: usize) -> Result<Vec<Place>, StoreError> {
        let mut asked = self.ask_all(attempt);
        let mut votes = Vec::new();
        let mut failure = StoreError::unsent(Kind::NoMaster);
        let mut end = None;
        loop {
            let next = match end {
                Some(end) => timeout_at(end, asked.join_next()).await,
                None => Ok(asked.join_next().await),
            };
            match next {
                Ok(Some(Ok(Ok(place)))) => {
                    votes.push(place);
                    end.get_or_insert_with(|| Instant::now() + GRACE);
                }
                Ok(Some(Ok(Err(error)))) => failure = graver(failure, error),
                Ok(Some(Err(_panicked))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        match votes.is_empty() {
            true => Err(failure),
            false => Ok(votes),
        }
    }
}

impl Sentinel {
    async fn ask(&self, master: &str, attempt: usize) -> Result<Place, StoreError> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let asked = self.send(&command, attempt).await;
        let response =
            asked.map_err(|error| error.at(Some(format!("Sentinel {}", self.place).into())))?;
        read(response).ok_or(StoreError::unsent(Kind::NoMaster))
    }

    async fn send(&self, command: &redis::Cmd, attempt: usize) -> Result<Value, StoreError> {
        let dial = Dial {
            place: &self.place,
            tls: self.tls.as_ref(),
            name: None,
            attempt,
        };
        let connection = Connection::open(dial, &self.login, None).await?;
        connection.ask(command).await
    }
}

/// Host and port.
fn read(value: Value) -> Option<Place> {
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    });
    let (host, port) = (parts.next()??, parts.next()??);
    (!host.is_empty()).then_some(Place {
        host: host.into(),
        port: port.parse().ok()?,
    })
}

/// Each once, the most often named one first.
fn ranked(votes: Vec<Place>) -> Vec<(Place, usize)> {
    let mut ranked: Vec<(Place, usize)> = Vec::new();
    for vote in votes {
        match ranked.iter_mut().find(|(place, _)| *place == vote) {
            Some((_, count)) => *count += 1,
            None => ranked.push((vote, 1)),
        }
    }
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    ranked
}

fn majority(votes: Vec<Place>, of: usize, current: &Place) -> Majority {
    match ranked(votes).first() {
        Some((_, votes)) if 2 * votes <= of => Majority::None,
        Some((place, _)) if place == current => Majority::Confirms,
        Some(_) => Majority::NamesAnother,
        None => Majority::None,
    }
}

/// What is told of several failures: what needs a person, else what came last, but that somebody is there and knows no
/// primary.
fn graver(before: StoreError, after: StoreError) -> StoreError {
    match before.kind().lasts() {
        true => before,
        false => after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        Place {
            host: "10.0.0.1".into(),
            port,
        }
    }

    #[test]
    fn what_most_name_is_first() {
        let votes = [1, 2, 3, 2].map(place).to_vec();
        let ranked: Vec<(u16, usize)> = ranked(votes)
            .into_iter()
            .map(|(place, count)| (place.port, count))
            .collect();
        assert_eq!(ranked, [(2, 2), (1, 1), (3, 1)]);
    }

    #[test]
    fn of_those_who_respond_only_more_than_half_of_all_say_something() {
        for (votes, of, expected) in [
            (&[2, 2, 1][..], 3, Majority::NamesAnother),
            (&[2, 2], 3, Majority::NamesAnother),
            (&[1, 1, 2], 3, Majority::Confirms),
            (&[2], 1, Majority::NamesAnother),
            (&[2], 3, Majority::None),
            (&[1], 2, Majority::None),
            (&[1, 2], 2, Majority::None),
            (&[2, 2], 4, Majority::None),
            (&[], 3, Majority::None),
        ] {
            let places = votes.iter().copied().map(place).collect();
            assert_eq!(majority(places, of, &place(1)), expected, "{votes:?} {of}");
        }
    }

    #[test]
    fn a_response_is_host_and_port() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let of = |parts: &[Value]| read(Value::Array(parts.to_vec()));
        assert_eq!(of(&[text("10.0.0.1"), text("7")]), Some(place(7)));
        for odd in [
            &[][..],
            &[text("10.0.0.1")],
            &[text(""), text("7")],
            &[text("10.0.0.1"), text("70000")],
            &[Value::Nil, text("7")],
        ] {
            assert_eq!(of(odd), None);
        }
        assert_eq!(read(Value::Nil), None);
    }
}
