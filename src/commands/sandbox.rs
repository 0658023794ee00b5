//! What does Bursar look like at work? The four providers emulated on loopback, with the proxy in front.
//!
//! The proxy is the real one, configured by YAML text that only moves the presets' endpoints to loopback;
//! the emulations are in one file for each provider, and [`provider`] has what they share. Nothing here is used by
//! `bursar run`.

mod alternative_payments;
mod call;
mod certificates;
mod issuing;
mod paylater;
mod payu;
mod provider;
mod quidkey;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tempfile::TempDir;

use crate::server::Server;
use crate::server::worker::Workers;
use bursar_config::Config;
use bursar_telemetry::access_log::AccessLog;
use provider::{Dialect, Provider};

/// The four.
static DIALECTS: [&Dialect; 4] = [
    &paylater::DIALECT,
    &payu::DIALECT,
    &alternative_payments::DIALECT,
    &quidkey::DIALECT,
];

/// Arguments of `bursar sandbox`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3128")]
    pub listen: SocketAddr,
    /// Where the admin port is
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9128")]
    pub admin: SocketAddr,
    /// How long the providers' access tokens live; short, so that their renewal can be watched
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    pub token_lifetime: Duration,
}

/// A running sandbox; the proxy in front of it is yet to be run.
#[derive(Debug)]
pub struct Sandbox {
    /// The proxy.
    pub server: Server,
    providers: Vec<Provider>,
    /// Holds the authority's certificate while the sandbox lives.
    directory: TempDir,
    token_lifetime: Duration,
}

/// Starts the providers and binds the proxy.
///
/// # Errors
/// Where a port is taken, or the certificate cannot be written.
pub async fn start(options: &Options, log: AccessLog, workers: Workers) -> anyhow::Result<Sandbox> {
    if !options.listen.ip().is_loopback() {
        anyhow::bail!("the sandbox knows no callers, so --listen must be a loopback address");
    }
    let directory = tempfile::Builder::new()
        .prefix("bursar-sandbox-")
        .tempdir()?;
    let certificates = certificates::Certificates::new()?;
    std::fs::write(ca_path(&directory), certificates.ca_pem())
        .context("cannot write the authority's certificate")?;
    let mut providers = Vec::new();
    for dialect in DIALECTS {
        let tls = certificates.server()?;
        providers.push(Provider::start(dialect, tls, options.token_lifetime).await?);
    }
    let text = configuration(options, &providers);
    let config = Config::parse(&text, directory.path()).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(
            "the sandbox's own configuration is wrong: {}",
            problems.join("; ")
        )
    })?;
    let server = Server::bind(&config, log, workers).await;
    let server = server.context(
        "choose other ports with --listen and --admin, e.g. 127.0.0.1:0 for any free one",
    )?;
    Ok(Sandbox {
        server,
        providers,
        directory,
        token_lifetime: options.token_lifetime,
    })
}

fn ca_path(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join("ca.pem")
}

/// The presets, with their endpoints moved to loopback.
fn configuration(options: &Options, providers: &[Provider]) -> String {
    let mut text = format!(
        "listen: {}\nadmin: {}\nproviders:\n",
        options.listen, options.admin
    );
    for provider in providers {
        let (dialect, address) = (provider.dialect, provider.address);
        let refresh_url = match dialect.refresh_path {
            Some(path) => format!(", refresh_url: \"https://{address}{path}\""),
            None => String::new(),
        };
        // Writing to a String cannot fail.
        let written = writeln!(
            text,
            "  {name}: {{preset: {name}, environment: sandbox, client_id: \"{id}\", client_secret: \"{secret}\", \
             upstream: \"https://{address}\", tls: {{ca: ca.pem}}{extra}, \
             token: {{url: \"https://{address}{token}\"{refresh_url}}}}}",
            name = dialect.name,
            id = dialect.client_id,
            secret = dialect.client_secret,
            extra = dialect.extra_configuration,
            token = dialect.token_path,
        );
        debug_assert!(written.is_ok());
    }
    text
}

impl Sandbox {
    /// Where the certificate of the providers' authority is.
    #[must_use]
    pub fn ca(&self) -> std::path::PathBuf {
        ca_path(&self.directory)
    }

    /// Where the emulation of a provider listens.
    #[must_use]
    pub fn provider_address(&self, name: &str) -> Option<SocketAddr> {
        let named = self
            .providers
            .iter()
            .find(|provider| provider.dialect.name == name);
        named.map(|provider| provider.address)
    }

    /// What to try, as lines to paste into a shell.
    ///
    /// # Errors
    /// Where the system does not say which ports were taken.
    pub fn welcome(&self) -> std::io::Result<String> {
        let (listen, admin) = (self.server.listen_address()?, self.server.admin_address()?);
        let mut lines = format!(
            "Bursar's sandbox: four emulated providers, and the proxy in front of them at {listen}.\n\
             Access tokens live for {}; watch their renewal at the metrics. Ctrl-C ends it.\n",
            humantime::format_duration(self.token_lifetime),
        );
        for provider in &self.providers {
            let title = provider.dialect.title;
            for (what, example) in provider.dialect.examples {
                let line = format!("\n# {title}: {what}\ncurl -x http://{listen} {example}\n");
                lines.push_str(&line);
            }
        }
        for provider in &self.providers {
            let Provider { dialect, address } = provider;
            lines.push_str(&format!(
                "\n# Revoke every token at {}{}\n\
                 curl --noproxy '*' --cacert {} -X POST https://{address}/sandbox/revoke\n",
                dialect.title,
                match dialect.name {
                    "payu" => ", then see the next request succeed all the same",
                    _ => "",
                },
                shell_quoted(&self.ca()),
            ));
            if dialect.name == "payu" {
                lines.push_str(&format!("curl -x http://{listen} {}\n", payu::EXAMPLE));
            }
        }
        lines.push_str(&format!(
            "\n# What the tokens do\ncurl --noproxy '*' -s http://{admin}/metrics | grep -E '^bursar_(token_(generation|fetches_total)|replays_total)'\ncurl --noproxy '*' -s http://{admin}/status\n\n",
        ));
        Ok(lines)
    }
}

fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
