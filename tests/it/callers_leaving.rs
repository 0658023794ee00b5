//! Callers that leave: before their request is sent, in the middle of the response, or only with their sending side.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::support::caller::Caller;
use crate::support::idp::{Idp, token};
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer, full, stream};
use crate::support::{Latch, Rig, acme};

const POST: &str =
    "POST http://api.test/pay HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\n\r\n{}";
/// Longer than a caller takes to close its sending side behind its request.
const LATER: Duration = Duration::from_millis(700);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaves {
    AtOnce,
    Later,
    WithAReset,
}

#[tokio::test]
async fn a_request_whose_caller_leaves_while_it_waits_for_a_token_is_not_sent() {
    for leaves in [Leaves::AtOnce, Leaves::Later, Leaves::WithAReset] {
        let latch = Latch::closed();
        let (api, idp) = (
            Upstream::start(|_| async { answer(200, "paid") }).await,
            Idp::held(&latch).await,
        );
        let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
        let mut caller = Raw::connect(proxy.listen).await;
        caller.write(POST).await;
        if leaves == Leaves::AtOnce {
            caller.finish().await;
        }
        let under_way = [("provider", "acme")];
        proxy
            .metric_becomes("bursar_requests_in_flight", &under_way, 1.0)
            .await;
        if leaves == Leaves::Later {
            // That time has passed is what is looked at.
            tokio::time::sleep(LATER).await;
        }
        let caller = match leaves {
            Leaves::WithAReset => {
                caller.reset();
                None
            }
            Leaves::AtOnce => Some(caller),
            Leaves::Later => {
                caller.finish().await;
                Some(caller)
            }
        };
        if leaves != Leaves::AtOnce {
            // What the caller has done may be a moment on its way.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        latch.open();
        let line = &proxy.access_lines(1).await[0];
        match leaves {
            Leaves::AtOnce => {
                let response = caller.unwrap().read_message().await;
                assert_eq!((response.status(), response.text()), (200, "paid"));
                assert_eq!(api.count(), 1);
            }
            Leaves::Later | Leaves::WithAReset => {
                let (status, reason) = (&line["status"], &line["reason"]);
                assert_eq!((status, reason), (&499.into(), &"caller_left".into()));
                assert_eq!(api.count(), 0, "{leaves:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_is_not_replayed_for_a_caller_that_has_left() {
    let latch = Latch::closed();
    let api = Upstream::start(|_| async { answer(401, "") }).await;
    let held = latch.clone();
    let idp = Idp::start(move |call| {
        let held = held.clone();
        async move {
            if call.number > 1 {
                held.wait().await;
            }
            token(&format!("token-{}", call.number))
        }
    })
    .await;
    let routes = "routes: [{path: /pay, replay: always}]";
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), routes)).await;
    let mut caller = Raw::connect(proxy.listen).await;
    caller.write(POST).await;
    idp.reached_by(2).await;
    caller.reset();
    tokio::time::sleep(Duration::from_millis(100)).await;
    latch.open();
    let line = &proxy.access_lines(1).await[0];
    assert_eq!(line["reason"], "caller_left");
    assert_eq!(api.count(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_of_a_response_is_told_of_beside_its_status() {
    for is_http2 in [false, true] {
        let api = Upstream::start(|_| async {
            let (sender, body) = stream();
            tokio::spawn(async move {
                let mut sender = sender;
                let piece = Bytes::from(vec![b'x'; 64 * 1024]);
                while sender.send_data(piece.clone()).await.is_ok() {}
            });
            http::Response::new(body)
        })
        .await;
        let idp = Idp::counting().await;
        let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
        let get = http::Request::get("http://api.test/x");
        let get = get.body(full("")).unwrap();
        let mut caller = match is_http2 {
            false => Caller::connect(proxy.listen).await,
            true => Caller::connect_http2(proxy.listen).await,
        };
        let response = caller.begin(get).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        drop((response, caller));
        let line = &proxy.access_lines(1).await[0];
        assert_eq!(line["status"], 200);
        assert_eq!(line["reason"], "caller_left");
        assert_eq!(line["detail"], "response_unread");
    }
}

#[tokio::test]
async fn a_refused_head_has_no_body_over_either_version() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let proxy = &rig.proxy;
    let mut callers = [
        Caller::connect(proxy.listen).await,
        Caller::connect_http2(proxy.listen).await,
    ];
    for caller in &mut callers {
        let head = http::Request::head("http://other.test/x");
        let reply = caller.request(head.body(full("")).unwrap()).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (403, ""));
        assert!(reply.all("content-length")[0].parse::<u32>().unwrap() > 0);
    }
    let lines = proxy.access_lines(2).await;
    assert!(
        lines.iter().all(|line| line["response_bytes"] == 0),
        "{lines:?}"
    );
}
