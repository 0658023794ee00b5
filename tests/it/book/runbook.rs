//! The runbook: a section for each alert and each reason, where the alerts say that it is.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Page, ROOT, links};
use crate::monitoring;

const PAGE: &str = "docs/src/operations/runbook.md";

/// The headings of the third level, in order.
fn sections(page: &Page) -> Vec<String> {
    let lines = page.prose().into_iter();
    let headings = lines.filter_map(|line| line.strip_prefix("### "));
    headings.map(str::to_owned).collect()
}

/// Those of the page of reasons.
fn reasons() -> BTreeSet<String> {
    let page = Page::read("docs/src/reference/reasons.md");
    let table = page.text.split("\n## Details\n").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| row.split_once("` | "));
    rows.map(|(reason, _)| reason.to_owned())
        .filter(|reason| reason != "reason")
        .collect()
}

#[test]
fn every_alert_and_every_reason_has_one_section_and_nothing_else_has() {
    let alerts = monitoring::rules().into_iter();
    let alerts = alerts.filter(|rule| rule.severity.is_some());
    let mut wanted: BTreeSet<String> = alerts.map(|rule| rule.name).collect();
    let reasons = reasons();
    assert!(reasons.len() > 20, "{reasons:?}");
    wanted.extend(reasons);
    let sections = sections(&Page::read(PAGE));
    assert_eq!(sections.len(), wanted.len());
    assert_eq!(sections.into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn every_runbook_url_leads_to_a_section_of_the_built_book() {
    let anchors = links::anchors(&Page::read(PAGE));
    for rule in monitoring::rules()
        .iter()
        .filter(|rule| rule.severity.is_some())
    {
        let url = rule.annotation("runbook_url");
        let (place, anchor) = url.split_once('#').unwrap();
        let page = place.strip_prefix("https://bursar.example/").unwrap();
        let source = Path::new("docs/src").join(page).with_extension("md");
        assert_eq!(source, Path::new(PAGE), "{url}");
        assert!(Path::new(ROOT).join(source).exists(), "{url}");
        assert!(anchors.contains(anchor), "{url}");
    }
}
