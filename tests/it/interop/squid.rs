//! A real parent proxy: Squid, with a password.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bursar_config::Names;

use super::*;
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, free_port, listening_at};

/// Squid on loopback, for `bursar` with `p:a ss`; it knows `api.test` and `login.test`.
struct Squid {
    port: u16,
    _child: Child,
}

impl Squid {
    async fn start(directory: &Path) -> Self {
        let port = free_port();
        // It leaves root's privileges and has to read this all the same.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let place = directory.display();
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        write("hosts", "127.0.0.1 api.test login.test\n".to_owned());
        // `openssl passwd -1`
        write(
            "passwords",
            "bursar:$1$abcdefgh$9dxwLl89dXgr901wp.wFr/\n".to_owned(),
        );
        write(
            "squid.conf",
            format!(
                "http_port 127.0.0.1:{port}\npid_filename none\nhosts_file {place}/hosts\ncache deny all\n\
                 access_log none\ncache_log /dev/null\nlogfile_rotate 0\ncoredump_dir /tmp\npinger_enable off\n\
                 auth_param basic program /usr/lib/squid/basic_ncsa_auth {place}/passwords\nauth_param basic children 1\n\
                 acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n\
                 shutdown_lifetime 0 seconds\nvisible_hostname squid.test\n"
            ),
        );
        let file = directory.join("squid.conf");
        let child = command(&["squid", "-N", "-f", file.to_str().unwrap()])
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
async fn squid_carries_api_and_token_calls() {
    if !Needs::Squid.are_met().await {
        return;
    }
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(&directory.path().join("ca.pem"));
    let tls = |alpn: &[&str]| authority.server(alpn, ClientCertificate::Ignored);
    let api = Upstream::with_tls(tls(&["h2", "http/1.1"]), |_| async { answer(200, "paid") }).await;
    let idp = Idp::with_tls(tls(&["http/1.1"]), |_| async { idp::token("token") }).await;
    let squid = Squid::start(directory.path()).await;
    let yaml = |user: &str| {
        let provider = acme(
            &format!("https://api.test:{}", api.address.port()),
            &format!("https://login.test:{}/token", idp.address().port()),
            "tls: {ca: ca.pem}",
        );
        format!(
            "{provider}egress: {{proxy: 'http://{user}127.0.0.1:{}'}}\n",
            squid.port
        )
    };
    let get = async |proxy: &Proxy| {
        Caller::connect(proxy.listen)
            .await
            .send("GET", "/x", "")
            .await
    };
    // Nobody but Squid can resolve the names.
    let nobody = || Names::Fixed(Default::default());
    let start =
        async |user: &str| Proxy::start_naming(directory.path(), &yaml(user), nobody()).await;

    let proxy = start("bursar:p%3Aa%20ss@").await;
    for _ in 0..2 {
        let reply = get(&proxy).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "paid"));
    }
    assert_eq!((api.count(), idp.calls()), (2, 1));
    for user in ["", "bursar:wrong@"] {
        let reply = get(&start(user).await).await;
        assert_eq!(reply.problem()["reason"], "token_unavailable");
    }
    assert_eq!((api.count(), idp.calls()), (2, 1));
}
