//! Numbers of a token key's values: a count, and random digits below it.
//!
//! Whatever has the higher number is newer. Numbers are counted up from the highest that is known, by the store and by
//! instances that do without it. A store that lost what it had gives two of them the same count; the digits keep their
//! numbers apart, so that one number never stands for two tokens.

/// One more than the highest digits, as in `entry.lua`.
const DIGITS: u64 = 1 << 16;

/// Scripts read a number that is not below it as none.
pub const NO_NUMBER: u64 = 100_000_000_000_000;

/// Random digits.
pub(crate) fn digits() -> u64 {
    fastrand::u64(..DIGITS)
}

/// A number above another one.
#[must_use]
pub fn above(number: u64) -> u64 {
    let count = (number / DIGITS).saturating_add(1);
    count.saturating_mul(DIGITS).saturating_add(digits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_counts_from_the_same_number_gets_another_one_above_it() {
        for from in [0, 1, DIGITS - 1, DIGITS, 7 * DIGITS + 5] {
            let numbers: std::collections::BTreeSet<u64> = (0..16).map(|_| above(from)).collect();
            assert!(numbers.len() > 1 && numbers.iter().all(|number| *number > from));
        }
    }
}
