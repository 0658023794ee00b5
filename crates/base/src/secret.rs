//! Secrets: a type that cannot print itself, so that none gets into a log or an error.
//!
//! `Debug` shows a placeholder, there is no `Display`, and the memory is wiped on drop. Whoever needs
//! the text says so with [`Secret::expose`], which is easy to search for.

use std::fmt;

use zeroize::Zeroizing;

/// A client secret, a caller's password or a refresh token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every caller of this is a place where a secret leaves its wrapper.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The first 6 bytes of a text's SHA-256, as 12 hexadecimal digits: enough to tell two tokens apart in a
/// log, far too few to say anything about the token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 12]);

impl Fingerprint {
    /// Of that text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let all = digest.as_ref().iter().flat_map(|byte| hexadecimal(*byte));
        let mut digits = [0; 12];
        digits
            .iter_mut()
            .zip(all)
            .for_each(|(to, digit)| *to = digit);
        Self(digits)
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits are text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The two digits of a byte.
#[must_use]
pub fn hexadecimal(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|nibble| b"0123456789abcdef"[usize::from(nibble)])
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
