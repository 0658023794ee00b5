//! Errors of the store: what is wrong in closed words, and whether a script may have changed something.
//!
//! What a server says of an error is not repeated, because it may repeat arguments and passwords itself; what is kept of
//! it is its code, the command that is not allowed or not known, and the line of a script.

use std::io;
use std::sync::Arc;

use redis::{RedisError, ServerErrorKind, Value};

/// Why the store cannot be used, or why a script failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing has been tried yet.
    Starting,
    /// There is no connection; why is part of the store's state.
    Down,
    /// More scripts are under way than the limit allows.
    Busy,
    /// Nothing came back in time.
    TimedOut,
    /// The connection has ended.
    Disconnected,
    /// The server ended a connection without TLS before its first response.
    NotGreeted,
    /// No connection could be made.
    Unreachable,
    /// TLS failed.
    Tls,
    /// No TLS came back in time.
    TlsTimedOut,
    /// What came back is no TLS.
    NoTls,
    /// The server's certificate is not to be trusted.
    Certificate,
    /// The server's certificate is an authority's.
    AuthorityCertificate,
    /// The server wants a client certificate.
    ClientCertificate,
    /// What came is not RESP, or more than the limits allow.
    Protocol,
    /// The server does not speak RESP3.
    TooOld,
    /// User or password is wrong or missing.
    WrongPassword,
    /// The user may not do that.
    NoPermission,
    /// The server does not know a command, or has it under another name.
    UnknownCommand,
    /// There is no database of that number.
    NoDatabase,
    /// The server has as many clients as it allows.
    TooManyClients,
    /// The server is a replica.
    ReadOnly,
    /// The server refuses writes, because it cannot save them or lacks replicas.
    WritesRefused,
    /// The server's memory is full.
    OutOfMemory,
    /// The server is still reading its file.
    Loading,
    /// The server runs somebody's script that does not end.
    ScriptRunning,
    /// No Sentinel names a server for the master's name.
    NoMaster,
    /// The Sentinels name another server than the one that is connected.
    FailedOver,
    /// Most Sentinels name no server, or not the same.
    Unconfirmed,
    /// The cluster does not serve all slots.
    ClusterDown,
    /// The server is not a node of a cluster.
    NoCluster,
    /// The server is a node of a cluster, and the keys are at another one; of a cluster: nodes sent a script from one to
    /// the other, more often than the limit allows.
    Redirects,
    /// The script itself failed.
    Script,
}

/// Why a script has no response.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store cannot be used: {}", kind.describe())]
pub struct StoreError {
    kind: Kind,
    is_unsent: bool,
    #[source]
    source: Option<Arc<Cause>>,
    /// Where one of several servers is at fault: which.
    server: Option<Arc<str>>,
}

/// What is known of it besides.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Connection(RedisError),
    /// Took too long.
    #[error("in this step: {0}")]
    Step(&'static str),
    #[error("the keys are at another node")]
    Redirect(Redirect),
    #[error("{code}{}{}", Shown(" at line ", line.as_ref()), Shown(": ", command.as_ref()))]
    Server {
        code: Box<str>,
        /// Of the script.
        line: Option<u32>,
        /// The command that is not allowed, or not known.
        command: Option<Box<str>>,
    },
}

/// Where a node of a cluster sends a script to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    /// Only this once.
    pub(super) is_ask: bool,
    pub(super) slot: u16,
    /// Empty: where the node is that said so.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Redirect {
    /// `3999 127.0.0.1:6381`; IPv6 has no brackets, and an unknown host is `?` or nothing.
    fn read(code: &str, detail: &str) -> Option<Self> {
        let (slot, place) = detail.split_once(' ')?;
        let (host, port) = place.trim_end().rsplit_once(':')?;
        Some(Self {
            is_ask: code == "ASK",
            slot: slot.parse().ok()?,
            host: host.trim_matches(['[', ']']).into(),
            port: port.parse().ok()?,
        })
    }
}

/// A value after words that introduce it, where there is one.
struct Shown<'a, T>(&'static str, Option<&'a T>);

impl<T: std::fmt::Display> std::fmt::Display for Shown<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(value) => write!(formatter, "{}{value}", self.0),
            None => Ok(()),
        }
    }
}

impl Kind {
    /// The word for it in `/status` and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Down => "down",
            Self::Busy => "busy",
            Self::TimedOut | Self::TlsTimedOut => "timed_out",
            Self::Disconnected | Self::NotGreeted => "disconnected",
            Self::Unreachable => "unreachable",
            Self::Tls | Self::NoTls => "tls",
            Self::Certificate | Self::AuthorityCertificate => "certificate",
            Self::ClientCertificate => "client_certificate",
            Self::Protocol => "protocol",
            Self::TooOld => "too_old",
            Self::WrongPassword => "wrong_password",
            Self::NoPermission => "no_permission",
            Self::UnknownCommand => "unknown_command",
            Self::NoDatabase => "no_database",
            Self::TooManyClients => "too_many_clients",
            Self::ReadOnly => "read_only",
            Self::WritesRefused => "writes_refused",
            Self::OutOfMemory => "out_of_memory",
            Self::Loading => "loading",
            Self::ScriptRunning => "script_running",
            Self::NoMaster => "no_master",
            Self::FailedOver => "failed_over",
            Self::Unconfirmed => "unconfirmed",
            Self::ClusterDown => "cluster_down",
            Self::NoCluster => "no_cluster",
            Self::Redirects => "redirects",
            Self::Script => "script_error",
        }
    }

    /// In words, for a log.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Starting => "nothing has been tried yet",
            Self::Down => "there is no connection",
            Self::Busy => "too much is under way",
            Self::TimedOut => "it did not respond in time",
            Self::Disconnected => "the connection has ended",
            Self::NotGreeted => {
                "it ended the connection before its first response; where it speaks TLS, its URL has to begin with rediss://"
            }
            Self::Unreachable => "no connection could be made",
            Self::Tls => "TLS failed",
            Self::TlsTimedOut => {
                "it did not respond to TLS in time; where it speaks none, its URL has to begin with redis://"
            }
            Self::NoTls => {
                "what it sent is no TLS; where it speaks none, its URL has to begin with redis://"
            }
            Self::Certificate => {
                "its certificate is not to be trusted; check fleet.tls.ca and the host's name"
            }
            Self::AuthorityCertificate => {
                "its certificate is an authority's (CA:TRUE), and so is not taken for a server's; have it made with basicConstraints=CA:FALSE, or signed by an authority of its own"
            }
            Self::ClientCertificate => {
                "it wants a client certificate, and there is none; set `tls-auth-clients no` there"
            }
            Self::Protocol => "what it sent is no RESP, or more than the limits allow",
            Self::TooOld => "it does not speak RESP3; Redis 6.2 or Valkey is needed",
            Self::WrongPassword => "user or password is wrong or missing",
            Self::NoPermission => "the user lacks a permission",
            Self::UnknownCommand => "it does not know a command, or has it under another name",
            Self::NoDatabase => "it has no database of that number",
            Self::TooManyClients => "it has as many clients as it allows",
            Self::ReadOnly => "it is a replica",
            Self::WritesRefused => {
                "it refuses writes, because it cannot save them or lacks replicas"
            }
            Self::OutOfMemory => "its memory is full",
            Self::Loading => "it is still loading",
            Self::ScriptRunning => "a script that does not end keeps it busy",
            Self::NoMaster => "no Sentinel names a server for fleet.sentinel.master",
            Self::FailedOver => "the Sentinels name another server now",
            Self::Unconfirmed => "most Sentinels do not say that it is still the primary",
            Self::ClusterDown => "the cluster does not serve all slots",
            Self::NoCluster => "it is not a node of a cluster",
            Self::Redirects => "it is a node of a cluster, and the keys are at another one",
            Self::Script => "the script failed",
        }
    }

    /// Whether nothing but a person's work will end that, so that tries are few.
    pub(super) const fn lasts(self) -> bool {
        matches!(
            self,
            Self::NoTls
                | Self::Certificate
                | Self::AuthorityCertificate
                | Self::ClientCertificate
                | Self::TooOld
                | Self::WrongPassword
                | Self::NoPermission
                | Self::UnknownCommand
                | Self::NoDatabase
                | Self::NoCluster
                | Self::Redirects
                | Self::Script
        )
    }

    /// Whether that is said by a server that is there and does not do what it is asked for.
    pub(super) const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::NoPermission
                | Self::UnknownCommand
                | Self::WritesRefused
                | Self::OutOfMemory
                | Self::ScriptRunning
                | Self::Script
        )
    }

    /// Whether nobody has run a script where the server says that.
    const fn is_said_before(self) -> bool {
        matches!(
            self,
            Self::TooOld
                | Self::WrongPassword
                | Self::NoDatabase
                | Self::TooManyClients
                | Self::ReadOnly
                | Self::WritesRefused
                | Self::OutOfMemory
                | Self::Loading
                | Self::ScriptRunning
                | Self::ClusterDown
                | Self::NoCluster
                | Self::Redirects
        )
    }
}

impl StoreError {
    /// Nothing of the script has been sent.
    pub(super) const fn unsent(kind: Kind) -> Self {
        Self {
            kind,
            is_unsent: true,
            source: None,
            server: None,
        }
    }

    /// A step towards a connection took too long.
    pub(super) fn timed_out(step: &'static str) -> Self {
        Self::unsent(Kind::TimedOut).because(Cause::Step(step))
    }

    /// The script may have run.
    pub(super) const fn unknown(kind: Kind) -> Self {
        Self {
            kind,
            is_unsent: false,
            source: None,
            server: None,
        }
    }

    pub(super) fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.source = Some(Arc::new(cause.into()));
        self
    }

    /// That server's fault, where it may be one of several, and unless another one's is known already.
    pub(super) fn at(mut self, server: Option<Arc<str>>) -> Self {
        self.server = self.server.or(server);
        self
    }

    /// Whose fault it is, where that may be one of several servers.
    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The same of another kind.
    pub(super) fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Where the node sent the script to that refused it.
    pub(super) fn redirect(&self) -> Option<&Redirect> {
        match self.source.as_deref() {
            Some(Cause::Redirect(redirect)) => Some(redirect),
            _ => None,
        }
    }

    /// Whether the same may succeed in a moment.
    pub(super) fn is_momentary(&self) -> bool {
        self.kind == Kind::ClusterDown && self.is_unsent
    }

    /// What the system or TLS said.
    pub(super) fn io(&self) -> Option<&io::Error> {
        match self.source.as_deref() {
            Some(Cause::Io(error)) => Some(error),
            _ => None,
        }
    }

    /// What a server said instead of a value, or what happened to the connection meanwhile.
    pub(super) fn of(error: RedisError) -> Self {
        let Some(code) = error.code() else {
            let kind = match error.kind() {
                redis::ErrorKind::Parse => Kind::Protocol,
                redis::ErrorKind::RESP3NotSupported => Kind::TooOld,
                redis::ErrorKind::AuthenticationFailed => Kind::WrongPassword,
                _ => Kind::Disconnected,
            };
            // A parser's message shows what it read.
            return match kind {
                Kind::Disconnected if error.is_io_error() => {
                    Self::unknown(kind).because(Cause::Connection(error))
                }
                _ => Self::unknown(kind),
            };
        };
        let detail = error.detail().unwrap_or_default();
        let kind = kind(&error, code, detail);
        if let Some(redirect) = Some(kind)
            .filter(|kind| *kind == Kind::Redirects)
            .and_then(|_| Redirect::read(code, detail))
        {
            return Self::unsent(kind).because(Cause::Redirect(redirect));
        }
        // A script that ran into something it may not do has done what stands before that.
        let is_denied = matches!(kind, Kind::NoPermission | Kind::UnknownCommand);
        let is_denied_before = is_denied && !detail.contains("script");
        Self {
            kind,
            server: None,
            is_unsent: kind.is_said_before() || is_denied_before,
            source: Some(Arc::new(Cause::Server {
                code: word(code).unwrap_or("an error").into(),
                line: script_line(detail),
                command: command(detail).map(Into::into),
            })),
        }
    }

    /// What a script was told of a command that it called.
    fn said(command: &str, said: &str) -> Self {
        // Redis 6.2 puts the place in the script before it: `@user_script: 12: ...`.
        let said = match said.strip_prefix("@user_script: ") {
            Some(rest) => rest.split_once(": ").map_or(rest, |(_line, said)| said),
            None => said,
        };
        let line = said.trim_start_matches('-').replace(['\r', '\n'], " ");
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        let error = value.ok().and_then(|value| value.extract_error().err());
        let error = error.map_or(Self::unknown(Kind::Script), Self::of);
        let code = match error.source.as_deref() {
            Some(Cause::Server { code, .. }) => code.clone(),
            _ => "an error".into(),
        };
        Self::unknown(error.kind).because(Cause::Server {
            code,
            line: None,
            command: word(command).map(|command| command.to_lowercase().into()),
        })
    }

    /// The same for the first of those commands that failed, as the script replies that tries all: its server's time,
    /// and then for each its name and what was said.
    pub(super) fn first_of(tried: &Value) -> Result<(), Self> {
        let Value::Array(parts) = tried else {
            return Ok(());
        };
        let text = |at: usize| match parts.get(at) {
            Some(Value::BulkString(text)) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        match (text(1), text(2)) {
            (Some(command), Some(said)) => Err(Self::said(command, said)),
            _ => Ok(()),
        }
    }

    /// The command that is not allowed, or not known, where that is why.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        match self.source.as_deref() {
            Some(Cause::Server { command, .. }) => command.as_deref(),
            _ => None,
        }
    }

    /// Why.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the script has certainly changed nothing: it was not sent, or the server refused it.
    #[must_use]
    pub const fn is_unsent(&self) -> bool {
        self.is_unsent
    }
}

fn kind(error: &RedisError, code: &str, detail: &str) -> Kind {
    if let redis::ErrorKind::Server(kind) = error.kind() {
        match kind {
            ServerErrorKind::BusyLoading => return Kind::Loading,
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown => return Kind::ReadOnly,
            ServerErrorKind::NoPerm => return Kind::NoPermission,
            ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain => return Kind::ClusterDown,
            ServerErrorKind::Moved | ServerErrorKind::Ask => return Kind::Redirects,
            _ => {}
        }
    }
    match code {
        "NOAUTH" | "WRONGPASS" => Kind::WrongPassword,
        "DENIED" => Kind::NoPermission,
        "OOM" => Kind::OutOfMemory,
        "MISCONF" | "NOREPLICAS" => Kind::WritesRefused,
        "BUSY" => Kind::ScriptRunning,
        "NOPROTO" => Kind::TooOld,
        _ if detail.starts_with("max number of clients") => Kind::TooManyClients,
        _ if detail.contains("DB index") => Kind::NoDatabase,
        // What SELECT is refused with has lost its code.
        _ if detail.contains("no permissions to run") => Kind::NoPermission,
        _ if detail.starts_with("This instance has cluster support disabled") => Kind::NoCluster,
        // Up to Redis 6.2, what a script may not do is an error of the script.
        _ if [
            "can't run this command",
            "can't access",
            "o permissions to access",
        ]
        .iter()
        .any(|words| detail.contains(words)) =>
        {
            Kind::NoPermission
        }
        // Before Redis 6.
        _ if detail.starts_with("unknown command") && detail.contains("HELLO") => Kind::TooOld,
        _ if is_unknown(code, detail) => Kind::UnknownCommand,
        _ => Kind::Script,
    }
}

/// `unknown command 'EVAL', with args ...`, or in a script `Unknown Redis command called from script`.
fn is_unknown(code: &str, detail: &str) -> bool {
    let said = format!("{code} {detail}").to_ascii_lowercase();
    ["unknown command", "unknown redis command"]
        .iter()
        .any(|words| said.contains(words))
}

/// What is no code is not repeated.
fn word(code: &str) -> Option<&str> {
    let is_word = code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    is_word.then_some(code)
}

/// `... user_script:12: ...` or `... @user_script:12.`
fn script_line(detail: &str) -> Option<u32> {
    let (_, rest) = detail.split_once("user_script:")?;
    let digits = rest.split(|char: char| !char.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Which command an error is about.
fn command(detail: &str) -> Option<String> {
    let unknown = || unknown_command(detail).map(str::to_lowercase);
    denied_command(detail).map(str::to_owned).or_else(unknown)
}

/// Those that are sent, beside those in scripts.
const SENT: [&str; 10] = [
    "HELLO",
    "AUTH",
    "SELECT",
    "EVAL",
    "EVALSHA",
    "SUBSCRIBE",
    "WAIT",
    "ASKING",
    "CLUSTER",
    "SENTINEL",
];

/// `unknown command 'EVAL', with args ...`, up to Redis 6.2 in backticks.
fn unknown_command(detail: &str) -> Option<&'static str> {
    let rest = detail.strip_prefix("unknown command ")?;
    let rest = rest.strip_prefix(['\'', '`'])?;
    let (name, _) = rest.split_once(['\'', '`'])?;
    SENT.into_iter()
        .find(|sent| name.eq_ignore_ascii_case(sent))
}

/// `... no permissions to run the 'subscribe' command`
fn denied_command(detail: &str) -> Option<&str> {
    let (_, rest) = detail.split_once("no permissions to run the '")?;
    let (command, _) = rest.split_once('\'')?;
    let is_command = |byte: u8| byte.is_ascii_lowercase() || b"|_".contains(&byte);
    (command.len() <= 32 && command.bytes().all(is_command)).then_some(command)
}

#[cfg(test)]
mod tests;
