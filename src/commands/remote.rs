//! Remote commands: one request to the admin port of a Bursar that runs on this machine.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, InvalidHeaderValue};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use bursar_base::secret::Secret;
use bursar_config::Config;
use bursar_http::one_shot::OneShot;
use bursar_http::read_body::{ReadError, read_limited};

/// For the whole exchange; a container's probe has a limit of its own, mostly of seconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a change, which waits for the journal.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// More of a response says nothing.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody answers there.
    #[error("{0}: {1}; is Bursar running with this configuration?")]
    NoResponse(SocketAddr, io::Error),
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
    ask(config.admin, Method::GET, "/healthz", None).await
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
        Method::POST,
        &format!("/{verb}/{provider}"),
        Some(token),
    )
    .await
}

async fn ask(
    admin: SocketAddr,
    method: Method,
    path: &str,
    token: Option<&Secret>,
) -> Result<(), Error> {
    let limit = token.map_or(PROBE_TIMEOUT, |_| CHANGE_TIMEOUT);
    let no_response = |error| Error::NoResponse(admin, error);
    let request = request(admin, method, path, token)
        .map_err(|error| no_response(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let asked = tokio::time::timeout(limit, exchange(admin, request)).await;
    let asked = asked.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    match asked.map_err(no_response)? {
        (StatusCode::OK, _) => Ok(()),
        (status, said) => Err(Error::Refused(admin, status.as_u16(), said)),
    }
}

fn request(
    admin: SocketAddr,
    method: Method,
    path: &str,
    token: Option<&Secret>,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(path.parse::<Uri>()?)
        .header(HOST, admin.to_string())
        .header(CONNECTION, "close")
        .body(Full::default())?;
    if let Some(token) = token {
        let authorization = bearer(token)?;
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    Ok(request)
}

fn bearer(token: &Secret) -> Result<HeaderValue, InvalidHeaderValue> {
    let text = Secret::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(text.expose())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The status and the first line of the body.
async fn exchange(
    admin: SocketAddr,
    request: Request<Full<Bytes>>,
) -> io::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(reachable(admin)).await?;
    let connection = OneShot::over(TokioIo::new(stream)).await;
    let mut connection = connection.map_err(io_error)?;
    let (head, body) = connection
        .send(request)
        .await
        .map_err(io_error)?
        .into_parts();
    let body = match read_limited(body, MAX_RESPONSE_BYTES).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => Bytes::new(),
        Err(ReadError::Broken(error)) => return Err(io_error(error)),
    };
    let said = String::from_utf8_lossy(&body);
    let said = said.lines().next().unwrap_or_default();
    Ok((head.status, said.to_owned()))
}

/// The system's own error, where there is one behind it.
fn io_error(error: hyper::Error) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref());
    match source.map(|source: &io::Error| (source.raw_os_error(), source.kind())) {
        Some((Some(code), _)) => io::Error::from_raw_os_error(code),
        Some((None, kind)) => kind.into(),
        None => io::Error::new(io::ErrorKind::InvalidData, "it speaks no HTTP"),
    }
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
