//! Remote commands: requests to the admin port of a Bursar that runs.
//!
//! Which one and with what token is found out without the rest of the configuration, so that these commands work
//! while it is broken. The token goes to nobody who does not answer `/healthz` as Bursar does.

mod address;

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::config_file::ConfigFile;
use super::output::say;
use address::Address;
use bursar_base::decision::Unfit;
use bursar_base::secret::Secret;
use bursar_config::{AdminKeys, Diagnostic};
use bursar_http::one_shot::OneShot;
use bursar_http::read_body::{ReadError, read_limited};

/// For a request that changes nothing; a container's probe has a limit of its own, mostly of seconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Where somebody guesses at tokens from the same address, one is looked at every 3.1 s, for 0.1 s: it is tried again so
/// often, for so long.
const TRY_AGAIN: Duration = Duration::from_millis(50);
const TRYING: Duration = Duration::from_secs(5);
/// What is read of a response.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// A file that is rejected changes no token, nor one that has not been read again yet.
const OLD_TOKEN: &str = ". Where it was changed there, a Bursar that runs takes the one before until it has read the file again and accepted it: it does so within seconds or by SIGHUP, and its log and /status say what came of that";
/// A file that is rejected moves no admin port.
const OLD_ADMIN: &str = " Where `admin` was changed in the file, a Bursar that runs has the address from before until it is restarted: --admin says where that is";
/// The token, whatever the file says.
const TOKEN_VARIABLE: &str = "BURSAR_ADMIN_TOKEN";

/// Which Bursar is asked.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// The admin port, whatever the file says: an address or a name, with or without a port
    #[arg(long, value_name = "ADDR")]
    admin: Option<Address>,
}

/// The admin port of a Bursar.
#[derive(Debug)]
pub(crate) struct Remote {
    address: Address,
    /// Whether a file that somebody means says so.
    is_from_file: bool,
    /// Why that is the default, where the file does not tell.
    unknown: Option<String>,
    /// Whether that is so of a file that somebody means: then another Bursar may be at the default.
    is_another_meant: bool,
    token: Token,
}

/// What changes are asked for with.
#[derive(Debug)]
enum Token {
    /// From the environment.
    Variable(Secret),
    /// From the file.
    File(Secret, PathBuf),
    /// None is found, and why.
    Missing(String),
}

/// What is asked for.
struct Asked<'a> {
    method: Method,
    path: &'a str,
    authorization: Option<HeaderValue>,
    /// JSON, or nothing.
    body: Bytes,
}

/// What came back, as far as it is Bursar's.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// JSON, or lines of text.
    pub(crate) body: Bytes,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody answers there.
    #[error("{address}: {error}; is Bursar running there?{unknown}")]
    NoResponse {
        address: String,
        /// No `source`, which would be told once more.
        error: io::Error,
        /// Why it was asked there, and may be elsewhere.
        unknown: String,
    },
    /// Somebody else answers there.
    #[error("{address} is not the admin port of a Bursar: it answered {said}{unknown}")]
    Other {
        address: String,
        said: String,
        unknown: String,
    },
    /// The answer is a refusal.
    #[error("{0} answered {1}: {2}")]
    Refused(String, u16, String),
    /// The token is not that Bursar's.
    #[error("{address} refuses the token, which is from {from}{hint}")]
    WrongToken {
        address: String,
        from: String,
        /// Why that may be.
        hint: &'static str,
    },
    /// There is no token.
    #[error("this takes the `admin_token`, in {TOKEN_VARIABLE} or in the file: {0}")]
    NoToken(String),
    /// It cannot be sent.
    #[error(
        "{TOKEN_VARIABLE} is no `admin_token`: it has white space, a control or something that is not ASCII"
    )]
    BadToken,
    /// Another Bursar than the one that is meant could be changed.
    #[error(
        "it is not known which Bursar is meant, so nothing was changed: --admin says where it is. {0}"
    )]
    UnknownAdmin(String),
    /// There is no such provider.
    #[error("{0}")]
    NoProvider(String),
    /// A text is not as it has to be.
    #[error("--{0} is {1}")]
    Unfit(&'static str, Unfit),
}

impl Error {
    /// Whether the command line or the configuration is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoToken(_)
                | Self::BadToken
                | Self::UnknownAdmin(_)
                | Self::NoProvider(_)
                | Self::Unfit(..)
        )
    }
}

impl Options {
    /// Finds out which one it is.
    pub(crate) fn remote(&self) -> Remote {
        let path = self.file.path();
        let keys = AdminKeys::load(&path);
        let why = |problems: Vec<Diagnostic>| {
            let first = problems.into_iter().next();
            let first = first.map(|problem| problem.to_string());
            format!("{}: {}", path.display(), first.unwrap_or_default())
        };
        let (address, unknown) = match (&self.admin, keys.admin) {
            (Some(address), _) => (address.clone(), None),
            (None, Ok(address)) => (Address::Socket(address), None),
            (None, Err(problems)) => (Address::Socket(AdminKeys::DEFAULT), Some(why(problems))),
        };
        let variable = std::env::var_os(TOKEN_VARIABLE).filter(|token| !token.is_empty());
        let token = match (variable, keys.admin_token) {
            // What is no text is refused as what cannot be sent.
            (Some(token), _) => {
                Token::Variable(Secret::new(token.into_string().unwrap_or_default()))
            }
            (None, Ok(Some(token))) => Token::File(token, path),
            (None, Ok(None)) => Token::Missing(format!("{} has none", path.display())),
            (None, Err(problems)) => Token::Missing(why(problems)),
        };
        Remote {
            address,
            is_from_file: self.admin.is_none() && unknown.is_none() && self.file.is_meant(),
            is_another_meant: unknown.is_some() && self.file.is_meant(),
            unknown,
            token,
        }
    }
}

impl Remote {
    /// Asks for `/healthz`, as a container's probe does where there is no shell and no curl.
    ///
    /// # Errors
    /// Where nobody answers as Bursar does in time.
    pub(crate) async fn health(&self) -> Result<(), Error> {
        let reply = self.exchange(Asked::get("/healthz"), PROBE_TIMEOUT).await?;
        match reply.status {
            StatusCode::OK if reply.body.trim_ascii() == b"ok" => Ok(()),
            _ => Err(self.other(&reply)),
        }
    }

    /// Reads something.
    ///
    /// # Errors
    /// Where nobody answers as Bursar does in time.
    pub(crate) async fn get(&self, path: &str) -> Result<Reply, Error> {
        self.exchange(Asked::get(path), PROBE_TIMEOUT).await
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// Where there is no token or it is refused, it is not known which Bursar is meant, or nobody answers as Bursar does in
    /// time.
    pub(crate) async fn post(&self, path: &str, limit: Duration) -> Result<Reply, Error> {
        self.post_body(path, Bytes::new(), limit).await
    }

    /// The same with JSON.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub(crate) async fn post_body(
        &self,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Reply, Error> {
        if let Some(why) = self.unknown.as_ref().filter(|_| self.is_another_meant) {
            return Err(Error::UnknownAdmin(why.clone()));
        }
        let (token, from, hint) = match &self.token {
            Token::Variable(token) => (token, TOKEN_VARIABLE.to_owned(), ""),
            Token::File(token, path) => (
                token,
                format!("`admin_token` of {}", path.display()),
                OLD_TOKEN,
            ),
            Token::Missing(why) => return Err(Error::NoToken(why.clone())),
        };
        let authorization = bearer(token)?;
        self.health().await?;
        let begun = Instant::now();
        let reply = loop {
            let asked = Asked {
                method: Method::POST,
                path,
                authorization: Some(authorization.clone()),
                body: body.clone(),
            };
            let reply = self.exchange(asked, limit).await;
            let is_late = begun.elapsed() >= TRYING;
            if is_late || !is_to_be_tried_again(&reply) {
                break reply?;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        };
        match reply.status {
            StatusCode::UNAUTHORIZED => Err(Error::WrongToken {
                address: self.address.to_string(),
                from,
                hint,
            }),
            _ => {
                // Another Bursar than the one that is meant may have that address.
                if self.unknown.is_some() {
                    say(&format!(
                        "bursar: {} was asked.{}",
                        self.address,
                        self.unknown()
                    ));
                }
                Ok(reply)
            }
        }
    }

    /// Its refusal, as an error.
    pub(crate) fn refused(&self, reply: &Reply) -> Error {
        Error::Refused(
            self.address.to_string(),
            reply.status.as_u16(),
            reply.first_line(),
        )
    }

    fn other(&self, reply: &Reply) -> Error {
        self.other_said(format!("{} {}", reply.status.as_u16(), reply.first_line()))
    }

    fn other_said(&self, said: String) -> Error {
        Error::Other {
            address: self.address.to_string(),
            said,
            unknown: self.unknown(),
        }
    }

    fn unknown(&self) -> String {
        let unknown = self.unknown.as_ref();
        unknown.map_or_else(String::new, |why| {
            format!(" It is the default address, because of {why}")
        })
    }

    async fn exchange(&self, asked: Asked<'_>, limit: Duration) -> Result<Reply, Error> {
        let asked = tokio::time::timeout(limit, self.ask(asked)).await;
        let asked = asked.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        let (head, body) = asked.map_err(|error| Error::NoResponse {
            address: self.address.to_string(),
            error,
            unknown: match self.is_from_file {
                true => OLD_ADMIN.to_owned(),
                false => self.unknown(),
            },
        })?;
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.map_or(&b"nothing"[..], HeaderValue::as_bytes);
        let is = |expected: &str| content_type.starts_with(expected.as_bytes());
        let asks_otherwise = head.status == StatusCode::UNAUTHORIZED
            && !(head.headers.get(WWW_AUTHENTICATE))
                .is_some_and(|value| value.as_bytes().starts_with(b"Bearer realm=\"bursar"));
        if asks_otherwise || !(is("application/json") || is("text/plain")) {
            let content_type = String::from_utf8_lossy(content_type);
            return Err(self.other_said(format!("{} with {content_type}", head.status.as_u16())));
        }
        Ok(Reply {
            status: head.status,
            body,
        })
    }

    async fn ask(&self, asked: Asked<'_>) -> io::Result<(http::response::Parts, Bytes)> {
        let (stream, address) = connect(&self.address.look_up().await?).await?;
        let connection = OneShot::over(TokioIo::new(stream)).await;
        let mut connection = connection.map_err(io_error)?;
        let request = asked
            .request(address)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
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
        Ok((head, body))
    }
}

impl Reply {
    /// What a refusal says.
    pub(crate) fn first_line(&self) -> String {
        let said = String::from_utf8_lossy(&self.body);
        said.lines().next().unwrap_or_default().to_owned()
    }
}

/// Whether the token was not looked at, because somebody guesses; or was perhaps not, because the connection had to make
/// room. What is asked for may be asked for twice.
fn is_to_be_tried_again(reply: &Result<Reply, Error>) -> bool {
    match reply {
        Ok(reply) => reply.status == StatusCode::TOO_MANY_REQUESTS,
        Err(Error::NoResponse { error, .. }) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        ),
        Err(_) => false,
    }
}

/// The first of them that takes a connection.
async fn connect(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failed = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl<'a> Asked<'a> {
    const fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            authorization: None,
            body: Bytes::new(),
        }
    }

    /// `Host` is the address: an admin port may refuse names. The zone of a link-local one means something here alone, and
    /// is not sent (RFC 6874 section 1).
    fn request(self, mut address: SocketAddr) -> Result<Request<Full<Bytes>>, http::Error> {
        if let SocketAddr::V6(address) = &mut address {
            address.set_scope_id(0);
        }
        let has_body = !self.body.is_empty();
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path.parse::<Uri>()?)
            .header(HOST, address.to_string())
            .header(CONNECTION, "close")
            .body(Full::new(self.body))?;
        let headers = request.headers_mut();
        if let Some(authorization) = self.authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Error> {
    let is_sendable = token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    let text = Secret::new(format!("Bearer {}", token.expose()));
    let value = HeaderValue::from_str(text.expose());
    let mut value = value.map_err(|_invalid| Error::BadToken)?;
    value.set_sensitive(true);
    match is_sendable && !token.expose().is_empty() {
        true => Ok(value),
        false => Err(Error::BadToken),
    }
}

/// The system's own error, where there is one behind it.
fn io_error(error: hyper::Error) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref());
    match source.map(|source: &io::Error| (source.raw_os_error(), source.kind())) {
        Some((Some(code), _)) => io::Error::from_raw_os_error(code),
        Some((None, kind)) => kind.into(),
        None if error.is_incomplete_message() => io::ErrorKind::UnexpectedEof.into(),
        None => io::Error::new(io::ErrorKind::InvalidData, "it speaks no HTTP"),
    }
}
