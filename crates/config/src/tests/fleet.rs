use super::*;
use bursar_base::secret::Secret;

/// 32 bytes: `0123456789…`.
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn fleet_with(keys: &str) -> String {
    acme_with(&format!("fleet: {{{keys}}}\n"))
}

/// With that URL.
fn at(url: &str) -> String {
    fleet_with(&format!("url: '{url}', keys: ['{KEY}']"))
}

#[track_caller]
fn fleet(text: &str) -> (FleetConfig, Vec<String>) {
    let config = Config::parse(text, Path::new(""));
    let config = config.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let warnings = config.warnings.iter().map(ToString::to_string).collect();
    (config.fleet.unwrap(), warnings)
}

#[track_caller]
fn url(text: &str) -> (StoreUrl, Vec<String>) {
    match fleet(&at(text)) {
        (
            FleetConfig {
                store: StoreAddress::Single(url),
                ..
            },
            warnings,
        ) => (url, warnings),
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn a_url_is_read_in_its_parts_and_what_is_encoded_in_it_is_decoded() {
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    for (text, host, port, username, password, database) in [
        ("redis://127.0.0.1", "127.0.0.1", 6379, None, None, 0),
        ("REDIS://localhost:1/", "localhost", 1, None, None, 0),
        ("redis://[::1]:6380/15", "::1", 6380, None, None, 15),
        ("redis://[::1]", "::1", 6379, None, None, 0),
        (
            "redis://:p@localhost.",
            "localhost.",
            6379,
            None,
            secret("p"),
            0,
        ),
        (
            "redis://us%3Aer:p%40s%2Fs:%25%23%3f+@127.1.2.3:7/3",
            "127.1.2.3",
            7,
            secret("us:er"),
            secret("p@s/s:%#?+"),
            3,
        ),
    ] {
        let (url, warnings) = url(text);
        assert_eq!(
            (&*url.host, url.port, url.database),
            (host, port, database),
            "{text}"
        );
        assert!(
            !url.tls && url.username == username && url.password == password,
            "{text}"
        );
        assert_eq!(warnings, [""; 0], "{text}");
    }
}

#[test]
fn a_url_that_could_be_meant_otherwise_is_refused_and_not_repeated() {
    for (text, expected) in [
        ("valkey.example:6379", "must begin with `rediss://`"),
        ("http://valkey.example", "must begin with `rediss://`"),
        ("/run/redis.sock", "is a socket's path"),
        ("unix:///run/redis.sock", "is a socket's path"),
        ("redis+unix:///run/redis.sock", "is a socket's path"),
        (
            "rediss://valkey.example/#insecure",
            "certificates are always verified",
        ),
        (
            "rediss://valkey.example?protocol=resp3",
            "there are no options",
        ),
        ("rediss://u:hunter2#@valkey.example", "`%3F` and `%23`"),
        ("rediss://u:hun@ter2@valkey.example", "more than one `@`"),
        ("rediss://u:hunter2/a@valkey.example", "written `%2F`"),
        ("rediss://u:1/hunter2@valkey.example", "written `%2F`"),
        ("rediss://u:hunter2%@valkey.example", "not percent-encoded"),
        ("rediss://u:hunter2%4@valkey.example", "not percent-encoded"),
        (
            "rediss://u:hunter2%+4@valkey.example",
            "not percent-encoded",
        ),
        ("rediss://u:hunt er2@valkey.example", "not percent-encoded"),
        (
            "rediss://u:hunter2 @valkey.example",
            "ends with white space",
        ),
        (
            "rediss://u:hunter2%ff@valkey.example",
            "not percent-encoded",
        ),
        ("rediss://u:hunter2é@valkey.example", "not percent-encoded"),
        (
            "rediss://hunter2@valkey.example",
            "a user without a password",
        ),
        (
            "rediss://hunter2:@valkey.example",
            "a user without a password",
        ),
        ("rediss://valkey.example/x", "no number of a database"),
        ("rediss://valkey.example/+1", "no number of a database"),
        ("rediss://valkey.example/1/", "no number of a database"),
        ("rediss://valkey.example/65536", "no number of a database"),
        ("rediss://", "has no host"),
        ("rediss://:1", "has no host"),
        ("rediss://a..b", "has no host"),
        ("rediss://a b", "has no host"),
        ("rediss://::1", "has no host"),
        ("rediss://[::1", "has no host"),
        ("rediss://[127.0.0.1]", "has no host"),
        ("rediss://[fe80::1%eth0]", "has no host"),
        ("rediss://0x7f.1", "is neither a name nor an address"),
        ("rediss://valkey.example:", "invalid port"),
        ("rediss://valkey.example:0", "invalid port"),
        ("rediss://valkey.example:65536", "invalid port"),
        ("rediss://valkey.example:+1", "invalid port"),
    ] {
        let found = problems(&at(text));
        let is_said = found
            .iter()
            .any(|problem| problem.contains("fleet.url") && problem.contains(expected));
        assert!(is_said && found.len() == 1, "{text}: {found:#?}");
        let has_secret = found[0].contains("hunter2") || found[0].contains("er2");
        assert!(!has_secret, "{found:#?}");
    }
}

#[test]
fn what_crosses_a_network_in_clear_is_warned_about() {
    let (_, warnings) = url("redis://valkey.example");
    assert!(
        warnings.len() == 1 && warnings[0].contains("fleet.url: does not begin with `rediss://`"),
        "{warnings:?}"
    );
    let (_, warnings) = url("redis://:hunter2@10.0.0.1");
    assert!(
        warnings.len() == 1 && warnings[0].contains("fleet.url: has a password, which crosses"),
        "{warnings:?}"
    );
    assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
    let (_, warnings) = url("rediss://:hunter2@valkey.example");
    assert_eq!(warnings, [""; 0]);
    let sentinel = "sentinel: {urls: ['redis://sentinel.example'], master: m, password: hunter2}";
    let (_, warnings) = fleet(&fleet_with(&format!("{sentinel}, keys: ['{KEY}']")));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let is_password = |warning: &String| {
        warning.contains("fleet.sentinel.password: crosses the network in clear")
    };
    assert!(warnings.iter().any(is_password), "{warnings:?}");
}

#[test]
fn sentinels_and_nodes_of_a_cluster_are_one_kind_and_have_ports_of_their_own() {
    let (config, warnings) = fleet(&fleet_with(&format!(
        "sentinel: {{urls: ['rediss://:a@s1.example', 'rediss://s2.example:1/0'], master: mymaster, username: bursar, password: 'p@%'}}, keys: ['{KEY}']"
    )));
    let StoreAddress::Sentinel(sentinel) = &config.store else {
        panic!("{config:?}");
    };
    let ports: Vec<_> = sentinel.urls.iter().map(|url| url.port).collect();
    assert_eq!((ports, &*sentinel.master), (vec![26379, 1], "mymaster"));
    assert_eq!(sentinel.password.as_ref().unwrap().expose(), "p@%");
    assert_eq!(warnings, [""; 0]);
    assert!(config.tls.is_some_and(|tls| tls.ca.is_none()));

    let (config, _) = fleet(&fleet_with(&format!(
        "cluster: ['redis://:a@127.0.0.1:1', 'redis://:a@127.0.0.1:2'], keys: ['{KEY}']"
    )));
    assert!(matches!(&config.store, StoreAddress::Cluster(urls) if urls.len() == 2));
    assert!(config.tls.is_none());

    for (keys, expected) in [
        ("cluster: []", "fleet.cluster: is missing or empty"),
        (
            "cluster: ['redis://:a@127.0.0.1:1', 'redis://:b@127.0.0.1:2']",
            "fleet.cluster: has nodes with different",
        ),
        (
            "cluster: ['redis://127.0.0.1:1', 'redis://127.0.0.1:1/0']",
            "fleet.cluster[1]: is the same server",
        ),
        (
            "cluster: ['redis://127.0.0.1:1', 'rediss://127.0.0.1:2']",
            "fleet.cluster[1]: must begin as the first",
        ),
        (
            "cluster: ['redis://127.0.0.1/1']",
            "fleet.cluster[0]: names a database",
        ),
        (
            "sentinel: {urls: ['redis://127.0.0.1/1'], master: a}",
            "fleet.sentinel.urls[0]: names a database",
        ),
        (
            "sentinel: {urls: ['redis://127.0.0.1']}",
            "fleet.sentinel.master: is missing",
        ),
        (
            "sentinel: {master: a}",
            "fleet.sentinel.urls: is missing or empty",
        ),
        (
            "sentinel: {urls: ['redis://127.0.0.1'], master: a, username: b}",
            "fleet.sentinel.password: is missing",
        ),
        (
            "sentinel: {urls: ['redis://127.0.0.1'], master: a, password: ''}",
            "fleet.sentinel.password: is empty",
        ),
        (
            "url: 'redis://127.0.0.1', cluster: ['redis://127.0.0.1']",
            "fleet.cluster: says where the store is, and so does `url`",
        ),
        ("name: a", "fleet: does not say where the store is"),
    ] {
        assert_problem(&fleet_with(&format!("{keys}, keys: ['{KEY}']")), expected);
    }
}

#[test]
fn a_key_is_32_bytes_in_either_alphabet_with_or_without_padding() {
    // 0xfb and 0xff: `+` and `/` in one alphabet, `-` and `_` in the other.
    let standard = "+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8=";
    let url_safe = standard.replace('+', "-").replace('/', "_");
    let bare = url_safe.trim_end_matches('=');
    let with = |keys: &str| fleet_with(&format!("url: 'redis://127.0.0.1', keys: [{keys}]"));
    for text in [standard, standard.trim_end_matches('='), &url_safe, bare] {
        let (config, _) = fleet(&with(&format!("'{text}', '{KEY}'")));
        let keys: Vec<_> = config
            .keys
            .iter()
            .map(|key| key.expose()[..2].to_vec())
            .collect();
        assert_eq!(keys, [vec![0xfb, 0xff], b"01".to_vec()], "{text}");
        let shown = format!("{config:?}");
        assert!(
            shown.contains("FleetKey(…)") && !shown.contains("251"),
            "{shown}"
        );
    }
    for (keys, expected) in [
        ("", "fleet.keys: is missing or empty"),
        ("''", "keys[0]: does not hold 32 bytes"),
        ("hunter2", "keys[0]: is not base64"),
        (
            "'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEy'",
            "keys[0]: does not hold 32 bytes",
        ),
        (
            "'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MA=='",
            "keys[0]: does not hold 32 bytes",
        ),
        (
            "'+-+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8='",
            "keys[0]: is not base64",
        ),
        (
            &format!("'{standard}', '{bare}'"),
            "keys[1]: is the same key",
        ),
    ] {
        assert_problem(&with(keys), expected);
    }
    let problems = Config::parse(&with("'${file:/nowhere/key}'"), Path::new("")).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let many: Vec<String> = (0..9)
        .map(|at| KEY.replacen('M', "NOPQRSTUV".get(at..=at).unwrap(), 1))
        .collect();
    assert_problem(
        &with(&many.join(", ")),
        "fleet.keys: holds more than 8 keys",
    );
    assert_problem(
        &fleet_with("url: 'redis://127.0.0.1'"),
        "fleet.keys: is missing",
    );
}

#[test]
fn a_fleet_has_a_name_that_can_stand_in_names() {
    let with = |name: &str| {
        at("redis://127.0.0.1").replace("fleet: {", &format!("fleet: {{name: '{name}', "))
    };
    assert_eq!(&*fleet(&at("redis://127.0.0.1")).0.name, "bursar");
    assert_eq!(&*fleet(&with("Prod-1.eu_west")).0.name, "Prod-1.eu_west");
    for name in ["", "a:b", "a*", "{a}", "a b", "é", &"a".repeat(65)] {
        assert_problem(&with(name), "fleet.name: must be 1 to 64 letters");
    }
}

#[test]
fn an_outage_holds_tokens_that_end_each_other_unless_the_file_says_otherwise() {
    let with = |key: &str| {
        fleet(&fleet_with(&format!(
            "url: 'redis://127.0.0.1', keys: ['{KEY}']{key}"
        )))
        .0
    };
    let effect = |config: &FleetConfig| [false, true].map(|single| config.on_outage(single));
    assert_eq!(effect(&with("")), [OnOutage::Mint, OnOutage::Hold]);
    assert_eq!(effect(&with(", on_outage: mint")), [OnOutage::Mint; 2]);
    assert_eq!(effect(&with(", on_outage: hold")), [OnOutage::Hold; 2]);
}

#[test]
fn single_active_without_a_fleet_is_allowed_and_warned_about() {
    let single = ACME.replace("oauth/token}", "oauth/token, single_active: true}");
    let config = Config::parse(&single, Path::new("")).unwrap();
    assert!(config.providers[0].token.single_active);
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.len() == 1
            && warnings[0]
                .contains("providers.acme.token.single_active: is of use with `fleet` only"),
        "{warnings:?}"
    );
    let (_, warnings) = fleet(&format!(
        "{single}fleet: {{url: 'redis://127.0.0.1', keys: ['{KEY}']}}\n"
    ));
    assert_eq!(warnings, [""; 0]);
    let preset = "providers: {payu: {preset: payu, environment: sandbox, client_id: a, client_secret: b, token: {single_active: true}}}";
    let config = Config::parse(preset, Path::new("")).unwrap();
    assert!(config.providers[0].token.single_active);
    let config = Config::parse(ACME, Path::new("")).unwrap();
    assert!(!config.providers[0].token.single_active && config.warnings.is_empty());
}

#[test]
fn only_keys_may_differ_between_a_fleet_and_the_same_fleet() {
    let directory = tempfile::tempdir().unwrap();
    let authority = |host: &str| bursar_tls::authority::make(&[host.into()]).unwrap().0;
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority("a.example")).unwrap();
    let base = "url: 'rediss://u:p@valkey.example', tls: {ca: ca.pem}, name: a";
    let read = |keys: &str, key: &str| {
        let text = fleet_with(&format!("{keys}, keys: ['{key}']"));
        Config::parse(&text, directory.path())
            .unwrap_or_else(|error| panic!("{error:?}"))
            .fleet
            .unwrap()
    };
    let first = read(base, KEY);
    let other = read(base, &KEY.replacen('M', "N", 1));
    assert_eq!(first.changed_keys(&other), [""; 0]);
    for (old, new, expected) in [
        ("u:p", "v:p", &["fleet.url"][..]),
        ("u:p", "u:q", &["fleet.url"]),
        ("valkey.", "redis.", &["fleet.url"]),
        ("name: a", "name: b", &["fleet.name"]),
        (
            "name: a",
            "on_outage: mint",
            &["fleet.name", "fleet.on_outage"],
        ),
        ("rediss:", "redis:", &["fleet.url", "fleet.tls.ca"]),
    ] {
        let other = read(&base.replace(old, new), KEY);
        assert_eq!(first.changed_keys(&other), expected, "{old} {new}");
    }
    std::fs::write(&ca, authority("b.example")).unwrap();
    assert_eq!(first.changed_keys(&read(base, KEY)), ["fleet.tls.ca"]);
    std::fs::write(&ca, "no PEM").unwrap();
    let text = fleet_with(&format!("{base}, keys: ['{KEY}']"));
    let found = Config::parse(&text, directory.path()).unwrap_err();
    assert!(
        found.len() == 1 && found[0].path == "fleet.tls.ca",
        "{found:?}"
    );
    let (_, warnings) = fleet(&fleet_with(&format!(
        "url: 'redis://127.0.0.1', tls: {{ca: no/such.pem}}, keys: ['{KEY}']"
    )));
    assert!(
        warnings.len() == 1 && warnings[0].contains("fleet.tls.ca: has no effect"),
        "{warnings:?}"
    );
}

#[test]
fn a_fleets_secrets_in_a_file_that_everybody_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.yaml");
    std::fs::write(directory.path().join("secret"), "s3cret").unwrap();
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(directory.path().join("secret"), owner_only).unwrap();
    std::fs::write(directory.path().join("key"), KEY).unwrap();
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(directory.path().join("key"), owner_only).unwrap();
    let file = ACME.replace("s3cret", "${file:secret}");
    for (keys, expected) in [
        (format!("url: 'redis://127.0.0.1', keys: ['{KEY}']"), Some("fleet.keys[0]: is a secret")),
        ("url: 'redis://:a@127.0.0.1', keys: ['${file:key}']".to_owned(), Some("fleet.url: is a secret")),
        ("url: 'redis://127.0.0.1', keys: ['${file:key}']".to_owned(), None),
        (
            "sentinel: {urls: ['redis://127.0.0.1'], master: a, password: b}, keys: ['${file:key}']".to_owned(),
            Some("fleet.sentinel.password: is a secret"),
        ),
    ] {
        std::fs::write(&path, format!("{file}fleet: {{{keys}}}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let found = Config::load(&path).unwrap().warnings;
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        match expected {
            Some(expected) => assert!(found.len() == 1 && found[0].contains(expected), "{found:?}"),
            None => assert_eq!(found, [""; 0]),
        }
    }
}
