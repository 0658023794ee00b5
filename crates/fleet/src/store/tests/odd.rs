//! Servers that are broken or hostile.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::*;
use super::scripted::{Response, Scripted, fine};
use super::support::{KEY, at, connect, count, counted, down_for, single, start, until};
use bursar_base::secret::Secret;

/// A server that is fine, but that scripts other than the probe are responded to like that.
async fn responding(response: &'static [u8]) -> Scripted {
    Scripted::start(None, move |command| {
        match command.iter().any(|word| word == KEY) {
            true => Response::Bytes(response.to_vec()),
            false => fine(command),
        }
    })
    .await
}

fn bytes(text: &str) -> Response {
    Response::Bytes(text.as_bytes().to_vec())
}

#[tokio::test]
async fn what_is_no_resp_or_too_long_ends_the_connection() {
    for response in [
        &b"$536870912\r\n"[..],
        b"*1000000000\r\n",
        b"%4000000000000000000\r\n",
        b"|4611686018427387904\r\n",
        b"=-1\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\0\0\0\0\n",
        b":1x\r\n",
    ] {
        let server = responding(response).await;
        let (store, mut events) = connect(single(at(server.address))).await;
        let error = count(&store, KEY).await.unwrap_err();
        let shown = String::from_utf8_lossy(response);
        assert!(!error.is_unsent(), "{shown}");
        assert!(
            matches!(error.kind(), Kind::Protocol | Kind::Disconnected),
            "{shown} {error:?}"
        );
        until(&mut events, &Event::Down).await;
    }
}

#[tokio::test]
async fn a_response_that_never_ends_is_cut_off() {
    let server = Scripted::start(None, |command| {
        match command.iter().any(|word| word == KEY) {
            true => Response::Bytes([b"+".repeat(9 << 20), b"\r\n".to_vec()].concat()),
            false => fine(command),
        }
    })
    .await;
    let (store, mut events) = connect(single(at(server.address))).await;
    let error = count(&store, KEY).await.map(drop).unwrap_err();
    assert_eq!((error.kind(), error.is_unsent()), (Kind::Protocol, false));
    until(&mut events, &Event::Down).await;
}

#[tokio::test]
async fn a_server_that_hangs_at_any_step_is_down() {
    for step in ["HELLO", "SUBSCRIBE", "EVAL"] {
        let silent = move |command: &[String]| match command[0] == step {
            true => Response::Silence,
            false => fine(command),
        };
        let server = Scripted::start(None, silent).await;
        let (store, _events) = start(single(at(server.address)));
        down_for(&store, Kind::TimedOut).await;
    }
}

#[tokio::test]
async fn a_server_that_repeats_a_password_is_not_repeated() {
    let server = Scripted::start(None, |command| {
        let said = command.join("`, `");
        bytes(&format!(
            "-ERR unknown command `HELLO`, with args beginning with: `{said}`\r\n"
        ))
    })
    .await;
    let mut url = at(server.address);
    url.password = Some(Secret::new("topsecret".to_owned()));
    let settings = single(url);
    let (store, _events) = start(settings);
    down_for(&store, Kind::TooOld).await;
    assert!(!format!("{:?}", store.state()).contains("topsecret"));
}

#[tokio::test]
async fn a_server_that_fails_at_once_is_not_tried_without_pause() {
    let closing = |command: &[String]| match command.iter().any(|word| word == KEY) {
        true => Response::Close,
        false => fine(command),
    };
    let server = Scripted::start(None, closing).await;
    let (store, mut events) = connect(single(at(server.address))).await;
    let begun = Instant::now();
    for _ in 0..5 {
        let error = count(&store, KEY).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_unsent()),
            (Kind::Disconnected, false)
        );
        until(&mut events, &Event::Up).await;
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(800),
        "{:?}",
        begun.elapsed()
    );
    // A person has to do something first.
    let refusing = |_: &[String]| bytes("-WRONGPASS invalid\r\n");
    let server = Scripted::start(None, refusing).await;
    let (store, _events) = start(single(at(server.address)));
    down_for(&store, Kind::WrongPassword).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_server_that_is_loading_is_tried_until_it_is_not() {
    let left = AtomicUsize::new(3);
    let loading = move |command: &[String]| {
        let is_loading = command[0] == "EVAL" && {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        };
        match is_loading {
            true => bytes("-LOADING Redis is loading the dataset in memory\r\n"),
            false => fine(command),
        }
    };
    let server = Scripted::start(None, loading).await;
    let (store, mut events) = start(single(at(server.address)));
    until(&mut events, &Event::Up).await;
    counted(&store, KEY).await;
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn a_session_that_ended_at_the_server_is_begun_again() {
    let server = responding(b"-NOAUTH Authentication required.\r\n").await;
    let (store, mut events) = connect(single(at(server.address))).await;
    let error = count(&store, KEY).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_unsent()),
        (Kind::WrongPassword, true)
    );
    until(&mut events, &Event::Down).await;
}

#[tokio::test]
async fn pushes_that_nobody_asked_for_are_no_responses() {
    let server = responding(
        b">2\r\n$10\r\ninvalidate\r\n_\r\n>3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n>1\r\n+x\r\n>0\r\n:7\r\n",
    )
    .await;
    let (store, _events) = connect(single(at(server.address))).await;
    assert_eq!(count(&store, KEY).await.unwrap(), Value::Int(7));
}

#[tokio::test]
async fn a_proxy_that_says_yes_to_resp3_and_goes_on_in_resp2_is_refused() {
    let server = Scripted::start(None, |command| match (&*command[0], command.len()) {
        ("HELLO", _) => bytes("*2\r\n$5\r\nproto\r\n:2\r\n"),
        _ => fine(command),
    })
    .await;
    let (store, _events) = start(single(at(server.address)));
    down_for(&store, Kind::TooOld).await;
}
