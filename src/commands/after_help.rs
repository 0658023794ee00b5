//! After the options in `--help` of a command, and sections of its man page: exit status, environment, files, signals.
//!
//! A title, then lines of two spaces, a term, at least two spaces and what it means.

/// The environment of commands that read the file.
macro_rules! reads_file {
    () => {
        "
Environment:
  BURSAR_CONFIG       The configuration file, where --config does not name it
  ${NAME}             Whatever the file names so"
    };
}

/// Further variables of commands that read certificates.
macro_rules! reads_authorities {
    () => {
        "
  SSL_CERT_FILE       A file of authorities to trust in place of the system's
  SSL_CERT_DIR        Directories of such files, with `:` in between"
    };
}

/// The environment of commands to a running Bursar.
macro_rules! asks {
    () => {
        "
Environment:
  BURSAR_ADMIN_TOKEN  The admin port's token, whatever `admin_token` of the file says
  BURSAR_CONFIG       The configuration file, where --config does not name it

Files:
  proxy.yaml          The configuration, of which `admin` and `admin_token` are read, unless another one is named"
    };
}

/// Of `bursar` itself.
pub(crate) const PROGRAM: &str = concat!(
    "Exit status:
  0                   Done
  1                   It failed
  2                   The configuration or the command line is wrong; nothing was done
",
    reads_file!(),
);

pub(crate) const RUN: &str = concat!(
    "Exit status:
  0                   It was asked to end, and has drained
  1                   It cannot go on
  2                   The configuration or the command line is wrong; nothing was bound

Signals:
  SIGTERM, SIGINT     Drain, and end; the second one ends it at once
  SIGQUIT             The same
  SIGHUP              Read the configuration again
  SIGUSR1, SIGUSR2    Nothing; the log says that they came
",
    reads_file!(),
    "
  RUST_LOG            What is logged, `info` where it is not set",
    reads_authorities!(),
    "

Files:
  proxy.yaml          The configuration, unless another one is named",
);

pub(crate) const CHECK: &str = concat!(
    "Exit status:
  0                   The configuration is good
  1                   With --live: a token or a connection was not to be had
  2                   The configuration or the command line is wrong; with --strict: or there is a warning
",
    reads_file!(),
    reads_authorities!(),
);

pub(crate) const FREEZE: &str = concat!(
    "Exit status:
  0                   It is frozen, or was before
  1                   Not known to hold beyond this instance, because the fleet's store cannot be used; or nobody answers, or refuses
  2                   There is no token or no such provider, the file does not say where to ask, or the command line is wrong
",
    asks!(),
);

pub(crate) const THAW: &str = concat!(
    "Exit status:
  0                   It is thawed, or was not frozen
  1                   The configuration freezes it; or not known to hold beyond this instance, because the fleet's store cannot be used; or nobody answers, or refuses
  2                   There is no token or no such provider, the file does not say where to ask, or the command line is wrong
",
    asks!(),
);

pub(crate) const RELOAD: &str = concat!(
    "Exit status:
  0                   The configuration is in force
  1                   It is rejected, and the old one stays in force; or nobody answers, or refuses
  2                   There is no token, the file does not say where to ask, or the command line is wrong
",
    asks!(),
);

pub(crate) const LOG_LEVEL: &str = concat!(
    "Exit status:
  0                   Done
  1                   Nobody answers, or refuses
  2                   There is no token, the file does not say where to ask, or the command line is wrong
",
    asks!(),
);

pub(crate) const HEALTH: &str = "\
Exit status:
  0                   It is well
  1                   Nobody answers in time, or somebody else does
  2                   The command line is wrong

Environment:
  BURSAR_CONFIG       The configuration file, where --config does not name it

Files:
  proxy.yaml          The configuration, of which `admin` is read, unless another one is named";

pub(crate) const OUTCOMES: &str = concat!(
    "Exit status:
  0                   Listed
  1                   There is no journal, or it cannot be read; with --fleet: the list may not be complete
  2                   `journal` or the command line is wrong
  3                   With --fail: a request is listed
",
    reads_file!(),
);

pub(crate) const RESOLVE: &str = concat!(
    "Exit status:
  0                   All that are named are off the list
  1                   None is, because one of them is not on it, or the journal cannot be used
  2                   `journal` or the command line is wrong
",
    reads_file!(),
);
