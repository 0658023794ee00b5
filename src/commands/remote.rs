//! How do commands talk to a Bursar that runs? One request to its admin port, on this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use bursar_base::secret::Secret;
use bursar_config::Config;

/// For the whole exchange; a container's probe has a limit of its own, mostly of seconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a change, which waits for the journal.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody answers there.
    #[error("{0}: {1}; is Bursar running with this configuration?")]
    NoAnswer(SocketAddr, io::Error),
    /// The answer is a refusal.
    #[error("{0} answered {1}: {2}")]
    Refused(SocketAddr, u16, String),
    /// The file has no `admin_token`.
    #[error(
        "admin_token is missing in the configuration; without it nothing can be changed while Bursar runs"
    )]
    NoToken,
    /// The file has no such provider.
    #[error("there is no provider {0}; there are: {1}")]
    NoProvider(String, String),
}

/// Asks for `/healthz`, as a container's probe does where there is no shell and no curl.
///
/// # Errors
/// Where nobody answers 200 in time.
pub(crate) async fn health(config: &Config) -> Result<(), Error> {
    ask(config.admin, "GET", "/healthz", None).await
}

/// Freezes a provider, or thaws it.
///
/// # Errors
/// Where there is no such provider or no token, or nobody answers 200 in time.
pub(crate) async fn freeze(config: &Config, provider: &str, is_frozen: bool) -> Result<(), Error> {
    let names = config.providers.iter().map(|provider| &*provider.name);
    let names: Vec<&str> = names.collect();
    if !names.contains(&provider) {
        return Err(Error::NoProvider(provider.to_owned(), names.join(", ")));
    }
    let token = config.admin_token.as_ref().ok_or(Error::NoToken)?;
    let verb = if is_frozen { "freeze" } else { "thaw" };
    // A provider's name needs no escaping in a path.
    ask(
        config.admin,
        "POST",
        &format!("/{verb}/{provider}"),
        Some(token),
    )
    .await
}

async fn ask(
    admin: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&Secret>,
) -> Result<(), Error> {
    let authorization = token.map_or_else(
        || Secret::new(String::new()),
        |token| Secret::new(format!("Authorization: Bearer {}\r\n", token.expose())),
    );
    let request = Secret::new(format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\n{}Connection: close\r\nContent-Length: 0\r\n\r\n",
        authorization.expose()
    ));
    let asked = async {
        let mut stream = TcpStream::connect(reachable(admin)).await?;
        stream.write_all(request.expose().as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(MAX_ANSWER_BYTES)
            .read_to_end(&mut answer)
            .await?;
        Ok::<_, io::Error>(answer)
    };
    let limit = token.map_or(PROBE_TIMEOUT, |_| CHANGE_TIMEOUT);
    let answer = tokio::time::timeout(limit, asked).await;
    let answer = answer.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(|error| Error::NoAnswer(admin, error))?;
    let (status, said) = read(&answer).ok_or_else(|| {
        Error::NoAnswer(
            admin,
            io::Error::new(io::ErrorKind::InvalidData, "it speaks no HTTP"),
        )
    })?;
    match status {
        200 => Ok(()),
        status => Err(Error::Refused(admin, status, said)),
    }
}

/// The status and the first line of the body.
fn read(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let status = text.strip_prefix("HTTP/1.1 ")?.split(' ').next()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    let said = body.lines().next().unwrap_or_default();
    Some((status.parse().ok()?, said.to_owned()))
}

/// An admin port on all addresses is asked on loopback.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}
