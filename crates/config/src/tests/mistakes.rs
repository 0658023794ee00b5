//! What people write, and what they are told to write instead.

use super::{ACME, assert_problem, problems};

/// Each is a file, and what its first problem says.
const MISTAKES: &[(&str, &str)] = &[
    (
        "",
        "is empty; name at least one provider under `providers:`",
    ),
    ("# only a comment\n", "is empty"),
    (
        "- listen: 127.0.0.1:3128",
        "line 1: is a list; it must be a mapping with keys such as `listen:`",
    ),
    (
        "listen 3128",
        "line 1: has no keys; each is followed by a colon and a space",
    ),
    ("listen = \"127.0.0.1:3128\"", "line 1: has no keys"),
    (
        "listen: 3128",
        "line 1: listen: has no address; write 127.0.0.1:3128 for this machine alone, or 0.0.0.0:3128",
    ),
    (
        "admin: 9128",
        "line 1: admin: has no address; write 127.0.0.1:9128",
    ),
    (
        "listen: :3128",
        "listen: has no address; write 127.0.0.1:3128",
    ),
    (
        "listen: '*:3128'",
        "listen: has no address; write 127.0.0.1:3128",
    ),
    (
        "listen: localhost:3128",
        "listen: is a name; write it as an address: 127.0.0.1:3128 (given: \"localhost:3128\")",
    ),
    (
        "listen: proxy.corp:3128",
        "listen: is no address with a port, such as 127.0.0.1:3128; names are not looked up",
    ),
    (
        "listen: 0.0.0.0",
        "listen: has no port; write 127.0.0.1:3128, or this address with :3128 after it",
    ),
    ("listen: '[::]'", "listen: has no port"),
    (
        "listen: '::1:3128'",
        "listen: is an IPv6 address, which is written in brackets, with a port: [::1]:3128",
    ),
    (
        "listen: [::]:3128",
        "line 1: is not valid YAML: a value that begins with `[` needs quotes",
    ),
    (
        "listen: http://127.0.0.1:3128",
        "listen: is a URL; write address and port alone",
    ),
    (
        "listen: 127.0.0.1:70000",
        "listen: has a port above 65535 (given: \"127.0.0.1:70000\")",
    ),
    (
        "listen: 127.0.0.1:9128",
        "line 1: listen: `listen` and `admin` are the same address and port; give `admin` another port, such as 9129",
    ),
    (
        "listen: 127.0.0.1:3128\nadmin: 0.0.0.0:3128",
        "line 2: admin: `listen` and `admin` are the same address and port; give `admin` another port, such as 9128",
    ),
    (
        "providers:\n\tacme:\n\t\thosts: [a]",
        "line 2: is not valid YAML: the line is indented with a tab; use spaces",
    ),
    (
        "admin: 127.0.0.1:9128\nproviders:\n  acme:\n    client_id: a\u{7}b",
        "line 4: is not valid YAML: the line has a control character; remove it",
    ),
    (
        "admin: 127.0.0.1:9128\r\n# \u{80}",
        "line 2: is not valid YAML: the line has a control character; remove it",
    ),
    (
        "drain_timeout: 30",
        "line 1: drain_timeout: has no unit; write 30s, 30ms or 30m",
    ),
    (
        "drain_timeout: 1.5",
        "drain_timeout: has no unit; write 1.5s",
    ),
    (
        "drain_timeout: 30x",
        "drain_timeout: is not a duration such as 250ms, 60s or 5m (given: \"30x\")",
    ),
    (
        "drain_timeout: 1M",
        "drain_timeout: has months or years (`M`, `y`), which are no units here; write 1m for a minute, or 30d",
    ),
    (
        "replay_memory: 1024",
        "replay_memory: has no unit; write 1024B, 1024KiB or 1024MiB",
    ),
    (
        "providers: {acme: {hosts: [*.acme.example]}}",
        "line 1: is not valid YAML: a value that begins with `*` needs quotes, as in \"*.example.com\"",
    ),
    (
        "a: {{ .Values.id }}-sandbox",
        "line 1: is not valid YAML: `{{` begins a template that nothing has filled in",
    ),
    (
        "providers:\n  acme:\n    client_id: {{ .Values.id }}\n    hosts: [a]\n    token: {url: https://a/b}",
        "line 3: providers.acme.client_id: is a template that nothing has filled in",
    ),
    (
        "a: @b",
        "line 1: is not valid YAML: a value that begins with `@`, `%` or a backtick needs quotes",
    ),
    (
        "a: *b",
        "line 1: is not valid YAML: a value that begins with `*` refers to an anchor (`&`) that is not there",
    ),
    (
        "listen: 127.0.0.1:1\n<<<<<<< HEAD\nadmin: 127.0.0.1:2\n=======\nadmin: 127.0.0.1:3\n>>>>>>> other\n",
        "line 2: begins a merge conflict that nobody has resolved; keep one side of it",
    ),
    (
        "drain_timeout: '30'",
        "line 1: drain_timeout: has no unit; write 30s, 30ms or 30m",
    ),
    (
        "providers:\n  acme: {hosts: [a.example], client_id: a, client_secret_file: /run/secrets/a, token: {url: 'https://a.example/t'}}",
        "line 2: providers.acme.client_secret_file: is not a known key; write `client_secret: ${file:PATH}`",
    ),
    (
        "a: !vault b",
        "line 1: is not valid YAML: tags such as `!vault` or `!env` have no meaning here; write ${NAME}",
    ),
    (
        "listen: !!str 127.0.0.1:1\ncallers:\n  shop: {password: !!binary aHVudGVyMg==}",
        "line 3: has a tag that has no meaning here, such as `!!binary`; remove it",
    ),
    (
        "providers: !!python/object:acme.Providers {}",
        "line 1: has a tag that has no meaning here, such as `!!binary`",
    ),
    (
        "limits: {connections: 99999999999999999999}",
        "limits.connections: is a number, but must be a whole number from 1 to 1000000 (given: 1e20)",
    ),
    (
        "a: 1\n---\nb: 2",
        "is not valid YAML: there is more than one document in it",
    ),
    (
        "a: b: c",
        "line 1: is not valid YAML: there is a second `: ` in a line",
    ),
    (
        "a:\n  b: c\n d: e",
        "line 3: is not valid YAML: the line is indented unlike those around it",
    ),
    ("a: \"b", "line 1: is not valid YAML: a quote is not closed"),
    (
        "a: \"C:\\path\"",
        "line 1: is not valid YAML: in double quotes a backslash begins an escape",
    ),
    (
        "providers:\n  payu:\n  preset: payu",
        "line 2: providers.payu: has no value; give it one or remove the key (what belongs to it is indented more than it)",
    ),
    (
        "providers:\n  payu: {preset: payu, environment: sandbox, client_id: a, client_secret: b}\n  preset: payu",
        "line 3: providers.preset: is a key of the entry above it; indent it more than the entry's name",
    ),
    (
        "providers:\n  - name: payu\n    preset: payu",
        "line 1: providers: is a list, but must be a mapping with names for keys: `NAME:`, without `- ` before it",
    ),
    (
        "callers:\n  - name: shop",
        "line 1: callers: is a list, but must be a mapping with names for keys",
    ),
    (
        "journal: /var/lib/bursar",
        "journal: is text, but must be a mapping with keys such as path, sync, max_size",
    ),
    (
        "callers: {a: {password: b, allow: acme}}",
        "callers.a.allow: is text, but must be a list: write [acme]",
    ),
    (
        "callers: {a: {password: b, allow: {provider: acme}}}",
        "callers.a.allow: is a mapping, but must be a list: begin each of its entries with `- `",
    ),
    (
        "callers: {a: {password: b, allow: [{acme: {methods: [GET]}}]}}",
        "callers.a.allow[0].acme: is not a known key; write `provider: NAME`",
    ),
    (
        "callers: {a: {passwords: b}}",
        "callers.a.passwords: is text, but must be a list: write […]",
    ),
    (
        "providers: {a: {token: {scopes: links.read links.write}}}",
        "providers.a.token.scopes: is text, but must be a list: write [links.read, links.write]",
    ),
    (
        "providers: {a: {hosts: '*.acme.example'}}",
        "providers.a.hosts: is text, but must be a list: write [\"*.acme.example\"]",
    ),
    (
        "providers: {a: {preset: PayU, environment: sandbox, client_id: a, client_secret: b}}",
        "providers.a.preset: must be one of paylater, payu, alternative_payments, quidkey; did you mean payu? (given: \"PayU\")",
    ),
    (
        "providers: {a: {preset: payu, environment: prod, client_id: a, client_secret: b}}",
        "providers.a.environment: must be one of sandbox, production; did you mean production?",
    ),
    (
        "providers: {a: {preset: payu, environment: uat, client_id: a, client_secret: b}}",
        "providers.a.environment: must be one of sandbox, production; did you mean sandbox?",
    ),
    (
        "journal: {path: a, sync: yes}",
        "journal.sync: is text, but must be true or false, without quotes (given: \"yes\")",
    ),
    (
        "passthrough: [{host: a, ports: ['443']}]",
        "passthrough[0].ports[0]: is text, but must be a whole number, without quotes (given: \"443\")",
    ),
    (
        "Listen: 127.0.0.1:1",
        "line 1: Listen: is not a known key; did you mean `listen`?",
    ),
    (
        "port: 3128",
        "port: is not a known key; did you mean `listen`?",
    ),
    (
        "client_id: a",
        "client_id: is not a known key here; it belongs at `providers.NAME.client_id`",
    ),
    (
        "{listen:127.0.0.1}",
        "line 1: listen…: is not a known key; is there a space missing after its colon?",
    ),
    (
        "providers: {a: {clientId: a}}",
        "providers.a.clientId: is not a known key; did you mean `client_id`?",
    ),
    (
        "providers: {a: {token_url: a}}",
        "providers.a.token_url: is not a known key here; it belongs at `providers.a.token.url`",
    ),
    (
        "providers: {a: {token: {hosts: [b]}}}",
        "providers.a.token.hosts: is not a known key here; it belongs at `providers.a.hosts`",
    ),
    (
        "callers: {a: {limits: {allow: [b]}}}",
        "callers.a.limits.allow: is not a known key here; it belongs at `callers.a.allow`",
    ),
    (
        "providers: {a: {merchant_id: 8123456}}",
        "providers.a.merchant_id: is a number (put quotes around it to make it text), but must be a string (given: 8123456)",
    ),
];

#[test]
fn a_mistake_is_told_with_what_to_write_instead() {
    for (text, expected) in MISTAKES {
        let found = problems(text);
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)
                || problem.contains(&format!(": {expected}"))),
            "no `{expected}` in {found:#?} of {text}"
        );
    }
}

#[test]
fn a_key_under_another_name_is_not_missing_too() {
    let found = problems(
        "providers: {a: {hosts: [b.example], clientId: a, secret: b, token_url: 'https://c.example/t'}}",
    );
    assert_eq!(found.len(), 3, "{found:#?}");
    let found = problems(
        "providers: {a: {preset: PayU, environment: prod, client_id: a, client_secret: b}}",
    );
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn whoever_makes_very_many_mistakes_is_told_that_not_all_are_listed() {
    let wrong: String = (0..150).map(|at| format!("wrong_{at}: 1\n")).collect();
    let found = problems(&wrong);
    assert_eq!(found.len(), 101, "{found:#?}");
    let last = found.last().unwrap();
    assert!(last.starts_with("has 100 problems or more"), "{last}");
}

#[test]
fn a_value_that_came_from_elsewhere_is_not_repeated() {
    let text = format!("drain_timeout: ${{CARGO_PKG_NAME}}\nlisten: ${{CARGO_PKG_NAME}}\n{ACME}");
    for problem in problems(&text) {
        assert!(!problem.contains("bursar-config"), "{problem}");
    }
    assert_problem(&text, "drain_timeout: is not a duration");
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark() {
    let text = format!("\u{feff}{ACME}");
    assert!(crate::Config::parse(&text, std::path::Path::new("")).is_ok());
}
