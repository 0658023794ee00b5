//! Spelling: whether a word is another one but for a slip of the fingers.

/// Whether the two differ in one letter: one too many, one missing, another one, or two neighbours in each other's
/// place. The same word does not.
#[must_use]
pub fn is_one_off(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let (short, long) = if one.len() <= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let same = std::iter::zip(short, long).take_while(|(left, right)| left == right);
    let same = same.count();
    let (short, long) = (&short[same..], &long[same..]);
    match (short, long) {
        ([], [_]) => true,
        ([first, second, short @ ..], [third, fourth, long @ ..])
            if short == long && first == fourth && second == third =>
        {
            true
        }
        ([_, rest @ ..], [_, long @ ..]) if rest.len() == long.len() => rest == long,
        (short, [_, long @ ..]) => short == long,
        (_, []) => false,
    }
}

/// The one of those that is meant by a word of its sort: the same but for letter case, `-` and `_`, or one letter off.
/// None where nothing is like it, or two are.
#[must_use]
pub fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // A word of three letters is like too many.
    const MIN: usize = 4;
    let word = plain(word);
    let mut near = None;
    for known in known {
        let plain = plain(known);
        if plain == word {
            return Some(known);
        }
        if word.len() >= MIN && is_one_off(&plain, &word) {
            match near {
                None => near = Some(known),
                Some(_) => return None,
            }
        }
    }
    near
}

/// In lower case, without what joins the parts of a name.
fn plain(word: &str) -> String {
    let parts = word.chars().filter(|char| !"-_ ".contains(*char));
    parts.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_off_is_one_more_one_less_another_or_two_swapped() {
        let word = "partner.payu.in";
        for other in [
            "partner.payu.inn",
            "xpartner.payu.in",
            "parner.payu.in",
            "partner.payu.i",
            "partmer.payu.in",
            "partner.payi.in",
            "patrner.payu.in",
            "partner.payu.ni",
            "aprtner.payu.in",
        ] {
            assert!(
                is_one_off(word, other) && is_one_off(other, word),
                "{other}"
            );
        }
        for other in [
            "partner.payu.in",
            "partner.pay.i",
            "patnrer.payu.in",
            "",
            "artner.payu.ix",
        ] {
            assert!(
                !is_one_off(word, other) && !is_one_off(other, word),
                "{other}"
            );
        }
        assert!(is_one_off("", "a") && !is_one_off("", "") && is_one_off("ab", "ba"));
    }

    #[test]
    fn the_nearest_word_is_the_only_one() {
        let known = ["client_id", "client_secret", "certificate", "hosts"];
        for (word, meant) in [
            ("clientId", Some("client_id")),
            ("client-secret", Some("client_secret")),
            ("host", Some("hosts")),
            ("CLIENT_SECRTE", Some("client_secret")),
            ("secret", None),
            ("hs", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest("paya", ["payu", "payb"]), None);
    }
}
