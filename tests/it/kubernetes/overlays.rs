//! The kustomizations: their golden files.

use std::process::Output;

use super::{OVERLAYS, is_golden, peer, rendered};

/// What `kubectl` makes of a directory; None where there is none.
fn kustomize(path: &str) -> Option<Output> {
    let mut kubectl = peer("kubectl")?;
    Some(kubectl.args(["kustomize", path]).output().unwrap())
}

#[test]
fn each_overlay_renders_what_its_golden_file_has() {
    for name in OVERLAYS {
        let path = format!("deploy/kustomize/overlays/{name}");
        let Some(output) = kustomize(&path) else {
            return;
        };
        is_golden(&format!("kustomize-{name}.yaml"), &rendered(&output));
    }
}

#[test]
fn a_kustomization_of_somebody_s_own_takes_an_overlay_and_components_and_gives_them_its_names() {
    let Some(output) = kustomize("tests/kubernetes/own") else {
        return;
    };
    is_golden("own.yaml", &rendered(&output));
}
