//! A server's settings are the first that it sends: a payment waits for them, and a read does not.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::support::frames::{HEADERS, settings};

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(20);

impl Rig {
    /// A server whose connections begin without settings.
    async fn silent<F>(
        keys: &str,
        serve: impl Fn(usize, Frames) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(keys, async |tls| {
            FrameServer::start_silent(tls, serve).await
        })
        .await
    }
}

/// How a connection ends before its settings.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Reset,
    Goaway,
    GoawayBehindSettings,
}

impl End {
    async fn make(self, mut frames: Frames) {
        match self {
            Self::Close => return frames.close().await,
            Self::Reset => return frames.reset(),
            Self::Goaway => frames.write(goaway(0, 0)).await,
            Self::GoawayBehindSettings => {
                frames.write([settings(None), goaway(0, 0)].concat()).await;
            }
        }
        assert!(frames.request().await.is_none());
    }
}

async fn answer_all(mut frames: Frames, seen: Arc<AtomicUsize>) {
    frames.write(settings(None)).await;
    while let Some(stream) = frames.request().await {
        seen.fetch_add(1, Ordering::Relaxed);
        frames.answer(stream).await;
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_its_settings_got_no_payment() {
    let ends = [
        End::Close,
        End::Reset,
        End::Goaway,
        End::GoawayBehindSettings,
    ];
    for (http, end) in ends
        .map(|end| ("auto", end))
        .into_iter()
        .chain([("\"2\"", End::Close)])
    {
        let (seen, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (count, opened) = (seen.clone(), connections.clone());
        let rig = Rig::silent(&format!("http: {http}"), move |number, frames| {
            opened.fetch_add(1, Ordering::Relaxed);
            let count = count.clone();
            async move {
                match number {
                    0 | 1 => end.make(frames).await,
                    _ => answer_all(frames, count).await,
                }
            }
        })
        .await;
        let reply = rig.send("POST", "/pay", "amount").await;
        assert_eq!(reply.status, 200, "{http} {end:?}: {reply:?}");
        rig.ends_with(1, 0).await;
        let counts = [seen, connections].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 3], "{http} {end:?}");
    }
}

#[tokio::test]
async fn a_server_that_ends_every_connection_before_its_settings_gets_five() {
    let connections = Arc::<AtomicUsize>::default();
    let opened = connections.clone();
    let rig = Rig::silent("", move |_, frames| {
        opened.fetch_add(1, Ordering::Relaxed);
        frames.close()
    })
    .await;
    let reply = rig.send("POST", "/pay", "amount").await;
    let problem = reply.problem();
    assert_eq!(text(&problem["reason"]), "upstream_unreachable");
    assert_eq!(text(&problem["request_sent"]), "no");
    rig.ends_with(1, 0).await;
    assert_eq!(connections.load(Ordering::Relaxed), 5);
}

/// Never sends settings, or some that let it have no request.
#[tokio::test]
async fn a_server_that_never_says_that_it_takes_a_request_gets_no_payment() {
    for said in [None, Some(settings(Some(0)))] {
        let rig = Rig::silent("timeouts: {connect: 300ms}", move |_, mut frames| {
            let said = said.clone();
            async move {
                if let Some(said) = said {
                    frames.write(said).await;
                }
                assert!(frames.request().await.is_none());
            }
        })
        .await;
        let began = Instant::now();
        let reply = rig.send("POST", "/pay", "amount").await;
        let took = began.elapsed();
        assert_eq!(reply.status, 504, "{reply:?}");
        let problem = reply.problem();
        assert_eq!(text(&problem["reason"]), "upstream_timeout");
        assert_eq!(text(&problem["request_sent"]), "no");
        assert!(took < Duration::from_secs(5), "{took:?}");
        rig.ends_with(1, 0).await;
    }
}

#[tokio::test]
async fn a_read_that_the_server_does_not_let_begin_was_not_sent_and_never_is() {
    let seen = Arc::<AtomicUsize>::default();
    let count = seen.clone();
    let rig = Rig::silent("timeouts: {head: 300ms}", move |_, mut frames| {
        let count = count.clone();
        async move {
            frames.write(settings(Some(0))).await;
            let mut has_room = false;
            loop {
                // The caller is told meanwhile.
                let pause = Duration::from_millis(600);
                match tokio::time::timeout(pause, frames.next()).await {
                    Ok(Some(frame)) => {
                        count.fetch_add(usize::from(frame.kind == HEADERS), Ordering::Relaxed);
                    }
                    Err(_quiet) if !has_room => {
                        has_room = true;
                        frames.write(settings(Some(10))).await;
                    }
                    Ok(None) | Err(_) => return,
                }
            }
        }
    })
    .await;
    let mut maybe = 0;
    for _ in 0..4 {
        let reply = rig.send("GET", "/balance", "").await;
        assert_eq!(reply.status, 504, "{reply:?}");
        let problem = reply.problem();
        assert_eq!(text(&problem["reason"]), "upstream_timeout");
        // It may be written before the settings come, and then only.
        maybe += usize::from(text(&problem["request_sent"]) == "maybe");
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(seen.load(Ordering::Relaxed), maybe);
}

#[tokio::test]
async fn a_payment_is_sent_once_the_server_lets_it_have_one() {
    let rig = Rig::silent("", |_, mut frames| async move {
        frames.write(settings(Some(0))).await;
        let early = tokio::time::timeout(Duration::from_millis(100), frames.request()).await;
        assert!(early.is_err());
        frames.write(settings(Some(1))).await;
        let stream = frames.request().await.unwrap();
        frames.answer(stream).await;
        assert!(frames.request().await.is_none());
    })
    .await;
    let reply = rig.send("POST", "/pay", "amount").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    rig.ends_with(1, 0).await;
}

#[tokio::test]
async fn a_read_waits_for_no_settings() {
    let rig = Rig::silent("", |_, mut frames| async move {
        let stream = frames.request().await.unwrap();
        frames.write(settings(None)).await;
        frames.answer(stream).await;
        assert!(frames.request().await.is_none());
    })
    .await;
    let reply = tokio::time::timeout(LONG, rig.send("GET", "/balance", "")).await;
    assert_eq!(reply.unwrap().status, 200);
}

#[tokio::test]
async fn a_payment_does_not_follow_a_read_onto_a_connection_without_settings() {
    let seen = Arc::<AtomicUsize>::default();
    let count = seen.clone();
    let rig = Rig::silent("timeouts: {head: 300ms}", move |number, mut frames| {
        let count = count.clone();
        async move {
            if number > 0 {
                return answer_all(frames, count).await;
            }
            // The read is given up; whatever else came would not be answered.
            while frames.next().await.is_some() {}
        }
    })
    .await;
    let mut caller = Caller::connect(rig.proxy.listen).await;
    assert_eq!(caller.send("GET", "/balance", "").await.status, 504);
    assert_eq!(caller.send("POST", "/pay", "amount").await.status, 200);
    rig.ends_with(2, 0).await;
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}
