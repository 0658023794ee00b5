//! Two client secrets, of which the token endpoint knows one.

use super::*;
use crate::support::idp::reply;

const IN_USE: &str = "bursar_secret_in_use";

/// Refuses every secret but this one.
pub(super) async fn knows_only(secret: &'static str) -> Idp {
    knows(Arc::new(std::sync::Mutex::new(secret))).await
}

async fn knows(secret: Arc<std::sync::Mutex<&'static str>>) -> Idp {
    Idp::start(move |call| {
        let is_right = call.field("client_secret").as_deref() == Some(*secret.lock().unwrap());
        async move {
            match is_right {
                true => token(&format!("token-{}", call.number)),
                false => reply(401, &json!({ "error": "invalid_client" })),
            }
        }
    })
    .await
}

async fn in_use(proxy: &Proxy) -> [f64; 2] {
    let scrape = proxy.scrape().await;
    ["client_secret", "next_client_secret"].map(|secret| {
        scrape.value(
            IN_USE,
            &[
                ("provider", "acme"),
                ("account", "default"),
                ("secret", secret),
            ],
        )
    })
}

#[tokio::test]
async fn a_secret_is_exchanged_at_the_provider_and_no_request_notices() {
    let secret = Arc::new(std::sync::Mutex::new(CLIENT_SECRET));
    let revoked = Arc::new(AtomicUsize::new(0));
    let dead = revoked.clone();
    // A token counts until it is revoked; that is what makes the next one necessary.
    let api = Upstream::start(move |request: Request<Bytes>| {
        let token = request.headers()["authorization"].to_str().unwrap();
        let number: usize = token.rsplit_once('-').unwrap().1.parse().unwrap();
        let is_dead = number <= dead.load(Ordering::SeqCst);
        async move { answer(if is_dead { 401 } else { 200 }, "") }
    });
    let idp = knows(secret.clone()).await;
    let rig = Rig::of(api.await, idp, "next_client_secret: n3xt").await;
    assert_eq!(in_use(&rig.proxy).await, [1.0, 0.0]);
    assert_eq!(rig.get("/a").await.status, 200);
    *secret.lock().unwrap() = "n3xt";
    revoked.store(1, Ordering::SeqCst);
    assert_eq!(rig.get("/a").await.status, 200);
    // The first token, a refusal, and the second one.
    assert_eq!(rig.idp.calls(), 3);
    assert_eq!(in_use(&rig.proxy).await, [0.0, 1.0]);
    let (_, status) = rig.proxy.json("/status").await;
    assert_eq!(status["tokens"][0]["secret_in_use"], "next_client_secret");
    // Back again, as when the provider rolls the change back.
    *secret.lock().unwrap() = CLIENT_SECRET;
    revoked.store(3, Ordering::SeqCst);
    assert_eq!(rig.get("/a").await.status, 200);
    assert_eq!(in_use(&rig.proxy).await, [1.0, 0.0]);
}

#[tokio::test]
async fn two_refused_secrets_are_502_after_two_calls() {
    let idp = knows_only("another").await;
    let rig = Rig::of(api().await, idp, "next_client_secret: n3xt").await;
    for _ in 0..3 {
        let reply = rig.get("/a").await;
        assert_eq!(reply.status, 502);
        assert_eq!(reply.problem()["reason"], "credentials_rejected");
    }
    assert_eq!(rig.idp.calls(), 2);
    assert_eq!(in_use(&rig.proxy).await, [1.0, 0.0]);
}
