//! Hostile input: what smuggles, splits or garbles requests is refused, or goes on in one form only.
//!
//! Every vector goes over a connection of its own, with another request right behind it, to a proxy and
//! a provider of its own, and that in each of some [`topologies`]: as it is, in tunnels, intercepted, to a
//! provider with HTTP/1 or HTTP/2. It is checked by what the provider received ([`strict_parser`]), by the
//! caller's answers, and by whether it ends at all.

mod http1;
mod http2;
pub(crate) mod responses;
mod strict_parser;
mod topologies;

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::task::JoinSet;

use topologies::{Fixture, TOPOLOGIES, Topology};

use Fate::{Broken, Closed, Cut, Once, Refused};

/// What may become of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The provider sees nothing of it.
    Refused,
    /// It arrives as one request with that body.
    Once(&'static str),
    /// It arrives without its end, so that it is none.
    Cut,
    /// The same, or not at all, and the caller is told at once.
    Broken,
    /// The connection ends without an answer, and the provider sees nothing.
    Closed,
}

/// The bytes of a text of [`vectors`].
fn bytes(text: &str) -> Vec<u8> {
    let password = format!("Proxy-Authorization: Basic {}", strict_parser::PASSWORD);
    let both = format!("Host: api.test\r\n{password}");
    let text = text.replace('§', &both).replace('¶', &password);
    // What is no single byte is sent in UTF-8.
    let mut buffer = [0; 4];
    let byte = |char: char| match u8::try_from(u32::from(char)) {
        Ok(byte) => vec![byte],
        Err(_) => char.encode_utf8(&mut buffer).as_bytes().to_vec(),
    };
    text.chars().flat_map(byte).collect()
}

async fn check(
    fixture: &Fixture,
    topology: Topology,
    text: &str,
    fate: Fate,
) -> Result<(), String> {
    let rig = fixture.rig(topology).await;
    let mut caller = fixture.enter(&rig, topology.0, "http/1.1").await;
    let canary = "GET /canary HTTP/1.1\r\n§\r\n\r\n";
    caller.write(bytes(&format!("{text}{canary}"))).await;
    caller.finish().await;
    let answers = match caller.read_to_end().await {
        // What nobody has read is lost with a reset, so no answer may be.
        Err(error) if error.kind() == ErrorKind::ConnectionReset && fate == Closed => Vec::new(),
        answers => answers.map_err(|error| error.to_string())?,
    };
    let answers = strict_parser::statuses(&answers)?;
    let seen = rig.arrived()?;
    let (canaries, own): (Vec<_>, Vec<_>) = seen
        .complete
        .iter()
        .partition(|seen| seen.target == "/canary");
    let bodies: Vec<&[u8]> = own.iter().map(|seen| &*seen.body).collect();
    let served = answers.iter().filter(|status| **status == 200).count();
    let refused = answers.iter().filter(|status| **status != 200).count();
    // A 5xx would mean that the provider had to refuse it.
    let is_refusal = answers
        .first()
        .is_none_or(|status| (400..500).contains(status));
    let as_foretold = match fate {
        Refused => bodies.is_empty() && seen.cut == 0 && is_refusal,
        Once(body) => bodies == [body.as_bytes()] && seen.cut == 0 && refused == 0,
        Cut => bodies.is_empty() && canaries.is_empty() && served == 0,
        Broken => bodies.is_empty() && canaries.is_empty() && answers == [400],
        Closed => seen.is_nothing() && answers.is_empty(),
    };
    let separate =
        canaries.len() <= 1 && served == own.len() + canaries.len() && answers.len() <= 2;
    if as_foretold && separate {
        Ok(())
    } else {
        Err(format!("answers {answers:?}, arrived {seen:?}"))
    }
}

#[track_caller]
fn report(failures: &[String], count: usize) {
    let some = failures.len();
    assert!(
        failures.is_empty(),
        "{some} of {count}:\n{}",
        failures.concat()
    );
}

async fn check_all(vectors: Vec<(String, Fate)>) {
    let fixture = Arc::new(Fixture::new().await);
    let mut failures = Vec::new();
    for topology in TOPOLOGIES {
        // A few at a time.
        for some in vectors.chunks(16) {
            let mut running = JoinSet::new();
            for (text, usual) in some.iter().cloned() {
                let fixture = fixture.clone();
                running.spawn(async move {
                    let fate = topologies::fate(topology.0, &text, usual);
                    let outcome = check(&fixture, topology, &text, fate).await;
                    outcome.map_err(|error| {
                        let text: String = text.chars().take(300).collect();
                        format!("{topology:?} {text:?} {fate:?}: {error}\n")
                    })
                });
            }
            let outcomes = running.join_all().await;
            failures.extend(outcomes.into_iter().filter_map(Result::err));
        }
    }
    report(&failures, TOPOLOGIES.len() * vectors.len());
}

#[tokio::test]
async fn a_length_is_one_number_or_the_request_is_refused() {
    check_all(http1::lengths()).await;
}

#[tokio::test]
async fn an_encoding_is_chunked_and_nothing_else_or_the_request_is_refused() {
    check_all(http1::encodings()).await;
}

#[tokio::test]
async fn chunks_arrive_framed_anew_or_cut_off() {
    check_all(http1::bodies()).await;
}

#[tokio::test]
async fn fields_arrive_as_one_line_each_or_not_at_all() {
    check_all(http1::fields()).await;
}

#[tokio::test]
async fn a_start_line_has_one_reading_or_the_request_is_refused() {
    check_all(http1::starts()).await;
}

#[tokio::test]
async fn a_doubtful_request_is_refused_in_words_and_those_before_it_are_served() {
    let fixture = Fixture::new().await;
    let good =
        bytes("POST /good HTTP/1.1\r\n§\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    let both = bytes(
        "POST /bad HTTP/1.1\r\n§\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    let fragment = bytes("GET /bad#x HTTP/1.1\r\n§\r\n\r\n");
    for (topology, piece) in TOPOLOGIES
        .iter()
        .flat_map(|topology| [(*topology, 7), (*topology, 10_000)])
    {
        for (bad, words) in [(&both, "exclude each other"), (&fragment, "fragment")] {
            let rig = fixture.rig(topology).await;
            let mut caller = fixture.enter(&rig, topology.0, "http/1.1").await;
            for piece in [&good[..], &good, bad, &good].concat().chunks(piece) {
                caller.write(piece).await;
            }
            for _ in 0..2 {
                assert_eq!(caller.read_message().await.status(), 200);
            }
            let answer = caller.read_message().await;
            assert_eq!(answer.status(), 400);
            assert_eq!(answer.field("connection"), Some("close"));
            let text = answer.text();
            assert!(
                text.contains("\"bad_request\"") && text.contains(words),
                "{text}"
            );
            assert_eq!(caller.read_to_end().await.unwrap(), b"");
            let targets = rig.arrived().unwrap().complete;
            assert!(targets.iter().all(|seen| seen.target == "/good"));
            assert_eq!(targets.len(), 2);
        }
    }
}
