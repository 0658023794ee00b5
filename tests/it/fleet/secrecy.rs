//! What whoever runs the store can see of a fleet: nothing that is secret, and nobody's name, in any usual encoding.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use http::Request;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::instances::KEY;
use crate::support::balancer::Place;
use crate::support::caller::{Caller, Reply, basic};
use crate::support::idp::{Idp, TokenCall, reply};
use crate::support::program::{Program, run_in};
use crate::support::store::{Server, Store};
use crate::support::upstream::{Upstream, full};
use crate::support::{CLIENT_SECRET, Latch, PATIENCE, acme, becomes_true, eventually};

const STORE_PASSWORD: &str = "p:store/s3cret%7731";
const NEXT_SECRET: &str = "next-s3cret-7731";
const CALLER: &str = "webshop-7731";
const CALLER_PASSWORD: &str = "caller-s3cret-7731";
const ADMIN_TOKEN: &str = "admin-s3cret-7731-0123";
const ACCESS_TOKEN: &str = "access+token/7731.";
const REFRESH_TOKEN: &str = "refresh+token/7731.";
const IDEMPOTENCY_KEY: &str = "order-key-7731";

/// Of a token. Every instance gets some that way.
const LIFETIME: Duration = Duration::from_secs(3);

/// Everything that the store shows.
async fn all_that_is_seen(store: &Store, monitor: &[u8]) -> String {
    let mut operator = store.connect_as_operator().await;
    let mut seen = store.dump().await;
    for (name, value) in store.names().await {
        seen.extend([name, value].concat());
    }
    seen.extend(unescaped(monitor));
    seen.extend(store.log().into_bytes());
    for command in [
        &["SLOWLOG", "GET", "1000"][..],
        &["CLIENT", "LIST"],
        &["ACL", "LOG"],
        &["PUBSUB", "CHANNELS", "*"],
    ] {
        let said = operator.call(command).await;
        seen.extend(format!("{said:?}").into_bytes());
    }
    one_char_for_each(&seen)
}

/// So that what is not text can be looked for as text.
fn one_char_for_each(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// `MONITOR` writes what is not text as `\x00`, and quotes with a backslash.
fn unescaped(lines: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(lines.len());
    let mut rest = lines;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.strip_prefix(b"x").and_then(|digits| digits.get(..2));
        let hex = hex.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte, after) {
            (b'\\', Some(byte), _) => {
                plain.push(byte);
                rest = &after[3..];
            }
            (b'\\', None, [quoted, after @ ..]) => {
                plain.push(*quoted);
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// A text in the encodings in which it could be found, and its hash, by which a guess could be proved.
fn forms(text: &[u8]) -> BTreeSet<String> {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let hash = digest(&SHA256, text);
    let hash = hash.as_ref();
    let plain = one_char_for_each(text);
    let mut forms = BTreeSet::from([
        plain.chars().rev().collect(),
        plain.to_uppercase(),
        form_urlencoded::byte_serialize(text).collect(),
        hex(text),
        hex(text).to_uppercase(),
        one_char_for_each(hash),
        hex(hash.get(..6).unwrap_or_default()),
        STANDARD_NO_PAD.encode(hash),
        plain,
    ]);
    for engine in [STANDARD, URL_SAFE] {
        // Wherever it stands in what is encoded.
        for before in 0..3_usize {
            let encoded = engine.encode([&vec![0; before], text].concat());
            let (from, to) = ((8 * before).div_ceil(6), 8 * (before + text.len()) / 6);
            forms.extend(encoded.get(from..to).map(str::to_owned));
        }
    }
    forms
}

#[test]
fn a_text_is_found_in_every_form_and_a_log_of_commands_is_read_as_it_was_meant() {
    let text = "access+token/7731.1";
    let seen = one_char_for_each(&unescaped(
        br#"1.0 [0] "SET" "a\x00\"access+token/7731.1\\""#,
    ));
    assert!(seen.ends_with("a\0\"access+token/7731.1\\\""), "{seen}");
    for before in ["", "x", "xx", "xxx"] {
        let encoded = STANDARD.encode(format!("{before}{text}yy"));
        assert!(
            forms(text.as_bytes())
                .iter()
                .any(|form| encoded.contains(form))
        );
    }
}

/// Two instances with callers, refresh tokens, a journal and freezes.
fn file(place: Place, store: &Store, api: &Upstream, idp: &Idp) -> String {
    let Place { listen, admin } = place;
    let acme = acme(
        &api.url(),
        &idp.url(),
        &format!("token.refresh: grant\nnext_client_secret: {NEXT_SECRET}"),
    );
    let url = store.url();
    format!(
        "listen: {listen}\nadmin: {admin}\nadmin_token: {ADMIN_TOKEN}\njournal: {{path: journal}}\n\
         fleet: {{url: '{url}', keys: ['{KEY}'], name: seen}}\n\
         callers: {{{CALLER}: {{password: {CALLER_PASSWORD}, allow: [acme], limits: {{per_second: 1000, in_flight: 50}}}}}}\n{acme}"
    )
}

fn request(method: &str, path: &str) -> Request<crate::support::upstream::Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://api.test{path}"))
        .header("proxy-authorization", basic(CALLER, CALLER_PASSWORD))
        .header("idempotency-key", IDEMPOTENCY_KEY)
        .body(full("{}"))
        .unwrap()
}

/// Sends requests, of which one is held, for the lives of some tokens, and freezes and thaws.
async fn use_all(programs: &[Program], latch: &Latch) -> JoinHandle<Reply> {
    let begun = Instant::now();
    let held = tokio::spawn({
        let listen = programs[0].listen;
        async move {
            // Until the store is known to have lost no freeze, and to have given nobody a share before.
            loop {
                let mut caller = Caller::connect(listen).await;
                let reply = caller.request(request("POST", "/held")).await;
                if ![429, 503].contains(&reply.status.as_u16()) {
                    return reply;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    latch.reached_by(1).await;
    for program in programs {
        let is_let_through = becomes_true(PATIENCE, async || {
            let mut caller = Caller::connect(program.listen).await;
            caller.request(request("GET", "/")).await.status == 200
        });
        assert!(is_let_through.await);
    }
    while begun.elapsed() < 3 * LIFETIME {
        for program in programs {
            let mut caller = Caller::connect(program.listen).await;
            assert_eq!(caller.request(request("GET", "/")).await.status, 200);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for verb in ["freeze", "thaw", "freeze"] {
        let said = run_in(programs[1].directory(), &[verb, "acme"], &[]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    held
}

/// What must not be seen, after so many token calls.
fn secrets(calls: usize) -> Vec<Vec<u8>> {
    let key = STANDARD.decode(KEY).unwrap();
    let mut secrets: Vec<Vec<u8>> = [
        STORE_PASSWORD,
        CALLER,
        CALLER_PASSWORD,
        ADMIN_TOKEN,
        IDEMPOTENCY_KEY,
        CLIENT_SECRET,
        NEXT_SECRET,
        "acme-id",
        ACCESS_TOKEN,
        REFRESH_TOKEN,
        KEY,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    secrets.push(key);
    for number in 1..=calls {
        secrets.push(format!("{ACCESS_TOKEN}{number}").into_bytes());
        secrets.push(format!("Bearer {ACCESS_TOKEN}{number}").into_bytes());
        secrets.push(format!("{REFRESH_TOKEN}{number}").into_bytes());
    }
    secrets
}

#[tokio::test]
async fn a_dump_of_the_store_its_log_of_commands_and_its_log_tell_nothing() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let rules = "~bursar:seen:* &bursar:seen:* +@all";
    let launch = server
        .launch()
        .line("loglevel debug")
        .line("slowlog-log-slower-than 0");
    let store = launch.user("bursar", STORE_PASSWORD, rules).start().await;
    let monitor = store.monitor().await;
    let latch = Latch::closed();
    let api = Upstream::held("fine", &latch).await;
    let idp = Idp::start(|call: TokenCall| async move {
        let number = call.number;
        let lifetime = LIFETIME.as_secs();
        let body = json!({
            "access_token": format!("{ACCESS_TOKEN}{number}"), "expires_in": lifetime,
            "refresh_token": format!("{REFRESH_TOKEN}{number}"), "refresh_expires_in": 60,
        });
        reply(200, &body)
    })
    .await;
    let mut programs = Vec::new();
    for _ in 0..2 {
        let file = file(Place::any(), &store, &api, &idp);
        programs.push(Program::start(&file, "debug").await);
    }
    let held = use_all(&programs, &latch).await;
    let grants: Vec<_> = idp
        .seen()
        .into_iter()
        .filter_map(|seen| seen.body)
        .collect();
    let is_refresh = |body: &bytes::Bytes| body.starts_with(b"grant_type=refresh_token");
    assert!(grants.iter().any(is_refresh), "{grants:?}");
    // All of it has been said.
    eventually(|| async {
        let before = monitor.lines().len();
        tokio::time::sleep(Duration::from_millis(200)).await;
        monitor.lines().len() == before || before > 100_000
    })
    .await;
    let seen = all_that_is_seen(&store, &monitor.lines()).await;
    assert!(seen.matches("bursar:seen:").count() > 20, "{}", seen.len());
    for secret in &secrets(idp.calls()) {
        for form in forms(secret) {
            let place = seen.find(&form);
            let around = place.map(|place| seen.chars().skip(place).take(200).collect::<String>());
            assert_eq!(
                around,
                None,
                "{} as {form:?}",
                String::from_utf8_lossy(secret)
            );
        }
    }
    latch.open();
    assert_eq!(held.await.unwrap().status, 200);
}
