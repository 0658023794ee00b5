//! Keys of a fleet: what names what it shares, and seals it.
//!
//! The store sees names that are keyed hashes, and values that are sealed and bound to their name and number, so that
//! whoever can read it learns nothing, and whoever can write it can at most bring back what was there before.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use bursar_base::secret::hexadecimal;

/// Bytes of a key.
pub(crate) const KEY_LENGTH: usize = 32;
/// Bytes of a name's hash that are kept: enough that no two names are alike.
const NAME_LENGTH: usize = 16;
/// The first byte of what is sealed, for the day when it has another form.
const FORM: u8 = 1;

/// The fleet's keys: the first names and seals, all of them find and open.
pub(crate) struct Keys(Vec<Key>);

struct Key {
    names: hmac::Key,
    seals: hmac::Key,
}

/// Something that the fleet shares, as each key names it; the first key's name comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Vec<Box<str>>);

/// What a sealed value is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding<'a> {
    /// Its name: what [`Names`] has.
    pub(crate) name: &'a str,
    /// What else must be the same where it is opened.
    pub(crate) context: &'a str,
    /// Its number.
    pub(crate) number: u64,
}

/// A value could not be sealed: the system has no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value cannot be sealed: the system has no random bytes")]
pub struct NotSealed;

/// No key opens a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no key of this instance opens the value")]
pub(crate) struct NotOpened;

impl Keys {
    /// The first seals, all open.
    #[must_use]
    pub(crate) fn new<'a>(keys: impl IntoIterator<Item = &'a [u8; KEY_LENGTH]>) -> Self {
        Self(keys.into_iter().map(Key::new).collect())
    }

    /// The names of something, which is of that kind.
    #[must_use]
    pub(crate) fn names(&self, kind: &str, of: &[u8]) -> Names {
        Names(self.0.iter().map(|key| key.name(kind, of)).collect())
    }

    /// Seals a value under the first key.
    ///
    /// # Errors
    /// Where the system has no random bytes, or there is no key.
    pub(crate) fn seal(&self, binding: Binding<'_>, value: &[u8]) -> Result<Vec<u8>, NotSealed> {
        self.0.first().ok_or(NotSealed)?.seal(binding, value)
    }

    /// Opens a value that one of the keys sealed.
    ///
    /// # Errors
    /// Where none did, or it is bound to something else.
    pub(crate) fn open(
        &self,
        binding: Binding<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let mut opened = self
            .0
            .iter()
            .filter_map(|key| key.open(binding, sealed).ok());
        opened.next().ok_or(NotOpened)
    }
}

impl Key {
    /// HMAC is the pseudo-random function that makes the two keys out of one.
    fn new(key: &[u8; KEY_LENGTH]) -> Self {
        let root = hmac::Key::new(HMAC_SHA256, key);
        let derive = |purpose: &[u8]| {
            let derived = hmac::sign(&root, purpose);
            hmac::Key::new(HMAC_SHA256, derived.as_ref())
        };
        Self {
            names: derive(b"bursar fleet names"),
            seals: derive(b"bursar fleet seals"),
        }
    }

    fn name(&self, kind: &str, of: &[u8]) -> Box<str> {
        let mut context = hmac::Context::with_key(&self.names);
        context.update(kind.as_bytes());
        context.update(&[0]);
        context.update(of);
        let tag = context.sign();
        let digits = tag.as_ref().iter().take(NAME_LENGTH);
        let digits = digits.flat_map(|byte| hexadecimal(*byte));
        digits.map(char::from).collect::<String>().into()
    }

    /// Each name has a sealing key of its own, so that random nonces never come near to meeting again.
    fn sealing_key(&self, name: &str) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.seals, name.as_bytes());
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(LessSafeKey::new(key))
    }

    fn seal(&self, binding: Binding<'_>, value: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let key = self.sealing_key(binding.name).ok_or(NotSealed)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_unspecified| NotSealed)?;
        let mut text = Zeroizing::new(value.to_vec());
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                binding.associated_data(),
                &mut text,
            )
            .map_err(|_unspecified| NotSealed)?;
        let parts = [&[FORM], nonce.as_slice(), &text, tag.as_ref()];
        Ok(parts.concat())
    }

    fn open(&self, binding: Binding<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let sealed = sealed.strip_prefix(&[FORM]).ok_or(NotOpened)?;
        let (nonce, text) = sealed.split_first_chunk().ok_or(NotOpened)?;
        let key = self.sealing_key(binding.name).ok_or(NotOpened)?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = key.open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            binding.associated_data(),
            &mut text,
        );
        let length = opened.map_err(|_unspecified| NotOpened)?.len();
        text.truncate(length);
        Ok(text)
    }
}

impl Names {
    /// What it is written under.
    #[must_use]
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("", |name| name)
    }

    /// All of them, the first one first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

impl<'a> Binding<'a> {
    /// For what has no number.
    pub(crate) const fn unnumbered(name: &'a str, context: &'a str) -> Self {
        Self {
            name,
            context,
            number: 0,
        }
    }

    /// No two bindings have the same: the lengths are in it.
    fn associated_data(&self) -> Aad<Vec<u8>> {
        let length = |text: &str| (text.len() as u64).to_be_bytes();
        let parts = [
            &length(self.name)[..],
            self.name.as_bytes(),
            &length(self.context),
            self.context.as_bytes(),
            &self.number.to_be_bytes(),
        ];
        Aad::from(parts.concat())
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; KEY_LENGTH] = [1; KEY_LENGTH];
    const TWO: [u8; KEY_LENGTH] = [2; KEY_LENGTH];

    fn binding(name: &str, number: u64) -> Binding<'_> {
        Binding {
            name,
            context: "production",
            number,
        }
    }

    #[test]
    fn a_value_opens_under_its_own_name_context_and_number_alone() {
        let keys = Keys::new([&ONE]);
        let sealed = keys.seal(binding("name", 7), b"token").unwrap();
        let open = |binding, sealed: &[u8]| keys.open(binding, sealed).map(|text| text.to_vec());
        assert_eq!(open(binding("name", 7), &sealed), Ok(b"token".to_vec()));
        let elsewhere = Binding {
            context: "sandbox",
            ..binding("name", 7)
        };
        for other in [binding("name", 8), binding("names", 7), elsewhere] {
            assert_eq!(open(other, &sealed), Err(NotOpened), "{other:?}");
        }
        for length in 0..sealed.len() {
            assert_eq!(open(binding("name", 7), &sealed[..length]), Err(NotOpened));
        }
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(open(binding("name", 7), &changed), Err(NotOpened));
        }
    }

    #[test]
    fn a_second_key_opens_what_it_sealed_when_it_was_the_first() {
        let before = Keys::new([&ONE]);
        let after = Keys::new([&TWO, &ONE]);
        let sealed = before.seal(binding("name", 1), b"token").unwrap();
        assert!(after.open(binding("name", 1), &sealed).is_ok());
        let sealed = after.seal(binding("name", 1), b"token").unwrap();
        assert!(before.open(binding("name", 1), &sealed).is_err());
    }

    #[test]
    fn each_key_has_a_name_of_its_own_and_the_first_key_names_first() {
        let (one, two) = (Keys::new([&ONE]), Keys::new([&TWO, &ONE]));
        let names = two.names("token", b"key");
        let expected = [
            Keys::new([&TWO]).names("token", b"key"),
            one.names("token", b"key"),
        ];
        let expected: Vec<&str> = expected.iter().map(Names::first).collect();
        assert_eq!(names.all().collect::<Vec<_>>(), expected);
        assert_ne!(one.names("token", b"key"), one.names("caller", b"key"));
        assert_ne!(one.names("token", b"a"), one.names("token", b"b"));
    }

    #[test]
    fn the_same_value_is_never_sealed_alike() {
        let keys = Keys::new([&ONE]);
        let seal = || keys.seal(binding("name", 1), b"token").unwrap();
        assert_ne!(seal(), seal());
    }
}
