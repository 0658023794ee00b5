//! Shortening of a line of JSON: its texts are cut, the long ones first; what says most stays.
//!
//! Lines like that come from what peers send, and from what libraries say at the level `trace`. They are rare, so they
//! are read again and put together anew.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::line_writer::{MAX_LINE_BYTES, cut, cut_line};

/// What a text may have of a line, one after the other until the line is short enough.
const SHARES: [usize; 4] = [8192, 2048, 512, 128];

/// The fields of a line, in its order.
struct Fields(Vec<(String, Value)>);

/// The line, or a shorter one that is JSON as well.
pub(super) fn shorten(line: &str) -> String {
    let Ok(Fields(fields)) = serde_json::from_str(line) else {
        return cut_line(line).into_owned();
    };
    for share in SHARES {
        let mut short = String::from("{");
        for (name, value) in &fields {
            put(&mut short, name, &cut_value(value, share));
        }
        if short.len() < MAX_LINE_BYTES - 1 {
            short.push_str("}\n");
            return short;
        }
    }
    first_of(&fields)
}

/// As many fields as there is room for, and how many are missing.
fn first_of(fields: &[(String, Value)]) -> String {
    let least = SHARES[SHARES.len() - 1];
    let mut short = String::from("{");
    let mut missing = 0;
    for (name, value) in fields {
        let before = short.len();
        put(&mut short, name, &cut_value(value, least));
        if short.len() > MAX_LINE_BYTES - least {
            short.truncate(before);
            missing += 1;
        }
    }
    put(&mut short, "fields_left_out", &Value::from(missing));
    short.push_str("}\n");
    short
}

fn put(line: &mut String, name: &str, value: &Value) {
    if line.len() > 1 {
        line.push(',');
    }
    line.push_str(&Value::from(name).to_string());
    line.push(':');
    line.push_str(&value.to_string());
}

/// What is no text is shown as one where it is too long.
fn cut_value(value: &Value, most: usize) -> Value {
    match value {
        Value::String(text) => cut(text, most).map_or_else(|| value.clone(), Value::from),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            cut(&text, most).map_or_else(|| value.clone(), Value::from)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = entries.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Value {
        assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn the_long_texts_of_a_line_are_cut_and_the_rest_stays_in_its_order() {
        let line = format!(
            "{{\"timestamp\":\"t\",\"level\":\"WARN\",\"error\":{},\"number\":7,\"target\":\"bursar\"}}\n",
            Value::from("\u{1}é".repeat(20_000))
        );
        let short = shorten(&line);
        let value = read(&short);
        assert!(short.starts_with("{\"timestamp\":\"t\",\"level\":\"WARN\",\"error\":"));
        assert_eq!(
            (&value["number"], &value["target"]),
            (&7.into(), &"bursar".into())
        );
        let error = value["error"].as_str().unwrap();
        assert!(error.ends_with("…[60000 bytes]"), "{}", error.len());
    }

    #[test]
    fn many_fields_share_a_line_and_too_many_are_left_out() {
        for (count, left_out) in [(40, None), (1000, Some(()))] {
            let mut line = String::from("{");
            put(&mut line, "message", &"first".into());
            for number in 0..count {
                put(
                    &mut line,
                    &format!("field_{number}"),
                    &"\"".repeat(3000).into(),
                );
            }
            line.push_str("}\n");
            let value = read(&shorten(&line));
            assert_eq!(value["message"], "first");
            assert_eq!(
                value.get("fields_left_out").map(|_| ()),
                left_out,
                "{count}"
            );
        }
    }

    #[test]
    fn what_is_no_json_is_cut_all_the_same() {
        let short = shorten(&format!("{{{}\n", "x".repeat(20_000)));
        assert!(short.len() <= MAX_LINE_BYTES && short.ends_with("…[20002 bytes]\n"));
    }
}
