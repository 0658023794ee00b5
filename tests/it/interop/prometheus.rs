//! A real Prometheus reads the metrics, and promtool has nothing to say about them.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::support::metrics::admin;
use crate::support::upstream::answer;
use crate::support::{Rig, eventually};

/// Runs with that configuration. Its address.
pub(super) async fn start(config: &std::path::Path) -> (Child, String) {
    for _ in 0..5 {
        if let Some(running) = prometheus(config).await {
            return running;
        }
    }
    panic!("Prometheus does not start");
}

/// Runs on a port that was free a moment ago; None where somebody else took it since.
async fn prometheus(config: &std::path::Path) -> Option<(Child, String)> {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut child = command(&["prometheus"])
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            config.with_file_name("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ready = async {
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let is_ready = within("prometheus", ready).await;
    is_ready.then(|| (child, format!("http://{address}")))
}

/// The values of a query.
pub(super) async fn query(origin: &str, expression: &str) -> Vec<f64> {
    let expression: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
    let path = format!("/api/v1/query?query={expression}");
    let reply = direct(origin, "GET", &path).await;
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let result = body["data"]["result"].as_array();
    let values = result.into_iter().flatten();
    values
        .filter_map(|series| series["value"][1].as_str()?.parse().ok())
        .collect()
}

#[tokio::test]
async fn a_real_prometheus_scrapes_it() {
    if !Needs::Prometheus.are_met().await {
        return;
    }
    let rig = Rig::start(|_| async { answer(200, "paid") }).await;
    rig.get("/a").await;
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("prometheus.yml");
    let target = rig.proxy.admin;
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: bursar, static_configs: [{{targets: ['{target}']}}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let (_child, origin) = start(&config).await;
    eventually(|| async { query(&origin, "up").await == [1.0] }).await;
    let requests = "bursar_requests_total{provider=\"acme\",status=\"200\"}";
    eventually(|| async { query(&origin, requests).await == [1.0] }).await;
    let remaining = query(&origin, "bursar_token_expiry_timestamp_seconds-time()").await;
    assert!((3500.0..=3600.0).contains(&remaining[0]), "{remaining:?}");
    assert_eq!(query(&origin, "process_open_fds>0").await.len(), 1);
}

#[tokio::test]
async fn promtool_has_no_complaint_about_the_metrics() {
    if !Needs::Promtool.are_met().await {
        return;
    }
    let rig = Rig::start(|_| async { answer(200, "paid") }).await;
    rig.get("/a").await;
    let metrics = admin(rig.proxy.admin, "/metrics").await;
    let mut child = command(&["promtool", "check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&metrics.body).await.unwrap();
    drop(stdin);
    let output = within("promtool", child.wait_with_output()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert!(output.status.success());
}
