//! The version with its commit, for `bursar --version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BURSAR_COMMIT");
    let commit = std::env::var("BURSAR_COMMIT").ok();
    let commit = commit.filter(|commit| !commit.trim().is_empty());
    let commit = commit.or_else(of_git).unwrap_or("no git".to_owned());
    println!(
        "cargo::rustc-env=BURSAR_VERSION={} ({commit})",
        env!("CARGO_PKG_VERSION")
    );
}

/// The commit of this tree's own repository, not of one that the tree happens to lie in.
fn of_git() -> Option<String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let top = git(&here, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        // Looked at once: with each commit anew, every build after one would compile all of it again.
        let commit = git(&here, &["rev-parse", "--short=12", "HEAD"])?;
        return Some(format!("{commit} or later, debug"));
    }
    let describe = [
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
        "--abbrev=12",
    ];
    let commit = git(&here, &describe)?;
    for name in ["HEAD", "index", "logs/HEAD"] {
        let file = git(&here, &["rev-parse", "--git-path", name])?;
        let file = Path::new(&here).join(file);
        // Cargo would build each time where one is missing.
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    Some(commit)
}

fn git(directory: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
