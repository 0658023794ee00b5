//! The page of all metrics, generated from what `/metrics` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Page, ROOT, is_in_the_tree};
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::metrics::{Scrape, admin};
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

const HEAD: &str = "# Metrics

<!-- Generated; BURSAR_WRITE_BOOK=1 cargo test book -->

`/metrics` at the admin port has these, and `process_*` beside them. `provider` is `none` where a request has none,
`caller` is `anonymous` without authentication or where it failed, `account` is `default` for the provider's own
credentials, and `scopes` is sorted and joined by spaces. Series that the configuration lets one know exist from the
start, at 0. Those of a caller or provider that a reload removes stay until Bursar ends; those of its tokens go with it.

[Monitoring](../operations/monitoring.md) has alerts and a dashboard that are made of them.

## All metrics

| metric | type | labels | meaning |
|---|---|---|---|
";

/// What a metric's own help leaves out.
const NOTES: [(&str, &str); 15] = [
    (
        "bursar_certificate_expiry_timestamp_seconds",
        "`kind` is `listen` (of `tls`; the provider is `none`) or `client` (shown to that provider).",
    ),
    (
        "bursar_config_info",
        "A secret that stands in the file itself is part of the text: whoever sees the metric and knows the rest of the file can try weak ones.",
    ),
    (
        "bursar_connections",
        "`caller`: of callers. `upstream`: to providers' APIs.",
    ),
    (
        "bursar_egress_denied_total",
        "Each is counted once for each rule.",
    ),
    (
        "bursar_limit_reached_total",
        "Most are called as their key of `limits` is; `headers` is their number or size. `caller_connections` and `caller_requests` are limits of a caller; `body_timeout` and `write_timeout` a caller that does not send or does not read; `resets` HTTP/2 requests that were reset before anybody looked at them; `admin_connections` one at the admin port that was closed for a new one. `accept`: a connection could not be accepted, or was answered 503, for lack of file descriptors, all but the reserve.",
    ),
    (
        "bursar_password_hashes_total",
        "It grows while somebody tries passwords.",
    ),
    (
        "bursar_refusals_total",
        "Responses of providers that were cut off are counted too, beside `bursar_requests_total`.",
    ),
    (
        "bursar_replays_total",
        "`ok`; `unauthorized_again`; `failed`: it broke off. The others say why there was none: more of the body was read than was kept, the provider handed out the same token again, 401s renewed the token too often lately, no token could be had; `not_allowed` by the provider, or by `replay` of the route.",
    ),
    (
        "bursar_requests_total",
        "Those of hosts of `passthrough` are `none`'s. Bursar's own are in `bursar_refusals_total` alone.",
    ),
    (
        "bursar_token_fetches_total",
        "`unchanged`: the token that was there already came again.",
    ),
    (
        "bursar_token_wait_seconds",
        "Requests that did not wait are not in it.",
    ),
    ("bursar_upstream_breaker_open", "0 without `breaker`."),
    (
        "bursar_upstream_certificate_expiry_timestamp_seconds",
        "`host` has its port; token hosts are among them.",
    ),
    (
        "bursar_upstream_connect_failures_total",
        "For requests and for token calls. The provider is `none` for hosts of `passthrough`.",
    ),
    (
        "bursar_upstream_fields_dropped_total",
        "Those of a token endpoint too; the log names one a minute. `none` stands for hosts of `passthrough`.",
    ),
];

/// Labels whose values are the operator's, or a number.
const OPEN: [&str; 9] = [
    "account", "caller", "hash", "host", "kind", "provider", "scopes", "status", "version",
];

/// A proxy of whose metrics none is missing.
async fn with_every_metric(directory: &TempDir) -> (Proxy, Upstream, Idp) {
    let authority = Authority::new();
    authority.write(&directory.path().join("api.pem"));
    let client = ["client.pem", "client.key"].map(|file| directory.path().join(file));
    authority.write_client(&client[0], &client[1]);
    let tls = authority.server(&["http/1.1"], ClientCertificate::Ignored);
    let api = Upstream::with_tls(tls, |request| async move {
        if request.method() == "POST" {
            std::future::pending::<()>().await;
        }
        answer(200, "")
    });
    let api = api.await;
    let idp = Idp::counting().await;
    let further = "refresh: grant";
    let provider = acme(
        &api.url(),
        &idp.url(),
        &format!(
            "token.{further}\nnext_client_secret: other\ntls: {{ca: api.pem, certificate: client.pem, key: client.key}}\ntimeouts: {{head: 500ms}}"
        ),
    );
    let file = directory.path().join("proxy.yaml");
    std::fs::write(&file, &provider).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command
        .args(["ca", "new", "--config"])
        .arg(&file)
        .arg("--dir")
        .arg(directory.path());
    let made = command.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let yaml = format!(
        "{provider}
journal: {{path: journal, sync: false}}
fleet: {{url: 'redis://127.0.0.1:1', keys: [MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=]}}
intercept: {{ca: {{certificate: ca.pem, key: ca.key}}}}
"
    );
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let reply = Caller::connect(proxy.listen)
        .await
        .send("GET", "/", "")
        .await;
    assert_eq!(reply.status, 200);
    // One in doubt, once this instance goes without the fleet's freezes.
    let listen = proxy.listen;
    eventually(|| async {
        let mut caller = Caller::connect(listen).await;
        caller.send("POST", "/", "x").await.status == 504
    })
    .await;
    proxy
        .metric_becomes("bursar_journal_unresolved", &[], 1.0)
        .await;
    (proxy, api, idp)
}

/// One family: its help, its type, and its labels with their values.
#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn families(text: &str, scrape: &Scrape) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        let word = |line: &str| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.to_owned())
        };
        if let Some((name, help)) = line.strip_prefix("# HELP ").map(word) {
            families.entry(name).or_default().help = help;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").map(word) {
            families.entry(name).or_default().kind = kind;
        }
    }
    for (name, labels, _) in scrape.all() {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        let base = base
            .filter(|base| families.contains_key(*base))
            .unwrap_or(name);
        let family = families
            .get_mut(base)
            .unwrap_or_else(|| panic!("{name} has no type"));
        for (label, value) in labels.iter().filter(|(label, _)| *label != "le") {
            family
                .labels
                .entry(label.clone())
                .or_default()
                .insert(value.clone());
        }
    }
    families.retain(|name, _| name.starts_with("bursar_"));
    families
}

fn labels(metric: &str, family: &Family) -> String {
    let label = |(name, values): (&String, &BTreeSet<String>)| {
        if OPEN.contains(&&**name) {
            return name.clone();
        }
        match &**name {
            "reason" if metric == "bursar_refusals_total" => "[reason](reasons.md)".to_owned(),
            "cause" => "[cause](reasons.md#causes)".to_owned(),
            "rule" => "[rule](../configuration/egress.md)".to_owned(),
            name => {
                let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
                format!("{name} ({})", values.join(", "))
            }
        }
    };
    let labels: Vec<String> = family.labels.iter().map(label).collect();
    labels.join("; ")
}

#[tokio::test]
async fn the_page_of_metrics_is_what_a_scrape_shows() {
    let directory = tempfile::tempdir().unwrap();
    let (proxy, _api, _idp) = with_every_metric(&directory).await;
    let text = admin(proxy.admin, "/metrics").await;
    let families = families(text.text(), &proxy.scrape().await);
    let mut page = HEAD.to_owned();
    for (name, family) in &families {
        let note = NOTES.iter().find(|(about, _)| about == name);
        let note = note.map_or(String::new(), |(_, note)| format!(" {note}"));
        let (kind, labels, help) = (&family.kind, labels(name, family), &family.help);
        writeln!(page, "| `{name}` | {kind} | {labels} | {help}{note} |").unwrap();
    }
    for (about, _) in NOTES {
        assert!(families.contains_key(about), "no metric {about}");
    }
    is_in_the_tree("docs/src/reference/metrics.md", &page);
}

#[tokio::test]
async fn every_metric_that_a_page_names_exists() {
    let directory = tempfile::tempdir().unwrap();
    let (proxy, _api, _idp) = with_every_metric(&directory).await;
    let text = admin(proxy.admin, "/metrics").await;
    let families = families(text.text(), &proxy.scrape().await);
    let pages = Page::all();
    for page in pages.iter().chain([&Page::read("README.md")]) {
        let is_part = |char: char| char.is_ascii_lowercase() || char == '_';
        for (at, _) in page.text.match_indices("bursar_") {
            let rest = page.text.get(at..).unwrap();
            let name = rest.split(|char| !is_part(char)).next().unwrap();
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            let is_example = name == "bursar_";
            assert!(
                is_example || families.contains_key(name) || name == "bursar_or_",
                "{}: {name}",
                page.path.display()
            );
        }
    }
}

/// One that is only there with some configuration would be missing from the scrape.
#[test]
fn every_metric_that_the_code_names_is_on_the_page() {
    let page = Page::read("docs/src/reference/metrics.md").text;
    let is_part = |char: char| char.is_ascii_lowercase() || char == '_';
    let mut directories = vec!["src".to_owned(), "crates".to_owned()];
    let mut count = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(Path::new(ROOT).join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{directory}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.ends_with(".rs") {
                let names = Page::read(&path).text;
                let names = names.split("\"bursar_").skip(1);
                let names = names.map(|rest| rest.split(|char| !is_part(char)).next().unwrap());
                // Those are header fields.
                let fields = ["account", "reference", "request_id"];
                for name in names.filter(|name| !fields.contains(name)) {
                    assert!(
                        page.contains(&format!("| `bursar_{name}` |")),
                        "{path}: {name}"
                    );
                    count += 1;
                }
            }
        }
    }
    assert!(count > 30, "{count}");
}
