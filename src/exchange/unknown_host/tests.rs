use std::path::Path;

use super::*;
use bursar_config::Config;

const FILE: &str = "
callers:
  shop: {password: correct-horse-battery, allow: [payu, acme]}
  bank: {password: correct-horse-staple, allow: [quidkey]}
passthrough: [{host: errors.example, callers: [shop]}]
providers:
  payu: {preset: payu, environment: sandbox, client_id: a, client_secret: b}
  quidkey: {preset: quidkey, environment: production, client_id: a, client_secret: b}
  acme:
    hosts: [api.acme.example, 'other.acme.example:8443', '*.eu.acme.example']
    client_id: a
    client_secret: b
    token: {url: https://login.acme.example/t}
";

fn describe(caller: Option<&str>, host: &str) -> String {
    let config = Config::parse(FILE, Path::new("")).unwrap();
    let callers = config.callers.unwrap();
    let caller = caller.map(|name| callers.iter().find(|caller| *caller.name == *name).unwrap());
    let listed = config.passthrough.iter().map(|entry| &entry.host);
    let allow = caller.map(|caller| &caller.allow[..]);
    let visible = Visible::new(&config.providers, allow, listed);
    let found = visible.guess(host);
    found.map(|guess| guess.text).unwrap_or_default()
}

#[test]
fn what_was_meant_is_said() {
    for (host, said) in [
        (
            "partner.payu.in",
            "this is PayU's production host; `payu` here is sandbox, with hosts such as uat-partner.payu.in",
        ),
        (
            "ONEAPI.payu.in.",
            "this is PayU's production host; `payu` here is sandbox",
        ),
        (
            "accounts.payu.in",
            "this is where PayU's production tokens come from, and Bursar obtains tokens itself; `payu` here is sandbox",
        ),
        (
            "uat-accounts.payu.in",
            "the tokens of the provider payu come from this host, and Bursar obtains them itself: leave the token call out",
        ),
        (
            "login.acme.example",
            "the tokens of the provider acme come from this host",
        ),
        (
            "uat-partner.payu.in",
            "the provider payu has this host at port 80 and 443 alone",
        ),
        (
            "other.acme.example",
            "the provider acme has this host at port 8443 alone",
        ),
        (
            "uat-parnter.payu.in",
            "no provider has this host; did you mean uat-partner.payu.in?",
        ),
        (
            "partner.payu.im",
            "no provider has this host; did you mean partner.payu.in (PayU's production host)?",
        ),
        (
            "api.acme.exmaple",
            "no provider has this host; did you mean api.acme.example?",
        ),
        (
            "pay.eu.acme.exampl",
            "no provider has this host; did you mean *.eu.acme.example?",
        ),
        (
            "erors.example",
            "no provider has this host; did you mean errors.example?",
        ),
        ("www.example.org", ""),
        ("eu.acme.example", ""),
        ("", ""),
        ("..", ""),
    ] {
        for caller in [Some("shop"), None] {
            let found = describe(caller, host);
            assert!(
                found.starts_with(said) && found.is_empty() == said.is_empty(),
                "{host}: {found}"
            );
        }
    }
}

#[test]
fn a_caller_is_told_nothing_of_providers_that_it_may_not_use() {
    for host in [
        "login.acme.example",
        "api.acme.exmaple",
        "pay.eu.acme.exampl",
        "other.acme.example",
    ] {
        assert_eq!(describe(Some("bank"), host), "", "{host}");
    }
    // What the presets know, everybody knows.
    let said = "this is PayU's production host; no provider here has it";
    assert!(describe(Some("bank"), "partner.payu.in").starts_with(said));
}

#[test]
fn the_words_fit_into_a_field_line() {
    for host in [
        "partner.payu.in",
        "uat-accounts.payu.in",
        "api.acme.exmaple",
        "other.acme.example",
    ] {
        assert!(
            describe(None, host)
                .bytes()
                .all(|byte| (0x20..0x7f).contains(&byte)),
            "{host}"
        );
    }
}
