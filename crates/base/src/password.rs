//! A caller's password as the operator writes it: as it is, or as an Argon2 or bcrypt hash.
//!
//! It knows formats and what they cost, not when to pay it. Every hash that it accepts can be computed in
//! bounded time and memory.

use std::fmt;

use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params};

use crate::secret::Secret;

/// One Argon2 computation may take so much memory, in KiB, …
const MAX_ARGON2_MEMORY: u32 = 256 * 1024;
/// … and so much time: KiB times passes.
const MAX_ARGON2_WORK: u64 = 1024 * 1024;
/// Each step doubles the time; this one takes about a second.
const MAX_BCRYPT_COST: u32 = 14;
const MIN_BCRYPT_COST: u32 = 4;
/// bcrypt looks at no more bytes than these.
const BCRYPT_BYTES: usize = 72;
/// The longest name of a hash function between `$` and `$`.
const MAX_KIND: usize = 16;

/// A caller's password.
#[derive(Debug)]
pub enum Password {
    /// As it is.
    Plain(Secret),
    /// Its hash.
    Hashed(Hash),
}

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    text: Secret,
    /// Of the same cost are hashes that take the same time.
    pub cost: Cost,
}

/// How long it takes to compute a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// With its variant and parameters.
    Argon2 {
        /// Which of the three.
        variant: Algorithm,
        /// In KiB.
        memory: u32,
        /// Over the memory.
        passes: u32,
        /// Of the memory; computed one after the other.
        lanes: u32,
    },
    /// The logarithm of its rounds.
    Bcrypt(u32),
}

/// What is wrong with a hash; never what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// It begins as a hash does.
    #[error(
        "looks like a password hash, but is not a valid Argon2 (`$argon2id$…`) or bcrypt (`$2b$…`) hash"
    )]
    Malformed,
    /// Each of its dollar signs is two.
    #[error(
        "looks like a password hash whose dollar signs are doubled, as in a Compose file; write each once"
    )]
    Doubled,
    /// Computing it would be an attack on ourselves.
    #[error("costs too much: Argon2 may use 256 MiB, and 1 GiB times passes; bcrypt a cost of 14")]
    TooCostly,
}

impl Password {
    /// Tells a hash from a password by its beginning.
    ///
    /// # Errors
    /// Where it is empty, or a hash that cannot be used.
    pub fn parse(text: Secret) -> Result<Self, Error> {
        if text.expose().is_empty() {
            return Err(Error::Empty);
        }
        let Some(kind) = kind(text.expose()) else {
            return Ok(Self::Plain(text));
        };
        if text.expose().starts_with("$$") {
            return Err(Error::Doubled);
        }
        let cost = match kind {
            "argon2id" | "argon2i" | "argon2d" => argon2_cost(text.expose())?,
            "2a" | "2b" | "2y" => bcrypt_cost(text.expose())?,
            _ => return Err(Error::Malformed),
        };
        Ok(Self::Hashed(Hash { text, cost }))
    }
}

/// What stands between the first two dollar signs, where it could be the name of a hash function. A hash
/// of an unknown kind that was taken for a password would itself be what lets callers in.
fn kind(text: &str) -> Option<&str> {
    // Doubled, it was escaped for another tool and not for this one.
    let (kind, _) = text
        .strip_prefix('$')?
        .trim_start_matches('$')
        .split_once('$')?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (!kind.is_empty() && kind.len() <= MAX_KIND && kind.bytes().all(is_name)).then_some(kind)
}

fn argon2_cost(text: &str) -> Result<Cost, Error> {
    let malformed = |_| Error::Malformed;
    let hash = PasswordHash::new(text).map_err(malformed)?;
    let variant =
        Algorithm::try_from(hash.algorithm.as_str()).map_err(|_error| Error::Malformed)?;
    let params = Params::try_from(&hash).map_err(|_error| Error::Malformed)?;
    let is_known = matches!(hash.version, None | Some(0x10 | 0x13));
    if !is_known || hash.salt.is_none() || hash.hash.is_none() {
        return Err(Error::Malformed);
    }
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > MAX_ARGON2_MEMORY || work > MAX_ARGON2_WORK {
        return Err(Error::TooCostly);
    }
    Ok(Cost::Argon2 {
        variant,
        memory: params.m_cost(),
        passes: params.t_cost(),
        lanes: params.p_cost(),
    })
}

fn bcrypt_cost(text: &str) -> Result<Cost, Error> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_error| Error::Malformed)?;
    match parts.get_cost() {
        cost if cost > MAX_BCRYPT_COST => Err(Error::TooCostly),
        cost if cost < MIN_BCRYPT_COST => Err(Error::Malformed),
        cost => Ok(Cost::Bcrypt(cost)),
    }
}

impl Hash {
    /// Whether the password has this hash. Takes long, as it should.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self.cost {
            Cost::Argon2 { .. } => PasswordHash::new(self.text.expose())
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            // A longer password would pass with any end. It is hashed all the same: it shall take as long.
            Cost::Bcrypt(_) => {
                let is_equal = bcrypt::verify(password, self.text.expose()).unwrap_or(false);
                is_equal && password.len() <= BCRYPT_BYTES
            }
        }
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hash({:?}, …)", self.cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Password, Error> {
        Password::parse(Secret::new(text.to_owned()))
    }

    /// Of `p4ss:w0rd`, made with libargon2 and Perl's crypt.
    const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=1$c29tZSBzYWx0IDEyMzQ1Ng$GGf0dqYV+OgO/c3CKWH7z/h6l1+sBs6rf82iDRK2m/c";
    const ARGON2I: &str = "$argon2i$v=19$m=64,t=1,p=2$c29tZSBzYWx0IDEyMzQ1Ng$WmY0r/3YHkSrKcNqX2C3dpJgDnU2VdtVlj6cLZrNH8Y";
    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuumKxKh3CYLemG/HQI5Yhafiu.JiVrNjy";

    #[test]
    fn hashes_of_other_programs_are_verified() {
        for text in [ARGON2, ARGON2I, BCRYPT, &BCRYPT.replace("$2b$", "$2y$")] {
            let Ok(Password::Hashed(hash)) = parse(text) else {
                panic!("{text} is no hash");
            };
            assert!(hash.verify(b"p4ss:w0rd"), "{text}");
            assert!(!hash.verify(b"p4ss:w0re"), "{text}");
            assert!(!hash.verify(b""), "{text}");
            assert!(!format!("{hash:?}").contains("$"), "{hash:?}");
        }
    }

    #[test]
    fn what_bcrypt_would_cut_off_counts() {
        let long = [b'x'; BCRYPT_BYTES];
        let text = bcrypt::hash_with_salt(long, 4, [7; 16])
            .unwrap()
            .to_string();
        let Ok(Password::Hashed(hash)) = parse(&text) else {
            panic!("{text} is no hash");
        };
        assert!(hash.verify(&long));
        assert!(!hash.verify(&[&long[..], b"y"].concat()));
    }

    #[test]
    fn what_looks_like_a_hash_is_one_or_an_error() {
        let salt = "c29tZXNhbHQ";
        let output = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let argon2 = |parameters: &str| format!("$argon2id${parameters}${salt}${output}");
        for (text, error) in [
            ("", Some(Error::Empty)),
            ("$", None),
            ("$$", None),
            ("$ecret$", None),
            ("pa$2b$word", None),
            ("$Pa$$word", None),
            ("$$6$$salt$$hash", Some(Error::Doubled)),
            ("$$2y$$04$$x", Some(Error::Doubled)),
            ("$6$salt$hash", Some(Error::Malformed)),
            ("$argon2id$", Some(Error::Malformed)),
            ("$2b$12$short", Some(Error::Malformed)),
            (&BCRYPT.replace("$2b$", "$2x$"), Some(Error::Malformed)),
            (&BCRYPT.replace("$2b$04", "$2b$15"), Some(Error::TooCostly)),
            (&BCRYPT.replace("$2b$04", "$2b$03"), Some(Error::Malformed)),
            (&argon2("v=19$m=19456,t=2,p=1"), None),
            (&argon2("v=18$m=19456,t=2,p=1"), Some(Error::Malformed)),
            (&argon2("v=19$m=262145,t=1,p=1"), Some(Error::TooCostly)),
            (&argon2("v=19$m=19456,t=100,p=1"), Some(Error::TooCostly)),
            (
                &format!("$argon2id$v=19$m=8,t=1,p=1${salt}"),
                Some(Error::Malformed),
            ),
        ] {
            let found = parse(text).err();
            let is_expected =
                found == error || (text == "$ecret$" && found == Some(Error::Malformed));
            assert!(is_expected, "{text}: {found:?}");
        }
    }
}
