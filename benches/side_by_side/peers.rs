//! Who is compared, and how each is set up: the same work with as little else as each allows.
//!
//! All keep connections to the provider, speak TLS 1.3 to it and verify its certificate.

use std::fs;
use std::process::Command;

use crate::process::{self, Running};
use crate::setup::Setup;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    Bursar,
    /// The floor.
    Hyper,
    Nginx,
    Haproxy,
    Envoy,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bursar => "Bursar",
            Self::Hyper => "bare hyper",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        }
    }

    pub(crate) fn start(self, setup: &Setup) -> anyhow::Result<Running> {
        let file = |name: &str, text: String| -> anyhow::Result<String> {
            let path = setup.dir.join(name);
            fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (program, args) = match self {
            Self::Bursar => {
                let config = file("bursar.yaml", setup.bursar())?;
                if let Some(journal) = &setup.journal {
                    drop(fs::remove_dir_all(journal));
                }
                if setup.intercept {
                    file("bursar.yaml", with_authority(setup, &config)?)?;
                }
                let program = setup.bursar.display().to_string();
                (program, words(&["run", "--config", &config]))
            }
            Self::Hyper => {
                let ca = setup.path("ca.pem");
                let (listen, upstream) = (setup.listen.to_string(), setup.api.to_string());
                let args = [
                    "floor",
                    "--listen",
                    &listen,
                    "--upstream",
                    &upstream,
                    "--ca",
                    &ca,
                ];
                (std::env::current_exe()?.display().to_string(), words(&args))
            }
            Self::Nginx => {
                let config = file("nginx.conf", setup.nginx())?;
                let prefix = setup.dir.display().to_string();
                ("nginx".to_owned(), words(&["-p", &prefix, "-c", &config]))
            }
            Self::Haproxy => {
                let config = file("haproxy.cfg", setup.haproxy()?)?;
                ("haproxy".to_owned(), words(&["-f", &config]))
            }
            Self::Envoy => {
                let config = file("envoy.yaml", setup.envoy())?;
                let threads = setup.cores.1.to_string();
                let args = [
                    "-c",
                    &config,
                    "--concurrency",
                    &threads,
                    "--log-level",
                    "error",
                    "--disable-hot-restart",
                ];
                ("envoy".to_owned(), words(&args))
            }
        };
        let log = setup
            .dir
            .join(format!("{}.log", self.name().replace(' ', "-")));
        process::start(&setup.cores.0, &program, &args, &log)
    }
}

/// Bursar's configuration with interception, for which an authority is made by the one without.
fn with_authority(setup: &Setup, config: &str) -> anyhow::Result<String> {
    let dir = setup.dir.join("intercept");
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir)?;
    let made = Command::new(&setup.bursar)
        .args(["ca", "new", "--config", config, "--dir"])
        .arg(&dir)
        .output()?;
    anyhow::ensure!(made.status.success(), "bursar ca new: {made:?}");
    let intercept = "intercept: {ca: {certificate: intercept/ca.pem, key: intercept/ca.key}}\n";
    Ok(setup.bursar() + intercept)
}
