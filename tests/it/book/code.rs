//! What the book says of the code: paths in backticks exist, and the items named with them occur there.

use std::fs;
use std::path::Path;

use super::{Page, ROOT};

/// Where paths in the tree begin.
const ROOTS: [&str; 8] = [
    ".ci/", "benches/", "crates/", "deploy/", "docs/", "fuzz/", "src/", "tests/",
];

/// What stands between backticks in a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a span is a path in the tree.
fn is_path(span: &str) -> bool {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
    ROOTS.iter().any(|root| span.starts_with(root)) && span.chars().all(is_plain)
}

/// Whether a word is in the code of a file, whatever its comments say.
fn has_item(file: &str, item: &str) -> bool {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let code = file.lines().map(|line| line.split("//").next().unwrap());
    code.flat_map(|line| line.split(|char| !is_word(char)))
        .any(|word| word == item)
}

#[test]
fn every_path_of_the_tree_exists() {
    let mut pages = Page::all();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(Page::read));
    let mut count = 0;
    for page in &pages {
        for path in page
            .prose()
            .into_iter()
            .flat_map(spans)
            .filter(|span| is_path(span))
        {
            count += 1;
            let exists = Path::new(ROOT).join(path).exists();
            assert!(exists, "{}: {path} is gone", page.path.display());
        }
    }
    assert!(count > 20, "{count}");
}

/// In "Finding your way" an item belongs to the file that is named before it.
#[test]
fn every_item_that_shows_the_way_is_in_its_file() {
    let page = Page::read("docs/src/architecture.md");
    let (_, section) = page.text.split_once("\n## Finding your way\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut count = 0;
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let (_, answer) = row.trim_matches('|').split_once('|').unwrap();
        let mut file = None;
        for span in spans(answer) {
            if is_path(span) {
                let text = fs::read_to_string(Path::new(ROOT).join(span)).unwrap();
                file = Some((span, text));
                continue;
            }
            let Some((path, text)) = &file else {
                panic!("{span} comes before any file: {row}");
            };
            for item in span.split("::") {
                count += 1;
                assert!(has_item(text, item), "{item} is not in {path}");
            }
        }
    }
    assert!(count > 20, "{count}");
}
