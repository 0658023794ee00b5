//! The command line: arguments, runtime, signals, exit status. No logic.

mod commands;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bursar::server::Server;
use bursar::server::reload::Source;
use bursar::server::worker::{Threads, Workers};
use bursar_base::process::Closed;
use bursar_config::Config;
#[cfg(feature = "sandbox")]
use bursar_telemetry::access_log::AccessLog;
use bursar_telemetry::log::Log;
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use commands::config_file::ConfigFile;
use commands::output::{WRONG, print, print_as_it_is, print_change, report, say};
#[cfg(feature = "sandbox")]
use commands::sandbox;
use commands::signals::{Harmless, Signals};
use commands::start_error::{report_end, report_start};
use commands::{after_help, ca, check, control, generated, init, log_level, outcomes, remote};

/// glibc's cache for each thread is small, and beyond it malloc takes locks: 64 callers at a time need
/// more than that. With this one a POST of 1 kB costs 5 % less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For tasks that are dropped at the end, at all workers.
const GRACE: Duration = Duration::from_millis(500);

/// An authenticating egress proxy for payment APIs: it keeps the OAuth 2.0 tokens, so that your services need not.
#[derive(Debug, Parser)]
#[command(version = env!("BURSAR_VERSION"), after_help = after_help::PROGRAM)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    #[command(after_help = after_help::RUN)]
    Run(ConfigFile),
    /// Report every problem of a configuration file; start nothing
    #[command(after_help = after_help::CHECK)]
    Check(check::Options),
    /// Print a first configuration file for providers that are known, or write it
    Init(init::Options),
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
    #[command(after_help = after_help::OUTCOMES)]
    Outcomes(outcomes::Options),
    /// Ask a running Bursar for /healthz, as a container's probe does
    #[command(after_help = after_help::HEALTH)]
    Health(remote::Options),
    /// Have a running Bursar refuse requests that move money to a provider
    #[command(after_help = after_help::FREEZE)]
    Freeze(control::Freeze),
    /// Have a running Bursar let requests that move money to a provider pass again
    #[command(after_help = after_help::THAW)]
    Thaw(control::Thaw),
    /// Have a running Bursar read its configuration again, and say what came of it
    #[command(after_help = after_help::RELOAD)]
    Reload(remote::Options),
    /// Say what a running Bursar logs, or have it log other things for a time
    #[command(after_help = after_help::LOG_LEVEL)]
    LogLevel(log_level::Options),
    /// Print the JSON schema of the configuration file
    Schema,
    /// Print completions for a shell
    Completions(generated::Completions),
    /// Write man pages, one for each command
    Man(generated::Man),
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
    match result {
        Ok(code) => code,
        Err(error) => {
            report_end(&error, log);
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
        Command::Run(file) => {
            let harmless = Harmless::taken(runtime).context("cannot take signals")?;
            let path = file.path();
            let log = log.insert(Log::start());
            let config = match Config::load(&path) {
                Ok(config) => config,
                Err(problems) => return Ok(report_start(&path, &problems, log)),
            };
            let (access, filter) = (log.access(), log.filter());
            if config.is_dumpable {
                closed.open().context("cannot follow `process.dumpable`")?;
            }
            for warning in &config.warnings {
                tracing::warn!(%warning, "configuration");
            }
            serve(runtime, harmless, async |signals, workers| {
                let server = Server::bind(&config, access, workers).await?;
                server.announce(&config)?;
                let asked = signals.hung_up.clone();
                let server = server.following(Source { path, asked });
                let server = server.filtering(filter);
                signals.until_drained(server).await
            })
        }
        Command::Check(options) => check::run(&options, runtime),
        Command::Init(options) => print(&options.run()?, ExitCode::SUCCESS),
        Command::Schema => print_as_it_is(generated::SCHEMA.as_bytes()),
        Command::Completions(options) => print_as_it_is(&options.run(Arguments::command())),
        Command::Man(options) => options
            .run(Arguments::command())
            .map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(options) => try_it(runtime, &options, log.insert(Log::start()).access()),
        #[cfg(not(feature = "sandbox"))]
        Command::Sandbox { .. } => {
            say(
                "bursar: `sandbox` is not built into this program; build it with the feature `sandbox`",
            );
            Ok(ExitCode::from(WRONG))
        }
        Command::Ca(ca::Command::New(ca::New { file, dir })) => {
            let path = file.path();
            match Config::load_without_authority(&path) {
                Ok(config) => Ok(print_change(&ca::new(&config, &dir)?, ExitCode::SUCCESS)),
                Err(problems) => Ok(report(&path, &problems)),
            }
        }
        Command::Outcomes(options) => outcomes::run(&options, runtime),
        Command::Health(options) => {
            let asked = runtime.block_on(options.remote().health());
            told(asked.map(|()| String::new()))
        }
        Command::Freeze(freeze) => frozen(runtime.block_on(freeze.run())),
        Command::Reload(options) => reloaded(runtime.block_on(control::reload(&options.remote()))),
        Command::LogLevel(options) => match runtime.block_on(options.run()) {
            Ok(text) if options.is_change() => Ok(print_change(&text, ExitCode::SUCCESS)),
            result => told(result),
        },
        Command::Thaw(thaw) => frozen(runtime.block_on(thaw.run())),
    }
}

/// Connections are for one worker on each core, all else for the runtime.
fn serve(
    runtime: &Runtime,
    harmless: Harmless,
    server: impl AsyncFnOnce(Signals, Workers) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = Threads::start(cores).context("cannot start a thread for each core")?;
    let result =
        runtime.block_on(async { server(Signals::new(harmless)?, threads.workers()).await });
    threads.end(GRACE);
    result
}

#[cfg(feature = "sandbox")]
fn try_it(
    runtime: &Runtime,
    options: &sandbox::Options,
    access: AccessLog,
) -> anyhow::Result<ExitCode> {
    let harmless = Harmless::taken(runtime).context("cannot take signals")?;
    serve(runtime, harmless, async |signals, workers| {
        let sandbox = sandbox::start(options, access, workers).await?;
        print(&sandbox.welcome()?, ExitCode::SUCCESS)?;
        signals.until_drained(sandbox.server).await
    })
}

fn reloaded(said: Result<control::ReloadSaid, remote::Error>) -> anyhow::Result<ExitCode> {
    let said = match said {
        Ok(said) => said,
        Err(error) => return told(Err(error)),
    };
    for problem in &said.problems {
        say(problem);
    }
    let code = match said.is_in_force {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    Ok(print_change(&said.text, code))
}

/// A freeze or a thaw that holds on one instance of a fleet only is done, and still a failure; so is a thaw of what the
/// file freezes.
fn frozen(said: Result<control::FreezeSaid, remote::Error>) -> anyhow::Result<ExitCode> {
    let said = match said {
        Ok(said) => said,
        Err(error) => return told(Err(error)),
    };
    let code = match said.is_as_asked {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    Ok(print_change(&said.text, code))
}

/// What came of a command to a running Bursar.
fn told(result: Result<String, remote::Error>) -> anyhow::Result<ExitCode> {
    match result {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(error) if error.is_usage() => {
            say(&format!("bursar: {error}"));
            Ok(ExitCode::from(WRONG))
        }
        Err(error) => Err(error.into()),
    }
}
