//! Ready fields: what clients send for passwords kept in clear, found without decoding.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use constant_time_eq::constant_time_eq;
use zeroize::Zeroizing;

use super::credentials;
use bursar_base::password::Password;
use bursar_config as config;

/// The fields that clients send for passwords kept in clear, byte for byte, with places in
/// the list of callers. Whoever sends one of these is known without the long way through Base64 and a
/// digest; anything else goes that way. Looked up by a hash whose key nobody knows, and then compared in
/// constant time, so that neither tells how much of a guess was right.
#[derive(Default)]
pub(super) struct Ready {
    by_hash: HashMap<u64, (Zeroizing<Vec<u8>>, usize), foldhash::fast::RandomState>,
    key: RandomState,
}

impl Ready {
    pub(super) fn new(callers: &[config::Caller]) -> Self {
        let mut ready = Self::default();
        for (place, caller) in callers.iter().enumerate() {
            for password in &caller.passwords {
                if let Password::Plain(password) = password {
                    let field = credentials::field(&caller.name, password.expose());
                    let hash = ready.hash(&field);
                    ready.by_hash.insert(hash, (field, place));
                }
            }
        }
        ready
    }

    /// Of the bytes alone; there is nothing else that their length would have to set them apart from.
    fn hash(&self, field: &[u8]) -> u64 {
        let mut hasher = self.key.build_hasher();
        hasher.write(field);
        hasher.finish()
    }

    pub(super) fn find(&self, field: &[u8]) -> Option<usize> {
        let (expected, place) = self.by_hash.get(&self.hash(field))?;
        constant_time_eq(expected, field).then_some(*place)
    }
}

/// Without the fields: they are passwords.
impl fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ready").finish_non_exhaustive()
    }
}
