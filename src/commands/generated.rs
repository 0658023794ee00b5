//! What is generated from the command line and the configuration's types: schema, completions, man pages.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

/// The JSON schema of the configuration file.
pub(crate) const SCHEMA: &str = include_str!("../../proxy.schema.json");

/// Arguments of `bursar completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

/// Arguments of `bursar man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where the pages are written; it is made where it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    /// The script.
    pub(crate) fn run(&self, mut command: Command) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "bursar", &mut script);
        script
    }
}

impl Man {
    /// Writes a page for each command.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub(crate) fn run(&self, command: Command) -> anyhow::Result<()> {
        let Self { directory } = self;
        write(command, directory)
            .with_context(|| format!("cannot write the pages to {}", directory.display()))
    }
}

fn write(command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}
