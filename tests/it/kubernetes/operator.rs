//! The objects of the Prometheus operator, by the schemas of its own types: `tests/peers/operator_objects.mjs`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::chart::helm;
use super::{ROOT, golden, rendered, text};

/// The operator's objects that the chart makes, with all that can be said of them in values or with what `set` says; None where
/// there is no `helm`.
fn objects(set: &[&str]) -> Option<Vec<Value>> {
    let mut helm = helm(&["template", "shop"])?;
    let values = golden().join("monitoring.values.yaml");
    helm.arg("--values").arg(values);
    for value in set {
        helm.args(["--set", value]);
    }
    let manifest = rendered(&helm.output().unwrap());
    let documents = serde_yaml::Deserializer::from_str(&manifest);
    let objects = documents.map(|document| Value::deserialize(document).unwrap());
    let found: Vec<Value> = objects
        .filter(|object| object["apiVersion"] == "monitoring.coreos.com/v1")
        .collect();
    assert_eq!(found.len(), 2);
    Some(found)
}

/// What is said of them, and whether they are valid; None where nothing can be said.
fn validated(objects: &[Value]) -> Option<(bool, String)> {
    let peers = Path::new(ROOT).join("tests/peers");
    if !peers
        .join("node_modules/@kubernetes-models/prometheus-operator")
        .exists()
    {
        bursar_testkit::skip("@kubernetes-models/prometheus-operator");
        return None;
    }
    let mut child = Command::new("node")
        .arg("operator_objects.mjs")
        .current_dir(peers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(json!(objects).to_string().as_bytes())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Some((
        output.status.success(),
        text(&output.stdout) + &text(&output.stderr),
    ))
}

#[test]
fn the_operator_takes_what_the_chart_makes_for_it() {
    let Some(objects) = objects(&[]) else {
        return;
    };
    let Some((is_valid, said)) = validated(&objects) else {
        return;
    };
    assert!(is_valid && said == "2 objects, 0 problems\n", "{said}");
    for (pointer, value, expected) in [
        (
            "/spec/podMetricsEndpoints/0/interval",
            json!(30),
            "must be string",
        ),
        (
            "/spec/podMetricsEndpoints/0",
            json!({"prot": "admin"}),
            "prot is unknown",
        ),
        (
            "/spec/groups/1/rules/0",
            json!({"alert": "A"}),
            "required property expr",
        ),
    ] {
        let mut wrong = objects.clone();
        let mut places = wrong
            .iter_mut()
            .filter_map(|object| object.pointer_mut(pointer));
        *places.next().unwrap() = value;
        let (is_valid, said) = validated(&wrong).unwrap();
        assert!(!is_valid && said.contains(expected), "{pointer}: {said}");
    }
}

#[test]
fn alerts_lead_to_the_book_where_that_is_served_and_name_the_page_where_it_is_not() {
    let links = |book: &str| {
        let objects = objects(&[&format!("prometheusRule.book={book}")])?;
        let mut rules = objects
            .into_iter()
            .filter(|object| object["kind"] == "PrometheusRule");
        let groups = rules.next()?["spec"]["groups"].take();
        let rules = groups
            .as_array()?
            .iter()
            .filter_map(|group| group["rules"].as_array());
        let alerts = rules.flatten().filter(|rule| !rule["alert"].is_null());
        let annotations = alerts.map(|alert| {
            let annotations = &alert["annotations"];
            ["runbook_url", "runbook"]
                .map(|key| annotations[key].as_str().unwrap_or_default().to_owned())
        });
        Some(annotations.collect::<Vec<[String; 2]>>())
    };
    let (Some(served), Some(not_served)) = (links("https://docs.example/bursar/"), links(""))
    else {
        return;
    };
    assert!(served.len() > 20 && served.len() == not_served.len());
    for ([url, none], [no_url, page]) in served.iter().zip(&not_served) {
        let anchor = url.strip_prefix("https://docs.example/bursar/operations/runbook.html#");
        let anchor = anchor.unwrap();
        assert_eq!(*page, format!("docs/src/operations/runbook.md#{anchor}"));
        assert_eq!((none.as_str(), no_url.as_str()), ("", ""));
    }
}
