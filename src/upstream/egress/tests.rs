use std::path::Path;

use super::*;
use bursar_config::Config;
use bursar_telemetry::metrics::Metrics;

/// A policy for the upstream `written`, with what it counts.
struct Rig {
    policy: DialPolicy,
    metrics: Metrics,
}

impl Rig {
    fn new(egress: &str, written: &str, names: &[(&str, &[&str])]) -> Self {
        let text = format!(
            "egress: {{{egress}}}\nproviders: {{acme: {{hosts: [api.test], client_id: a, client_secret: b, token: {{url: 'https://x/t'}}}}}}"
        );
        let config =
            Config::parse(&text, Path::new("")).unwrap_or_else(|error| panic!("{error:?}"));
        let metrics = Metrics::new(&config).unwrap();
        let mut rules = Arc::try_unwrap(config.egress).unwrap();
        if !names.is_empty() {
            let addresses =
                |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            let table = names
                .iter()
                .map(|(name, texts)| ((*name).into(), addresses(texts)));
            rules.names = Names::Fixed(table.collect());
        }
        let egress = Egress::new(&Arc::new(rules), &metrics);
        let policy = egress.dial_policy(&"acme".into(), [written].into_iter());
        Self { policy, metrics }
    }

    /// The addresses that pass, space-joined, or the rule that refuses.
    async fn checked(&self, host: &str) -> String {
        match self.policy.addresses(host).await {
            Ok(addresses) => {
                let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                texts.join(" ")
            }
            Err(Denied::Rule(rule)) => rule.as_str().to_owned(),
            Err(Denied::Unresolved(_)) => "unresolved".to_owned(),
        }
    }

    fn counted(&self, rule: Rule, mode: Mode) -> u64 {
        let text = String::from_utf8(self.metrics.scrape().unwrap()).unwrap();
        let labels = format!("{{mode=\"{}\",rule=\"{}\"}} ", mode.as_str(), rule.as_str());
        let line = text.lines().find_map(|line| {
            line.strip_prefix("bursar_egress_denied_total")?
                .strip_prefix(&*labels)
        });
        line.unwrap().parse().unwrap()
    }
}

#[test]
fn another_configuration_of_egress_is_told_apart_so_that_a_reload_takes_it() {
    let config = |egress: &str| {
        let text = format!(
            "egress: {{{egress}}}\nproviders: {{acme: {{hosts: [api.test], client_id: a, client_secret: b, token: {{url: 'https://x/t'}}}}}}"
        );
        Config::parse(&text, Path::new("")).unwrap_or_else(|error| panic!("{error:?}"))
    };
    let of = config("allow_addresses: [10.0.0.0/8]");
    let metrics = Metrics::new(&of).unwrap();
    let egress = Egress::new(&of.egress, &metrics);
    assert!(egress.is_of(&config("allow_addresses: [10.0.0.0/8]").egress));
    for other in [
        "",
        "allow_addresses: [10.0.0.0/9]",
        "allow_addresses: [10.0.0.0/8], mode: report",
        "allow_addresses: [10.0.0.0/8], rules: {private: report}",
        "allow_addresses: [10.0.0.0/8], proxy: 'http://127.0.0.1:1'",
        "allow_addresses: [10.0.0.0/8], proxy: 'http://127.0.0.1:1', no_proxy: [x.test]",
    ] {
        assert!(!egress.is_of(&config(other).egress), "{other}");
    }
}

#[tokio::test]
async fn only_allowed_addresses_of_a_name_are_tried() {
    let names: [(&str, &[&str]); 4] = [
        (
            "mixed.test",
            &["10.0.0.1", "8.8.8.8", "::1", "fe80::1", "2606:4700::1"],
        ),
        ("inside.test", &["10.0.0.1", "10.0.0.2", "192.168.0.1"]),
        ("metadata.test", &["169.254.169.254"]),
        ("none.test", &[]),
    ];
    let rig = Rig::new("", "api.test", &names);
    assert_eq!(rig.checked("mixed.test").await, "8.8.8.8 2606:4700::1");
    assert_eq!(rig.checked("inside.test").await, "private");
    assert_eq!(rig.checked("metadata.test").await, "metadata");
    assert_eq!(rig.checked("none.test").await, "unresolved");
    assert_eq!(rig.checked("other.test").await, "unresolved");
    // Once for a connection, however many addresses there are.
    assert_eq!(rig.counted(Rule::Private, Mode::Enforce), 2);
    assert_eq!(rig.counted(Rule::Metadata, Mode::Enforce), 1);
    assert_eq!(rig.counted(Rule::Loopback, Mode::Enforce), 1);
    assert_eq!(rig.counted(Rule::Private, Mode::Report), 0);
}

#[tokio::test]
async fn what_the_operator_lists_is_allowed() {
    let rig = Rig::new(
        "allow_addresses: [10.0.0.0/8, 127.0.0.1, 'fd00::/8', '64:ff9b::/96']",
        "api.test",
        &[],
    );
    for (host, expected) in [
        ("10.255.255.255", "10.255.255.255"),
        ("11.0.0.0", "11.0.0.0"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "loopback"),
        ("[fd12::1]", "fd12::1"),
        ("[fc00::1]", "private"),
        // The form is allowed, what it embeds is checked all the same.
        ("[64:ff9b::8.8.8.8]", "64:ff9b::808:808"),
        ("[64:ff9b::10.0.0.1]", "64:ff9b::a00:1"),
        ("[64:ff9b::192.168.0.1]", "private"),
        // The embedded address is allowed, the form is not.
        ("[::ffff:10.0.0.1]", "embedded_ipv4"),
        // Nobody listed the spelling.
        ("10.1", "literal"),
        ("0x7f.1", "literal"),
    ] {
        assert_eq!(rig.checked(host).await, expected, "{host}");
    }
}

#[tokio::test]
async fn a_loopback_address_stays_allowed_where_the_operator_wrote_it() {
    for (written, host, expected) in [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.2", "loopback"),
        ("[::1]", "[::1]", "::1"),
        ("::1", "[::1]", "::1"),
        ("10.0.0.1", "10.0.0.1", "private"),
        ("api.test", "127.0.0.1", "loopback"),
        ("api.test", "localhost", "loopback"),
        ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]", "loopback"),
        ("0x7f.1", "0x7f.1", "literal"),
    ] {
        let rig = Rig::new("", written, &[]);
        assert_eq!(
            rig.checked(host).await,
            expected,
            "{host} where {written} is written"
        );
    }
    // By the system's resolver, as `hosts(5)` has it.
    let rig = Rig::new("", "LocalHost", &[]);
    let checked = rig.checked("localhost").await;
    assert!(
        checked.contains("127.0.0.1") || checked.contains("::1"),
        "{checked}"
    );
    // The word alone does not help an address that is not this machine.
    let rig = Rig::new("", "localhost", &[("localhost", &["10.0.0.1"])]);
    assert_eq!(rig.checked("localhost").await, "private");
}

#[tokio::test]
async fn report_lets_pass_and_counts_rule_by_rule() {
    let rig = Rig::new("rules: {private: report, literal: report}", "api.test", &[]);
    assert_eq!(rig.checked("10.0.0.1").await, "10.0.0.1");
    assert_eq!(rig.checked("127.0.0.1").await, "loopback");
    // Checked by what it means, and connected to as such.
    assert_eq!(rig.checked("10.1").await, "10.0.0.1");
    assert_eq!(rig.checked("0x7f.1").await, "loopback");
    assert_eq!(rig.checked("1.2.3.256").await, "literal");
    assert_eq!(rig.checked("[::ffff:10.0.0.1]").await, "embedded_ipv4");
    assert_eq!(rig.counted(Rule::Private, Mode::Report), 3);
    assert_eq!(rig.counted(Rule::Loopback, Mode::Enforce), 2);
    assert_eq!(rig.counted(Rule::Literal, Mode::Report), 3);
    assert_eq!(rig.counted(Rule::EmbeddedIpv4, Mode::Enforce), 1);

    let rig = Rig::new("mode: report, rules: {metadata: enforce}", "api.test", &[]);
    assert_eq!(rig.checked("[::ffff:127.0.0.1]").await, "::ffff:127.0.0.1");
    assert_eq!(rig.checked("169.254.169.254").await, "metadata");
    assert_eq!(rig.counted(Rule::Loopback, Mode::Report), 1);
    assert_eq!(rig.counted(Rule::EmbeddedIpv4, Mode::Report), 1);
    assert_eq!(rig.counted(Rule::Metadata, Mode::Enforce), 1);
}

#[tokio::test]
async fn some_hosts_are_reached_without_the_parent_proxy() {
    let rig = Rig::new(
        "no_proxy: [api.inside, '*.corp.example', 'port.example:8443', 10.0.0.0/8, '::1', 192.0.2.7]",
        "localhost",
        &[],
    );
    for (host, port, expected) in [
        ("api.inside", 443, true),
        ("API.inside.", 8443, true),
        ("x.api.inside", 443, false),
        ("a.corp.example", 443, true),
        ("a.b.corp.example", 443, true),
        ("corp.example", 443, false),
        ("acorp.example", 443, false),
        ("port.example", 8443, true),
        ("port.example", 443, false),
        ("10.2.3.4", 443, true),
        ("11.2.3.4", 443, false),
        ("[::1]", 443, true),
        ("192.0.2.7", 443, true),
        ("localhost", 443, true),
        ("127.0.0.1", 443, false),
    ] {
        assert_eq!(
            rig.policy.bypasses_parent(host, port),
            expected,
            "{host}:{port}"
        );
    }
}

#[tokio::test]
async fn a_parent_proxy_judges_names_but_not_literals() {
    let rig = Rig::new("", "api.test", &[("inside.test", &["10.0.0.1"])]);
    assert!(rig.policy.may_ask_parent("inside.test").await.is_ok());
    for host in ["10.0.0.1", "[fd00:ec2::254]", "2130706433", "1.2.3.4.5"] {
        assert!(rig.policy.may_ask_parent(host).await.is_err(), "{host}");
    }
    assert!(rig.policy.may_ask_parent("8.8.8.8").await.is_ok());
}
