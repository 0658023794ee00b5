//! The request's way when all is well.

use crate::support::Rig;
use crate::support::upstream::answer;

#[tokio::test]
async fn a_request_gets_its_token() {
    let rig = Rig::start(|_| async { answer(200, "hello") }).await;
    let reply = rig.get("/a").await;
    assert_eq!(reply.text(), "hello");
    assert_eq!(rig.api.only().all("authorization"), ["Bearer token-1"]);
    let lines = rig.proxy.access_lines(1).await;
    assert_eq!(lines[0]["status"], 200);
    let ok = [("provider", "acme"), ("status", "200")];
    assert_eq!(rig.proxy.metric("bursar_requests_total", &ok).await, 1.0);
}
