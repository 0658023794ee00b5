use std::path::Path;

use serde_json::Value as Json;

use super::*;
use crate::config::Config;

const FILE: &str = "
x-acme: &acme
  client_id: id
  client_secret: ${BURSAR_TEST_UNSET:-s3cret}
  timeouts: {connect: 1s}
  x-note: ['${BURSAR_TEST_UNSET}']
x-more: &more
  hosts: [b.example]
  client_id: other
providers:
  acme:
    <<: [*acme, *more]
    hosts: [a.example]
    token: {url: https://login.acme.example/t, x-owner: me}
    routes: [{path: /a, x-why: old}]
";

fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text, Path::new("")).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_mapping_has_what_it_merges_unless_it_has_its_own() {
    let config = Config::parse(FILE, Path::new("")).unwrap_or_else(|found| panic!("{found:#?}"));
    let provider = &config.providers[0];
    let hosts: Vec<&str> = provider.hosts.iter().map(|host| &*host.name).collect();
    assert_eq!(hosts, ["a.example"]);
    assert_eq!(provider.accounts[0].client_id.expose(), "id");
    assert_eq!(provider.timeouts.connect.as_secs(), 1);
}

#[test]
fn a_problem_of_what_is_merged_is_told_at_the_key_that_merges_it() {
    let found = problems(&FILE.replace("timeouts:", "timeuots:"));
    let expected = "line 12: providers.acme.timeuots: is not a known key";
    assert!(
        found.iter().any(|it| it.starts_with(expected)),
        "{found:#?}"
    );
    for wrong in ["<<: acme", "<<: [*acme, 1]"] {
        let found = problems(&FILE.replace("<<: [*acme, *more]", wrong));
        let expected = "line 12: providers.acme.<<: merges mappings alone";
        assert!(
            found.iter().any(|it| it.starts_with(expected)),
            "{found:#?}"
        );
    }
}

#[test]
fn a_merge_of_many_aliases_does_not_grow_without_end() {
    let mut text = "x0: &x0 {a: 1}\n".to_owned();
    for level in 1..64 {
        let before = format!("*x{}", level - 1);
        let aliases = [before.as_str(); 9].join(", ");
        text.push_str(&format!("x{level}: &x{level} {{<<: [{aliases}]}}\n"));
    }
    assert!(!problems(&text).is_empty());
}

#[test]
fn a_name_that_begins_with_x_is_a_name() {
    let text = format!(
        "{FILE}callers: {{x-till: {{password: 0123456789abcdef, allow: [acme], x-note: 1}}}}\n"
    );
    let config = Config::parse(&text, Path::new("")).unwrap_or_else(|found| panic!("{found:#?}"));
    assert_eq!(&*config.callers.unwrap()[0].name, "x-till");
}

/// Every mapping of the schema whose keys are not fixed has names for keys, and no other has.
#[test]
fn the_mappings_with_names_are_those_of_the_schema() {
    let schema: Json = serde_json::from_str(include_str!("../../../../proxy.schema.json")).unwrap();
    let mut seen = 0;
    walk(&schema, &schema, &mut Vec::new(), &mut seen);
    assert!(seen > 20);
}

fn walk(schema: &Json, at: &Json, keys: &mut Vec<String>, seen: &mut usize) {
    assert!(keys.len() < 8);
    if let Some(name) = at["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return walk(schema, &schema["$defs"][name], keys, seen);
    }
    for other in at["anyOf"].as_array().into_iter().flatten() {
        walk(schema, other, keys, seen);
    }
    if at["items"].is_object() {
        walk(schema, &at["items"], keys, seen);
    }
    let named = &at["additionalProperties"];
    if named.is_object() || at["properties"].is_object() {
        *seen += 1;
        assert_eq!(are_names(keys), named.is_object(), "{keys:?}");
    }
    if named.is_object() {
        keys.push("name".to_owned());
        walk(schema, named, keys, seen);
        keys.pop();
    }
    for (key, value) in at["properties"].as_object().into_iter().flatten() {
        keys.push(key.clone());
        walk(schema, value, keys, seen);
        keys.pop();
    }
}
