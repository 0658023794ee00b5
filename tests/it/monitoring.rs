//! Rules, alerts and the dashboard in `deploy`, as far as they can be judged without Prometheus; `interop::monitoring` has
//! it run them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// A rule of `deploy/prometheus/alerts.yml`.
pub(crate) struct Rule {
    /// Of the alert, or of what is recorded.
    pub(crate) name: String,
    pub(crate) expression: String,
    /// None: it records.
    pub(crate) severity: Option<String>,
    annotations: Value,
}

impl Rule {
    pub(crate) fn annotation(&self, name: &str) -> &str {
        text(&self.annotations, &format!("/{name}"))
    }
}

pub(crate) fn rules() -> Vec<Rule> {
    let file: Value = serde_yaml::from_str(&read("deploy/prometheus/alerts.yml")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let rules = rules.map(|rule| {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
        Rule {
            name: name.to_owned(),
            expression: text(rule, "/expr").to_owned(),
            severity: rule["labels"]["severity"].as_str().map(str::to_owned),
            annotations: rule["annotations"].clone(),
        }
    });
    rules.collect()
}

/// The panels of `deploy/grafana/bursar.json`, rows among them.
pub(crate) fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/bursar.json")).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// The expressions of a panel.
pub(crate) fn expressions(panel: &Value) -> impl Iterator<Item = &str> {
    let targets = panel["targets"].as_array();
    let targets = targets.into_iter().flatten();
    targets.map(|target| text(target, "/expr"))
}

/// The selectors of an expression: what stands before a brace, and the matchers in it.
pub(crate) fn selectors(expression: &str) -> Vec<String> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || "_:".contains(char);
    let mut found = Vec::new();
    for (open, _) in expression.match_indices('{') {
        let before = expression.get(..open).unwrap();
        let name = before.rsplit(|char| !is_name(char)).next().unwrap();
        let matchers = expression.get(open..).unwrap().split_inclusive('}').next();
        if !name.is_empty() {
            found.push(format!("{name}{}", matchers.unwrap()));
        }
    }
    found
}

/// The metrics of the page, with the names of their labels.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/src/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| {
        let (name, rest) = row.split_once("` | ")?;
        let labels = rest.split(" | ").nth(1)?;
        let labels = labels.split("; ").map(|label| {
            let is_part = |char: &char| char.is_ascii_lowercase() || *char == '_';
            let label = label.trim_start_matches('[').chars();
            label.take_while(is_part).collect::<String>()
        });
        let labels = labels.filter(|label| !label.is_empty());
        Some((name.to_owned(), labels.collect()))
    });
    let metrics: BTreeMap<_, _> = rows.collect();
    assert!(metrics.len() > 40, "{metrics:?}");
    metrics
}

/// The metric that a series is of, and the names of its labels.
fn of<'a>(
    series: &str,
    metrics: &'a BTreeMap<String, BTreeSet<String>>,
) -> Option<&'a BTreeSet<String>> {
    let ends = ["_bucket", "_sum", "_count"];
    let base = ends.iter().find_map(|end| series.strip_suffix(end));
    metrics.get(series).or_else(|| metrics.get(base?))
}

#[test]
fn every_metric_that_a_rule_or_a_panel_names_exists_and_is_of_the_job() {
    let (metrics, rules) = (metrics(), rules());
    let recorded: BTreeSet<&str> = rules.iter().map(|rule| &*rule.name).collect();
    let panels = panels();
    let shown = panels.iter().flat_map(expressions);
    let shown = shown.map(|expression| (expression, "job=~\"$job\""));
    let ruled = rules
        .iter()
        .map(|rule| (&*rule.expression, "job=\"bursar\""));
    let is_part = |char: char| char.is_ascii_alphanumeric() || "_:".contains(char);
    let mut count = 0;
    for (expression, job) in ruled.chain(shown) {
        for selector in selectors(expression) {
            assert!(selector.contains(job), "{selector} in {expression}");
        }
        let selected = selectors(expression).len();
        let mut named = 0;
        for word in expression.split(|char| !is_part(char)) {
            if word.starts_with("bursar_") && word.len() > "bursar_".len() {
                named += 1;
                assert!(of(word, &metrics).is_some(), "{word} in {expression}");
            } else if word.contains(':') && word.contains("bursar_") {
                assert!(recorded.contains(word), "{word} in {expression}");
            }
        }
        assert!(named <= selected, "a metric without a job: {expression}");
        count += named;
    }
    assert!(count > 100, "{count}");
}

/// Promtool's tests try that form with the first of them.
#[test]
fn all_increases_in_an_hour_are_recorded_in_one_form() {
    let mut forms = BTreeSet::new();
    let mut count = 0;
    for rule in rules()
        .iter()
        .filter(|rule| rule.name.ends_with(":increase1h"))
    {
        let (_, form) = rule.expression.split_once(") (").unwrap();
        let counted = selectors(form).swap_remove(0);
        forms.insert(form.replace(&counted, "COUNTER"));
        count += 1;
    }
    assert!(forms.len() == 1 && count > 3, "{forms:#?}");
}

#[test]
fn every_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on() {
    for rule in rules()
        .iter()
        .filter(|rule| rule.name.starts_with("Bursar"))
    {
        let severity = rule.severity.as_deref().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{}", rule.name);
        assert!(rule.annotation("summary").ends_with('.'), "{}", rule.name);
        assert!(rule.annotation("description").len() > 60, "{}", rule.name);
        let section = format!("/runbook.html#{}", rule.name.to_lowercase());
        assert!(
            rule.annotation("runbook_url").ends_with(&section),
            "{}",
            rule.name
        );
    }
}

/// The files of tests for promtool.
pub(crate) fn tests() -> Vec<String> {
    let directory = "deploy/prometheus/tests";
    let files = fs::read_dir(Path::new(ROOT).join(directory)).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let files = files.map(|name| format!("{directory}/{name}"));
    files.collect()
}

#[test]
fn promtool_has_a_test_of_every_alert_that_fires_and_of_one_that_does_not() {
    let mut fires = BTreeSet::new();
    let mut is_silent = BTreeSet::new();
    for file in tests() {
        let file: Value = serde_yaml::from_str(&read(&file)).unwrap();
        let tests = file["tests"].as_array().unwrap().iter();
        let tests = tests.filter_map(|test| test["alert_rule_test"].as_array());
        for test in tests.flatten() {
            let name = text(test, "/alertname").to_owned();
            let expected = test["exp_alerts"].as_array().unwrap();
            if expected.is_empty() {
                is_silent.insert(name);
                continue;
            }
            for alert in expected {
                fires.insert((name.clone(), text(alert, "/exp_labels/severity").to_owned()));
            }
        }
    }
    let alerts = rules().into_iter();
    let alerts: BTreeSet<_> = alerts
        .filter_map(|rule| Some((rule.name, rule.severity?)))
        .collect();
    assert_eq!(fires, alerts);
    let names: BTreeSet<String> = alerts.into_iter().map(|(name, _)| name).collect();
    assert_eq!(is_silent, names);
}

#[test]
fn the_series_of_promtool_s_tests_have_the_labels_that_a_scrape_has() {
    let metrics = metrics();
    let mut count = 0;
    for file in tests() {
        for (at, _) in read(&file).match_indices("series: '") {
            let file = read(&file);
            let series = file.get(at + "series: '".len()..).unwrap();
            let series = series.split('\'').next().unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            if !name.starts_with("bursar_") {
                continue;
            }
            let labels = labels.trim_end_matches('}').split("\",");
            let labels = labels.map(|label| label.split('=').next().unwrap().to_owned());
            // Of the target.
            let target = [
                "job",
                "instance",
                "namespace",
                "pod",
                "cluster",
                "release",
                "node",
            ];
            let labels: BTreeSet<String> =
                labels.filter(|label| !target.contains(&&**label)).collect();
            assert_eq!(Some(&labels), of(name, &metrics), "{series}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn every_panel_has_words_a_unit_a_templated_data_source_and_a_place_of_its_own() {
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut rows = Vec::new();
    for panel in panels() {
        let title = text(&panel, "/title").to_owned();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let size = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(size("x") + size("w") <= 24, "{title}");
        for x in size("x")..size("x") + size("w") {
            for y in size("y")..size("y") + size("h") {
                assert!(places.insert((x, y)), "{title} covers another panel");
            }
        }
        if panel["type"] == "row" {
            rows.push(title);
            continue;
        }
        assert!(text(&panel, "/description").ends_with('.'), "{title}");
        assert!(
            !text(&panel, "/fieldConfig/defaults/unit").is_empty(),
            "{title}"
        );
        let targets = panel["targets"].as_array().unwrap();
        let sources = targets.iter().map(|target| &target["datasource"]["uid"]);
        for source in sources.chain([&panel["datasource"]["uid"]]) {
            assert_eq!(source, "${datasource}", "{title}");
        }
        for expression in expressions(&panel) {
            // A window of a fixed length is empty where scrapes are further apart.
            let windows = expression.split('[').skip(1);
            for window in windows.map(|rest| rest.split(']').next().unwrap()) {
                assert!(
                    ["$__rate_interval", "$__range"].contains(&window),
                    "{title}"
                );
            }
        }
    }
    assert_eq!(
        rows,
        [
            "What matters first",
            "Tokens",
            "Traffic by provider and caller",
            "Refusals",
            "Payments and journal",
            "Fleet",
            "Process and configuration"
        ]
    );
}

/// The reasons with status 5xx of the page of reasons that say that, alone or beside the other.
fn reasons(request_sent: &str) -> BTreeSet<String> {
    let page = read("docs/src/reference/reasons.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| {
        let (reason, rest) = row.split_once("` | ")?;
        let (status, rest) = rest.split_once(" | ")?;
        let sent = rest.split(" | ").next()?;
        (status.starts_with('5') && sent.contains(request_sent)).then(|| reason.to_owned())
    });
    rows.collect()
}

#[test]
fn failures_by_request_sent_are_all_reasons_that_are_bursar_s_own_failures() {
    let panels = panels();
    let panel = panels
        .iter()
        .find(|panel| panel["title"] == "Failures by request_sent");
    let shown = expressions(panel.unwrap()).map(|expression| {
        let (_, reasons) = expression.split_once("reason=~\"").unwrap();
        let reasons = reasons.split('"').next().unwrap().split('|');
        reasons.map(str::to_owned).collect::<BTreeSet<_>>()
    });
    let shown: Vec<_> = shown.collect();
    let maybe = reasons("maybe");
    let no: BTreeSet<String> = reasons("no").difference(&maybe).cloned().collect();
    assert_eq!(shown, [no, maybe]);
}
