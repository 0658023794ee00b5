//! The command `sandbox`: the emulated providers on loopback, with the proxy in front.
//!
//! The proxy is the real one, configured by YAML text that only moves the presets' endpoints to loopback.

mod configuration;
mod written;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bursar_sandbox::{PAYU_EXAMPLE, Provider, Providers};
use clap::Args;
use tempfile::TempDir;

use self::configuration::{Setup, Variable};
use self::written::Left;
use super::ca;
use super::output::shell_quoted;
use bursar::server::Server;
use bursar::server::worker::Workers;
use bursar_base::duration;
use bursar_config::{Config, Diagnostic};
use bursar_telemetry::access_log::AccessLog;

/// Where the proxy of `--write` listens, unless that is taken: beside the sandbox's own.
const WRITTEN_LISTEN: u16 = 3129;
const WRITTEN_ADMIN: u16 = 9129;

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
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = token_lifetime)]
    pub(crate) token_lifetime: Duration,
    /// Let callers in by a name and a password only
    #[arg(long)]
    pub(crate) callers: bool,
    /// Keep a journal of the requests that move money
    #[arg(long)]
    pub(crate) journal: bool,
    /// Speak TLS for the providers in tunnels, so that https:// URLs work
    #[arg(long)]
    pub(crate) intercept: bool,
    /// Leave proxy.yaml, ca.pem and sandbox.env there, for a proxy of your own in front of the same providers
    #[arg(long, value_name = "DIR")]
    pub(crate) write: Option<PathBuf>,
}

/// `expires_in` is whole seconds.
fn token_lifetime(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    match time.as_secs() {
        0 => Err("a token lives for 1s at least".to_owned()),
        _ => Ok(time),
    }
}

/// A running sandbox; the proxy in front of it is yet to be run.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The proxy.
    pub(crate) server: Server,
    providers: Vec<Provider>,
    variables: Vec<Variable>,
    /// Holds the proxy's own files while the sandbox lives.
    own: TempDir,
    /// Where the authorities' files are.
    files: PathBuf,
    intercepts: bool,
    has_callers: bool,
    keeps_journal: bool,
    token_lifetime: Duration,
    /// What became of the configuration of `--write`.
    left: Option<Left>,
    /// Has the directory of `--write` while the sandbox lives.
    _lock: Option<File>,
}

/// Starts the providers and binds the proxy.
///
/// # Errors
/// Where a port is taken, or a file cannot be written.
pub(crate) async fn start(
    options: &Options,
    log: AccessLog,
    workers: Workers,
) -> anyhow::Result<Sandbox> {
    if !options.listen.ip().is_loopback() && !options.callers {
        anyhow::bail!("beyond a loopback address --listen needs --callers");
    }
    let own = tempfile::Builder::new()
        .prefix("bursar-sandbox-")
        .tempdir()?;
    let (files, lock) = match &options.write {
        Some(directory) => {
            written::prepare(directory)?;
            let lock = written::lock(directory).await?;
            (std::path::absolute(directory)?, Some(lock))
        }
        None => (own.path().to_owned(), None),
    };
    let Providers {
        ca_pem,
        all: providers,
    } = bursar_sandbox::start(options.token_lifetime).await?;
    written::write_certificate(own.path(), &ca_pem)?;
    let variables = configuration::variables(&providers)?;
    let mut setup = Setup {
        listen: options.listen,
        admin: options.admin,
        has_callers: options.callers,
        journal: options.journal.then(|| own.path().join("journal")),
        intercept: None,
        certificate: own.path().join(configuration::CERTIFICATE),
    };
    let text = |setup: &Setup| {
        configuration::filled_in(&configuration::text(setup, &providers), &variables)
    };
    if options.intercept {
        make_authority(&parse(&text(&setup), own.path())?, &files)?;
        setup.intercept = Some(files.join(configuration::INTERCEPT));
    }
    let config = parse(&text(&setup), own.path())?;
    let server = Server::bind(&config, log, workers).await;
    let server = server.context(
        "choose other ports with --listen and --admin, e.g. 127.0.0.1:0 for any free one",
    )?;
    // For commands such as `bursar freeze`, which have to know the ports that were taken.
    (setup.listen, setup.admin) = (server.listen_address()?, server.admin_address()?);
    written::write_own(own.path(), &text(&setup))?;
    let left = match &options.write {
        // Not before the ports are bound: a sandbox that has them may have left what is there.
        Some(_) => Some(leave(options, &providers, &variables, &ca_pem, &files)?),
        None => None,
    };
    Ok(Sandbox {
        server,
        providers,
        variables,
        own,
        files,
        intercepts: options.intercept,
        has_callers: options.callers,
        keeps_journal: options.journal,
        token_lifetime: options.token_lifetime,
        left,
        _lock: lock,
    })
}

/// One that is there is trusted by callers already. A new one is there with both of its files, or not at all.
fn make_authority(config: &Config, files: &Path) -> anyhow::Result<()> {
    let directory = files.join(configuration::INTERCEPT);
    let is_there = |name| directory.join(name).symlink_metadata().is_ok();
    let (missing, left) = match (is_there(ca::CERTIFICATE), is_there(ca::KEY)) {
        (true, true) => return Ok(()),
        (false, false) => return make_new_authority(config, files, &directory),
        (true, false) => (ca::KEY, ca::CERTIFICATE),
        (false, true) => (ca::CERTIFICATE, ca::KEY),
    };
    let (missing, left) = (directory.join(missing), directory.join(left));
    anyhow::bail!(
        "{} is there without {}; put that back, or move the other one away for a new authority",
        left.display(),
        missing.display()
    )
}

fn make_new_authority(config: &Config, files: &Path, directory: &Path) -> anyhow::Result<()> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755));
    let made = builder.prefix(".intercept-").tempdir_in(files);
    let made = made.with_context(|| format!("cannot make a directory in {}", files.display()))?;
    ca::new(config, made.path())?;
    // An empty directory gives way.
    std::fs::rename(made.path(), directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    // It is no longer there, so that nothing is removed.
    drop(made.keep());
    Ok(())
}

fn parse(text: &str, directory: &Path) -> anyhow::Result<Config> {
    Config::parse(text, directory).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(Diagnostic::to_string).collect();
        anyhow::anyhow!(
            "the sandbox's own configuration is wrong: {}",
            problems.join("; ")
        )
    })
}

/// Writes what `--write` asks for.
fn leave(
    options: &Options,
    providers: &[Provider],
    variables: &[Variable],
    ca_pem: &str,
    files: &Path,
) -> anyhow::Result<Left> {
    let setup = Setup {
        listen: written::free_address(WRITTEN_LISTEN)?,
        admin: written::free_address(WRITTEN_ADMIN)?,
        has_callers: options.callers,
        journal: options.journal.then(|| PathBuf::from("journal")),
        intercept: (options.intercept).then(|| PathBuf::from(configuration::INTERCEPT)),
        certificate: PathBuf::from(configuration::CERTIFICATE),
    };
    let text = configuration::text(&setup, providers);
    written::write(files, variables, ca_pem, &text)
}

impl Sandbox {
    /// What to try, as lines to paste into a shell.
    ///
    /// # Errors
    /// Where the system does not say which ports were taken.
    pub(crate) fn welcome(&self) -> std::io::Result<String> {
        let (listen, admin) = (self.server.listen_address()?, self.server.admin_address()?);
        let password = self.value(configuration::PASSWORD);
        let proxy = match password.filter(|_| self.has_callers) {
            Some(password) => format!("http://{}:{password}@{listen}", configuration::CALLER),
            None => format!("http://{listen}"),
        };
        let proxy = unexpanded(proxy);
        let [metrics, status] =
            ["metrics", "status"].map(|path| unexpanded(format!("http://{admin}/{path}")));
        let mut lines = format!(
            "Bursar's sandbox: four emulated providers, and the proxy in front of them at {listen}.\n\
             Access tokens live for {}; watch their renewal at http://{admin}/ in a browser. Ctrl-C ends it.\n",
            humantime::format_duration(self.token_lifetime),
        );
        for provider in &self.providers {
            let title = provider.dialect.title;
            for (what, example) in provider.dialect.examples {
                lines += &format!("\n# {title}: {what}\ncurl -x {proxy} {example}\n");
            }
        }
        if self.intercepts {
            let authority = self.files.join(configuration::INTERCEPT).join("ca.pem");
            lines += &format!(
                "\n# PayU by an https:// URL\ncurl --cacert {} -x {proxy} {}\n",
                shell_quoted(&authority),
                PAYU_EXAMPLE.replacen("http://", "https://", 1),
            );
        }
        self.add_revocations(&mut lines, &proxy);
        self.add_commands(&mut lines)?;
        lines += &format!(
            "\n# What the tokens do\n\
             curl --noproxy '*' -s {metrics} | grep -E '^bursar_(token_(generation|fetches_total)|replays_total)' | grep -v ' 0$'\n\
             curl --noproxy '*' -s {status}\n\n",
        );
        Ok(lines)
    }

    fn add_revocations(&self, lines: &mut String, proxy: &str) {
        let certificate = shell_quoted(&self.files.join(configuration::CERTIFICATE));
        for Provider { dialect, address } in &self.providers {
            let then = match dialect.name {
                "payu" => ", then see the next request succeed all the same",
                _ => "",
            };
            *lines += &format!(
                "\n# Revoke every token at {}{then}\n\
                 curl --noproxy '*' --cacert {certificate} -X POST https://{address}/sandbox/revoke\n",
                dialect.title,
            );
            if dialect.name == "payu" {
                *lines += &format!("curl -x {proxy} {PAYU_EXAMPLE}\n");
            }
        }
    }

    fn add_commands(&self, lines: &mut String) -> std::io::Result<()> {
        let own = shell_quoted(&self.own.path().join(written::CONFIGURATION));
        let bursar = shell_quoted(&std::env::current_exe()?);
        *lines += &format!(
            "\n# Refuse what moves money to PayU, and let it pass again\n\
             {bursar} freeze payu --config {own}\n{bursar} thaw payu --config {own}\n",
        );
        if self.keeps_journal {
            *lines +=
                &format!("\n# Payments in doubt: none yet\n{bursar} outcomes --config {own}\n");
        }
        if let Some(left) = &self.left {
            *lines += &format!(
                "\n# A proxy of your own in front of the same providers, while this runs{}\n\
                 cd {} && set -a && . ./sandbox.env && set +a && {bursar} check --live && {bursar} run\n",
                left.note(),
                shell_quoted(&self.files),
            );
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|it| it.name == name);
        found.map(|it| it.value.as_str())
    }
}

/// In quotes where a shell may take brackets for a pattern.
fn unexpanded(url: String) -> String {
    match url.contains('[') {
        true => format!("'{url}'"),
        false => url,
    }
}
