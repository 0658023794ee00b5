//! Names with a dot at their end.

use super::*;

#[test]
fn a_dot_at_the_end_of_a_name_makes_no_other_host_of_it() {
    let twice = format!(
        "{ACME}  other:\n    hosts: [api.acme.example.]\n    client_id: a\n    client_secret: b\n    token: {{url: https://x/t}}\n"
    );
    assert_problem(
        &twice,
        "api.acme.example is already a host of the provider acme",
    );
    for (line, problem) in [
        (
            "upstream: https://api.acme.example..",
            "has a host with two dots at its end",
        ),
        (
            "upstream: http://api.acme.example.",
            "must begin with `https://`",
        ),
    ] {
        assert_problem(&acme_with(&format!("    {line}\n")), problem);
    }
    for host in ["api.acme.example..", "."] {
        assert_problem(&ACME.replace("api.acme.example", host), "is not a host");
    }
}

#[test]
fn a_dot_at_the_end_of_a_name_is_not_in_its_authority() {
    let text = acme_with("    upstream: http://LOCALHOST.:8080\n").replace("[api", "[API");
    let config = Config::parse(&text.replace("example]", "example.:443]"), Path::new(""));
    let config = config.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let provider = &config.providers[0];
    let host = &provider.hosts[0];
    assert_eq!(host.to_string(), "api.acme.example:443");
    assert!(host.is_complete);
    let origin = provider.upstream.as_ref().unwrap();
    assert_eq!(origin.authority, "localhost:8080");
    assert_eq!(origin.url().unwrap(), "http://localhost.:8080/");
}
