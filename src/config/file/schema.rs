use schemars::{Schema, SchemaGenerator, json_schema};

use super::{Count, JsonSchema, Proxy, Size, Time};

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
    let mut schema = schemars::schema_for!(Proxy);
    schema.insert("title".into(), "proxy.yaml".into());
    let generated = format!("{:#}\n", schema.as_value());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.schema.json");
    if std::env::var_os("BURSAR_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == generated,
        "proxy.schema.json is not what the types say; renew it with BURSAR_WRITE_SCHEMA=1 cargo test schema"
    );
}
