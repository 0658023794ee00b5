//! The configuration in what was rendered: `bursar check` accepts it, and the pod gives it the files and the time that it needs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bursar_config::Config;
use serde_json::Value;

use super::{manifests, objects, of_kind, workload};
use crate::support::program::run_in;
use crate::support::tls::Authority;

/// What stands between `begin` and `}` in a text, each once.
fn references(text: &str, begin: &str) -> BTreeSet<String> {
    let parts = text.split(begin).skip(1);
    let names = parts.map(|part| part.split_once('}').unwrap().0.to_owned());
    names.collect()
}

const FROM_THE_ENVIRONMENT: &str = "a-secret-from-the-environment";

/// The variables of the environment that a text names.
fn variables(yaml: &str) -> Vec<String> {
    let names = references(yaml, "${").into_iter();
    names.filter(|name| !name.contains(':')).collect()
}

/// Writes a file that its owner and group may read, as a pod has it.
fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o440)).unwrap();
}

/// The `proxy.yaml` of a file's ConfigMap; None where that is somebody else's.
fn proxy_yaml(objects: &[Value]) -> Option<String> {
    let maps = of_kind(objects, "ConfigMap");
    let texts = maps
        .iter()
        .filter_map(|map| map["data"]["proxy.yaml"].as_str());
    let texts: Vec<&str> = texts.collect();
    assert!(texts.len() <= 1, "{texts:?}");
    texts.first().map(|text| (*text).to_owned())
}

/// Puts the file and the secrets that it names below a directory, as a pod would have them.
fn mount(yaml: &str, directory: &Path) -> String {
    let place = directory.display().to_string();
    let here = yaml
        .replace("/run/secrets/", &format!("{place}/secrets/"))
        .replace("/var/lib/bursar", &format!("{place}/journal"));
    for (at, path) in references(&here, "${file:").iter().enumerate() {
        let key = STANDARD.encode(format!("a-key-of-32-bytes-with-number-{at:02}"));
        let secret = format!("a-secret-of-a-pod-with-number-{at}");
        let is_key = path.contains("fleet") && path.ends_with("key");
        write(Path::new(path), if is_key { &key } else { &secret });
    }
    for line in here.lines() {
        let line = line.trim();
        if let Some(path) = line
            .strip_prefix("ca: ")
            .or(line.strip_prefix("client_ca: "))
        {
            let path = Path::new(path.trim_matches('"'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            Authority::new().write(path);
        }
    }
    if here.contains("certificate: ") {
        let [certificate, key] =
            ["tls.crt", "tls.key"].map(|name| directory.join("secrets/tls").join(name));
        fs::create_dir_all(directory.join("secrets/tls")).unwrap();
        Authority::new().write_client(&certificate, &key);
        fs::set_permissions(key, fs::Permissions::from_mode(0o440)).unwrap();
    }
    write(&directory.join("proxy.yaml"), &here);
    here
}

#[tokio::test]
async fn bursar_check_has_nothing_to_say_about_what_is_rendered() {
    let mut count = 0;
    for file in manifests() {
        let Some(yaml) = proxy_yaml(&objects(&file)) else {
            continue;
        };
        let directory = tempfile::tempdir().unwrap();
        let yaml = mount(&yaml, directory.path());
        let named = variables(&yaml);
        let variables: Vec<(&str, &str)> = named
            .iter()
            .map(|name| (name.as_str(), FROM_THE_ENVIRONMENT))
            .collect();
        let check = ["check", "--strict", "--config", "proxy.yaml"];
        let said = run_in(directory.path(), &check, &variables).await;
        assert_eq!(
            (said.code, said.error.as_str()),
            (Some(0), ""),
            "{}: {said:?}\n{yaml}",
            file.display()
        );
        count += 1;
    }
    assert!(count >= 10, "{count}");
}

#[tokio::test]
async fn with_what_the_page_puts_in_place_of_secrets_a_file_is_checked_without_them() {
    let page = Path::new(super::ROOT).join("docs/src/operations/availability.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, script) = page.split_once("  sed '").unwrap();
    let (script, _) = script.split_once('\'').unwrap();
    let mut count = 0;
    for file in manifests() {
        let Some(yaml) = proxy_yaml(&objects(&file)) else {
            continue;
        };
        let names_files = ["ca: ", "certificate: "]
            .iter()
            .any(|key| yaml.contains(key));
        if names_files || !yaml.contains("${file:") {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy.yaml");
        write(&path, &yaml);
        let sed = Command::new("sed").args(["-i", script]).arg(&path).status();
        assert!(sed.unwrap().success());
        let check = ["check", "--strict", "--config", "proxy.yaml"];
        let named = variables(&yaml);
        let variables: Vec<(&str, &str)> = named
            .iter()
            .map(|name| (name.as_str(), FROM_THE_ENVIRONMENT))
            .collect();
        let said = run_in(directory.path(), &check, &variables).await;
        assert_eq!(said.code, Some(0), "{}: {said:?}", file.display());
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

/// The container of Bursar in a pod.
fn container(pod: &Value) -> &Value {
    let lists = ["initContainers", "containers"].into_iter();
    let all = lists.filter_map(|list| pod[list].as_array()).flatten();
    let mut own = all.filter(|container| container["name"] == "bursar");
    own.next().unwrap()
}

#[test]
fn every_file_of_the_configuration_is_mounted_and_readable_for_the_user_alone() {
    for file in manifests() {
        let objects = objects(&file);
        let place = file.display();
        let pod = &workload(&objects)["spec"]["template"]["spec"];
        let container = container(pod);
        let mounts = container["volumeMounts"].as_array().unwrap();
        let under = |path: &str| {
            let place = |mount: &&Value| {
                path.starts_with(&format!("{}/", mount["mountPath"].as_str().unwrap()))
            };
            mounts.iter().find(place)
        };
        assert!(under("/etc/bursar/proxy.yaml").is_some(), "{place}");
        for path in proxy_yaml(&objects)
            .iter()
            .flat_map(|yaml| references(yaml, "${file:"))
        {
            assert!(under(&path).is_some(), "{place}: nothing has {path}");
        }
        for mount in mounts {
            assert_eq!(
                mount["subPath"],
                Value::Null,
                "{place}: it would never change"
            );
        }
        assert_eq!(pod["automountServiceAccountToken"], false, "{place}");
        for volume in pod["volumes"].as_array().unwrap() {
            let mode =
                [&volume["secret"], &volume["configMap"]].map(|source| &source["defaultMode"]);
            // Octal for Kubernetes' reader, decimal as kubectl writes it.
            let is_private = mode
                .iter()
                .any(|mode| **mode == 288 || **mode == 440 || **mode == "0440");
            let is_file = mode.iter().any(|mode| !mode.is_null());
            assert!(is_private || !is_file, "{place}: {volume}");
        }
    }
}

#[test]
fn a_pod_is_not_killed_before_it_has_drained() {
    for file in manifests() {
        let objects = objects(&file);
        let Some(yaml) = proxy_yaml(&objects) else {
            continue;
        };
        let directory = tempfile::tempdir().unwrap();
        let yaml = mount(&yaml, directory.path());
        let mut filled = yaml.clone();
        for name in references(&yaml, "${") {
            if !name.starts_with("file:") {
                filled = filled.replace(&format!("${{{name}}}"), "something-long-enough");
            }
        }
        let config = Config::parse(&filled, directory.path());
        let config = config.unwrap_or_else(|problems| panic!("{}: {problems:#?}", file.display()));
        let pod = &workload(&objects)["spec"]["template"]["spec"];
        let seconds = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(
            Duration::from_secs(seconds) > config.drain_delay + config.drain_timeout,
            "{}: {seconds} s",
            file.display()
        );
    }
}
