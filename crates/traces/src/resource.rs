//! The resource: whose spans they are. What OpenTelemetry's variables of the environment say goes before what is known here.

use std::ffi::OsString;

use percent_encoding::percent_decode_str;

use crate::otlp::ResourceAttributes;

/// Further pairs of `OTEL_RESOURCE_ATTRIBUTES` are left out.
const MAX_ATTRIBUTES: usize = 64;
/// Longer names and values are left out.
const MAX_TEXT: usize = 1024;

const SERVICE_NAME: &str = "service.name";

/// That of this process; `variable` reads the environment.
pub(crate) fn resource(variable: impl Fn(&str) -> Option<OsString>) -> ResourceAttributes {
    let variable = |name: &str| {
        let text = variable(name)?.into_string();
        text.inspect_err(|_other| tracing::warn!("{name} is not text: it does not count"))
            .ok()
    };
    let id = fastrand::u128(..);
    // In the form of a UUID, as OpenTelemetry asks: random, of version 4.
    let id = id & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = format!("{id:032x}");
    let part = |from, to| digits.get(from..to).unwrap_or_default();
    let parts = [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ];
    let mut found = vec![
        (SERVICE_NAME.to_owned(), "bursar".to_owned()),
        (
            "service.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        ("service.instance.id".to_owned(), parts.join("-")),
    ];
    let named = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let pairs = read(&named);
    if pairs.is_empty() && !named.trim().is_empty() {
        tracing::warn!(
            "OTEL_RESOURCE_ATTRIBUTES is not name=value with commas in between, percent-encoded: none of it counts"
        );
    }
    if pairs.len() > MAX_ATTRIBUTES {
        tracing::warn!(
            "OTEL_RESOURCE_ATTRIBUTES has more than {MAX_ATTRIBUTES} pairs: further ones do not count"
        );
    }
    for (name, value) in pairs.into_iter().take(MAX_ATTRIBUTES) {
        set(&mut found, &name, value);
    }
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        set(&mut found, SERVICE_NAME, name);
    }
    found
}

fn set(found: &mut ResourceAttributes, name: &str, value: String) {
    if name.is_empty() || value.is_empty() {
        return;
    }
    if name.len().max(value.len()) > MAX_TEXT {
        let name = (name.len() <= MAX_TEXT).then_some(name);
        tracing::warn!(
            name,
            "an attribute of the environment for spans is longer than {MAX_TEXT} bytes: it does not count"
        );
        return;
    }
    match found.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => found.push((name.to_owned(), value)),
    }
}

/// `name=value` with commas in between, percent-encoded. Where one pair is malformed none counts, as OpenTelemetry says.
fn read(text: &str) -> ResourceAttributes {
    let decoded = |text: &str| {
        Some(
            percent_decode_str(text.trim())
                .decode_utf8()
                .ok()?
                .into_owned(),
        )
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((decoded(name)?, decoded(value)?))
    });
    pairs.collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(attributes: &str, name: Option<&str>) -> ResourceAttributes {
        resource(|variable| match variable {
            "OTEL_RESOURCE_ATTRIBUTES" => Some(attributes.into()),
            "OTEL_SERVICE_NAME" => name.map(Into::into),
            _ => None,
        })
    }

    fn value<'a>(found: &'a ResourceAttributes, name: &str) -> Vec<&'a str> {
        let found = found.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn the_environment_names_the_service_and_the_variable_of_its_own_first() {
        let found = with("", None);
        assert_eq!(value(&found, "service.name"), ["bursar"]);
        let id = value(&found, "service.instance.id")[0];
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
        assert!(value(&with("", None), "service.instance.id") != [id]);
        let pairs = "service.name=a, k8s.pod.name = pod%2C1 ,";
        let found = with(pairs, None);
        assert_eq!(value(&found, "service.name"), ["a"]);
        assert_eq!(value(&found, "k8s.pod.name"), ["pod,1"]);
        assert_eq!(value(&with(pairs, Some("b")), "service.name"), ["b"]);
        assert_eq!(value(&with(pairs, Some("")), "service.name"), ["a"]);
    }

    #[test]
    fn attributes_of_which_one_is_malformed_do_not_count() {
        for pairs in ["a=b,c", "a=b,c=%ff"] {
            assert_eq!(value(&with(pairs, None), "a"), [""; 0], "{pairs}");
        }
        let long = format!("a={},b=c", "x".repeat(2000));
        let found = with(&long, None);
        assert_eq!(
            (value(&found, "a"), value(&found, "b")),
            (vec![], vec!["c"])
        );
    }
}
