//! The option that names the configuration file, for all commands alike.

use std::path::PathBuf;

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
    /// An empty variable is none.
    pub(crate) fn path(&self) -> PathBuf {
        let named = self.config.clone();
        let variable = || {
            let path = std::env::var_os(VARIABLE)?;
            (!path.is_empty()).then(|| path.into())
        };
        named
            .or_else(variable)
            .unwrap_or_else(|| PathBuf::from(DEFAULT))
    }
}
