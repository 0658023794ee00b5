use std::path::Path;

use super::*;

fn problems(text: &str) -> Vec<String> {
    match Config::parse(text, Path::new("")) {
        Ok(_) => panic!("the configuration was accepted"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A provider without a preset, to be varied.
const ACME: &str = "
providers:
  acme:
    hosts: [api.acme.example]
    client_id: id
    client_secret: s3cret
    token: {url: https://login.acme.example/oauth/token}
";

fn acme_with(lines: &str) -> String {
    format!("{ACME}{lines}")
}

#[track_caller]
fn assert_problem(text: &str, expected: &str) {
    let problems = problems(text);
    assert!(
        problems.iter().any(|problem| problem.contains(expected)),
        "no `{expected}` in {problems:#?}"
    );
}

#[test]
fn every_problem_is_reported_at_once_with_path_and_line() {
    let found = problems(
        "listen: 127.0.0.1:1
drain_timeout: soon
colour: red
providers:
  payu:
    preset: payu
    environment: sandbox
    client_id: ${BURSAR_TEST_UNSET}
    client_secret: x
    client_secret: y
    token:
      margin: 5
      timeuot: 1s
  acme:
    hosts: []
    token: {url: http://login.acme.example/oauth/token}
    routes:
      - {path: /a, scopes: []}
      - {path: /a, scopes: []}
",
    );
    for expected in [
        "line 2: drain_timeout: is not a duration such as 250ms, 60s or 5m",
        "line 3: colour: is not a known key; known here: listen,",
        "line 8: providers.payu.client_id: environment variable BURSAR_TEST_UNSET is not set",
        "line 10: providers.payu.client_secret: stands twice",
        "line 12: providers.payu.token.margin: is a number (put quotes around it to make it text), but must be a duration",
        "line 13: providers.payu.token.timeuot: is not a known key",
        "line 15: providers.acme.hosts: is empty",
        "line 14: providers.acme.client_id: is missing",
        "line 16: providers.acme.token.url: must begin with `https://`",
        "line 19: providers.acme.routes[1]: can never match, because routes[0] matches all of it",
    ] {
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "no `{expected}` in {found:#?}"
        );
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn a_problem_never_repeats_a_value() {
    for text in [
        "providers: {a: {client_secret: [hunter2]}}",
        "providers: {a: {client_secret: {hunter2a: hunter2}}}",
        "providers: {a: {preset: hunter2}}",
        "providers: {a: {token: {margin: hunter2}}}",
        "providers: hunter2",
        "providers: {a: {client_secret: !!int hunter2}}",
        "providers: {a: {client_secret: !!null hunter2}}",
        "providers: {a: {client_secret: !hunter2a hunter2}}",
        "providers: {a: {client_secret: 12345678901234567890123456789}}",
        "providers: {a: {client_secret: -12345678901234567890123456789}}",
        "admin: hunter2",
        "callers: {a: {password: 12345678}}\nlisten: hunter2\nproviders: {}",
        "providers: {a: {hosts: [\"hunter2:x\"], upstream: \"https://u:hunter2@h\"}}",
    ] {
        for problem in problems(text) {
            assert!(
                !problem.contains("hunter2") || problem.contains("hunter2a"),
                "{problem}"
            );
            assert!(!problem.contains("12345678"), "{problem}");
        }
    }
}

#[test]
fn broken_yaml_is_one_problem_with_its_line() {
    let found = problems("listen: [\nadmin: }");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("line 2"), "{found:#?}");
}

#[test]
fn a_key_without_a_value_is_not_taken_for_absent() {
    assert_problem(
        &acme_with("callers:\n"),
        "callers: has no value; give it one or remove the key",
    );
}

#[test]
fn an_open_listener_needs_callers() {
    let open = acme_with("listen: 0.0.0.0:3128\n");
    assert_problem(
        &open,
        "callers: is missing; without it `listen` must be a loopback",
    );
    let named = format!("{open}callers: {{a: {{password: b, allow: [acme]}}}}\n");
    assert!(Config::parse(&named, Path::new("")).is_ok());
}

#[test]
fn a_preset_needs_an_environment() {
    assert_problem(
        "providers: {payu: {preset: payu, client_id: a, client_secret: b}}",
        "providers.payu.environment: is missing; it must be `sandbox` or `production`",
    );
}

#[test]
fn bad_values_say_what_to_write_instead() {
    for (line, expected) in [
        ("    hosts: [\"https://x\"]\n", "is no host"),
        ("    hosts: [\"*.1.2.3.4\"]\n", "is no host"),
        (
            "    upstream: https://x:99999\n",
            "upstream: has an invalid port",
        ),
        (
            "    upstream: https://x:0\n",
            "upstream: has an invalid port",
        ),
        ("    hosts: [\"x:99999\"]\n", "is no host"),
        ("    upstream: https://x/y\n", "scheme, host and port only"),
        (
            "    upstream: http://10.0.0.1\n",
            "must begin with `https://`",
        ),
        ("    merchant_id: \"1\"\n", "only the payu preset"),
        ("    paths: [a]\n", "paths[0]: must begin with `/`"),
        (
            "    routes: [{path: /a, methods: [get]}]\n",
            "did you mean GET?",
        ),
        (
            "    routes: [{path: /a, methods: [TRACE]}]\n",
            "never sent upstream",
        ),
        (
            "    routes: [{path: /a, scopes: [\"a b\"]}]\n",
            "is no scope",
        ),
        ("    timeouts: {head: 0s}\n", "longer than nothing"),
        ("    timeouts: {head: 9999days}\n", "longer than a year"),
        ("    tls: {certificate: a.pem}\n", "together"),
        ("    tls: {ca: /no/such.pem}\n", "tls.ca: cannot be read"),
        ("    replay_buffer: lots\n", "is not a size such as 64KiB"),
        (
            "    environment: test\n",
            "must be one of sandbox, production",
        ),
    ] {
        let text = acme_with(line);
        let text = if line.contains("hosts") {
            text.replace("    hosts: [api.acme.example]\n", "")
        } else {
            text
        };
        assert_problem(&text, expected);
    }
    assert_problem(
        &ACME.replace("oauth/token}", "oauth/token, params: {scope: a}}"),
        "token.params.scope: is set by Bursar itself",
    );
    assert_problem(
        &ACME.replace("oauth/token}", "oauth/token, refresh: endpoint}"),
        "token.refresh_url: is missing",
    );
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
        ("proxy: proxy.example:3128", "egress.proxy: is no proxy"),
        (
            "proxy: 'https://proxy.example'",
            "egress.proxy: is no proxy",
        ),
        (
            "proxy: 'http://proxy.example/x'",
            "egress.proxy: is no proxy",
        ),
        (
            "proxy: 'http://proxy.example:99999'",
            "egress.proxy: is no proxy",
        ),
        (
            "proxy: 'http://a:%ff@proxy.example'",
            "egress.proxy: is no proxy",
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
        ("no_proxy: ['a b']", "egress.no_proxy[0]: is no host"),
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
            let expected = ["is neither a name nor an address", "is no host"];
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
    let mut found = Problems::default();
    let root = Node::parse(&keyed, &mut found).unwrap();
    write("secret", "s3cret", 0o640);
    readable::warn_of_open_files(&root, directory.path(), &mut found);
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

#[test]
fn two_providers_cannot_claim_one_host() {
    let twice = format!(
        "{ACME}  other:\n    hosts: [API.acme.example]\n    client_id: a\n    client_secret: b\n    token: {{url: https://x/t}}\n"
    );
    assert_problem(
        &twice,
        "api.acme.example is already a host of the provider acme",
    );
}

#[test]
fn a_payu_token_holds_at_most_three_scopes() {
    assert_problem(
        "providers: {payu: {preset: payu, environment: sandbox, client_id: a, client_secret: b, token: {scopes: [a, b, c, d]}}}",
        "token.scopes: holds 4 scopes; this provider's tokens hold at most 3",
    );
}

#[test]
fn an_allow_list_names_providers_of_the_file() {
    assert_problem(
        &acme_with("callers: {a: {password: b, allow: [acme, acne]}}\n"),
        "callers.a.allow[1]: names no provider of this file; there are: acme",
    );
    assert_problem(
        &acme_with("callers: {a: {password: b, allow: [{methods: [GET]}]}}\n"),
        "callers.a.allow[0].provider: is missing",
    );
    assert_problem(
        &acme_with("callers: {a: {password: b, allow: [{provider: acme, path: [/x]}]}}\n"),
        "callers.a.allow[0].path: is not a known key; known here: provider, methods, paths",
    );
}

#[test]
fn every_preset_compiles_for_both_environments_without_losing_a_row() {
    for (name, preset) in [
        ("paylater", presets::PresetName::Paylater),
        ("payu", presets::PresetName::Payu),
        (
            "alternative_payments",
            presets::PresetName::AlternativePayments,
        ),
        ("quidkey", presets::PresetName::Quidkey),
    ] {
        let preset = presets::Preset::of(preset);
        for environment in ["sandbox", "production"] {
            let text = format!(
                "providers: {{p: {{preset: {name}, environment: {environment}, client_id: a, client_secret: b}}}}"
            );
            let config = Config::parse(&text, Path::new("")).unwrap();
            let provider = &config.providers[0];
            assert_eq!(provider.preset_routes.len(), preset.routes.len());
            assert_eq!(provider.paths.len(), preset.paths.len());
            assert_eq!(provider.secret_below.len(), preset.secret_below.len());
            assert!(!provider.hosts.is_empty());
        }
    }
}

#[test]
fn the_example_in_the_tree_is_a_configuration() {
    let text = include_str!("../../proxy.yaml");
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    for name in [
        "CHECKOUT_PASSWORD",
        "LEDGER_PASSWORD",
        "PAYLATER_CLIENT_ID",
        "PAYLATER_CLIENT_SECRET",
        "PAYU_CLIENT_ID",
        "PAYU_CLIENT_SECRET",
        "AP_CLIENT_ID",
        "AP_CLIENT_SECRET",
        "QUIDKEY_CLIENT_ID",
        "QUIDKEY_CLIENT_SECRET",
        "ACME_ID",
        "ACME_SECRET",
    ] {
        let reference = format!("${{{name}}}");
        assert!(
            text.contains(&reference),
            "the example no longer uses {reference}"
        );
        text = text.replace(&reference, "x");
    }
    let config = Config::parse(&text, Path::new(""));
    let config = config.unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(config.providers.len(), 5);
    assert_eq!(config.callers.as_ref().map(Vec::len), Some(2));
}
