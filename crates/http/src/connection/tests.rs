use std::net::IpAddr;

use tokio::io::AsyncWriteExt as _;

use super::state::WRITE_TIMEOUT;
use super::*;

/// Takes everything, as TLS does for a while, and sends none of it.
struct Deaf;

impl Transport for Deaf {
    fn reset_on_close(&self) {}

    fn acknowledge(&mut self) {}
}

impl AsyncRead for Deaf {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn neither_flushing_nor_closing_waits_for_ever() {
    let read_timeouts = ReadTimeouts {
        idle: WRITE_TIMEOUT,
        head: WRITE_TIMEOUT,
    };
    for is_closing in [false, true] {
        let peer = Peer::at(IpAddr::from([127, 0, 0, 1]));
        let side = ConnectionState::new(None, peer, 0, read_timeouts, &Arc::default());
        let mut stream = CallerStream::new(Deaf, side.clone());
        stream.write_all(b"x").await.unwrap();
        let ending = async {
            match is_closing {
                false => stream.flush().await,
                true => stream.shutdown().await,
            }
        };
        let ended = tokio::time::timeout(WRITE_TIMEOUT * 2, ending).await;
        assert_eq!(ended.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(side.ended_with(), Some(Limit::WriteTimeout));
    }
}

#[cfg(target_os = "linux")]
mod acknowledged {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use bursar_base::socket::Socket;

    /// Whether a caller whose bytes were read is told at once, and whether it is told again while no more come.
    async fn tells_at_once(bytes: &[u8]) -> [bool; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, address) = listener.accept().await.unwrap();
        let read_timeouts = ReadTimeouts {
            idle: WRITE_TIMEOUT,
            head: WRITE_TIMEOUT,
        };
        let side = ConnectionState::new(
            None,
            Peer::at(address.ip()),
            0,
            read_timeouts,
            &Arc::default(),
        );
        let mut stream = CallerStream::new(Socket::new(tcp), side);
        stream.frame(true);
        caller.write_all(bytes).await.unwrap();
        stream.read_exact(&mut vec![0; bytes.len()]).await.unwrap();
        let mut told = [false; 2];
        for told in &mut told {
            // Whatever the system still has to acknowledge it does now, or it would change its mind when that is due.
            stream.stream.tcp.set_quickack(true).unwrap();
            stream.stream.tcp.set_quickack(false).unwrap();
            assert_eq!(read_nothing(&mut stream).await, Poll::Pending);
            *told = stream.stream.tcp.quickack().unwrap();
        }
        told
    }

    /// One read while nothing comes.
    async fn read_nothing(stream: &mut CallerStream<Socket>) -> Poll<usize> {
        let mut room = [0; 8];
        poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut room);
            let read = Pin::new(&mut *stream).poll_read(context, &mut buffer);
            Poll::Ready(read.map(|_| buffer.filled().len()))
        })
        .await
    }

    #[tokio::test]
    async fn what_has_come_of_a_message_is_acknowledged_once_where_more_is_awaited() {
        for (bytes, told) in [
            ("P", true),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r", true),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{", true),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", false),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
                true,
            ),
            ("GET / HTTP/1.1\r\n\r\n", false),
            // What is in a tunnel is for those to say who know it.
            ("CONNECT a:1 HTTP/1.1\r\n\r\n", false),
        ] {
            assert_eq!(
                tells_at_once(bytes.as_bytes()).await,
                [told, false],
                "{bytes:?}"
            );
        }
    }
}
