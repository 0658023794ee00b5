use std::path::Path;

use super::*;
use crate::config::Config;

const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuWpTLLmkVRzHrKXx4ix0Bo0mwPoLzJXS";

#[test]
fn what_cannot_work_is_told_from_what_can() {
    for (text, fault) in [
        ("\u{feff}s3cret", Fault::ByteOrderMark),
        ("s3cret\n", Fault::LineBreakAtEnd),
        ("s3cret\r\n", Fault::LineBreakAtEnd),
        (" s3cret", Fault::WhiteSpace),
        ("s3cret ", Fault::WhiteSpace),
        ("s3cret\u{a0}", Fault::WhiteSpace),
        ("s3\tcret", Fault::Control),
        ("one\ntwo", Fault::Control),
        ("s3\0cret", Fault::Control),
        ("s3\u{200b}cret", Fault::Invisible),
        ("$PAYU_CLIENT_SECRET", Fault::Unbraced),
        ("%PAYU_CLIENT_SECRET%", Fault::Unbraced),
        ("{{ .Values.secret }}", Fault::Template),
        ("a-{{secret}}-b", Fault::Template),
        ("{{secret", Fault::Template),
        ("<your secret>", Fault::AngleBrackets),
        ("<CLIENT_SECRET>", Fault::AngleBrackets),
        ("changeme", Fault::Placeholder),
        ("Change-Me", Fault::Placeholder),
        ("your_client_secret", Fault::Placeholder),
        ("ChangeMe!", Fault::Placeholder),
        ("changeme123", Fault::Placeholder),
        ("YOUR_CLIENT_SECRET_HERE", Fault::Placeholder),
        ("put your password here", Fault::Placeholder),
        ("example-api-key", Fault::Placeholder),
        ("********", Fault::Placeholder),
        ("xxxxxxxx", Fault::Placeholder),
        ("...", Fault::Placeholder),
        ("/run/secrets/payu", Fault::Reference),
        ("ENC[AES256_GCM,data:aGk=]", Fault::Reference),
        ("op://vault/payu/secret", Fault::Reference),
        ("${PAYU_CLIENT_SECRET}", Fault::Reference),
        ("${file:/run/secrets/payu}", Fault::Reference),
        ("$(PAYU_CLIENT_SECRET)", Fault::Reference),
        ("#{PayuSecret}#", Fault::Reference),
    ] {
        assert_eq!(fault_of_any(text), Some(fault), "{text:?}");
    }
    for text in [
        "s",
        "s3cret",
        "pass word",
        "a$b",
        "$ecret-and-more",
        "$ecret",
        "$2",
        "<3cats>!",
        "<(;-)>",
        "}}{{",
        "{{",
        "xxx",
        "x",
        "100%",
        "päss",
        "correct horse battery staple",
        "9f8a7c6b-1234-4d5e-8f90-abcdef012345",
        "todo-list-of-mine",
        "null-and-void",
        "file-server-key",
        "my-client-secret",
        "your-0wn",
        "todo1",
        "a${b}c",
        "${}",
        "$(x",
        "{{9",
    ] {
        assert_eq!(fault_of_any(text), None, "{text:?}");
    }
}

/// Doorkeeper takes any bytes, so that they are no error.
#[test]
fn client_ids_and_secrets_that_are_not_ascii_are_doubted_and_taken() {
    assert_eq!(fault("päss", Kind::Client), None);
    assert_eq!(doubt("päss", Kind::Client), Some(Doubt::NotAscii));
    assert_eq!(doubt("päss", Kind::Caller), None);
    assert_eq!(doubt("a b:~\\\"", Kind::Client), None);
}

#[test]
fn a_hash_with_something_before_it_is_none() {
    for before in ["shop:", "{CRYPT}", "\"", "bcrypt=", "x"] {
        assert!(hash_begins_late(&format!("{before}{HASH}")), "{before}");
    }
    assert!(hash_begins_late(&format!("\"{HASH}\"")));
    for text in [HASH, "costs$2b$", "a$argon2", "", "my$2a$10$password"] {
        assert!(!hash_begins_late(text), "{text}");
    }
}

#[test]
fn what_is_probably_not_meant_is_a_doubt() {
    for (text, doubted) in [
        ("\"s3cret\"", Doubt::Quotes),
        ("'s3cret'", Doubt::Quotes),
        ("CLIENT_SECRET=s3cret", Doubt::Assignment),
        ("client_secret=s3cret", Doubt::Assignment),
        ("Client_Id=s3cret", Doubt::Assignment),
        ("clientSecret=s3cret", Doubt::Assignment),
        ("secret=s3cret", Doubt::Assignment),
        (r#"{"client_secret":"s3cret"}"#, Doubt::Object),
        (r#"{ "a": "s3cret" }"#, Doubt::Object),
        ("Bearer abc", Doubt::Scheme),
        ("aaaaaaaaaaaaaaaa", Doubt::Repeated),
        ("AAAAAAAAAAA=", Doubt::Repeated),
        ("Password", Doubt::Common),
    ] {
        assert_eq!(doubt(text, Kind::Other), Some(doubted), "{text}");
    }
    for text in [
        "\"", "s3cret", "abcdef==", "A=b", "aaaaaaab", "aaaa", "secret=", "{\"}", "{a}",
    ] {
        assert_eq!(doubt(text, Kind::Other), None, "{text}");
    }
    // The provider chose it.
    assert_eq!(doubt("secret", Kind::Client), None);
}

/// Every place of the file where a secret stands.
const FILE: &str = "
listen: 127.0.0.1:0
admin_token: SECRET
callers:
  a: {password: SECRET, allow: [acme, payu]}
  b: {passwords: [SECRET, SECRET], allow: [acme]}
egress: {proxy: {api: SECRET, token: SECRET}}
fleet: {sentinel: {urls: [SECRET], master: m, username: SECRET, password: SECRET}, keys: [SECRET]}
providers:
  acme:
    hosts: [api.acme.example]
    client_id: SECRET
    client_secret: SECRET
    next_client_secret: SECRET
    accounts: {other: {client_id: SECRET, client_secret: SECRET, next_client_secret: SECRET}}
    token: {url: https://login.acme.example/t, params: {key: SECRET}}
  payu: {preset: payu, environment: sandbox, client_id: a, client_secret: b}
";

#[test]
fn every_secret_of_the_file_is_checked_and_none_is_repeated() {
    let places = FILE.matches("SECRET").count();
    for value in [
        "\" hunter2\"",
        "\"hunter2\\t\"",
        "\"{{ hunter2 }}\"",
        "<hunter2>",
        "'http://a:%20hunter2@b:1'",
    ] {
        let text = FILE.replace("SECRET", value);
        let found = Config::parse(&text, Path::new("")).unwrap_err();
        let of_url = value.contains("http");
        let told: Vec<String> = found
            .iter()
            .filter(|problem| problem.line.is_some())
            .map(ToString::to_string)
            .collect();
        // As an admin token a URL is a word like any other.
        assert_eq!(told.len(), places, "{told:#?}");
        assert!(
            !told.iter().any(|problem| problem.contains("hunter2")),
            "{told:#?}"
        );
        assert_eq!(
            told.iter()
                .any(|problem| problem.contains("has a password that")),
            of_url
        );
    }
    let one = Config::parse(
        &FILE.replace(
            "egress: {proxy: {api: SECRET, token: SECRET}}",
            "egress: {proxy: ' x'}",
        ),
        Path::new(""),
    );
    let one = one.unwrap_err();
    assert!(
        one.iter().any(
            |problem| problem.path == "egress.proxy" && problem.message.contains("white space")
        ),
        "{one:?}"
    );
}

#[test]
fn what_is_no_secret_is_not_taken_for_one() {
    let text = FILE
        .replace("egress: {proxy: {api: SECRET, token: SECRET}}\n", "")
        .replace(
            "urls: [SECRET]",
            "urls: ['rediss://u:0123456789-good-enough@localhost']",
        )
        .replace(
            "keys: [SECRET]",
            "keys: [MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=]",
        )
        .replace("SECRET", "0123456789-good-enough")
        .replace(
            "listen: 127.0.0.1:0",
            "listen: 127.0.0.1:0\njournal: {path: /run/secrets/journal}",
        );
    let config = Config::parse(&text, Path::new("")).unwrap_or_else(|found| panic!("{found:#?}"));
    let warned: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(
        !warned
            .iter()
            .any(|warning| warning.contains("is a ") || warning.contains("shorter")),
        "{warned:?}"
    );
}
