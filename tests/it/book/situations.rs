//! What the page *When something fails* shows: every situation is made with the real program, and what its places say of
//! it is compared with the page. `BURSAR_WRITE_BOOK=1 cargo test book` writes it there.
//!
//! On the page `<!-- shown: NAME -->` stands before the block of a situation; the prose around it is written by hand.

mod causes;
mod files;
mod operating;
mod places;
mod refusals;

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::task::{JoinSet, LocalSet};

use places::Situation;

use super::{Page, is_in_the_tree};
use crate::support::CLIENT_SECRET;

const PAGE: &str = "docs/src/when-something-fails.md";
/// How many programs run at once.
const AT_ONCE: usize = 3;

pub(super) const ADMIN_TOKEN: &str = "adm1n-t0ken+of/7731=";
pub(super) const PASSWORD: &str = "caller-s3cret+7731/";
pub(super) const GUESS: &str = "guessed-s3cret+7731";
const ACCESS_TOKEN: &str = "token-1";
/// 32 bytes.
pub(super) const FLEET_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const SECRETS: [&str; 5] = [CLIENT_SECRET, ADMIN_TOKEN, PASSWORD, GUESS, FLEET_KEY];

/// What a situation came to.
pub(super) struct Shown {
    name: &'static str,
    /// As it stands on the page; None: it cannot be made on this machine.
    block: Option<String>,
    /// All that the programs printed.
    printed: String,
}

#[tokio::test]
async fn the_page_shows_what_callers_log_status_and_check_say_of_each_situation() {
    let mut situations = causes::all().await;
    situations.extend(refusals::all().await);
    let mut shown = LocalSet::new().run_until(made(situations)).await;
    shown.extend(files::all().await);
    shown.extend(operating::all().await);
    for one in &shown {
        assert_no_secret(one);
    }
    let count = shown.len();
    assert!(count >= 30, "{count}");
    let blocks = shown.into_iter().map(|one| (one.name, one.block));
    let blocks: BTreeMap<_, _> = blocks.collect();
    assert_eq!(blocks.len(), count, "two situations have one name");
    let kept = Page::read(PAGE).text;
    let page = with_blocks(&kept, blocks);
    let changed = page
        .lines()
        .zip(kept.lines())
        .find(|(now, then)| now != then);
    if let Some((now, then)) = changed {
        let lines = format!("on the page: {then}\nnow: {now}\n");
        std::io::stderr().write_all(lines.as_bytes()).unwrap();
    }
    is_in_the_tree(PAGE, &page);
}

async fn made(situations: Vec<Situation>) -> Vec<Shown> {
    let (mut running, mut shown) = (JoinSet::new(), Vec::new());
    for situation in situations {
        if running.len() == AT_ONCE {
            shown.push(running.join_next().await.unwrap().unwrap());
        }
        running.spawn_local(situation.shown());
    }
    shown.extend(running.join_all().await);
    shown
}

/// The page with these blocks.
fn with_blocks(text: &str, mut blocks: BTreeMap<&str, Option<String>>) -> String {
    let mut page = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        page.push_str(line);
        page.push('\n');
        let name = line.strip_prefix("<!-- shown: ");
        let Some(name) = name.and_then(|name| name.strip_suffix(" -->")) else {
            continue;
        };
        let block = blocks.remove(name);
        let block =
            block.unwrap_or_else(|| panic!("nobody makes {name}, or the page has it twice"));
        assert_eq!(lines.next(), Some("```text"), "{name} has no block");
        let kept: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let kept = kept.iter().map(|line| format!("{line}\n")).collect();
        page.push_str(&format!("```text\n{}```\n", block.unwrap_or(kept)));
    }
    assert!(blocks.is_empty(), "{PAGE} lacks {:?}", blocks.keys());
    page
}

/// Neither the secrets of the file nor the token, in any usual encoding.
fn assert_no_secret(shown: &Shown) {
    let basic = |password: &str| STANDARD.encode(format!("shop:{password}"));
    let mut texts = vec![
        basic(PASSWORD),
        basic(GUESS),
        STANDARD.encode(format!("acme-id:{CLIENT_SECRET}")),
        format!("Bearer {ACCESS_TOKEN}"),
    ];
    for secret in SECRETS {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        texts.extend([
            secret.to_owned(),
            percent_encoded(secret),
            STANDARD.encode(secret).trim_end_matches('=').to_owned(),
            hex,
        ]);
    }
    for text in texts {
        let Some(at) = shown.printed.find(&text) else {
            continue;
        };
        let (before, after) = shown.printed.split_at(at);
        let begin: String = before.lines().last().unwrap_or_default().to_owned();
        let line: String = begin.chars().chain(after.chars()).take(400).collect();
        panic!("{}: {text} is in what was printed:{line}", shown.name);
    }
}

fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() || byte == b'-' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// Without what differs each time: directories, ports, ids, times.
pub(super) fn normalised(text: &str, directory: &std::path::Path) -> String {
    let text = text.replace(&format!("{}/", directory.display()), "");
    let mut found = String::new();
    let mut rest = &*text;
    while let Some(first) = rest.chars().next() {
        let is_word = first.is_ascii_alphanumeric();
        let end = |char: char| !char.is_ascii_alphanumeric();
        let length = match is_word {
            true => rest.find(end).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        let is_number = word.len() >= 5 && word.bytes().all(|byte| byte.is_ascii_digit());
        let is_id = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        found.push_str(match () {
            () if is_id => "ID",
            () if is_number && found.ends_with(':') => "PORT",
            () if is_number => "N",
            () => word,
        });
        rest = after;
    }
    found
}
