//! Known keys of the file: what a key that is not known where it stands may have been meant to be.
//!
//! The schema of the file says which keys there are, and is read only where one is not known.

use serde_json::Value;

use bursar_base::spelling::nearest;

const SCHEMA: &str = include_str!("../../../proxy.schema.json");
/// What stands for a name in the place of a key.
const NAME: &str = "NAME";
/// The file is half as deep.
const MAX_DEPTH: usize = 12;

/// What others call a key.
const SYNONYMS: [(&str, &str); 20] = [
    ("address", "listen"),
    ("apis", "providers"),
    ("basedomain", "hosts"),
    ("baseurl", "upstream"),
    ("bind", "listen"),
    ("clients", "callers"),
    ("connecttimeout", "connect"),
    ("domains", "hosts"),
    ("env", "environment"),
    ("expirymargin", "margin"),
    ("grants", "allow"),
    ("id", "client_id"),
    ("loginurl", "url"),
    ("port", "listen"),
    ("readtimeout", "head"),
    ("secret", "client_secret"),
    ("services", "providers"),
    ("tokenendpoint", "url"),
    ("upstreams", "providers"),
    ("users", "callers"),
];

/// What to say of a key that is not known where it stands.
pub(crate) struct UnknownKey {
    pub(crate) message: String,
    /// The path of the key that was meant.
    pub(crate) meant: Option<String>,
}

impl UnknownKey {
    /// Of a key at `path`, whose mapping may have the keys `known`.
    pub(crate) fn of(path: &str, key: &str, known: &[&str]) -> Self {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let key = key.trim_end();
        if key.contains([':', '=']) {
            return Self {
                message: "is not a known key; is there a space missing after its colon?".to_owned(),
                meant: None,
            };
        }
        if let Some(base) = of_file(key, known) {
            return Self {
                message: format!("is not a known key; write `{base}: ${{file:PATH}}`"),
                meant: Some(join(parent, base)),
            };
        }
        if let Some(near) = nearest(key, known.iter().copied()).or_else(|| synonym(key, known)) {
            return Self {
                message: format!("is not a known key; did you mean `{near}`?"),
                meant: Some(join(parent, near)),
            };
        }
        if let Some(place) = elsewhere(parent, key) {
            return Self {
                message: format!("is not a known key here; it belongs at `{place}`"),
                meant: (!place.contains(NAME)).then_some(place),
            };
        }
        let message = match known.contains(&"provider") {
            true => "is not a known key; write `provider: NAME`, and `methods`, `paths` and `account` beside it".to_owned(),
            false => format!("is not a known key; known here: {}", known.join(", ")),
        };
        Self {
            message,
            meant: None,
        }
    }
}

fn join(parent: &str, key: &str) -> String {
    match parent {
        "" => key.to_owned(),
        parent => format!("{parent}.{key}"),
    }
}

/// The key whose value others have read from a file, such as `client_secret` for `client_secret_file`.
fn of_file<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key = plain(key);
    let base = ["file", "path", "fromfile"].iter();
    let base = base.filter_map(|end| key.strip_suffix(end)).next_back()?;
    known.iter().find(|known| plain(known) == base).copied()
}

fn synonym<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key = plain(key);
    let (_, meant) = SYNONYMS.iter().find(|(other, _)| *other == key)?;
    known.iter().find(|known| *known == meant).copied()
}

fn plain(key: &str) -> String {
    let letters = key.chars().filter(|char| !"-_ ".contains(*char));
    letters.flat_map(char::to_lowercase).collect()
}

/// The one place above or below `parent` that has such a key, the nearest first.
fn elsewhere(parent: &str, key: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(SCHEMA).ok()?;
    let mut places = Vec::new();
    list(&schema, &schema, &mut Vec::new(), &mut places);
    let parent: Vec<&str> = parent.split('.').filter(|part| !part.is_empty()).collect();
    let key = plain(key);
    let key = SYNONYMS
        .iter()
        .find(|(other, _)| *other == key)
        .map_or(key.clone(), |(_, meant)| plain(meant));
    let is_it = |place: &&Vec<String>| {
        let [.., last] = &place[..] else { return false };
        let before = place.iter().rev().nth(1).filter(|before| *before != NAME);
        plain(last) == key || before.is_some_and(|before| plain(before) + &plain(last) == key)
    };
    let found = places.iter().filter(is_it);
    let mut found: Vec<(usize, String)> = found.filter_map(|place| fill(place, &parent)).collect();
    found.sort();
    match &found[..] {
        [(_, place)] => Some(place.clone()),
        [(near, place), (far, _), ..] if near < far => Some(place.clone()),
        _ => None,
    }
}

/// How far that place is from `parent`, and its path with the names that `parent` has; none where neither is above the
/// other, nor both in the same entry.
fn fill(place: &[String], parent: &[&str]) -> Option<(usize, String)> {
    let above = place.get(..place.len().checked_sub(1)?)?;
    let fits = |(known, given): &(&String, &&str)| {
        *known == NAME || known.trim_end_matches("[]") == index_off(given)
    };
    let common = std::iter::zip(above, parent).take_while(fits).count();
    let is_related = common == above.len() || common == parent.len() || common >= 2;
    // A list has many places.
    let lists = above.iter().skip(common).filter(|key| key.ends_with("[]"));
    let distance = above.len() + parent.len() - 2 * common + lists.count();
    if !is_related || distance > 3 {
        return None;
    }
    let kept = parent.iter().take(common).map(|given| (*given).to_owned());
    let rest = place.iter().skip(common).cloned();
    Some((distance, kept.chain(rest).collect::<Vec<_>>().join(".")))
}

/// `allow[0]` is `allow`.
fn index_off(given: &str) -> &str {
    given.split('[').next().unwrap_or(given)
}

/// Every key of the schema with the keys above it.
fn list(schema: &Value, at: &Value, above: &mut Vec<String>, places: &mut Vec<Vec<String>>) {
    if above.len() > MAX_DEPTH {
        return;
    }
    let named = at["$ref"]
        .as_str()
        .and_then(|name| name.strip_prefix("#/$defs/"));
    if let Some(name) = named {
        return list(schema, &schema["$defs"][name], above, places);
    }
    for other in at["anyOf"].as_array().into_iter().flatten() {
        list(schema, other, above, places);
    }
    if at["items"].is_object()
        && let Some(last) = above.pop()
    {
        above.push(format!("{last}[]"));
        list(schema, &at["items"], above, places);
        above.pop();
        above.push(last);
    }
    if at["additionalProperties"].is_object() {
        above.push(NAME.to_owned());
        list(schema, &at["additionalProperties"], above, places);
        above.pop();
    }
    for (key, value) in at["properties"].as_object().into_iter().flatten() {
        above.push(key.clone());
        places.push(above.clone());
        list(schema, value, above, places);
        above.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_wrong_level_is_told_where_it_belongs() {
        for (parent, key, place) in [
            (
                "providers.acme",
                "margin",
                Some("providers.acme.token.margin"),
            ),
            (
                "providers.acme",
                "token_url",
                Some("providers.acme.token.url"),
            ),
            (
                "providers.acme",
                "scopes",
                Some("providers.acme.token.scopes"),
            ),
            (
                "providers.acme.token",
                "client_id",
                Some("providers.acme.client_id"),
            ),
            (
                "providers.acme.token",
                "hosts",
                Some("providers.acme.hosts"),
            ),
            (
                "providers.acme.timeouts",
                "pause",
                Some("providers.acme.breaker.pause"),
            ),
            ("providers", "admin_token", Some("admin_token")),
            ("", "preset", Some("providers.NAME.preset")),
            // A caller's, or that of Sentinels' servers.
            ("", "password", None),
            ("", "addresses", Some("callers.NAME.addresses")),
            ("callers.shop.limits", "allow", Some("callers.shop.allow")),
            (
                "callers.shop.allow[0]",
                "password",
                Some("callers.shop.password"),
            ),
            ("callers.shop", "preset", None),
            ("", "colour", None),
        ] {
            assert_eq!(elsewhere(parent, key).as_deref(), place, "{parent} {key}");
        }
    }

    #[test]
    fn a_key_for_a_file_is_the_key_with_what_reads_one() {
        let known = ["client_id", "client_secret", "preset"];
        for key in [
            "client_secret_file",
            "clientSecretFile",
            "CLIENT_SECRET_PATH",
        ] {
            let unknown = UnknownKey::of("providers.a.x", key, &known);
            assert_eq!(
                unknown.message,
                "is not a known key; write `client_secret: ${file:PATH}`"
            );
            assert_eq!(unknown.meant.as_deref(), Some("providers.a.client_secret"));
        }
        assert_eq!(of_file("file", &known), None);
        assert_eq!(of_file("secret_files", &known), None);
    }

    #[test]
    fn what_others_call_a_key_is_a_known_one() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let mut places = Vec::new();
        list(&schema, &schema, &mut Vec::new(), &mut places);
        for (other, meant) in SYNONYMS {
            let is_it =
                |place: &&Vec<String>| place.last().unwrap().trim_end_matches("[]") == meant;
            assert!(places.iter().any(|place| is_it(&place)), "{meant}");
            assert_eq!(plain(other), other);
        }
        assert!(SYNONYMS.is_sorted());
    }
}
