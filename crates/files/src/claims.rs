//! The names that transfers of this process write to now: two at once would spoil each other's work.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// A name, with the device and the inode of its directory.
type Key = (u64, u64, Box<[u8]>);

/// The names that are taken. Clones are of the same set.
#[derive(Debug, Clone, Default)]
pub struct Claims(Arc<Mutex<HashSet<Key>>>);

impl Claims {
    /// None is taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `name` in the directory with `identity`, until the claim is dropped; `None` where another one has it.
    #[must_use]
    pub fn claim(&self, identity: (u64, u64), name: &[u8]) -> Option<Claim> {
        let key = (identity.0, identity.1, Box::from(name));
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The key stands in the set and in the claim: looked up first, so that it is copied only where it is free.
        if taken.contains(&key) {
            return None;
        }
        taken.insert(key.clone());
        drop(taken);
        Some(Claim { claims: self.clone(), key })
    }
}

/// A name that is taken.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    key: Key,
}

impl Claim {
    /// Whether it is one in the directory with `identity`.
    #[must_use]
    pub fn is_in(&self, identity: (u64, u64)) -> bool {
        (self.key.0, self.key.1) == identity
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once() {
        let claims = Claims::new();
        let first = claims.claim((1, 2), b"a").unwrap();
        let shared = claims.clone();
        assert!(shared.claim((1, 2), b"a").is_none());
        assert!(claims.claim((1, 3), b"a").is_some());
        assert!(claims.claim((1, 2), b"b").is_some());
        drop(first);
        assert!(claims.claim((1, 2), b"a").is_some());
        assert!(claims.0.lock().unwrap().is_empty());
    }
}
