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
        "line 10: providers.payu.client_secret: appears twice",
        "line 12: providers.payu.token.margin: has no unit; write 5s, 5ms or 5m",
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
fn a_problem_never_repeats_a_secret() {
    for text in [
        "providers: {a: {client_secret: [hunter2]}}",
        "providers: {a: {client_secret: {hunter2a: hunter2}}}",
        "providers: {a: {client_secret: {{hunter2}}}}",
        "providers: {a: {next_client_secret: 1.25e77}}",
        "providers: {a: {token: {params: {a: [hunter2]}, client_secret: hunter2}}}",
        "providers: {a: {preset: \"u:hunter2@h\", environment: \"?key=hunter2\"}}",
        "callers: {a: {passwords: hunter2}}",
        "egress: {proxy: [hunter2]}",
        "egress: {proxy: {api: [hunter2], token: hunter2}}",
        "egress: {proxy: hunter2}",
        "admin_token: hunter2",
        "providers: hunter2",
        "providers: {a: {client_secret: !!int hunter2}}",
        "providers: {a: {client_secret: !!null hunter2}}",
        "providers: {a: {client_secret: !hunter2a hunter2}}",
        "providers: {a: {client_secret: 12345678901234567890123456789}}",
        "providers: {a: {client_secret: -12345678901234567890123456789}}",
        "callers: {a: {password: 12345678}}\nproviders: {}",
        "providers: {a: {upstream: \"https://u:hunter2@h\"}}",
    ] {
        for problem in problems(text) {
            assert!(
                !problem.contains("hunter2") || problem.contains("hunter2a"),
                "{problem}"
            );
            assert!(
                !problem.contains("12345678") && !problem.contains("e77"),
                "{problem}"
            );
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
    let named = format!("{open}callers: {{a: {{password: 8letters, allow: [acme]}}}}\n");
    assert!(Config::parse(&named, Path::new("")).is_ok());
}

#[test]
fn a_short_password_is_refused_where_others_can_try_it_and_warned_about_everywhere() {
    let hash = "$2b$04$abcdefghijklmnopqrstuuWpTLLmkVRzHrKXx4ix0Bo0mwPoLzJXS";
    for (listen, password, said) in [
        ("127.0.0.1:0", "7letter", Some((true, "fewer than 16"))),
        (
            "127.0.0.1:0",
            "15letters-of-it",
            Some((true, "fewer than 16")),
        ),
        ("127.0.0.1:0", "16letters-of-it.", None),
        ("0.0.0.0:3128", "7lettér", Some((false, "fewer than 8"))),
        ("0.0.0.0:3128", "8letters", Some((true, "fewer than 16"))),
        ("[::]:3128", "16letters-of-it.", None),
        ("[::]:3128", hash, None),
    ] {
        let text = acme_with(&format!(
            "listen: '{listen}'\ncallers: {{a: {{passwords: [{hash}, \"{password}\"], allow: [acme]}}}}\n"
        ));
        let (is_accepted, found) = match Config::parse(&text, Path::new("")) {
            Ok(config) => (true, config.warnings),
            Err(problems) => (false, problems),
        };
        let found = found.iter().map(ToString::to_string);
        let found: Vec<String> = found.collect();
        match said {
            None => assert!(is_accepted && found.is_empty(), "{found:#?}"),
            Some((expected, said)) => {
                assert_eq!(is_accepted, expected, "{found:#?}");
                let start = "line 9: callers.a.passwords[1]: has ";
                assert!(
                    found[0].starts_with(start) && found[0].contains(said),
                    "{found:#?}"
                );
                assert!(!found[0].contains("letter"), "{found:#?}");
            }
        }
    }
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
        (
            "    routes: [{path: /a, replay: if_keyed}]\n",
            "routes[0].idempotency_header: is missing; `replay: if_keyed` needs to know",
        ),
        (
            "    routes: [{path: /a, idempotency_header: \"a b\"}]\n",
            "routes[0].idempotency_header: is not a header name",
        ),
        (
            "    routes: [{path: /a, idempotency_header: Authorization}]\n",
            "routes[0].idempotency_header: is a header that holds no key",
        ),
        ("    hosts: [\"https://x\"]\n", "is not a host"),
        ("    hosts: [\"*.1.2.3.4\"]\n", "is not a host"),
        (
            "    upstream: https://x:99999\n",
            "upstream: has an invalid port",
        ),
        (
            "    upstream: https://x:0\n",
            "upstream: has an invalid port",
        ),
        ("    hosts: [\"x:99999\"]\n", "is not a host"),
        ("    upstream: https://x/y\n", "scheme, host and port only"),
        ("    upstream: https://x/#y\n", "must not hold a fragment"),
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
            "is not a scope",
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
fn what_other_programs_write_for_any_says_what_to_write_instead() {
    for (line, expected) in [
        (
            "    routes: [{path: '/links/{id}'}]\n",
            "routes[0].path: holds a placeholder such as `{id}` or `:id`, which would match nothing but itself; write `*`",
        ),
        (
            "callers: {a: {password: b, allow: [{provider: acme, paths: [/links/:id]}]}}\n",
            "callers.a.allow[0].paths[0]: holds a placeholder",
        ),
        (
            "callers: {a: {password: b, allow: [{provider: acme, methods: ['*']}]}}\n",
            "callers.a.allow[0].methods[0]: is no method; leave `methods` out to mean any",
        ),
    ] {
        assert_problem(&format!("{ACME}{line}"), expected);
    }
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
        "callers.a.allow[1]: names no provider of this file; did you mean acme? (given: \"acne\")",
    );
    assert_problem(
        &acme_with("callers: {a: {password: b, allow: [{methods: [GET]}]}}\n"),
        "callers.a.allow[0].provider: is missing",
    );
    assert_problem(
        &acme_with("callers: {a: {password: b, allow: [{provider: acme, path: [/x]}]}}\n"),
        "callers.a.allow[0].path: is not a known key; did you mean `paths`?",
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
            let known = match provider.environment {
                Some(Environment::Sandbox) => preset.sandbox.hosts,
                _ => preset.production.hosts,
            };
            assert_eq!(provider.hosts.len(), known.len());
            for (compiled, known) in provider.known.iter().zip(known) {
                let routes = known.routes.iter().map(|table| table.len());
                assert_eq!(compiled.routes.len(), routes.sum::<usize>());
                assert_eq!(
                    compiled.paths.as_ref().map(Vec::len),
                    known.paths.map(<[_]>::len)
                );
            }
            assert_eq!(provider.protected_below.len(), preset.protected_below.len());
            assert_eq!(provider.paths.len(), preset.paths.len());
            assert_eq!(provider.secret_below.len(), preset.secret_below.len());
            assert!(!provider.hosts.is_empty());
        }
    }
}

#[test]
fn the_example_in_the_tree_is_a_configuration() {
    let text = include_str!("../../../proxy.yaml");
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

#[test]
fn a_passthrough_leads_to_no_provider() {
    assert_problem(
        &acme_with("    upstream: https://inside.example\npassthrough: [{host: '*.example'}]\n"),
        "passthrough[0].host: is also",
    );
    assert_problem(
        &acme_with("    upstream: https://inside.corp\npassthrough: [{host: inside.corp}]\n"),
        "passthrough[0].host: is also the upstream of the provider acme",
    );
    for (entry, expected) in [
        ("{}", "host: is missing"),
        ("{host: 'a b'}", "host: is not a host"),
        ("{host: 'a:443'}", "host: must not name a port"),
        ("{host: a, ports: []}", "ports: must name ports"),
        ("{host: a, ports: [0]}", "ports: must name ports"),
        ("{host: a, ports: [65536]}", "ports[0]: is a number"),
        (
            "{host: a, callers: [nobody]}",
            "callers[0]: names no caller",
        ),
        (
            "{host: API.acme.example}",
            "host: is also a host of the provider acme",
        ),
        (
            "{host: '*.acme.example', ports: [8443]}",
            "host: is also a host of the provider acme",
        ),
        (
            "{host: '*.example'}",
            "host: is also a host of the provider acme",
        ),
        (
            "{host: login.acme.example}",
            "host: is also the host of a token endpoint of the provider acme",
        ),
    ] {
        let text = acme_with(&format!("passthrough: [{entry}]\n"));
        assert_problem(&text, &format!("passthrough[0].{expected}"));
    }
    let text = acme_with(
        "passthrough: [{host: acme.example}, {host: '*.sentry.io', ports: [80, 443], callers: [a]}]
callers: {a: {password: b, allow: [acme]}}
",
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    let [exact, wildcard] = &config.passthrough[..] else {
        panic!("{:?}", config.passthrough)
    };
    assert_eq!(exact.ports, [443]);
    assert!(exact.host.matches("ACME.example") && !exact.host.matches("x.acme.example"));
    for (name, matches) in [
        ("o1.sentry.io", true),
        ("a.b.SENTRY.io", true),
        ("sentry.io", false),
        (".sentry.io", false),
        ("notsentry.io", false),
        ("sentry.io.evil", false),
    ] {
        assert_eq!(wildcard.host.matches(name), matches, "{name}");
    }
}

#[test]
fn accounts_stand_beside_the_providers_own_credentials_or_instead() {
    let own = "    client_id: id\n    client_secret: s3cret\n";
    let accounts = "    accounts: {b: {client_id: x, client_secret: y}}\n";
    for (text, expected) in [
        (ACME.to_owned(), vec!["default"]),
        (acme_with(accounts), vec!["b", "default"]),
        (acme_with(accounts).replace(own, ""), vec!["b"]),
        (
            acme_with("    accounts: {default: {client_id: x, client_secret: y}}\n")
                .replace(own, ""),
            vec!["default"],
        ),
    ] {
        let config = Config::parse(&text, Path::new("")).unwrap();
        let provider = &config.providers[0];
        let names: Vec<&str> = provider
            .accounts
            .iter()
            .map(|account| &*account.name)
            .collect();
        assert_eq!(names, expected);
        for (place, name) in names.iter().enumerate() {
            assert_eq!(provider.account(name), Some(place));
        }
    }
}

#[test]
fn what_is_wrong_about_accounts_is_said() {
    let own = "    client_id: id\n    client_secret: s3cret\n";
    for (lines, expected) in [
        (
            "    accounts: {default: {client_id: x, client_secret: y}}\n",
            "accounts.default: is the account that",
        ),
        ("    accounts: {}\n", "accounts: is empty"),
        (
            "    next_client_secret: ''\n",
            "next_client_secret: is empty",
        ),
        (
            "    accounts: {b: {client_id: x}}\n",
            "accounts.b.client_secret: is missing",
        ),
        (
            "    accounts: {b c: {client_id: x, client_secret: y}}\n",
            "an account's name may hold",
        ),
        (
            "    accounts: {b: {client_id: x, client_secret: y, merchant_id: '1'}}\n",
            "accounts.b.merchant_id: has no effect here",
        ),
        (
            "callers: {a: {password: b, allow: [{provider: acme, account: c}]}}\n",
            "callers.a.allow[0].account: names no account of that provider",
        ),
        (
            "callers: {a: {password: b, allow: [{provider: acme, accounts: [default, c]}]}}\n",
            "callers.a.allow[0].accounts: names no account",
        ),
        (
            "callers: {a: {password: b, allow: [{provider: acme, accounts: []}]}}\n",
            "callers.a.allow[0].accounts: is empty",
        ),
        (
            "callers: {a: {password: b, allow: [{provider: acme, account: default, accounts: [default]}]}}\n",
            "stands beside `account`",
        ),
    ] {
        assert_problem(&acme_with(lines), expected);
    }
    assert_problem(
        &acme_with("    accounts: {b: {client_id: x, client_secret: y}}\n    merchant_id: '1'\n")
            .replace(own, ""),
        "merchant_id: belongs to an account",
    );
}

#[test]
fn an_account_that_no_caller_may_use_is_warned_about() {
    let accounts = "    accounts: {b: {client_id: x, client_secret: y}}\n";
    for (allow, unused) in [
        ("[acme]", None),
        ("[{provider: acme, accounts: [b, default]}]", None),
        ("[{provider: acme, account: b}]", Some("account default;")),
        ("[]", Some("account b, default;")),
    ] {
        let text = format!("{ACME}{accounts}callers: {{a: {{password: p, allow: {allow}}}}}\n");
        let config = Config::parse(&text, Path::new("")).unwrap();
        let warned = config
            .warnings
            .iter()
            .find(|warning| warning.path == "providers.acme");
        match (warned, unused) {
            (None, None) => {}
            (Some(warning), Some(unused)) => assert!(warning.message.contains(unused), "{warning}"),
            (warned, unused) => panic!("{allow}: {warned:?}, but {unused:?}"),
        }
    }
}

#[test]
fn a_path_that_is_allowed_and_none_of_the_api_is_warned_about() {
    let allow = "[{provider: acme, paths: [/api/links/*, /links, /**]}, {provider: acme, paths: ['/**/links', /v1/*]}]";
    let text = format!(
        "{ACME}    paths: [/api/**, /v2/*]\ncallers: {{a: {{password: 16letters-of-it., allow: {allow}}}}}\n"
    );
    let warned = Config::parse(&text, Path::new("")).unwrap().warnings;
    let warned: Vec<String> = warned.iter().map(ToString::to_string).collect();
    let said = "allows nothing, because the API's paths of acme are /api/**, /v2/*";
    let expected = ["allow[0].paths[1]", "allow[1].paths[1]"];
    assert_eq!(
        warned,
        expected.map(|path| format!("line 9: callers.a.{path}: {said}"))
    );
}

#[test]
fn what_is_wrong_about_callers_is_said() {
    for (caller, expected) in [
        ("{allow: []}", "callers.a.password: is missing"),
        ("{passwords: []}", "callers.a.passwords: is empty"),
        ("{password: ''}", "callers.a.password: is empty"),
        (
            "{password: b, passwords: [c, '']}",
            "callers.a.passwords[1]: is empty",
        ),
        (
            "{password: '$6$salt$hash'}",
            "callers.a.password: looks like a password hash",
        ),
        (
            "{password: '$2b$04$short'}",
            "callers.a.password: looks like a password hash",
        ),
        ("{addresses: []}", "callers.a.addresses: is empty"),
        (
            "{addresses: [corp]}",
            "callers.a.addresses[0]: is not an address range",
        ),
        (
            "{addresses: [10.2.0.0/33]}",
            "callers.a.addresses[0]: is not an address range",
        ),
        (
            "{addresses: [10.2.0.1/16]}",
            "callers.a.addresses[0]: is an address inside of a range",
        ),
        (
            "{addresses: ['::ffff:10.2.0.0/112']}",
            "callers.a.addresses[0]: is an IPv4 range in IPv6 form",
        ),
        (
            "{addresses: [0.0.0.0/0]}",
            "callers.a.addresses: means everybody",
        ),
        (
            "{addresses: [0.0.0.0/1, 128.0.0.0/1]}",
            "callers.a.addresses: means everybody",
        ),
        (
            "{password: '$$argon2id$$v=19$$x'}",
            "callers.a.password: looks like a password hash",
        ),
        (
            "{certificate: 'spiffe://corp/a'}",
            "callers.a.certificate: needs TLS on `listen`",
        ),
        (
            "{password: b, limits: {in_flight: 0}}",
            "callers.a.limits.in_flight: is not a whole number from 1",
        ),
        (
            "{password: b, limits: {per_second: 1000001}}",
            "callers.a.limits.per_second: is not a whole number from 1",
        ),
        (
            "{password: b, limits: {per_second: -1}}",
            "callers.a.limits.per_second: is not a whole number from 1 to 1000000",
        ),
        (
            "{password: b, limits: {per_minute: 1}}",
            "callers.a.limits.per_minute: is not a known key",
        ),
    ] {
        assert_problem(&acme_with(&format!("callers: {{a: {caller}}}\n")), expected);
    }
}

#[test]
fn callers_without_a_password_must_not_overlap() {
    for (one, other, overlap) in [
        ("10.0.0.0/8", "10.2.0.0/16", true),
        ("10.2.3.4", "10.2.0.0/16", true),
        ("10.2.0.0/16", "10.2.0.0/16", true),
        ("10.2.0.0/16", "10.3.0.0/16", false),
        (
            "10.2.0.0/16, 10.4.0.0/16, 'fd00::/8'",
            "10.3.0.0/16, 'fd00:1::/32'",
            true,
        ),
        ("10.2.0.0/15, 10.2.0.0/16", "10.3.0.0/16", true),
    ] {
        let text = format!("callers: {{a: {{addresses: [{one}]}}, b: {{addresses: [{other}]}}}}\n");
        let config = Config::parse(&acme_with(&text), Path::new(""));
        assert_eq!(config.is_err(), overlap, "{one} and {other}");
        if overlap {
            assert_problem(
                &acme_with(&text),
                "without passwords the two could not be told apart",
            );
        }
        // A password tells them apart.
        let text = text.replace("b: {", "b: {password: c, ");
        assert!(Config::parse(&acme_with(&text), Path::new("")).is_ok());
    }
}

#[test]
fn a_key_that_may_hold_a_secret_is_not_repeated() {
    for typo in [
        "client_secret:hunter2",
        "\"client_secret: hunter2\"",
        "\"client_secret=hunter2\": x",
        "client_secret hunter2",
    ] {
        let text = format!("providers: {{p: {{preset: payu, {typo}}}}}");
        let problems = Config::parse(&text, Path::new("")).unwrap_err();
        let cut = |problem: &Diagnostic| problem.path == "providers.p.client_secret…";
        assert!(problems.iter().any(cut), "{problems:?}");
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
    }
}

mod certificates;
mod dots;
mod egress;
mod fleet;
mod mistakes;
mod provider;
