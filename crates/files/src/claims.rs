//! The names that transfers of this process write to now: two at once would spoil each other's work.
//!
//! A client that comes again takes a name over from an earlier transfer of its own, which may wait for a connection that is gone: that
//! one is told to end, and its work is gone on with.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::made::{MadeAbove, MadeByOwner};

/// A name, with the device and the inode of its directory.
type Key = (u64, u64, Box<[u8]>);

/// Ends a transfer, from another thread than its own.
pub type End = Arc<dyn Fn() + Send + Sync>;

/// The names that are taken. Clones are of the same set.
#[derive(Debug, Clone, Default)]
pub struct Claims(Arc<Names>);

#[derive(Debug, Default)]
struct Names {
    taken: Mutex<Taken>,
    released: Condvar,
    made: MadeByOwner,
}

#[derive(Debug, Default)]
struct Taken {
    holders: HashMap<Key, Arc<Holder>>,
    /// Those who wait for one of the names.
    waiting: usize,
}

/// A transfer that takes names.
struct Holder {
    owner: Box<[u8]>,
    is_displaced: AtomicBool,
    end: Option<End>,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("is_displaced", &self.is_displaced).finish_non_exhaustive()
    }
}

/// How long an earlier transfer may take to end: it may have to bring to the disk what has come.
const DISPLACE_DEADLINE: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile whether the later one is to end as well.
const INTERVAL: Duration = Duration::from_millis(100);

impl Claims {
    /// None is taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The directories that transfers of `owner` make above entries.
    pub(crate) fn made_by(&self, owner: &[u8]) -> MadeAbove {
        self.0.made.of(owner)
    }

    /// The names of one transfer of `owner`. Where a later one of the same owner wants a name of it, `end` is called.
    pub(crate) fn of(&self, owner: &[u8], end: Option<End>) -> Claimant {
        let holder = Holder { owner: owner.into(), is_displaced: AtomicBool::new(false), end };
        Claimant { names: Arc::clone(&self.0), holder: Arc::new(holder) }
    }
}

/// A transfer, as one that takes names.
#[derive(Debug)]
pub(crate) struct Claimant {
    names: Arc<Names>,
    holder: Arc<Holder>,
}

impl Claimant {
    /// Whether a later transfer has taken a name over, so that this one is to end.
    pub(crate) fn is_displaced(&self) -> bool {
        self.holder.is_displaced.load(Ordering::Relaxed)
    }

    /// Takes `name` in the directory with `identity`, until the claim is dropped. `None` where this transfer, or one of another owner,
    /// has it. An earlier transfer of the same owner is ended, and waited for, unless `is_stopped` says that it is in vain.
    pub(crate) fn claim(
        &self,
        identity: (u64, u64),
        name: &[u8],
        is_stopped: impl Fn() -> bool,
    ) -> Option<Claim> {
        let key = (identity.0, identity.1, Box::from(name));
        let mut taken = self.names.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut deadline = None;
        while let Some(other) = taken.holders.get(&key) {
            if Arc::ptr_eq(other, &self.holder) || other.owner != self.holder.owner {
                return None;
            }
            let now = Instant::now();
            if now >= *deadline.get_or_insert(now + DISPLACE_DEADLINE) || is_stopped() {
                return None;
            }
            if !other.is_displaced.swap(true, Ordering::Relaxed)
                && let Some(end) = &other.end
            {
                end();
            }
            taken.waiting += 1;
            taken =
                self.names.released.wait_timeout(taken, INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
            taken.waiting -= 1;
        }
        taken.holders.insert(key.clone(), Arc::clone(&self.holder));
        drop(taken);
        Some(Claim { names: Arc::clone(&self.names), key })
    }
}

/// A name that is taken.
#[derive(Debug)]
pub(crate) struct Claim {
    names: Arc<Names>,
    key: Key,
}

impl Claim {
    /// Whether it is one in the directory with `identity`.
    pub(crate) fn is_in(&self, identity: (u64, u64)) -> bool {
        (self.key.0, self.key.1) == identity
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.names.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.holders.remove(&self.key);
        // To wake nobody takes a call to the system all the same, and there is one for each file.
        if taken.waiting > 0 {
            self.names.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const NEVER: fn() -> bool = || false;

    #[test]
    fn a_name_is_taken_once() {
        let claims = Claims::new();
        let (one, other) = (claims.of(b"alice", None), claims.of(b"bob", None));
        let first = one.claim((1, 2), b"a", NEVER).unwrap();
        assert!(one.claim((1, 2), b"a", NEVER).is_none());
        assert!(other.claim((1, 2), b"a", NEVER).is_none());
        assert!(other.claim((1, 3), b"a", NEVER).is_some());
        assert!(other.claim((1, 2), b"b", NEVER).is_some());
        assert!(!one.is_displaced());
        drop(first);
        assert!(other.claim((1, 2), b"a", NEVER).is_some());
        assert!(claims.0.taken.lock().unwrap().holders.is_empty());
    }

    #[test]
    fn a_later_transfer_of_the_same_owner_takes_a_name_over() {
        let claims = Claims::new();
        let (ended, end) = mpsc::channel();
        let earlier = claims.of(b"alice", Some(Arc::new(move || ended.send(()).unwrap())));
        let later = claims.of(b"alice", None);
        let first = earlier.claim((1, 2), b"a", NEVER).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| later.claim((1, 2), b"a", NEVER).is_some());
            end.recv().unwrap();
            assert!(earlier.is_displaced());
            drop(first);
            assert!(waiting.join().unwrap());
        });
        assert!(!later.is_displaced());
    }

    #[test]
    fn one_that_is_stopped_waits_for_nobody() {
        let claims = Claims::new();
        let (earlier, later) = (claims.of(b"alice", None), claims.of(b"alice", None));
        let _first = earlier.claim((1, 2), b"a", NEVER).unwrap();
        assert!(later.claim((1, 2), b"a", || true).is_none());
    }
}
