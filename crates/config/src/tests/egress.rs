//! `egress`, and set-ups that would send a secret where it does not belong.

use super::*;
use crate::diagnostic::Diagnostics;

use bursar_base::address::Rule;

#[test]
fn the_examples_of_egress_are_good() {
    let page = include_str!("../../../../docs/src/configuration/egress.md");
    let page = page.split("```yaml,fragment\n");
    let page = page.filter_map(|block| block.split("```").next());
    let page: Vec<String> = page
        .filter(|block| block.starts_with("egress:"))
        .map(str::to_owned)
        .collect();
    let commented = include_str!("../../../../proxy.yaml").lines();
    let commented = commented.skip_while(|line| *line != "# egress:");
    let commented = commented.map_while(|line| line.strip_prefix("# "));
    let commented: String = commented.map(|line| format!("{line}\n")).collect();
    assert_eq!(page.len(), 1);
    for example in [&page[0], &commented] {
        let text = acme_with(&example.replace("${PROXY_PASSWORD}", "x"));
        let config = Config::parse(&text, Path::new(""));
        let config = config.unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(config.egress.token_proxy.is_some());
        assert_eq!(config.egress.mode(Rule::Private), Mode::Report);
        assert_eq!(config.egress.no_proxy.addresses.len(), 1);
    }
}

#[test]
fn egress_says_what_is_wrong_with_it() {
    for (keys, expected) in [
        (
            "allow_addresses: [10.0.0.0/33]",
            "egress.allow_addresses[0]: is neither an address nor a range",
        ),
        (
            "allow_addresses: [localhost]",
            "egress.allow_addresses[0]: is neither",
        ),
        ("mode: log", "egress.mode: must be one of enforce, report"),
        (
            "rules: {privat: report}",
            "egress.rules.privat: is not a known key; known here: unspecified, loopback,",
        ),
        ("rules: {private: off}", "must be one of enforce, report"),
        ("proxy: proxy.example:3128", "egress.proxy: is not a proxy"),
        (
            "proxy: 'https://proxy.example'",
            "egress.proxy: is not a proxy",
        ),
        (
            "proxy: 'http://proxy.example/x'",
            "egress.proxy: is not a proxy",
        ),
        (
            "proxy: 'http://proxy.example:99999'",
            "egress.proxy: is not a proxy",
        ),
        (
            "proxy: 'http://a:%ff@proxy.example'",
            "egress.proxy: is not a proxy",
        ),
        (
            "proxy: {api: 'http://0x7f.1:3128'}",
            "egress.proxy.api: is neither a name nor an address",
        ),
        (
            "proxy: {apy: 'http://a'}",
            "egress.proxy.apy: is not a known key; known here: api, token",
        ),
        (
            "proxy: [a]",
            "egress.proxy: is a list, but must be a URL, or a mapping",
        ),
        ("no_proxy: ['a b']", "egress.no_proxy[0]: is not a host"),
    ] {
        assert_problem(&acme_with(&format!("egress: {{{keys}}}\n")), expected);
    }
}

#[test]
fn a_parent_proxy_has_a_url_and_perhaps_a_password() {
    let egress = |keys: &str| {
        let config = Config::parse(&acme_with(&format!("egress: {{{keys}}}\n")), Path::new(""));
        config.unwrap_or_else(|problems| panic!("{problems:#?}"))
    };
    let config = egress("proxy: 'http://us%40er:p%3Aass@127.0.0.1:3128/'");
    assert_eq!(config.warnings, []);
    let api = config.egress.api_proxy.as_ref().unwrap();
    assert_eq!(api.url, "http://127.0.0.1:3128/");
    // us@er:p:ass
    assert_eq!(
        api.authorization.as_ref().unwrap(),
        "Basic dXNAZXI6cDphc3M="
    );
    assert!(!format!("{config:?}").contains("dXNAZXI"), "{config:?}");
    assert_eq!(config.egress.token_proxy.as_ref().unwrap().url, api.url);

    let config = egress("proxy: {token: 'http://u:p@proxy.example'}");
    assert!(config.egress.api_proxy.is_none());
    assert_eq!(
        config.egress.token_proxy.as_ref().unwrap().url,
        "http://proxy.example/"
    );
    assert!(
        config.warnings[0].message.contains("in clear"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn an_address_in_another_spelling_is_no_host() {
    for odd in ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "1.2.3.256"] {
        for text in [
            acme_with(&format!("    upstream: https://{odd}\n")),
            acme_with(&format!("    upstream: http://{odd}:80\n")),
            ACME.replace("login.acme.example", odd),
            ACME.replace("api.acme.example", &format!("'{odd}'")),
            ACME.replace("api.acme.example", &format!("'*.{odd}'")),
        ] {
            let found = problems(&text);
            let expected = ["is neither a name nor an address", "is not a host"];
            let matches = |expected| found[0].contains(expected);
            assert!(expected.into_iter().any(matches), "{found:?}");
        }
    }
}

#[test]
fn a_destination_that_will_be_refused_is_warned_of() {
    let warnings = |text: &str| {
        let config = Config::parse(text, Path::new("")).unwrap();
        config
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let inside = acme_with("    upstream: https://10.0.0.1\n");
    let [warning] = &warnings(&inside)[..] else {
        panic!("one warning was expected");
    };
    assert!(
        warning
            .contains("providers.acme.upstream: is an address that will be refused (rule private)"),
        "{warning}"
    );
    for keys in [
        "allow_addresses: [10.0.0.0/8]",
        "mode: report",
        "rules: {private: report}",
    ] {
        assert_eq!(
            warnings(&format!("{inside}egress: {{{keys}}}\n")),
            [""; 0],
            "{keys}"
        );
    }
    assert_eq!(
        warnings(&acme_with("    upstream: https://127.0.0.1\n")),
        [""; 0]
    );
}

#[test]
fn sandbox_and_production_are_never_mixed() {
    let payu = |environment: &str, keys: &str| {
        format!(
            "providers: {{p: {{preset: payu, environment: {environment}, client_id: a, client_secret: b, {keys}}}}}"
        )
    };
    for (environment, keys, expected) in [
        (
            "sandbox",
            "hosts: [oneapi.payu.in]",
            "hosts[0]: is of production, but `environment` says sandbox",
        ),
        (
            "sandbox",
            "hosts: [a, '*.payu.in']",
            "hosts[1]: is of production",
        ),
        (
            "sandbox",
            "upstream: https://OneAPI.payu.in.",
            "upstream: is of production",
        ),
        (
            "sandbox",
            "token: {url: 'https://accounts.payu.in/oauth/token'}",
            "token.url: is of production",
        ),
        (
            "production",
            "hosts: ['uatoneapi.payu.in:8443']",
            "hosts[0]: is of sandbox",
        ),
        (
            "production",
            "upstream: https://uat-partner.payu.in",
            "upstream: is of sandbox",
        ),
        (
            "production",
            "token: {url: 'https://uat-accounts.payu.in/t'}",
            "token.url: is of sandbox",
        ),
        // Another preset's, too.
        (
            "production",
            "token: {refresh_url: 'https://core-dev.quidkey.com/r'}",
            "token.refresh_url: is of sandbox",
        ),
    ] {
        assert_problem(&payu(environment, keys), expected);
    }
    for (environment, keys) in [
        (
            "sandbox",
            "hosts: [uatoneapi.payu.in, pay.inside], upstream: https://test-partner.payu.in",
        ),
        (
            "production",
            "hosts: [partner.payu.in], token: {url: 'https://accounts.payu.in/oauth/token'}",
        ),
        ("production", "upstream: https://127.0.0.1"),
    ] {
        let config = Config::parse(&payu(environment, keys), Path::new(""));
        assert!(config.is_ok(), "{keys}: {config:?}");
    }
    assert_problem(
        &acme_with("    environment: sandbox\n").replace("api.acme.example", "oneapi.payu.in"),
        "hosts[0]: is of production",
    );
}

#[test]
fn a_secret_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let warnings = |text: &str, mode| {
        let config = Config::load(&write("proxy.yaml", text, mode)).unwrap();
        config
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(warnings(ACME, 0o640), [""; 0]);
    let found = warnings(ACME, 0o644);
    assert!(
        found.len() == 1
            && found[0].starts_with("line 6: providers.acme.client_secret: is a secret in a file"),
        "{found:?}"
    );
    assert!(!found[0].contains("s3cret"), "{found:?}");

    write("secret", "s3cret", 0o600);
    let elsewhere = ACME.replace("s3cret", "${file:secret}");
    assert_eq!(warnings(&elsewhere, 0o644), [""; 0]);
    write("secret", "s3cret", 0o604);
    let found = warnings(&elsewhere, 0o600);
    assert!(
        found.len() == 1
            && found[0].starts_with("line 6: providers.acme.client_secret: its file can be read"),
        "{found:?}"
    );
    write("client.key", "no PEM", 0o644);
    let keyed = format!("{elsewhere}    tls: {{certificate: x.pem, key: client.key}}\n");
    let mut found = Diagnostics::default();
    let root = yaml::parse(&keyed, &mut found).unwrap();
    write("secret", "s3cret", 0o640);
    let file: file::Proxy = typed::read(&root, &mut found).unwrap();
    let mut files = Files::default();
    files::note_named(&file, directory.path(), &mut files, &mut found).unwrap();
    assert_eq!(found.warnings.len(), 1);
    assert_eq!(found.warnings[0].path, "providers.acme.tls.key");
    let proxy = |url: &str| format!("{elsewhere}egress: {{proxy: 'http://{url}'}}\n");
    assert_eq!(warnings(&proxy("127.0.0.1:3128"), 0o644), [""; 0]);
    assert_eq!(
        warnings(&proxy("u:${file:secret}@127.0.0.1"), 0o644),
        [""; 0]
    );
    let found = warnings(&proxy("u:p@127.0.0.1"), 0o644);
    assert!(
        found.len() == 1 && found[0].contains("egress.proxy: is a secret"),
        "{found:?}"
    );
}
