//! How is a secret kept out of logs and errors? By a type that cannot print itself.
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

/// The first 12 hexadecimal digits of the text's SHA-256: enough to tell two tokens apart in a log, far
/// too few to say anything about the token.
#[must_use]
pub fn fingerprint(text: &str) -> String {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
