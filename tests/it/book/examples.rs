//! What the pages show works: YAML, commands, files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use bursar_config::Config;
use serde_json::Value;

use super::{Page, ROOT, keys};

fn pages() -> Vec<Page> {
    let mut pages = Page::all();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(Page::read));
    pages
}

/// With a value in place of everything that is the operator's.
fn filled_in(yaml: &str) -> String {
    let mut text = yaml.to_owned();
    while let Some((before, rest)) = text.split_once("${") {
        let (_, after) = rest.split_once('}').unwrap();
        text = format!("{before}a-secret-of-32-characters-012345{after}");
    }
    text
}

/// The key paths of a value, with `[]` for entries of lists; names are as they stand.
fn key_paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                let path = path.trim_start_matches('.');
                found.insert(path.to_owned());
                key_paths(value, path, found);
            }
        }
        Value::Array(values) => {
            for value in values {
                key_paths(value, &format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

/// Whether a key path is one of the schema's.
fn is_known(path: &str, known: &BTreeSet<String>) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    known.iter().any(|known| {
        let known: Vec<&str> = known.split('.').collect();
        let is_same = |(part, known): (&&str, &&str)| part == known || *known == "NAME";
        let begins = parts.iter().zip(&known).all(is_same);
        // A name, or a word of a map of words, has no path of its own.
        begins && (parts.len() <= known.len() || known.last() == Some(&"rules"))
    })
}

#[test]
fn yaml_of_whole_files_is_accepted_and_fragments_have_known_keys() {
    let known = keys::paths();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for page in pages() {
        for (language, code) in page.blocks() {
            let place = format!("{}:\n{code}", page.path.display());
            let code = filled_in(&code);
            match language {
                "yaml" => {
                    let config = Config::parse(&code, Path::new(""));
                    assert!(config.is_ok(), "{place}{:#?}", config.unwrap_err());
                    *counts.entry("whole").or_default() += 1;
                }
                "yaml,fragment" => {
                    let value: Value = serde_yaml::from_str(&code)
                        .unwrap_or_else(|error| panic!("{place}{error}"));
                    let mut paths = BTreeSet::new();
                    key_paths(&value, "", &mut paths);
                    for path in paths {
                        assert!(is_known(&path, &known), "{place}{path} is no key");
                    }
                    *counts.entry("fragment").or_default() += 1;
                }
                "yaml,kubernetes" | "yaml,kustomize" | "yaml,prometheus" => {
                    let value: Result<Value, _> = serde_yaml::from_str(&code);
                    assert!(value.is_ok(), "{place}{}", value.unwrap_err());
                }
                other => assert!(!other.starts_with("yaml"), "{place}what is {other}?"),
            }
        }
    }
    assert!(
        counts["whole"] >= 10 && counts["fragment"] >= 10,
        "{counts:?}"
    );
}

#[test]
fn a_key_that_is_none_is_told_from_one_that_is() {
    let known = keys::paths();
    for path in [
        "listen",
        "providers.acme.token.margin",
        "providers.acme.routes[].scopes",
        "egress.rules.private",
        "callers.x",
    ] {
        assert!(is_known(path, &known), "{path}");
    }
    for path in [
        "listne",
        "providers.acme.token.margins",
        "providers.acme.routes.scopes",
        "callers.x.allow[].path",
    ] {
        assert!(!is_known(path, &known), "{path}");
    }
}

/// The lines of shell that a page shows, without comments.
fn commands(page: &Page) -> Vec<String> {
    let blocks = page.blocks();
    let shell = blocks.iter().filter(|(language, _)| *language == "sh");
    let lines = shell.flat_map(|(_, code)| code.lines());
    let lines = lines.map(|line| line.split(" #").next().unwrap().trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Help for the subcommand that some words begin with; None where there is none.
fn help(words: &[&str]) -> Option<String> {
    let subcommands = words.iter().take_while(|word| {
        let is_lower = |char: char| char.is_ascii_lowercase() || char == '-';
        !word.starts_with('-') && word.chars().all(is_lower)
    });
    let subcommands: Vec<&str> = subcommands.copied().take(2).collect();
    // The second word may be an argument of the first.
    let lengths = (1..=subcommands.len()).rev();
    lengths.into_iter().find_map(|length| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
        let output = command
            .args(subcommands.get(..length).unwrap())
            .arg("--help")
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    })
}

#[test]
fn every_command_that_a_page_shows_exists_with_its_options() {
    let mut count = 0;
    for page in pages() {
        for line in commands(&page) {
            let place = format!("{}: {line}", page.path.display());
            let words: Vec<&str> = line.split_whitespace().collect();
            let own = match words.as_slice() {
                ["bursar" | "target/quick/bursar", own @ ..] => own,
                ["cargo", "run", rest @ ..] => {
                    let at = rest.iter().position(|word| *word == "--").unwrap();
                    &rest[at + 1..]
                }
                ["cargo", "bench", rest @ ..] => {
                    let named = ["--bench", "--package"];
                    let at = rest.iter().position(|word| named.contains(word)).unwrap();
                    let name = format!("name = \"{}\"", rest[at + 1]);
                    let manifests = ["Cargo.toml", "benches/instructions/Cargo.toml"];
                    let mut texts = manifests.map(Page::read).into_iter();
                    assert!(texts.any(|page| page.text.contains(&name)), "{place}");
                    continue;
                }
                [program, ..] => {
                    let is_path = program.contains('/') && !program.contains(':');
                    assert!(
                        !is_path || Path::new(ROOT).join(program).exists(),
                        "{place}"
                    );
                    continue;
                }
                [] => continue,
            };
            let help = help(own).unwrap_or_else(|| panic!("{place}: no such command"));
            for option in own.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{place}: no {option}");
            }
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
}
