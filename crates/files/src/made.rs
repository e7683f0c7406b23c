//! The directories that the streams of one transfer have made above entries before they were offered: they are offered on the first
//! stream, which would find them there and take them for older ones.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A directory, by its device and its number there.
type Identity = (u64, u64);

type Identities = Mutex<HashSet<Identity>>;

/// The directories of all transfers of this process, by the owner of the transfer.
#[derive(Debug, Default)]
pub(crate) struct MadeByOwner(Mutex<HashMap<Box<[u8]>, Weak<Identities>>>);

impl MadeByOwner {
    /// Those of `owner`, which are known as long as one of its transfers runs.
    pub(crate) fn of(&self, owner: &[u8]) -> MadeAbove {
        let mut by_owner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_owner.retain(|_, directories| directories.strong_count() > 0);
        if let Some(directories) = by_owner.get(owner).and_then(Weak::upgrade) {
            return MadeAbove(directories);
        }
        let directories = Arc::default();
        by_owner.insert(owner.into(), Arc::downgrade(&directories));
        MadeAbove(directories)
    }
}

/// The directories that transfers of one owner have made above entries, and that were not offered yet.
#[derive(Debug)]
pub(crate) struct MadeAbove(Arc<Identities>);

/// Most directories that are remembered of one owner.
const MOST: usize = 65_536;

impl MadeAbove {
    /// Runs `make`, to which it hands what remembers a directory. Nobody asks for one meanwhile.
    pub(crate) fn remember<T>(
        &self,
        make: impl FnOnce(&mut dyn FnMut(Identity)) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut directories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        make(&mut |identity| {
            if directories.len() < MOST {
                directories.insert(identity);
            }
        })
    }

    /// Whether it is one of them.
    pub(crate) fn has(&self, identity: Identity) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&identity)
    }

    /// Whether it is one of them, and from then on none any more.
    pub(crate) fn take(&self, identity: Identity) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&identity)
    }
}
