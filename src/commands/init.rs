//! `bursar init`: a first configuration file for providers that are known.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::output::shell_quoted;

/// Arguments of `bursar init`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A provider that is known; may be given several times
    #[arg(long = "preset", value_name = "NAME", required = true)]
    presets: Vec<Preset>,
    /// Which of the provider's environments
    #[arg(long, value_name = "NAME", default_value = "sandbox")]
    environment: Environment,
    /// Write it there, unless something is there already; without it, or to `-`, print it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Preset {
    /// PayLater
    Paylater,
    /// PayU India
    Payu,
    /// Alternative Payments
    #[value(alias = "alternative-payments")]
    AlternativePayments,
    /// Quidkey
    Quidkey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Environment {
    Sandbox,
    Production,
}

impl Preset {
    /// Its name in the file, and what its variables begin with.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Paylater => ("paylater", "PAYLATER"),
            Self::Payu => ("payu", "PAYU"),
            Self::AlternativePayments => ("alternative_payments", "AP"),
            Self::Quidkey => ("quidkey", "QUIDKEY"),
        }
    }

    /// Its credentials, as the first file names them.
    fn variables(self) -> [String; 2] {
        let (_, prefix) = self.names();
        ["CLIENT_ID", "CLIENT_SECRET"].map(|name| format!("{prefix}_{name}"))
    }

    fn yaml(self, environment: &str) -> String {
        let (name, _) = self.names();
        let [id, secret] = self.variables();
        let merchant = match self {
            Self::Payu => {
                "    # merchant_id: \"8123456\"      # for requests that bring no `merchantId` of their own\n"
            }
            Self::Paylater | Self::AlternativePayments | Self::Quidkey => "",
        };
        format!(
            "  {name}:\n    preset: {name}\n    environment: {environment}        # sandbox | production\n    client_id: ${{{id}}}\n    client_secret: ${{{secret}}}\n{merchant}"
        )
    }
}

/// What the environment variables of that preset begin with, in files that Bursar writes.
#[cfg(feature = "sandbox")]
pub(crate) fn prefix(preset: &str) -> Option<&'static str> {
    let mut all = Preset::value_variants().iter().map(|it| it.names());
    all.find_map(|(name, prefix)| (name == preset).then_some(prefix))
}

impl Options {
    /// Prints the file, or writes it.
    ///
    /// # Errors
    /// Where it cannot be written, or something is there.
    pub(crate) fn run(&self) -> anyhow::Result<String> {
        let mut presets: Vec<Preset> = Vec::new();
        for preset in &self.presets {
            if !presets.contains(preset) {
                presets.push(*preset);
            }
        }
        let text = self.text(&presets);
        let named = self.output.as_ref();
        let Some(path) = named.filter(|path| path.as_os_str() != "-") else {
            return Ok(text);
        };
        write(path, &text)?;
        let variables: Vec<String> = presets
            .iter()
            .flat_map(|preset| preset.variables())
            .collect();
        Ok(format!(
            "Wrote {}. It takes the credentials from the environment: {}. Then:\n\n  bursar check --live --config {quoted}\n  bursar run --config {quoted}\n",
            path.display(),
            variables.join(", "),
            quoted = shell_quoted(path),
        ))
    }

    fn text(&self, presets: &[Preset]) -> String {
        let environment = match self.environment {
            Environment::Sandbox => "sandbox",
            Environment::Production => "production",
        };
        let names: Vec<&str> = presets.iter().map(|preset| preset.names().0).collect();
        let providers: String = presets
            .iter()
            .map(|preset| preset.yaml(environment))
            .collect();
        format!(
            "# Bursar's configuration. `bursar check` says what is wrong with it, and with --live whether tokens are to be had.
# Any string may hold ${{NAME}} (environment) and ${{file:PATH}} (a file's content). `bursar schema` prints every key.

listen: 127.0.0.1:3128        # what HTTP_PROXY names; beyond loopback, `callers` are needed
admin: 127.0.0.1:9128         # /metrics /healthz /readyz /status
drain_timeout: 70s            # how long requests may still take when it ends: more than `timeouts.head`, which is 60s
# admin_token: ${{BURSAR_ADMIN_TOKEN}}      # for changes while it runs, such as `bursar freeze`

# Who may send requests, and to whom.
# callers:
#   shop:
#     password: ${{SHOP_PASSWORD}}
#     allow: [{}]

# How far each request that moves money came, so that `bursar outcomes` can tell those in doubt.
# journal: {{path: /var/lib/bursar}}

providers:
{providers}",
            names.join(", ")
        )
    }
}

/// What is there stays, a link too; what cannot be written whole is not left behind.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            anyhow::bail!("{} is there already, and stays as it is", path.display())
        }
        opened => opened.with_context(|| format!("cannot create {}", path.display()))?,
    };
    let written = file.write_all(text.as_bytes());
    if written.is_err() {
        // It is reported that writing failed.
        drop(std::fs::remove_file(path));
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_of_the_file_is_known_here() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../proxy.schema.json")).unwrap();
        let known = schema["$defs"]["PresetName"]["oneOf"].as_array().unwrap();
        let known: Vec<&str> = known
            .iter()
            .filter_map(|name| name["const"].as_str())
            .collect();
        let own: Vec<&str> = Preset::value_variants()
            .iter()
            .map(|preset| preset.names().0)
            .collect();
        assert_eq!(own, known);
    }
}
