//! Hostile input: what smuggles, splits or garbles requests is refused, or goes on in one form only.
//!
//! Every vector goes over a connection of its own, with another request right behind it, to a proxy and
//! a provider of its own. It is judged by the bytes that the provider received ([`judge`]), by the
//! caller's answers, and by whether it ends at all.

mod http2;
mod judge;
mod vectors;

use http_desync_guardian::ClassificationReason::{
    UndefinedContentLengthSemantics, UndefinedTransferEncodingSemantics,
};
use http_desync_guardian::RequestSafetyTier::{Acceptable, Ambiguous, Compliant};
use http_desync_guardian::request_analyzer::HttpRequestData;
use tokio::task::JoinSet;

use crate::support::acme;
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};

/// What may become of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The provider sees nothing of it.
    Refused,
    /// It arrives as one request with that body.
    Once(&'static str),
    /// It arrives without its end, so that it is none.
    Cut,
}

/// A provider, and the proxy before it with the caller `shop`.
async fn rig(token_url: &str) -> (RawUpstream, Proxy) {
    let api = RawUpstream::start(|_, raw| judge::serve(raw)).await;
    let yaml = acme(&api.url(), token_url, "");
    let callers = "callers: {shop: {password: pw, allow: [acme]}}";
    let proxy = Proxy::start(&format!("{callers}\n{yaml}")).await;
    (api, proxy)
}

/// The bytes of a text of [`vectors`].
fn bytes(text: &str) -> Vec<u8> {
    let password = format!("Proxy-Authorization: Basic {}", judge::PASSWORD);
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

async fn check(text: String, fate: Fate, token_url: String) -> Result<(), String> {
    let (api, proxy) = rig(&token_url).await;
    let mut caller = Raw::connect(proxy.listen).await;
    let canary = "GET /canary HTTP/1.1\r\n§\r\n\r\n";
    caller.write(bytes(&format!("{text}{canary}"))).await;
    caller.finish().await;
    let answers = caller
        .read_to_end()
        .await
        .map_err(|error| error.to_string())?;
    let answers = judge::statuses(&answers)?;
    let seen = judged(&api)?;
    let (canaries, own): (Vec<_>, Vec<_>) = seen
        .complete
        .iter()
        .partition(|seen| seen.target == "/canary");
    let bodies: Vec<&[u8]> = own.iter().map(|seen| &*seen.body).collect();
    let served = answers.iter().filter(|status| **status == 200).count();
    let refused = answers.iter().filter(|status| **status != 200).count();
    let as_foretold = match fate {
        Fate::Refused => bodies.is_empty() && seen.cut == 0 && answers.first() != Some(&200),
        Fate::Once(body) => bodies == [body.as_bytes()] && seen.cut == 0 && refused == 0,
        Fate::Cut => bodies.is_empty() && canaries.is_empty() && served == 0,
    };
    let separate =
        canaries.len() <= 1 && served == own.len() + canaries.len() && answers.len() <= 2;
    if as_foretold && separate {
        Ok(())
    } else {
        Err(format!("answers {answers:?}, arrived {seen:?}"))
    }
}

/// What a provider has received.
#[derive(Debug, Default)]
struct Arrived {
    complete: Vec<judge::Seen>,
    cut: usize,
}

/// Everything that arrived, where all of it has one meaning only.
fn judged(api: &RawUpstream) -> Result<Arrived, String> {
    let mut all = Arrived::default();
    for bytes in api.captured() {
        let text = bytes.escape_ascii().to_string();
        let (complete, cut) = judge::parse(&bytes).map_err(|error| format!("{error}: {text}"))?;
        if complete.iter().any(|seen| seen.target == "/smuggled") {
            return Err(text);
        }
        all.complete.extend(complete);
        all.cut += usize::from(cut);
    }
    for seen in &all.complete {
        second_opinion(&seen.head)?;
    }
    Ok(all)
}

/// The same by AWS's analyser: no server takes the head for another one.
fn second_opinion(head: &[u8]) -> Result<(), String> {
    let verdict = HttpRequestData::analyze_raw_request(head);
    // A body of a GET or HEAD, which it finds ambiguous by itself, goes on as any body does.
    let has_body = matches!(
        verdict.reason,
        UndefinedContentLengthSemantics | UndefinedTransferEncodingSemantics
    );
    let is_get = head.starts_with(b"GET ") || head.starts_with(b"HEAD ");
    match verdict.tier {
        Compliant | Acceptable => Ok(()),
        Ambiguous if is_get && has_body => Ok(()),
        tier => Err(format!("{tier:?}: {}", head.escape_ascii())),
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
    let idp = Idp::start(|_| async { idp::token("token") }).await;
    let mut failures = Vec::new();
    // A few at a time.
    for some in vectors.chunks(16) {
        let mut running = JoinSet::new();
        for (text, fate) in some.iter().cloned() {
            let url = idp.url();
            running.spawn(async move {
                let outcome = check(text.clone(), fate, url).await;
                outcome.map_err(|error| {
                    let text: String = text.chars().take(300).collect();
                    format!("{text:?} {fate:?}: {error}\n")
                })
            });
        }
        let outcomes = running.join_all().await;
        failures.extend(outcomes.into_iter().filter_map(Result::err));
    }
    report(&failures, vectors.len());
}

#[tokio::test]
async fn a_length_is_one_number_or_the_request_is_refused() {
    check_all(vectors::lengths()).await;
}

#[tokio::test]
async fn an_encoding_is_chunked_and_nothing_else_or_the_request_is_refused() {
    check_all(vectors::encodings()).await;
}

#[tokio::test]
async fn chunks_arrive_framed_anew_or_cut_off() {
    check_all(vectors::bodies()).await;
}

#[tokio::test]
async fn fields_arrive_as_one_line_each_or_not_at_all() {
    check_all(vectors::fields()).await;
}

#[tokio::test]
async fn a_start_line_has_one_reading_or_the_request_is_refused() {
    check_all(vectors::starts()).await;
}
