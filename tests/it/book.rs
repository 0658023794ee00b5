//! The book in `docs` and `README.md`: the generated pages are up to date, links lead somewhere, the code
//! that is named is there, and what is shown works.
//!
//! `BURSAR_WRITE_BOOK=1 cargo test book` renews the generated pages and blocks; the page of reasons is `exchange::respond`'s.

mod code;
mod examples;
mod keys;
mod links;
mod metrics;
mod runbook;
mod situations;

use std::fs;
use std::path::{Path, PathBuf};

/// Where the tree is.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A page, or the README.
struct Page {
    /// From the root of the tree.
    path: PathBuf,
    text: String,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
        let path = path.into();
        Self { path, text }
    }

    /// Every page of the book.
    fn all() -> Vec<Self> {
        let mut found = Vec::new();
        let mut directories = vec!["docs/src".to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(Path::new(ROOT).join(&directory)).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{directory}/{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    directories.push(path);
                } else if path.ends_with(".md") && !path.ends_with("SUMMARY.md") {
                    found.push(Self::read(&path));
                }
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }

    /// The code blocks: what stands behind the three backticks, and the code.
    fn blocks(&self) -> Vec<(&str, String)> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                blocks.push((language, code.join("\n") + "\n"));
            }
        }
        blocks
    }

    /// The lines that are not code.
    fn prose(&self) -> Vec<&str> {
        let mut is_code = false;
        let mut prose = Vec::new();
        for line in self.text.lines() {
            if line.starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                prose.push(line);
            }
        }
        prose
    }
}

/// Compares a generated page with the one in the tree, or writes it there.
#[track_caller]
fn is_in_the_tree(path: &str, generated: &str) {
    let full = Path::new(ROOT).join(path);
    if std::env::var_os("BURSAR_WRITE_BOOK").is_some() {
        fs::write(&full, generated).unwrap();
    }
    let kept = fs::read_to_string(&full).unwrap_or_default();
    assert!(
        kept == generated,
        "{path} is not what the code says; renew it with BURSAR_WRITE_BOOK=1 cargo test book"
    );
}

#[test]
fn the_readme_is_short() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(
        lines <= 200,
        "README.md has {lines} lines; the rest belongs into docs/src"
    );
}
