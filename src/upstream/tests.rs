use std::path::Path;

use bursar_config::Config;
use bytes::Bytes;
use http_body_util::Empty;

use super::*;

fn provider(directory: &Path, lines: &str) -> Arc<Provider> {
    let text = format!(
        "providers:\n  acme:\n    client_id: a\n    client_secret: b\n    token: {{url: 'https://login.test/t'}}\n{lines}"
    );
    let config = Config::parse(&text, directory).unwrap_or_else(|error| panic!("{error:?}"));
    config.providers[0].clone()
}

#[test]
fn connections_are_kept_only_where_nothing_has_changed_that_they_were_made_by() {
    let lines = [
        "    hosts: [api.test]\n",
        "    upstream: https://up.test\n",
        "    timeouts: {connect: 1s, head: 1s, idle: 1s, pool_idle: 1s, pool_age: 1s}\n",
        "    breaker: {failures: 2, pause: 1s}\n",
        "    http: auto\n",
    ];
    let directory = tempfile::tempdir().unwrap();
    let authority = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.cert.pem()).unwrap();
    let provider = |text: &str| provider(directory.path(), text);
    let old = provider(&lines.concat());
    assert!(Upstream::<Empty<Bytes>>::serves_both(
        &old,
        &provider(&lines.concat())
    ));
    // What says nothing of connections.
    let other = format!("{}    replay_buffer: 1KiB\n", lines.concat());
    assert!(Upstream::<Empty<Bytes>>::serves_both(
        &old,
        &provider(&other)
    ));
    for (from, to) in [
        ("[api.test]", "[api.test, other.test]"),
        ("up.test", "other.test"),
        ("connect: 1s", "connect: 2s"),
        ("head: 1s", "head: 2s"),
        (", idle: 1s", ", idle: 2s"),
        ("pool_idle: 1s", "pool_idle: 2s"),
        ("pool_age: 1s", "pool_age: 2s"),
        ("failures: 2", "failures: 3"),
        ("pause: 1s", "pause: 2s"),
        ("http: auto", "http: \"2\""),
        ("http: auto", "http: auto\n    tls: {ca: ca.pem}"),
    ] {
        let text = lines.concat();
        assert_eq!(text.matches(from).count(), 1, "{from}");
        let other = provider(&text.replace(from, to));
        assert!(!Upstream::<Empty<Bytes>>::serves_both(&old, &other), "{to}");
    }
}
