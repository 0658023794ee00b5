//! Listing: names in a message, of which there may be more than anybody reads.

/// The first `most` of them with commas in between, and how many more there are.
#[must_use]
pub fn first_of(names: &[impl AsRef<str>], most: usize) -> String {
    let shown = names.iter().take(most).map(AsRef::as_ref);
    let listed = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_counted() {
        let names = ["a", "b", "c"];
        assert_eq!(first_of(&names, 2), "a, b and 1 more");
        assert_eq!(first_of(&names, 3), "a, b, c");
        assert_eq!(first_of(&[""; 0], 3), "");
    }
}
