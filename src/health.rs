//! Is Bursar alive? What a container's probe asks, where there is no shell and no curl.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For the whole question; a probe has a limit of its own, mostly of seconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the admin port of a Bursar on this machine for `/healthz`.
///
/// # Errors
/// Where nobody answers 200 in time.
pub async fn ask(admin: SocketAddr) -> io::Result<()> {
    let asked = async {
        let mut stream = TcpStream::connect(reachable(admin)).await?;
        let request =
            format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        stream.take(1024).read_to_end(&mut head).await?;
        Ok::<_, io::Error>(head.starts_with(b"HTTP/1.1 200 "))
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(io::Error::other(format!("{admin} did not answer 200"))),
        Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("{admin}: {error}"))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{admin} did not answer in time"),
        )),
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
