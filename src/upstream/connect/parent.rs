//! `CONNECT` to a parent proxy (RFC 9110 section 9.3.6): a tunnel, or how the proxy refused it.
//!
//! Of its response the status alone is told: its words are nobody's whom Bursar knows. What follows the head belongs to
//! the tunnel and is left there. The caller bounds the time.

use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::error::BoxError;

/// A response with a longer head is refused.
const MAX_HEAD: usize = 8 * 1024;
/// And so is one with more fields.
const MAX_FIELDS: usize = 100;
/// More responses that are not the final one are not read.
const MAX_INTERIM: usize = 8;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no connection to it")]
    Unreachable(#[source] BoxError),
    #[error("it answered 407: user name and password in `egress.proxy` are missing or wrong")]
    Unauthenticated,
    #[error("it answered {0}")]
    Refused(u16),
    #[error("what it answered is no HTTP/1.1")]
    Malformed,
    #[error("the head of its response is longer than {MAX_HEAD} bytes")]
    TooLong,
    #[error("it closed the connection without a response")]
    Closed,
    #[error("the connection to it broke")]
    Broken(#[from] std::io::Error),
}

/// Has the proxy connect to a host and port.
pub(super) async fn connect(
    mut stream: TcpStream,
    target: &str,
    authorization: Option<&HeaderValue>,
) -> Result<TcpStream, Error> {
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    let mut request = Zeroizing::new(head.into_bytes());
    if let Some(authorization) = authorization {
        // No copy is left behind where it grows.
        request.reserve_exact(64 + authorization.len());
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    match read_final_status(&mut stream).await? {
        200..=299 => Ok(stream),
        407 => Err(Error::Unauthenticated),
        status => Err(Error::Refused(status)),
    }
}

/// Reads past responses that are not the final one (RFC 9110 section 15.2).
async fn read_final_status(stream: &mut TcpStream) -> Result<u16, Error> {
    for _ in 0..MAX_INTERIM {
        match read_status(stream).await? {
            100 | 102..=199 => {}
            status => return Ok(status),
        }
    }
    Err(Error::Malformed)
}

/// Reads the head of the response and nothing after it.
async fn read_status(stream: &mut TcpStream) -> Result<u16, Error> {
    let (mut head, mut seen) = (Vec::new(), [0; 1024]);
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Err(Error::Closed);
        }
        let before = head.len();
        head.extend(seen.iter().take(count));
        let (length, status) = match parse(&head)? {
            Some((length, status)) => (length, Some(status)),
            None => (head.len(), None),
        };
        if length > MAX_HEAD {
            return Err(Error::TooLong);
        }
        let taken = length.saturating_sub(before).min(count);
        let taken = seen.get_mut(..taken).unwrap_or_default();
        stream.read_exact(taken).await?;
        if let Some(status) = status {
            return Ok(status);
        }
    }
}

/// How long the head is, and its status. None: it is not complete.
fn parse(head: &[u8]) -> Result<Option<(usize, u16)>, Error> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(length)) => {
            Ok(Some((length, response.code.ok_or(Error::Malformed)?)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Error::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bursar_testkit::listen;

    /// What comes of that response, and what is left in the tunnel.
    async fn answered(response: &str) -> Result<String, Error> {
        let (listener, address) = listen().await;
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut proxy = accepted.unwrap().0;
        proxy.write_all(response.as_bytes()).await.unwrap();
        proxy.shutdown().await.unwrap();
        let mut tunnel = connect(connected.unwrap(), "api.test:443", None).await?;
        let mut rest = String::new();
        tunnel.read_to_string(&mut rest).await.unwrap();
        Ok(rest)
    }

    #[tokio::test]
    async fn what_follows_the_head_is_left_in_the_tunnel() {
        let long = format!("HTTP/1.0 204 Yes\nX: {}\n\nSSH-2.0", "x".repeat(3000));
        for (response, rest) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", ""),
            ("HTTP/1.1 200 OK\r\nVia: a\r\n\r\nSSH-2.0", "SSH-2.0"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", "x"),
            (&long, "SSH-2.0"),
        ] {
            assert_eq!(answered(response).await.unwrap(), rest, "{response}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_does_not_connect_is_told_by_its_status_or_by_what_came() {
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        for (response, words) in [
            ("HTTP/1.1 403 No\r\n\r\n<p>secret</p>", "it answered 403"),
            ("HTTP/1.1 503\r\n\r\n", "it answered 503"),
            ("HTTP/1.1 101 No\r\n\r\n", "it answered 101"),
            (
                "HTTP/1.1 100 Continue\r\n\r\n",
                "it closed the connection without a response",
            ),
            (
                &"HTTP/1.1 102 Wait\r\n\r\n".repeat(MAX_INTERIM + 1),
                "what it answered is no HTTP/1.1",
            ),
            (
                "HTTP/1.1 407 Who?\r\n\r\n",
                "it answered 407: user name and password in `egress.proxy` are missing or wrong",
            ),
            ("SSH-2.0-foo\r\n", "what it answered is no HTTP/1.1"),
            (
                &format!("HTTP/1.1 200 OK\r\n{fields}\r\n"),
                "what it answered is no HTTP/1.1",
            ),
            (
                "HTTP/1.1 200 OK\r\n",
                "it closed the connection without a response",
            ),
            ("", "it closed the connection without a response"),
            (
                &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(9000)),
                "the head of its response is longer than 8192 bytes",
            ),
        ] {
            let error = answered(response).await.unwrap_err();
            assert_eq!(error.to_string(), words, "{response}");
        }
    }
}
