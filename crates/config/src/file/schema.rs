use std::path::Path;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{Count, JsonSchema, Proxy, Ratio, Size, Time};
use crate::config::Config;

/// As it is written in the file.
impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.get())
    }
}

/// As it is written in the file, up to three minutes in seconds.
impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const UNITS: [(u64, &str); 3] = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")];
        let seconds = self.0.as_secs();
        let unit = UNITS
            .into_iter()
            .find(|(unit, _)| seconds > 180 && seconds.is_multiple_of(*unit));
        let (unit, name) = unit.unwrap_or((1, "s"));
        serializer.collect_str(&format_args!("{}{name}", seconds / unit))
    }
}

/// As it is written in the file.
impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            size if size.is_multiple_of(1 << 20) => {
                serializer.collect_str(&format_args!("{}MiB", size >> 20))
            }
            size => serializer.collect_str(&format_args!("{}KiB", size >> 10)),
        }
    }
}

impl JsonSchema for Count {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole number from 1 to 1000000.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 1000000},
                {"type": "string", "pattern": "\\$\\{|^[0-9]+$"}
            ]
        })
    }
}

impl JsonSchema for Ratio {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ratio".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number from 0 to 1.",
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": "\\$\\{|^[0-9]*\\.?[0-9]+$"}
            ]
        })
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration such as 250ms, 60s or 5m.",
            "pattern": "\\$\\{|^[0-9]+ *[a-z]+( *[0-9]+ *[a-z]+)*$"
        })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A size such as 64KiB or 1MiB.",
            "pattern": "\\$\\{|^[0-9]+(\\.[0-9]+)? *[kKMGT]?i?B?$"
        })
    }
}

/// The file in the tree is what the types say; `BURSAR_WRITE_SCHEMA=1 cargo test schema` renews it.
#[test]
fn the_schema_in_the_tree_is_generated_from_the_types() {
    let generated = format!("{:#}\n", generate());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proxy.schema.json");
    if std::env::var_os("BURSAR_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == generated,
        "proxy.schema.json is not what the types say; renew it with BURSAR_WRITE_SCHEMA=1 cargo test schema"
    );
}

/// The chart refuses in its values what is no key of the file.
#[test]
fn the_chart_s_schema_has_the_keys_of_the_file() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/helm/bursar/values.schema.json"
    );
    let kept = std::fs::read_to_string(path).unwrap();
    let mut schema: Value = serde_json::from_str(&kept).unwrap();
    let file = generate();
    let keys = file["properties"].as_object().unwrap().keys();
    // The chart reads these two itself.
    let kind = |key: &str| match key {
        "drain_delay" | "drain_timeout" => json!({"type": "string"}),
        _ => json!({}),
    };
    let keys: serde_json::Map<_, _> = keys.map(|key| (key.clone(), kind(key))).collect();
    schema["properties"]["config"]["properties"] = keys.into();
    let generated = format!("{schema:#}\n");
    if std::env::var_os("BURSAR_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == generated,
        "values.schema.json has other keys below `config` than the types; renew it with BURSAR_WRITE_SCHEMA=1 cargo test schema"
    );
}

fn generate() -> Value {
    let mut schema = schemars::schema_for!(Proxy);
    schema.insert("title".into(), "proxy.yaml".into());
    let mut schema = schema.to_value();
    allow_extensions(&mut schema);
    for definition in schema["$defs"].as_object_mut().into_iter().flatten() {
        allow_references(definition.1);
    }
    schema
}

/// One of several words may come from a variable or a file, as any text may.
fn allow_references(definition: &mut Value) {
    let words = definition["oneOf"].as_array_mut();
    if let Some(words) = words.filter(|words| words.iter().all(|word| word["const"].is_string())) {
        words.push(json!({"type": "string", "pattern": "\\$\\{"}));
    }
}

/// Wherever keys are fixed, `x-` begins one that means nothing.
fn allow_extensions(schema: &mut Value) {
    if schema["additionalProperties"] == json!(false) {
        schema["patternProperties"] = json!({"^x-": true});
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(allow_extensions),
        Value::Array(items) => items.iter_mut().for_each(allow_extensions),
        _ => {}
    }
}

#[test]
fn a_default_of_the_schema_changes_nothing_where_it_is_written_out() {
    let schema = generate();
    let without = |_: &Value| json!({});
    let with = |definition: &Value| {
        let properties = definition["properties"].as_object().unwrap();
        let default = |(key, schema): (&String, &Value)| {
            let default = schema.get("default")?;
            Some((key.clone(), default.clone()))
        };
        properties.iter().filter_map(default).collect()
    };
    let (without, with) = (example(&schema, without), example(&schema, with));
    assert!(with.to_string().len() > 3 * without.to_string().len() / 2);
    let compiled = [&without, &with].map(|file| {
        let config = Config::parse(&file.to_string(), Path::new(""));
        let config = config.unwrap_or_else(|problems| panic!("{problems:#?}\n{file:#}"));
        let text = format!("{config:#?}");
        // Those of hash maps are random, and the texts are not the same.
        let is_same =
            |line: &&str| !line.contains("_seed") && !line.trim_start().starts_with("hash: ");
        let lines = text.lines().filter(is_same);
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    for (left, right) in compiled[0].iter().zip(&compiled[1]) {
        assert_eq!(left, right);
    }
    assert_eq!(compiled[0].len(), compiled[1].len());
}

/// A file with every definition that has defaults, the keys of each as `keys` has them.
fn example(schema: &Value, keys: impl Fn(&Value) -> Value) -> Value {
    let definition = |name: &str| keys(&schema["$defs"][name]);
    let of = |name: &str, required: Value| {
        let mut all = definition(name);
        let (all_keys, required) = (all.as_object_mut().unwrap(), required.as_object().unwrap());
        all_keys.extend(required.clone());
        all
    };
    let mut file = keys(schema);
    let acme = json!({
        "hosts": ["api.acme.example"], "client_id": "a", "client_secret": "b",
        "token": of("Token", json!({"url": "https://login.acme.example/token"})),
        "routes": [of("Route", json!({"path": "/a"}))],
        "breaker": definition("Breaker"),
        "timeouts": definition("Timeouts"),
    });
    let payu = json!({
        "preset": "payu", "environment": "sandbox", "client_id": "a", "client_secret": "b",
        "operation_scopes": definition("OperationScopes"),
    });
    let further = json!({
        "process": definition("Process"),
        "limits": definition("Limits"),
        "egress": definition("Egress"),
        "journal": of("Journal", json!({"path": "journal"})),
        "fleet": of("Fleet", json!({
            "url": "redis://127.0.0.1",
            "keys": ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"],
        })),
        "passthrough": [of("Passthrough", json!({"host": "other.example"}))],
        "providers": {"acme": of("Provider", acme), "payu": payu},
    });
    let further = further.as_object().unwrap().clone();
    file.as_object_mut().unwrap().extend(further);
    file
}
