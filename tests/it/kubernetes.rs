//! The Helm chart and the kustomizations in `deploy`, rendered by the real `helm` and `kubectl`: what comes out is what the
//! golden files in `tests/kubernetes` have, it is valid for several versions of Kubernetes, and `bursar check` accepts the
//! configuration in it.
//!
//! `BURSAR_WRITE_KUBERNETES=1 cargo test --test it kubernetes` renews the golden files. A choice of the chart is
//! `NAME.values.yaml` there, and `NAME.yaml` what it renders; `kustomize-NAME.yaml` is an overlay, `application` a chart
//! that has this one as a part, and `own` a kustomization that has an overlay and components as parts.

mod chart;
mod configuration;
mod operator;
mod overlays;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize as _;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CHART: &str = "deploy/helm/bursar";
const OVERLAYS: [&str; 4] = ["gateway", "sidecar", "fleet", "journal"];

/// Where the golden files are.
fn golden() -> PathBuf {
    Path::new(ROOT).join("tests/kubernetes")
}

/// A program of `tests/peers/kubernetes` in the root of the tree; None where it is not installed.
fn peer(name: &str) -> Option<Command> {
    let path = Path::new(ROOT).join("tests/peers/kubernetes").join(name);
    if !path.exists() {
        bursar_testkit::skip(name);
        return None;
    }
    let mut command = Command::new(path);
    command.current_dir(ROOT).stdin(Stdio::null());
    // Whatever the machine's own settings of Helm are.
    for name in [
        "HELM_CONFIG_HOME",
        "HELM_CACHE_HOME",
        "HELM_DATA_HOME",
        "HELM_PLUGINS",
    ] {
        command.env(name, "/nonexistent");
    }
    Some(command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Standard output; the test fails where the program does, or has something to complain about.
#[track_caller]
fn rendered(output: &Output) -> String {
    let error = text(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    text(&output.stdout)
}

/// The choices of the chart: name, and file with values.
fn choices() -> Vec<(String, PathBuf)> {
    let files = fs::read_dir(golden()).unwrap();
    let mut found: Vec<(String, PathBuf)> = files
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let name = name.strip_suffix(".values.yaml")?.to_owned();
            Some((name, path))
        })
        .collect();
    found.sort();
    assert!(found.len() >= 10, "{found:?}");
    found
}

/// The files that were rendered.
fn manifests() -> Vec<PathBuf> {
    let choices = choices().into_iter();
    let names = choices.map(|(name, _)| format!("{name}.yaml"));
    let overlays = OVERLAYS.map(|name| format!("kustomize-{name}.yaml"));
    let parts = ["application.yaml", "own.yaml"].map(str::to_owned);
    let files = names.chain(overlays).chain(parts);
    files.map(|file| golden().join(file)).collect()
}

/// The objects of a file.
fn objects(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let documents = serde_yaml::Deserializer::from_str(&text);
    let values = documents.map(|document| Value::deserialize(document).unwrap());
    values.filter(|value| !value.is_null()).collect()
}

/// Those of a kind.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let is_kind = |object: &&Value| object["kind"] == kind;
    objects.iter().filter(is_kind).collect()
}

/// What holds the pods of a file.
fn workload(objects: &[Value]) -> &Value {
    let kinds = ["Deployment", "StatefulSet"];
    let found: Vec<&Value> = kinds
        .iter()
        .flat_map(|kind| of_kind(objects, kind))
        .collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0]
}

/// Compares what was rendered with its golden file, or writes that.
#[track_caller]
fn is_golden(name: &str, rendered: &str) {
    let path = golden().join(name);
    if std::env::var_os("BURSAR_WRITE_KUBERNETES").is_some() {
        fs::write(&path, rendered).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let lines = || kept.lines().zip(rendered.lines()).enumerate();
    let first = lines().find(|(_, (kept, rendered))| kept != rendered);
    assert!(
        kept == rendered,
        "tests/kubernetes/{name} is not what is rendered now, from {first:?} on; renew it with BURSAR_WRITE_KUBERNETES=1 cargo test --test it kubernetes"
    );
}

#[test]
fn what_is_rendered_is_valid_for_several_versions_of_kubernetes() {
    let mut probe = Command::new("python3");
    let probed = probe.args(["-c", "import kubernetes_validate"]).output();
    if !probed.is_ok_and(|output| output.status.success()) {
        return bursar_testkit::skip("kubernetes-validate");
    }
    let mut command = Command::new("python3");
    let output = command
        .arg("tests/peers/validate_manifests.py")
        .args(manifests())
        .current_dir(ROOT)
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let count = said.split(' ').next().and_then(|word| word.parse().ok());
    assert!(count.is_some_and(|count: usize| count > 50), "{said}");
}
