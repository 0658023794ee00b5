//! The option that names the configuration file, for all commands alike.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

/// Names the file where the option does not.
const VARIABLE: &str = "BURSAR_CONFIG";
/// The file where neither does.
const DEFAULT: &str = "proxy.yaml";

/// Which configuration file is meant.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file [env: BURSAR_CONFIG] [default: proxy.yaml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl ConfigFile {
    pub(crate) fn path(&self) -> PathBuf {
        self.named().unwrap_or_else(|| PathBuf::from(DEFAULT))
    }

    /// Whether somebody says which file is meant, or there is one.
    pub(crate) fn is_meant(&self) -> bool {
        let found = Path::new(DEFAULT).symlink_metadata();
        let is_missing = found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.named().is_some() || !is_missing
    }

    /// An empty variable is none.
    fn named(&self) -> Option<PathBuf> {
        let variable = || {
            let path = std::env::var_os(VARIABLE)?;
            (!path.is_empty()).then(|| path.into())
        };
        self.config.clone().or_else(variable)
    }
}
