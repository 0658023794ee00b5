//! The command line: arguments, runtime, signals, exit status. No logic.

mod commands;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bursar::server::Server;
use bursar::server::reload::Source;
use bursar::server::worker::{Threads, Workers};
use bursar_base::process::Closed;
use bursar_config::{Config, Diagnostic};
#[cfg(feature = "sandbox")]
use bursar_telemetry::access_log::AccessLog;
use bursar_telemetry::line_writer::cut_line;
use bursar_telemetry::log::Log;
use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

#[cfg(feature = "sandbox")]
use commands::sandbox;
use commands::{ca, check, outcomes, remote};

/// glibc's cache for each thread is small, and beyond it malloc takes locks: 64 callers at a time need
/// more than that. With this one a POST of 1 kB costs 5 % less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration or the command line is wrong; nothing was bound.
const WRONG: u8 = 2;
/// For tasks that are dropped at the end, at all workers.
const GRACE: Duration = Duration::from_millis(500);

/// An authenticating egress proxy for payment APIs: it keeps the OAuth 2.0 tokens, so that your services need not.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Run(ConfigFile),
    /// Report every problem of a configuration file; start nothing
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Also obtain one token for each account, and say what came back
        #[arg(long)]
        live: bool,
    },
    /// Try it: the four providers emulated on loopback, TLS included, with the proxy in front of them
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Options),
    /// Says that it is not built in
    #[cfg(not(feature = "sandbox"))]
    #[command(hide = true, disable_help_flag = true)]
    Sandbox {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _ignored: Vec<String>,
    },
    /// The authority for `intercept`
    #[command(subcommand)]
    Ca(ca::Command),
    Outcomes(outcomes::Options),
    /// Ask a running Bursar on this machine for /healthz, as a container's probe does
    Health(ConfigFile),
    /// Have a running Bursar on this machine refuse requests that move money to a provider
    Freeze(Frozen),
    /// Let them pass again
    Thaw(Frozen),
}

#[derive(Debug, clap::Args)]
struct Frozen {
    /// The provider's name
    provider: String,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "proxy.yaml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before a secret is read; what there is in the environment was there before.
    let closed = Closed::to_its_user();
    // Ends after the runtime: what its tasks write while they are dropped is written to the end.
    let mut log = None;
    let runtime = Builder::new_current_thread().enable_all().build();
    let result = closed
        .context("cannot keep other processes out of this one's memory")
        .and_then(|closed| Ok((closed, runtime.context("cannot start the runtime")?)))
        .and_then(|(closed, runtime)| {
            let result = run(arguments.command, &closed, &runtime, &mut log);
            // A name that is still being looked up is not waited for.
            runtime.shutdown_background();
            result
        });
    // Whoever is told of an error by a line of its own has the log's lines before it.
    drop(log);
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&format!("bursar: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(
    command: Command,
    closed: &Closed,
    runtime: &Runtime,
    log: &mut Option<Log>,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(ConfigFile { config: path }) => {
            let config = match Config::load(&path) {
                Ok(config) => config,
                Err(problems) => return Ok(report(&path, &problems)),
            };
            let access = log.insert(Log::start()).access();
            if config.is_dumpable {
                closed.open().context("cannot follow `process.dumpable`")?;
            }
            for warning in &config.warnings {
                tracing::warn!(%warning, "configuration");
            }
            serve(runtime, async |signals, workers| {
                let server = Server::bind(&config, access, workers).await?;
                server.announce(&config)?;
                let asked = signals.hung_up.clone();
                let server = server.following(Source { path, asked });
                signals.until_drained(server).await
            })
        }
        Command::Check { file, live } => {
            let config = match Config::load(&file.config) {
                Ok(config) => config,
                Err(problems) => return Ok(report(&file.config, &problems)),
            };
            for warning in &config.warnings {
                say(&format!("{}: warning: {warning}", file.config.display()));
            }
            if !live {
                return print(&check::summary(&config), ExitCode::SUCCESS);
            }
            let (text, all_well) = runtime.block_on(check::live(&config))?;
            print(
                &text,
                if all_well {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                },
            )
        }
        #[cfg(feature = "sandbox")]
        Command::Sandbox(options) => try_it(runtime, &options, log.insert(Log::start()).access()),
        #[cfg(not(feature = "sandbox"))]
        Command::Sandbox { .. } => {
            say(
                "bursar: `sandbox` is not built into this program; build it with the feature `sandbox`",
            );
            Ok(ExitCode::from(WRONG))
        }
        Command::Ca(ca::Command::New(ca::New { config: path, dir })) => {
            match Config::load_without_authority(&path) {
                Ok(config) => print(&ca::new(&config, &dir)?, ExitCode::SUCCESS),
                Err(problems) => Ok(report(&path, &problems)),
            }
        }
        Command::Outcomes(options) => list(&options),
        Command::Health(ConfigFile { config: path }) => match Config::load(&path) {
            Ok(config) => told(runtime.block_on(remote::health(&config))),
            Err(problems) => Ok(report(&path, &problems)),
        },
        Command::Freeze(frozen) => freeze(runtime, &frozen, true),
        Command::Thaw(frozen) => freeze(runtime, &frozen, false),
    }
}

/// Connections are for one worker on each core, all else for the runtime.
fn serve(
    runtime: &Runtime,
    server: impl AsyncFnOnce(Signals, Workers) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = Threads::start(cores).context("cannot start a thread for each core")?;
    let result = runtime.block_on(async { server(Signals::new()?, threads.workers()).await });
    threads.end(GRACE);
    result
}

#[cfg(feature = "sandbox")]
fn try_it(
    runtime: &Runtime,
    options: &sandbox::Options,
    access: AccessLog,
) -> anyhow::Result<ExitCode> {
    serve(runtime, async |signals, workers| {
        let sandbox = sandbox::start(options, access, workers).await?;
        print(&sandbox.welcome()?, ExitCode::SUCCESS)?;
        signals.until_drained(sandbox.server).await
    })
}

fn freeze(runtime: &Runtime, frozen: &Frozen, is_frozen: bool) -> anyhow::Result<ExitCode> {
    let Frozen { provider, file } = frozen;
    match Config::load(&file.config) {
        Ok(config) => told(runtime.block_on(remote::freeze(&config, provider, is_frozen))),
        Err(problems) => Ok(report(&file.config, &problems)),
    }
}

/// What came of a command to a running Bursar.
fn told(result: Result<(), remote::Error>) -> anyhow::Result<ExitCode> {
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ (remote::Error::NoToken | remote::Error::NoProvider(..))) => {
            say(&format!("bursar: {error}"));
            Ok(ExitCode::from(WRONG))
        }
        Err(error) => Err(error.into()),
    }
}

/// The process's signals; taken before anything is bound, so that none is missed.
struct Signals {
    hangup: tokio::signal::unix::Signal,
    /// Told when it came.
    hung_up: Arc<Notify>,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            hung_up: Arc::default(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Whoever has no configuration to read again need not hear of it.
                _ = self.hangup.recv() => self.hung_up.notify_one(),
            }
        }
    }

    /// The first signal drains, a second one ends it.
    async fn until_drained(mut self, server: Server) -> anyhow::Result<ExitCode> {
        let (drain, draining) = tokio::sync::oneshot::channel::<()>();
        let mut drained = std::pin::pin!(server.run(async {
            // Whether it is sent or dropped: it is time.
            drop(draining.await);
        }));
        tokio::select! {
            () = &mut drained => return Ok(ExitCode::SUCCESS),
            () = self.next() => drop(drain),
        }
        tokio::select! {
            () = drained => Ok(ExitCode::SUCCESS),
            () = self.next() => anyhow::bail!("ended by a second signal; requests in flight were cut off"),
        }
    }
}

fn list(options: &outcomes::Options) -> anyhow::Result<ExitCode> {
    match outcomes::directory(&options.config) {
        Ok(directory) => {
            let text = outcomes::run(options, directory.as_deref())?;
            print(&text, ExitCode::SUCCESS)
        }
        Err(problems) => Ok(report(&options.config, &problems)),
    }
}

fn report(path: &Path, problems: &[Diagnostic]) -> ExitCode {
    for problem in problems {
        say(&format!("{}: {problem}", path.display()));
    }
    ExitCode::from(WRONG)
}

fn say(text: &str) {
    use std::io::Write as _;
    // Nobody is left to be told that standard error is closed.
    drop(writeln!(io::stderr(), "{}", cut_line(text)));
}

fn print(text: &str, code: ExitCode) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")?;
    Ok(code)
}
