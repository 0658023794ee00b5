//! The kustomizations: their golden files.

use super::{OVERLAYS, is_golden, peer, rendered};

#[test]
fn each_overlay_renders_what_its_golden_file_has() {
    for name in OVERLAYS {
        let Some(mut kubectl) = peer("kubectl") else {
            return;
        };
        let path = format!("deploy/kustomize/overlays/{name}");
        let output = kubectl.args(["kustomize", &path]).output().unwrap();
        is_golden(&format!("kustomize-{name}.yaml"), &rendered(&output));
    }
}
