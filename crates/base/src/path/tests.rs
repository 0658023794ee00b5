use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

#[test]
fn a_path_is_normalised_as_the_contract_says() {
    for (raw, normalised) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("//a///b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/x/../oauth%2Ftoken/", "/oauth/token"),
        ("/OAuth/%74oken;x", "/OAuth/token"),
        ("/a/%2e%2e/b", "/b"),
        ("/a;v=1/b;w", "/a/b"),
        ("/a/..;/b", "/b"),
        ("/../../a", "/a"),
        ("/a%252Fb", "/a/b"),
        ("/a/%25%32%66b", "/a/b"),
        ("/oauth/token%00", "/oauth/token"),
        ("/oauth/token%20/", "/oauth/token"),
        ("/oauth/token.", "/oauth/token"),
        ("/oauth/token::$DATA", "/oauth/token"),
        ("/oauth/token:$i30", "/oauth/token"),
        ("/oauth/%u0074oken", "/oauth/token"),
        ("/oauth/%c1%b4oken", "/oauth/token"),
        ("/oauth/%e0%81%b4oken", "/oauth/token"),
        ("/oauth%c0%2ftoken", "/oauth/token"),
        ("/oauth%c0%aftoken", "/oauth/token"),
        ("/oauth%ef%bc%8ftoken", "/oauth/token"),
        ("/oauth%e2%88%95%ef%bd%94oken", "/oauth/token"),
        ("/x%5c..%5ca", "/a"),
        ("/x/%ef%bc%8e%ef%bc%8e/a", "/a"),
        ("/x/%c0%ae%c0%ae/a", "/a"),
        ("/x/%u002e%u002e/a", "/a"),
        ("/x/..%20/a", "/a"),
        ("/Jos%C3%A9", "/José"),
        ("/%e9t%e9", "/\u{fffd}t\u{fffd}"),
        ("/a%zz", "/a%zz"),
        ("/oauth\\token", "/oauth/token"),
        ("/payment-requests:redirect", "/payment-requests:redirect"),
        ("", "/"),
    ] {
        assert_eq!(Path::new(raw).normalised(), normalised, "{raw}");
    }
}

#[test]
fn a_plain_path_is_not_copied() {
    for raw in [
        "/",
        "/a/b.c/d..e",
        "/payment-requests:redirect",
        "/a/$count/@me/~x!*'),=+&_",
        "/urn:uuid:1",
    ] {
        let path = Path::new(raw);
        assert!(path.is_plain(), "{raw}");
        assert_eq!(path.readings().collect::<Vec<_>>(), [raw]);
    }
    for raw in [
        "/a/.b",
        "/a./b",
        "/a.",
        "/a/",
        "//a",
        "/a::x",
        "/a:$x",
        "/(S(x))/a",
        "/a b",
        "a",
        "/é",
    ] {
        assert!(!Path::new(raw).is_plain(), "{raw}");
    }
}

#[test]
fn a_star_is_one_segment_and_two_are_any_number() {
    for (text, path, matches) in [
        ("/r/**", "/r", true),
        ("/r/**", "/r/", true),
        ("/r/**", "/r/a/b", true),
        ("/r/**", "/rx", false),
        ("/**", "/", true),
        ("/r/*", "/r", false),
        ("/r/*", "/r/a", true),
        ("/r/*", "/r/a/b", false),
        ("/a/**/z", "/a/z", true),
        ("/a/**/z", "/a/b/z/c/z", true),
        ("/a/**/z", "/a/b", false),
        ("/**/x/*/y", "/x/1/x/2/y", true),
        ("/payment-links", "/payment-links/", true),
        ("/", "/", true),
        ("/", "/a", false),
        ("/*", "//", false),
    ] {
        assert_eq!(pattern(text).matches(path), matches, "{text} on {path}");
    }
}

#[test]
fn the_stricter_reading_counts() {
    let links = pattern("/payment-links/**");
    assert!(Path::new("/payment-links/").matches_strictly(&links));
    assert!(Path::new("/payment-links/INV%2D1").matches_strictly(&links));
    assert!(!Path::new("/payment-links/../admin").matches_strictly(&links));
    assert!(!Path::new("/x/../payment-links/1").matches_strictly(&links));
}

#[test]
fn what_no_reading_of_is_certain_is_in_doubt() {
    let nested = format!("/a/%{}2e%2e/b", "25".repeat(9));
    for raw in [
        "/a/..%2fb",
        "/a/..%252fb",
        "/a/%252e%252e/b",
        "/a/..%00/b",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/.%2e;/b",
        "/a/..%3bx/b",
        "/a/..%3f/b",
        "/a\\..\\b",
        "/a/..\\b",
        "/a/..%5cb",
        "/a/..%20/b",
        "/a/.../b",
        "/a/%c0%ae%c0%ae/b",
        "/a/%c0%ae./b",
        "/a/%c0.%c0./b",
        "/a/..%c0%afb",
        "/a/%e0%80%ae%e0%80%ae/b",
        "/a/%f0%80%80%ae./b",
        "/a/%fc%80%80%80%80%ae./b",
        "/a/%ef%bc%8e%ef%bc%8e/b",
        "/a/%e2%80%a4%e2%80%a4/b",
        "/a/%e2%80%a5/b",
        "/a/..%ef%bc%8fb",
        "/a/..%e2%88%95b",
        "/a/%u002e%u002e/b",
        "/a/%u002e./b",
        "/a/%uff0e%uff0e/b",
        "/a/%%32%65%%32%65/b",
        "/a/../b%2fc",
        "/a/../b%3fc",
        "/a/../b;c",
        "/a/;/../b",
        "/a%00",
        "/a%0d%0ab",
        "/a%09",
        "/a%7fb",
        "/a%2500b",
        "/a%c0%80b",
        "/a%e2%80%a8b",
        &nested,
    ] {
        assert!(Path::new(raw).is_ambiguous(), "{raw}");
    }
}

#[test]
fn what_is_ordinary_or_read_alike_is_not_in_doubt() {
    for raw in [
        "/a",
        "/a/",
        "//a//b",
        "/a/../b",
        "/a/./b",
        "/a/%7Eb;v=1//./c%2Fd/",
        "/a/%2e;x/b%2fc",
        "/a/%2e%2E/b",
        "/a/../b%20c",
        "/a/.well-known/x",
        "/a%20b",
        "/a%2Fb",
        "/a%252Fb",
        "/a%5cb",
        "/a%3bb",
        "/a%3fb",
        "/a;v=1/b",
        "/100%25",
        "/100%2525",
        "/Jos%C3%A9/%E6%9D%B1%E4%BA%AC",
        "/Andr%e9",
        "/%C1lvarez",
        "/%C2%BD",
        "/%EF%BC%A1%EF%BC%A2%EF%BC%A3",
        "/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB",
        "/wait%E2%80%A6",
        "/a.b./c",
        "/Customers(1)",
        "/x:redirect",
        "/a@b/$c",
        "/%zz/%u12",
    ] {
        assert!(!Path::new(raw).is_ambiguous(), "{raw}");
    }
}

#[test]
fn ordinary_paths_match_as_they_are_meant() {
    for (text, raw, matches) in [
        ("/r/*", "/r/a%20b", true),
        ("/r/*", "/r/Jos%C3%A9", true),
        ("/r/*", "/r/Andr%e9", true),
        ("/r/*", "/r/%E6%9D%B1%E4%BA%AC", true),
        ("/r/*", "/r/%C2%BD", true),
        ("/r/*", "/r/a%3Ab%40c%24", true),
        ("/r/*", "/r/100%25", true),
        ("/r/*", "/r/a;v=1", true),
        ("/r/**", "/r/a%2Fb", true),
        ("/r/**", "/r/a%252Fb", true),
        // One segment here and two there.
        ("/r/*", "/r/a%2Fb", false),
        ("/r/*", "/r/a%252Fb", false),
        ("/r/*", "/r/a%5cb", false),
        ("/r/*/s", "/r/a/s%3fx", false),
        ("/r/*", "/r/%20", false),
    ] {
        let path = Path::new(raw);
        assert_eq!(
            path.matches_strictly(&pattern(text)),
            matches,
            "{text} on {raw}"
        );
        assert!(!path.is_ambiguous(), "{raw}");
    }
}

#[test]
fn patterns_that_could_never_match_are_refused() {
    assert_eq!(Pattern::parse("a"), Err(PatternError::Relative));
    assert_eq!(Pattern::parse("/a*"), Err(PatternError::PartialWildcard));
    for text in ["/a//b", "/a/../b", "/a%20", "/a b", "/a?b", "/a;b"] {
        assert_eq!(
            Pattern::parse(text),
            Err(PatternError::NotNormalised),
            "{text}"
        );
    }
}

#[test]
fn a_placeholder_is_no_pattern() {
    for text in [
        "/a/{id}",
        "/a/{id}.json",
        "/a/:id/b",
        "/a/:_id",
        "/a/<id>",
        "/a/<int:id>",
        "/a/{path:.+}",
    ] {
        assert_eq!(
            Pattern::parse(text),
            Err(PatternError::Placeholder),
            "{text}"
        );
    }
    for text in ["/payment-requests:redirect", "/a/:", "/a/b:c", "/a/(1)"] {
        assert!(Pattern::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn the_more_specific_pattern_comes_first() {
    let mut patterns = ["/**", "/a/*", "/a/**", "/a/b", "/a", "/*"].map(pattern);
    patterns.sort_by(Pattern::compare_specificity);
    let order: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    assert_eq!(order, ["/a/b", "/a", "/a/*", "/a/**", "/*", "/**"]);
}

#[test]
fn covering_is_about_every_path() {
    assert!(pattern("/a/**").covers(&pattern("/a/*/b")));
    assert!(pattern("/**").covers(&pattern("/**")));
    assert!(pattern("/a/*").covers(&pattern("/a/b")));
    assert!(!pattern("/a/*").covers(&pattern("/a/**")));
    assert!(!pattern("/a/b").covers(&pattern("/a/*")));
}

proptest! {
    /// What a server reads that decodes so often, and splits as most do.
    #[test]
    fn every_reading_of_a_server_is_known_or_the_path_is_in_doubt(
        raw in "/([abc./\\\\;?]|%2[5ef]|%5c|%3b|%25(2[ef]|5c)){0,12}",
        decodings in 0..4usize,
        cuts in any::<bool>(),
        backslashes in any::<bool>(),
    ) {
        let path = Path::new(&raw);
        prop_assume!(!path.is_ambiguous());
        let mut text = raw.clone();
        for _ in 0..decodings {
            text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        }
        let mut segments = Vec::new();
        for segment in text.split(|char| char == '/' || (backslashes && char == '\\')) {
            let name = if cuts { segment.split(';').next().unwrap() } else { segment };
            match name {
                "" | "." => {}
                ".." => drop(segments.pop()),
                name => segments.push(name),
            }
        }
        let read = format!("/{}", segments.join("/"));
        // A dot at a segment's end is another matter: Windows drops it.
        prop_assume!(!segments.iter().any(|segment| segment.ends_with('.')));
        let known: Vec<_> = path.readings().collect();
        let is_known = known.iter().any(|known| {
            let known = known.split('/').filter(|segment| !segment.is_empty());
            known.eq(segments.iter().copied())
        });
        // Cut and split apart from each other, they are in between two that are known.
        let between = (cuts != backslashes) && raw.contains([';', '\\', '%']);
        prop_assert!(is_known || between, "{raw}: {read} is none of {known:?}");
    }

    #[test]
    fn a_normalised_path_has_no_dot_empty_or_parameter_segment(raw in "/[a-c./;%\\\\2eEfF]{0,24}") {
        let path = Path::new(&raw);
        let normalised = path.normalised();
        prop_assert!(normalised.starts_with('/'));
        prop_assert!(normalised.len() == 1 || !normalised.ends_with('/'));
        if normalised.len() > 1 {
            for segment in normalised.split('/').skip(1) {
                prop_assert!(!matches!(segment, "" | "." | ".."), "{raw} gave {normalised}");
                prop_assert!(!segment.contains([';', '\\']), "{raw} gave {normalised}");
            }
        }
    }

    #[test]
    fn a_path_is_plain_where_nothing_in_it_has_two_readings(raw in "/?[a/.:$%;(?# \u{e9}-]{0,6}[a/.]?") {
        let is_special = |char: char| "%;\\(?#".contains(char) || !char.is_ascii_graphic();
        let pairs = ["//", "/.", "./", "::", ":$"];
        let is_plain = raw.starts_with('/')
            && !raw.contains(is_special)
            && !pairs.iter().any(|pair| raw.contains(pair))
            && (raw == "/" || !raw.ends_with(['/', '.']));
        prop_assert_eq!(Path::new(&raw).is_plain(), is_plain, "{}", raw);
    }

    #[test]
    fn a_pattern_matches_segment_by_segment(
        text in "(/(a|b|aa|\\*|\\*\\*)){0,4}/?",
        path in "/?((a|b|aa|ab)?/){0,4}(a|b|aa)?",
    ) {
        fn fits(patterns: &[&str], path: &[&str]) -> bool {
            match (patterns, path) {
                ([], []) => true,
                (["**", rest @ ..], _) => (0..=path.len()).any(|from| fits(rest, &path[from..])),
                ([one, rest @ ..], [segment, after @ ..]) => {
                    let is_one = *one == *segment || (*one == "*" && !segment.is_empty());
                    is_one && fits(rest, after)
                }
                _ => false,
            }
        }
        fn parts(path: &str) -> Vec<&str> {
            let path = path.strip_prefix('/').unwrap_or(path);
            match path.strip_suffix('/').unwrap_or(path) {
                "" => Vec::new(),
                path => path.split('/').collect(),
            }
        }
        let text = format!("/{}", text.trim_start_matches('/'));
        let expected = fits(&parts(&text), &parts(&path));
        prop_assert_eq!(pattern(&text).matches(&path), expected, "{} {}", text, path);
    }

    #[test]
    fn patterns_overlap_where_a_path_matches_both(
        one in "(/(a|b|\\*|\\*\\*)){0,3}",
        other in "(/(a|b|\\*|\\*\\*)){0,3}",
    ) {
        let parse = |text: &str| pattern(&format!("/{}", text.trim_start_matches('/')));
        let (one, other) = (parse(&one), parse(&other));
        let mut paths = vec![String::new()];
        for at in 0.. {
            let Some(path) = paths.get(at).filter(|path| path.len() < 12).cloned() else {
                break;
            };
            paths.extend(["/a", "/b"].map(|segment| format!("{path}{segment}")));
        }
        let in_both = paths.iter().any(|path| one.matches(path) && other.matches(path));
        prop_assert_eq!(one.overlaps(&other), in_both, "{:?} {:?}", one, other);
    }

    #[test]
    fn a_pattern_that_covers_another_matches_all_that_it_matches(
        one in "(/(a|b|\\*|\\*\\*)){0,4}",
        other in "(/(a|b|\\*|\\*\\*)){0,4}",
        path in "(/(a|b|c)){0,5}",
    ) {
        let (one, other) = (pattern(&format!("/{}", one.trim_start_matches('/'))), pattern(&format!("/{}", other.trim_start_matches('/'))));
        if one.covers(&other) && other.matches(&path) {
            prop_assert!(one.matches(&path));
        }
    }
}
