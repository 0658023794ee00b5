//! What `docs/src/providers` says against what the presets do: hosts, operations, and the YAML that it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bursar_config::{Authorization, Config, Provider};

const PAGES: [(&str, &str); 4] = [
    (
        "paylater",
        include_str!("../../docs/src/providers/paylater.md"),
    ),
    ("payu", include_str!("../../docs/src/providers/payu.md")),
    (
        "alternative_payments",
        include_str!("../../docs/src/providers/alternative-payments.md"),
    ),
    (
        "quidkey",
        include_str!("../../docs/src/providers/quidkey.md"),
    ),
];

fn preset(name: &str, environment: &str) -> Config {
    let text = format!(
        "providers: {{{name}: {{preset: {name}, environment: {environment}, client_id: a, client_secret: b}}}}"
    );
    Config::parse(&text, Path::new("")).unwrap()
}

/// Hosts by the row that a page's table has for an operation of theirs.
type Rows = BTreeMap<String, Vec<String>>;

/// Adds the operations of a preset.
fn add_rows(rows: &mut Rows, provider: &Provider) {
    let hosts = provider.hosts.iter().zip(&provider.known);
    let routes =
        hosts.flat_map(|(host, known)| known.routes.iter().map(move |route| (host, route)));
    for (host, route) in routes {
        let methods = route.methods.as_ref().unwrap().iter();
        let methods: Vec<String> = methods.map(ToString::to_string).collect();
        let (set, or_callers) = match route.authorization {
            Authorization::Bursar(set) => (set, ""),
            Authorization::CallerOrBursar(set) => (set, ", or the caller's own token"),
            Authorization::Caller => panic!("{}: no preset has that", route.name),
        };
        let scopes = match &*provider.scope_sets[set] {
            "" => "–".to_owned(),
            scopes => format!("`{}`{or_callers}", scopes.replace(' ', "`, `")),
        };
        let money = match route.semantics.moves_money {
            Some(true) => "yes",
            _ => "no",
        };
        let key = key(route);
        let row = format!(
            "| {} | `{}` | {scopes} | {money} | {key} |",
            methods.join(", "),
            route.path.as_str()
        );
        let hosts = rows.entry(row).or_default();
        hosts.push(format!("`{}`", host.name.trim_end_matches(".payu.in")));
    }
}

fn key(route: &bursar_config::Route) -> String {
    let semantics = &route.semantics;
    match (&semantics.idempotency_header, &semantics.idempotency_field) {
        (Some(_), _) => "`Idempotency-Key`".to_owned(),
        (None, Some(_)) => "`idempotency_key` in the body".to_owned(),
        (None, None) => "–".to_owned(),
    }
}

#[test]
fn each_page_lists_the_operations_of_its_preset_and_no_others() {
    let mut wrong = Vec::new();
    for (name, page) in PAGES {
        let mut rows = Rows::new();
        for environment in ["sandbox", "production"] {
            add_rows(&mut rows, &preset(name, environment).providers[0]);
        }
        // Of the others each host has all.
        let row = |(row, hosts): (String, Vec<String>)| match name {
            "payu" => format!("{row} {} |", hosts.join(", ")),
            _ => row,
        };
        let known: BTreeSet<String> = rows.into_iter().map(row).collect();
        let table = page.split("| method | path |").nth(1).unwrap_or_default();
        let lines = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let listed: BTreeSet<String> = lines.map(str::to_owned).collect();
        let missing = known.difference(&listed);
        wrong.extend(missing.map(|row| format!("{name} lacks {row}")));
        let surplus = listed.difference(&known);
        wrong.extend(surplus.map(|row| format!("{name} has {row}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_page_names_every_host_and_token_endpoint() {
    for (name, page) in PAGES {
        for environment in ["sandbox", "production"] {
            let config = preset(name, environment);
            let provider = &config.providers[0];
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{environment}` |")))
                .unwrap_or_else(|| panic!("{name}: no row for {environment}"));
            for host in &provider.hosts {
                assert!(
                    row.contains(&format!("`{}`", host.name)),
                    "{name}: {}",
                    host.name
                );
            }
            let url = provider.token.url.to_string();
            assert!(row.contains(&url), "{name}: {url}");
            let elsewhere = page.lines().filter(|line| line.starts_with("| `"));
            assert!(elsewhere.count() >= 2, "{name}");
        }
    }
}

#[test]
fn the_yaml_of_each_page_is_accepted() {
    for (name, page) in PAGES {
        let blocks = page.split("```yaml\n").skip(1);
        let blocks = blocks.map(|block| block.split("```").next().unwrap());
        let mut count = 0;
        for block in blocks {
            // Their values are the operator's.
            let mut text = block.to_owned();
            while let Some((before, rest)) = text.split_once("${") {
                let (_, after) = rest.split_once('}').unwrap();
                text = format!("{before}a-secret-of-32-characters-012345{after}");
            }
            let config = Config::parse(&text, Path::new(""));
            assert!(
                config.is_ok(),
                "{name}: {:#?}\n{block}",
                config.unwrap_err()
            );
            count += 1;
        }
        assert!(count >= 2, "{name}");
    }
}
