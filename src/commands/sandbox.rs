//! The command `sandbox`: the emulated providers on loopback, with the proxy in front.
//!
//! The proxy is the real one, configured by YAML text that only moves the presets' endpoints to loopback.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bursar_sandbox::{PAYU_EXAMPLE, Provider, Providers};
use clap::Args;
use tempfile::TempDir;

use bursar::server::Server;
use bursar::server::worker::Workers;
use bursar_config::Config;
use bursar_telemetry::access_log::AccessLog;

/// Arguments of `bursar sandbox`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3128")]
    pub(crate) listen: SocketAddr,
    /// Where the admin port is
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9128")]
    pub(crate) admin: SocketAddr,
    /// How long the providers' access tokens live; short, so that their renewal can be watched
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) token_lifetime: Duration,
}

/// A running sandbox; the proxy in front of it is yet to be run.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The proxy.
    pub(crate) server: Server,
    providers: Vec<Provider>,
    /// Holds the authority's certificate while the sandbox lives.
    directory: TempDir,
    token_lifetime: Duration,
}

/// Starts the providers and binds the proxy.
///
/// # Errors
/// Where a port is taken, or the certificate cannot be written.
pub(crate) async fn start(
    options: &Options,
    log: AccessLog,
    workers: Workers,
) -> anyhow::Result<Sandbox> {
    if !options.listen.ip().is_loopback() {
        anyhow::bail!("the sandbox knows no callers, so --listen must be a loopback address");
    }
    let directory = tempfile::Builder::new()
        .prefix("bursar-sandbox-")
        .tempdir()?;
    let Providers {
        ca_pem,
        all: providers,
    } = bursar_sandbox::start(options.token_lifetime).await?;
    std::fs::write(ca_path(&directory), ca_pem)
        .context("cannot write the authority's certificate")?;
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
    /// What to try, as lines to paste into a shell.
    ///
    /// # Errors
    /// Where the system does not say which ports were taken.
    pub(crate) fn welcome(&self) -> std::io::Result<String> {
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
                shell_quoted(&ca_path(&self.directory)),
            ));
            if dialect.name == "payu" {
                lines.push_str(&format!("curl -x http://{listen} {}\n", PAYU_EXAMPLE));
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
