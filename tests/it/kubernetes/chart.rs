//! The Helm chart: its golden files, what it refuses, and what it has twice.

use std::path::Path;
use std::process::Command;

use serde::Deserialize as _;
use serde_json::Value;

use super::{CHART, ROOT, choices, golden, is_golden, objects, peer, rendered, text};

/// `helm` with a verb for the chart, as a release in a namespace.
pub(super) fn helm(verb: &[&str]) -> Option<Command> {
    let mut command = peer("helm")?;
    command
        .args(verb)
        .arg(CHART)
        .args(["--namespace", "payments"]);
    Some(command)
}

#[test]
fn each_choice_renders_what_its_golden_file_has() {
    for (name, values) in choices() {
        let Some(mut helm) = helm(&["template", "shop"]) else {
            return;
        };
        let output = helm.arg("--values").arg(values).output().unwrap();
        is_golden(&format!("{name}.yaml"), &without_copies(&rendered(&output)));
    }
}

/// What the chart has a copy of, because Helm reads nothing outside of it: where, and by how much it is indented in an object.
const COPIES: [(&str, &str, &str); 2] = [
    ("deploy/prometheus/alerts.yml", "files/alerts.yml", "  "),
    ("deploy/grafana/bursar.json", "files/bursar.json", "    "),
];

/// With a line in place of each copy, whose alerts lead to the book that the values name.
fn without_copies(manifest: &str) -> String {
    let mut short = manifest.to_owned();
    for (original, _, indent) in COPIES {
        let text = std::fs::read_to_string(Path::new(ROOT).join(original)).unwrap();
        let text = text.replace("https://bursar.example", "https://docs.example/bursar");
        let lines = text
            .trim()
            .split('\n')
            .map(|line| format!("{indent}{line}"));
        let lines: Vec<String> = lines.collect();
        short = short.replace(&lines.join("\n"), &format!("{indent}# {original}"));
    }
    short
}

#[test]
fn the_chart_has_the_alerts_and_the_dashboard_of_the_tree() {
    for (original, copy, _) in COPIES {
        let copy = Path::new(ROOT).join(CHART).join(copy);
        let text = std::fs::read(Path::new(ROOT).join(original)).unwrap();
        if std::env::var_os("BURSAR_WRITE_KUBERNETES").is_some() {
            std::fs::write(&copy, &text).unwrap();
        }
        assert!(
            std::fs::read(&copy).unwrap_or_default() == text,
            "{} is not {original}; renew it with BURSAR_WRITE_KUBERNETES=1 cargo test --test it kubernetes",
            copy.display()
        );
    }
}

#[test]
fn a_chart_of_somebody_s_own_takes_the_sidecar_and_its_volumes_from_this_one() {
    let Some(mut helm) = peer("helm") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let application = directory.path().join("application");
    for (from, to) in [
        (golden().join("application"), application.clone()),
        (
            Path::new(ROOT).join(CHART),
            application.join("charts/bursar"),
        ),
    ] {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-R").args([from, to]).status();
        assert!(copied.unwrap().success());
    }
    let arguments = ["template", "shop", "--namespace", "payments"];
    let output = helm.args(arguments).arg(application).output().unwrap();
    is_golden("application.yaml", &rendered(&output));
}

#[test]
fn helm_lint_has_no_complaint_about_any_choice() {
    for (name, values) in choices() {
        let Some(mut helm) = helm(&["lint", "--strict", "--quiet"]) else {
            return;
        };
        let output = helm.arg("--values").arg(values).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
    }
}

/// Values that are refused, and what is said.
const REFUSED: [(&[&str], &str); 43] = [
    // By the schema: what is misspelled.
    (&["replicas=3"], "'replicas' not allowed"),
    (&["journal.enable=true"], "'enable' not allowed"),
    (&["config.drain_tiemout=5s"], "'drain_tiemout' not allowed"),
    (&["image.digest=sha256:abc"], "image/digest"),
    (&["topology=proxy"], "topology"),
    (&["bind=localhost"], "bind"),
    // By the templates: what does not go together.
    (
        &["terminationGracePeriodSeconds=80"],
        "80 is too short: draining takes up to 80 seconds",
    ),
    (
        &[
            "terminationGracePeriodSeconds=91",
            "config.drain_timeout=1m 21s",
        ],
        "91 is too short",
    ),
    (&["config.drain_delay=ten"], "not a duration"),
    (&["config.drain_delay=1d"], "other than ms, s, m and h"),
    (&["config.listen=0.0.0.0:80"], "set ports.proxy and bind"),
    (&["config.fleet.name=x"], "config.fleet is the chart's"),
    (&["config.journal.path=/tmp"], "needs journal.enabled=true"),
    (
        &["config.journal.path=/tmp", "journal.enabled=true"],
        "config.journal.path is the chart's",
    ),
    (&["config.providers.payu.preset=payu"], "config.callers"),
    (&["config.callers.x.password=y"], "config.providers"),
    (
        &[
            "existingConfigMap.name=x",
            "config.drain_delay=5s",
            "config.callers.x.password=y",
        ],
        "config: callers: with existingConfigMap.name",
    ),
    (
        &["journal.enabled=true", "journal.existingClaim=x"],
        "set replicaCount=1",
    ),
    (
        &[
            "secrets[0].name=a",
            "secrets[1].name=b",
            "secrets[1].mount=a",
        ],
        "two are mounted at /run/secrets/a",
    ),
    (
        &[
            "journal.enabled=true",
            "updateStrategy.rollingUpdate.maxSurge=1",
        ],
        "neither Recreate nor maxSurge",
    ),
    (
        &["fleet.enabled=true", "secrets[0].name=fleet"],
        "two are mounted at /run/secrets/fleet",
    ),
    (
        &[
            "podDisruptionBudget.minAvailable=1",
            "podDisruptionBudget.maxUnavailable=1",
        ],
        "not both",
    ),
    (
        &["podDisruptionBudget.minAvailable=2"],
        "2 of 2 replicas: no node could be drained",
    ),
    // Rounded up, as Kubernetes does.
    (
        &["podDisruptionBudget.minAvailable=51%"],
        "51% of 2 replicas: no node could be drained",
    ),
    (
        &["podDisruptionBudget.maxUnavailable=0%"],
        "0% of 2 replicas: no node could be drained",
    ),
    (
        &["podDisruptionBudget.maxUnavailable=0"],
        "0 of 2 replicas: no node could be drained",
    ),
    (
        &[r"podLabels.app\.kubernetes\.io/name=x"],
        "podLabels: app.kubernetes.io/name is what selects",
    ),
    (
        &[r"commonLabels.app\.kubernetes\.io/instance=x"],
        "commonLabels: app.kubernetes.io/instance is what selects",
    ),
    (
        &["podMonitor.enabled=true", "podMonitor.interval=5s"],
        "podMonitor.scrapeTimeout is longer",
    ),
    (
        &["updateStrategy.rollingUpdate.partition=1"],
        "partition is a StatefulSet's",
    ),
    (
        &["topology=sidecar", "podMonitor.enabled=true"],
        "podMonitor: the pods are another chart's",
    ),
    // They are there already, and would come twice.
    (&["service.spec.type=NodePort"], "/service/spec/type"),
    (
        &["podMonitor.enabled=true", "podMonitor.interval=61s"],
        "a minute at most",
    ),
    (
        &["journal.enabled=true", "config.journal.max_size=300MiB"],
        "journal.size: 1Gi is too small",
    ),
    (
        &["config.replay_memory=512MiB"],
        "resources.limits.memory: 512Mi is too little",
    ),
    (
        &["resources.limits.memory=200M"],
        "is too little for replay_memory 256MiB",
    ),
    (
        &[
            "image.tag=a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee",
        ],
        "leave one out",
    ),
    (
        &[
            "fleet.enabled=true",
            "fleet.url=${FLEET_URL}",
            "networkPolicy.enabled=true",
        ],
        "networkPolicy.store.ports: name them",
    ),
    (
        &[
            "config.callers.x.password=y",
            "config.providers.payu.timeouts.head=soon",
        ],
        "config.providers.payu.timeouts.head: \"soon\" is not a duration",
    ),
    // Emptied, by commenting out all that is below it.
    (&["journal=null"], "missing property 'journal'"),
    (&["service=null"], "missing property 'service'"),
    (
        &["autoscaling.enabled=true", "resources.requests.cpu=null"],
        "needs resources.requests.cpu",
    ),
    (
        &[
            "topology=sidecar",
            "application.containers[0].name=x",
            "networkPolicy.enabled=true",
        ],
        "networkPolicy: a sidecar's pod",
    ),
];

#[test]
fn values_that_cannot_work_are_refused_with_the_key_to_change() {
    for (set, expected) in REFUSED {
        let Some(mut helm) = helm(&["template", "shop"]) else {
            return;
        };
        for value in set {
            helm.args(["--set", value]);
        }
        let output = helm.output().unwrap();
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(expected),
            "{set:?}: {said}"
        );
    }
}

/// A template's file, or all of them, with values set.
fn with(set: &[&str], template: Option<&str>) -> Option<String> {
    let mut helm = helm(&["template", "shop"])?;
    for value in set {
        helm.args(["--set", value]);
    }
    if let Some(template) = template {
        helm.args(["--show-only", &format!("templates/{template}.yaml")]);
    }
    Some(rendered(&helm.output().unwrap()))
}

#[test]
fn pods_are_replaced_by_what_no_reload_can_change_and_by_nothing_else() {
    let fleet = "fleet.enabled=true";
    let pods = |set: &[&str]| with(&[&[fleet], set].concat(), Some("workload"));
    let Some(before) = pods(&[]) else {
        return;
    };
    for set in [
        "config.limits.connections=100",
        "config.limits.tunnels=9",
        "config.process.dumpable=true",
        "config.tls.certificate=/a",
        "fleet.name=other",
        "fleet.onOutage=hold",
        "fleet.url=redis://elsewhere",
    ] {
        assert!(pods(&[set]).unwrap() != before, "{set}");
    }
    let payu = ["preset=payu", "client_id=a", "client_secret=b"];
    let payu = payu.map(|key| format!("config.providers.payu.{key}"));
    let [preset, id, secret] = [0, 1, 2].map(|at| payu[at].as_str());
    for set in [
        &["config.limits.requests=7"][..],
        &["config.replay_memory=1MiB"],
        &["config.callers.x.password=y", preset, id, secret],
        &["config=null"],
    ] {
        assert_eq!(pods(set).unwrap(), before, "{set:?}");
    }
}

#[test]
fn labels_of_the_values_take_the_place_of_the_chart_s_and_come_once() {
    let set = [
        r"commonLabels.app\.kubernetes\.io/managed-by=argocd",
        "commonLabels.team=payments",
        "service.labels.team=shop",
        "podLabels.team=checkout",
        r"podAnnotations.kubectl\.kubernetes\.io/default-container=x",
    ];
    let Some(manifest) = with(&set, None) else {
        return;
    };
    // A key that comes twice is an error here.
    let documents = serde_yaml::Deserializer::from_str(&manifest);
    let objects: Vec<Value> = documents
        .map(|one| Value::deserialize(one).unwrap())
        .collect();
    for object in &objects {
        let labels = &object["metadata"]["labels"];
        let team = if object["kind"] == "Service" && object["metadata"]["name"] == "shop-bursar" {
            "shop"
        } else {
            "payments"
        };
        if object["kind"] != "Pod" {
            let managed = &labels["app.kubernetes.io/managed-by"];
            assert_eq!(
                (managed, &labels["team"]),
                (&"argocd".into(), &team.into()),
                "{object}"
            );
        }
    }
    let pod = &super::workload(&objects)["spec"]["template"]["metadata"];
    assert_eq!(pod["labels"]["team"], "checkout");
    assert_eq!(
        pod["annotations"]["kubectl.kubernetes.io/default-container"],
        "x"
    );
}

#[test]
fn a_policy_lets_a_fleet_reach_the_ports_of_its_store() {
    let both = ["fleet.enabled=true", "networkPolicy.enabled=true"];
    for (set, ports) in [
        (
            "fleet.url=rediss://b:${file:/run/secrets/fleet/password}@store:6380/0",
            &[6380][..],
        ),
        ("fleet.url=redis://store", &[6379]),
        (
            "fleet.cluster={redis://a,redis://b:7000,redis://[::1]:7001}",
            &[6379, 7000, 7001],
        ),
        (
            "fleet.sentinel.urls={redis://a,redis://b:5000}",
            &[26379, 5000, 6379],
        ),
        ("networkPolicy.store.ports={1,2}", &[1, 2]),
    ] {
        let Some(policy) = with(&[&both[..], &[set]].concat(), Some("networkpolicy")) else {
            return;
        };
        let policy: Value = serde_yaml::from_str(&policy).unwrap();
        let rules = policy["spec"]["egress"].as_array().unwrap();
        let found = rules[2]["ports"].as_array().unwrap().iter();
        let found: Vec<u64> = found.map(|port| port["port"].as_u64().unwrap()).collect();
        assert_eq!(found, ports, "{set}");
    }
}

#[test]
fn an_installation_says_which_secrets_stand_in_the_config_map() {
    let Some(mut helm) = helm(&["install", "shop", "--dry-run=client"]) else {
        return;
    };
    for value in [
        "config.providers.payu.preset=payu",
        "config.providers.payu.client_secret=abc",
        "config.providers.payu.client_id=abc",
        "config.callers.a.passwords={x,$2b$05$hash}",
        "config.callers.b.password=${file:/run/secrets/callers/b}",
        "config.admin_token=$argon2id$v=19$hash",
        "config.egress.proxy.api=http://user:abc@proxy.example:3128",
        "config.egress.proxy.token=http://user:${PROXY_PASSWORD}@proxy.example:3128",
        "config.traces.endpoint=http://collector:4318",
        "fleet.enabled=true",
        "fleet.sentinel.urls[0]=rediss://a:${file:/run/secrets/fleet/password}@store",
        "fleet.sentinel.urls[1]=rediss://:abc@store:5000",
        "fleet.sentinel.master=mymaster",
        "fleet.sentinel.password=abc",
    ] {
        helm.args(["--set", value]);
    }
    let said = rendered(&helm.output().unwrap());
    let (_, notes) = said.split_once("In clear in the ConfigMap").unwrap();
    let named = notes
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("config.") || line.starts_with("fleet."));
    let named: Vec<&str> = named.collect();
    assert_eq!(
        named,
        [
            "config.callers.a.passwords",
            "config.egress.proxy.api",
            "config.providers.payu.client_secret",
            "fleet.sentinel.password",
            "fleet.sentinel.urls[1]"
        ]
    );
}

#[test]
fn an_installation_says_that_a_drain_is_too_short_and_that_the_port_for_callers_speaks_tls() {
    let said = |set: &[&str]| {
        let mut helm = helm(&["install", "shop", "--dry-run=client"])?;
        for value in set {
            helm.args(["--set", value]);
        }
        Some(rendered(&helm.output().unwrap()))
    };
    let Some(plain) = said(&[]) else {
        return;
    };
    let long = [
        "config.callers.x.certificate=y",
        "config.providers.payu.timeouts.head=90s",
        "config.tls.certificate=/x",
    ];
    let longer = said(&long).unwrap();
    let short = said(&[&long[..], &["config.drain_timeout=90s"]].concat()).unwrap();
    let drain = "is no longer than the longest `timeouts.head`";
    assert!(short.contains(drain), "{short}");
    assert!(
        !longer.contains(drain) && !plain.contains(drain),
        "{longer}"
    );
    assert!(longer.contains("drain_timeout: 100s"), "{longer}");
    assert!(longer.contains("HTTP_PROXY=https://"), "{longer}");
    assert!(plain.contains("HTTP_PROXY=http://"), "{plain}");
}

#[test]
fn an_instance_has_more_time_to_end_than_it_drains_and_a_second_more_is_enough() {
    for (set, seconds) in [
        ("config.drain_delay=1500ms", 1 + 1 + 70 + 10),
        ("config.drain_timeout=2m", 10 + 120 + 10),
        ("config.drain_timeout=1m 5s", 10 + 65 + 10),
        ("terminationGracePeriodSeconds=81", 81),
    ] {
        let Some(mut helm) = helm(&["template", "shop", "--set", set]) else {
            return;
        };
        let manifest = rendered(&helm.output().unwrap());
        let expected = format!("terminationGracePeriodSeconds: {seconds}\n");
        assert!(manifest.contains(&expected), "{set}: {manifest}");
    }
}

/// What the pages show as values of the chart.
fn shown() -> Vec<String> {
    let pages = ["kubernetes", "availability"].map(|page| {
        let path = format!("docs/src/operations/{page}.md");
        std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
    });
    let blocks = pages
        .iter()
        .flat_map(|page| page.split("```yaml,kubernetes\n").skip(1));
    let codes = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    // The others are objects of Kubernetes.
    codes.filter(|code| !code.starts_with("spec:")).collect()
}

#[test]
fn the_chart_takes_the_values_that_the_pages_show() {
    let shown = shown();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    for values in shown {
        let Some(mut helm) = helm(&["template", "shop"]) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("values.yaml");
        std::fs::write(&file, values).unwrap();
        rendered(&helm.arg("--values").arg(file).output().unwrap());
    }
}

/// What is said after an installation with the values of a choice.
fn notes(choice: &str) -> Option<String> {
    let mut helm = helm(&["install", "shop", "--dry-run=client"])?;
    let values = golden().join(format!("{choice}.values.yaml"));
    let output = helm.arg("--values").arg(values).output().unwrap();
    let said = rendered(&output);
    let (_, notes) = said.split_once("NOTES:\n")?;
    Some(notes.to_owned())
}

#[test]
fn the_commands_that_an_installation_suggests_exist() {
    if peer("helm").is_none() {
        return;
    }
    for (choice, commands) in [
        ("default", 2),
        ("fleet", 4),
        ("sidecar", 2),
        ("existing-config-map", 2),
    ] {
        let notes = notes(choice).unwrap();
        let suggested = notes
            .lines()
            .filter_map(|line| line.split_once(" -- /bursar "));
        let suggested: Vec<&str> = suggested.map(|(_, command)| command).collect();
        assert_eq!(suggested.len(), commands, "{choice}: {notes}");
        for command in suggested {
            let words = command.split_whitespace();
            let (options, words): (Vec<&str>, _) = words.partition(|word| word.starts_with("--"));
            let mut bursar = Command::new(env!("CARGO_BIN_EXE_bursar"));
            let help = bursar.args(words).arg("--help").output().unwrap();
            let help = rendered(&help);
            assert!(
                options.iter().all(|option| help.contains(option)),
                "{command}: {help}"
            );
        }
        assert!(!notes.contains("<no value>"), "{notes}");
    }
}

#[test]
fn an_image_by_digest_alone_has_no_tag_that_could_be_another_one_s() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let set = format!("image.digest={digest}");
    let Some(mut helm) = helm(&["template", "shop", "--set", &set]) else {
        return;
    };
    let manifest = rendered(&helm.output().unwrap());
    let expected = format!("image: \"bursar@{digest}\"\n");
    assert!(manifest.contains(&expected), "{manifest}");
}

#[test]
fn an_image_is_where_all_charts_take_theirs_from_and_a_tag_with_a_digest_is_no_label() {
    let set = [
        "image.tag=1.2.3@sha256:0a0b",
        "global.imageRegistry=registry.example",
        "global.imagePullSecrets={everywhere}",
        "imagePullSecrets[0].name=here",
    ];
    let Some(manifest) = with(&set, Some("workload")) else {
        return;
    };
    let object: Value = serde_yaml::from_str(&manifest).unwrap();
    let pod = &object["spec"]["template"]["spec"];
    let image = &pod["containers"][0]["image"];
    assert_eq!(image, "registry.example/bursar:1.2.3@sha256:0a0b");
    assert_eq!(
        pod["imagePullSecrets"],
        serde_json::json!([{"name": "here"}, {"name": "everywhere"}])
    );
    let version = &object["metadata"]["labels"]["app.kubernetes.io/version"];
    assert_eq!(version, "1.2.3");
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = &objects(&Path::new(ROOT).join(CHART).join("Chart.yaml"))[0];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&version.into(), &version.into())
    );
}
