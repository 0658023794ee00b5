//! A real nginx as the provider, which ends each connection after its usual number of requests.

use std::collections::HashSet;
use std::path::Path;

use super::*;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::tls::Authority;
use crate::support::{acme, eventually, free_port, listening_at, soon};

const CALLERS: usize = 40;
const PAYMENTS: usize = 10;

/// nginx on loopback; it writes down each request that it has processed.
struct Nginx {
    port: u16,
    _child: Child,
}

impl Nginx {
    async fn start(directory: &Path, authority: &Authority) -> Self {
        let port = free_port();
        let place = directory.display();
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        let (certificate, key) = authority.sign(&["127.0.0.1"], "");
        write("server.pem", certificate);
        write("server.key", key);
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {place}/{name};\n"));
        write(
            "nginx.conf",
            format!(
                "daemon off; master_process off; pid {place}/pid; error_log /dev/null;\nevents {{}}\nhttp {{\n{}\
                 log_format target $request_uri; access_log {place}/access target;\n\
                 server {{ listen 127.0.0.1:{port} ssl http2; keepalive_requests 100;\n\
                 ssl_certificate {place}/server.pem; ssl_certificate_key {place}/server.key;\n\
                 location / {{ return 200 paid; }} }} }}\n",
                temporary.concat()
            ),
        );
        let file = directory.join("nginx.conf");
        let child = command(&["nginx", "-p", ".", "-c", file.to_str().unwrap()])
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        listening_at(port).await;
        Self {
            port,
            _child: child,
        }
    }
}

#[tokio::test]
async fn nginx_ends_its_connections_and_no_payment_is_in_doubt_lost_or_made_twice() {
    if !Needs::Nginx.are_met().await {
        return;
    }
    for http in ["auto", "\"2\"", "\"1.1\""] {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
        authority.write(&directory.path().join("ca.pem"));
        let nginx = Nginx::start(directory.path(), &authority).await;
        let idp = Idp::counting().await;
        let keys = format!("tls: {{ca: ca.pem}}\nhttp: {http}");
        let api = format!("https://127.0.0.1:{}", nginx.port);
        let journal = directory.path().join("journal");
        let acme = acme(&api, &idp.url(), &keys);
        let yaml = format!("journal: {{path: {}}}\n{acme}", journal.display());
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        let listen = proxy.listen;
        let callers = (0..CALLERS).map(|number| {
            tokio::spawn(async move {
                let mut caller = Caller::connect(listen).await;
                for payment in 0..PAYMENTS {
                    let path = format!("/pay/{number}-{payment}");
                    let reply = caller.send("POST", &path, "amount").await;
                    assert_eq!(reply.text(), "paid", "{reply:?}");
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            within("a caller", caller).await.unwrap();
        }
        let all = CALLERS * PAYMENTS;
        let written = || std::fs::read_to_string(directory.path().join("access")).unwrap();
        eventually(|| async { written().lines().count() >= all }).await;
        let written = written();
        let made: HashSet<&str> = written.lines().collect();
        assert_eq!((written.lines().count(), made.len()), (all, all), "{http}");
        soon(proxy.access_lines(all)).await;
        let unresolved = "bursar_journal_unresolved";
        proxy.metric_becomes(unresolved, &[], 0.0).await;
    }
}
