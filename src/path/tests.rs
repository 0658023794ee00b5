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
        ("/a%252Fb", "/a%2Fb"),
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
    assert!(Path::new("/a/b.c/d..e").is_plain());
    assert!(!Path::new("/a/.b").is_plain());
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
