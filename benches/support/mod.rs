//! What a benchmark needs: servers on loopback, and the CPU time of a process.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A free port on loopback, and where it is.
pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback port is free");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    (listener, address)
}

/// A token endpoint that hands out a new token at every call, good for `lifetime`.
pub(crate) async fn token_endpoint(lifetime: Duration) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut count = 0_u64;
        while let Ok((mut stream, _)) = listener.accept().await {
            count += 1;
            let seconds = lifetime.as_secs_f64();
            let body = format!(r#"{{"access_token":"token-{count:0>60}","expires_in":{seconds}}}"#);
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            tokio::spawn(async move {
                let mut request = [0; 4096];
                // The request is short and comes in one piece; what it says does not matter here.
                drop(stream.read(&mut request).await);
                drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            });
        }
    });
    address
}

/// User and system time of a process so far, in clock ticks of 10 ms.
pub(crate) fn cpu_time(process: u32) -> (Duration, Duration) {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let ticks = |at: usize| -> u64 {
        let field = after_name
            .split_whitespace()
            .nth(at)
            .expect("stat has that many fields");
        field.parse().expect("times are numbers")
    };
    (
        Duration::from_millis(10 * ticks(11)),
        Duration::from_millis(10 * ticks(12)),
    )
}
