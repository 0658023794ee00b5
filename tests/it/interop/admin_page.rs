//! The admin page in Debian's Chromium: `tests/peers/admin_page.mjs`. Its screenshots are kept below `target`.

use std::path::Path;

use super::{Needs, command, within};
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::program::Program;
use crate::support::raw::RawUpstream;
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{acme, eventually};

const TOKEN: &str = "0123456789-admin-token";
const SCREENSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/admin_page");

/// Three providers: one that takes payments and loses responses, one that the file freezes, one that has no token.
async fn busy(api: &RawUpstream, idp: &Idp) -> Program {
    let of = |name: &str, token: &str, lines: &str| {
        let one = acme(&api.url(), token, lines);
        let one = one.strip_prefix("providers:\n").unwrap();
        one.replace("acme:", &format!("{name}:"))
            .replace("api.test", &format!("{name}.test"))
    };
    let [acme, payu, quidkey] = [
        of("acme", &idp.url(), ""),
        of("payu", &idp.url(), "frozen: true"),
        of("quidkey", "http://127.0.0.1:1/t", ""),
    ];
    let yaml = format!(
        "admin_token: {TOKEN}\njournal: {{path: journal}}\nproviders:\n{acme}{payu}{quidkey}"
    );
    let program = Program::start(&yaml, "info,bursar::access=off").await;
    for (method, host) in [
        ("POST", "acme"),
        ("POST", "payu"),
        ("GET", "quidkey"),
        ("GET", "nobody"),
    ] {
        let uri = format!("http://{host}.test/x");
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.body(full("")).unwrap();
        Caller::connect(program.listen).await.request(request).await;
    }
    let in_doubt = async || program.json("/status").await["payments_in_doubt"]["count"] == 1;
    eventually(in_doubt).await;
    program
}

/// One provider with ten thousand accounts.
async fn many(api: &Upstream, idp: &Idp) -> Program {
    let accounts: String = (0..10_000)
        .map(|number| {
            format!(
                "      shop-{number}: {{client_id: id-{number}, client_secret: a-secret-of-shop-{number}}}\n"
            )
        })
        .collect();
    let one = acme(&api.url(), &idp.url(), "");
    let lines = one.lines().filter(|line| !line.contains("client_"));
    let lines: Vec<&str> = lines.collect();
    let yaml = format!("{}\n    accounts:\n{accounts}", lines.join("\n"));
    Program::start(&yaml, "info,bursar::access=off").await
}

#[tokio::test]
async fn the_admin_page_in_chromium() {
    if !Needs::Chromium.are_met().await {
        return;
    }
    let (resetting, idp) = (RawUpstream::resetting().await, Idp::counting().await);
    let busy = busy(&resetting, &idp).await;
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let many = many(&api, &idp).await;
    std::fs::create_dir_all(Path::new(SCREENSHOTS)).unwrap();
    let page = serde_json::json!({
        "url": format!("http://{}", busy.admin),
        "many": format!("http://{}", many.admin),
        "token": TOKEN,
        "provider": "acme",
        "frozen": "payu",
        "screenshots": SCREENSHOTS,
    });
    let mut command = command(&["node", "admin_page.mjs"]);
    command.env("PAGE", page.to_string());
    let output = within("chromium", command.output()).await.unwrap();
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        said[0],
        said[1],
        busy.logged()
    );
    // What took how long.
    std::fs::write(Path::new(SCREENSHOTS).join("times.txt"), &output.stdout).unwrap();
}
