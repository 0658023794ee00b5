//! Every link between pages leads somewhere, its anchor too, and every page is in the table of contents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{Page, ROOT};

/// The anchors of a page's headings, as mdBook and GitHub make them.
pub(super) fn anchors(page: &Page) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in page.prose() {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug = heading.trim().chars().filter_map(|char| match char {
            ' ' => Some('-'),
            '-' | '_' => Some(char),
            char if char.is_alphanumeric() => Some(char.to_ascii_lowercase()),
            _ => None,
        });
        let slug: String = slug.collect();
        let count = seen.entry(slug.clone()).or_default();
        anchors.insert(match *count {
            0 => slug,
            count => format!("{slug}-{count}"),
        });
        *count += 1;
    }
    anchors
}

/// The targets of the links of a page that are no URLs.
fn targets(page: &Page) -> Vec<String> {
    let mut targets = Vec::new();
    for line in page.prose() {
        for (at, _) in line.match_indices("](") {
            let rest = line.get(at + 2..).unwrap();
            let target = rest.split(')').next().unwrap();
            if !target.contains("://") {
                targets.push(target.to_owned());
            }
        }
    }
    targets
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{}", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let mut pages = Page::all();
    pages.extend(["README.md", "CONTRIBUTING.md", "docs/src/SUMMARY.md"].map(Page::read));
    let mut count = 0;
    for page in &pages {
        for target in targets(page) {
            count += 1;
            let wrong = format!("{}: {target}", page.path.display());
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let place = match file {
                "" => page.path.clone(),
                file => plain(&page.path.parent().unwrap().join(file)),
            };
            assert!(
                Path::new(ROOT).join(&place).exists(),
                "{wrong}: no such file"
            );
            // What is outside is not in the built book.
            let is_of_the_book = page.path.starts_with("docs/src");
            assert!(
                !is_of_the_book || place.starts_with("docs/src"),
                "{wrong}: outside of the book"
            );
            if !anchor.is_empty() {
                let page = pages.iter().find(|page| page.path == place);
                let anchors = anchors(page.unwrap_or_else(|| panic!("{wrong}: no page")));
                assert!(anchors.contains(anchor), "{wrong}: not one of {anchors:#?}");
            }
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let summary = targets(&Page::read("docs/src/SUMMARY.md"));
    let listed: BTreeSet<PathBuf> = summary
        .iter()
        .map(|target| Path::new("docs/src").join(target))
        .collect();
    let pages = Page::all().into_iter().map(|page| page.path);
    assert_eq!(pages.collect::<BTreeSet<_>>(), listed);
}
