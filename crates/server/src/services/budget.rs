//! The budget of unfinished messages, which limits the memory and disk space that they take up, for each client and in
//! all. A client that keeps many of them open uses up its own share.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::quota::QuotaKey;

/// What is taken up, by whom.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Bytes of all unfinished messages of one client: one of the longest, or several that are shorter.
    for_client: u64,
    /// Bytes of all unfinished messages.
    in_all: u64,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: u64,
    memory: u64,
    by_client: HashMap<QuotaKey, Held>,
}

/// What one client has taken up.
#[derive(Debug, Default)]
struct Held {
    messages: usize,
    bytes: u64,
    memory: u64,
}

/// The share of one unfinished message, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    budget: &'a Budget,
    client: QuotaKey,
    bytes: u64,
    /// How much of it is counted as memory.
    memory: u64,
}

/// Where a message may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// In memory.
    Memory,
    /// On the disk.
    Disk,
}

/// Why a message may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// This client has too much under way.
    #[error("the client has {0} bytes of unfinished messages under way, which is its limit")]
    OfClient(u64),
    /// All clients together have.
    #[error("all clients have {0} bytes of unfinished messages under way, which is the limit")]
    InAll(u64),
}

impl Budget {
    /// For messages of `max_len` bytes at most.
    pub(crate) fn new(max_len: u64) -> Self {
        Self {
            for_client: max_len.max(MIN_FOR_CLIENT),
            in_all: max_len.max(MIN_IN_ALL).saturating_mul(MAX_LONG_MESSAGES),
            taken: Mutex::default(),
        }
    }

    /// The share of a message of `client` that begins now; `None` where it has too many that have not ended.
    pub(crate) fn begin(&self, client: QuotaKey) -> Option<Share<'_>> {
        let mut taken = self.taken();
        let held = taken.by_client.entry(client.clone()).or_default();
        if held.messages >= MAX_UNFINISHED {
            return None;
        }
        held.messages += 1;
        Some(Share { budget: self, client, bytes: 0, memory: 0 })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share<'_> {
    /// Counts `more` bytes, and says where they may be kept: once that is the disk, the whole message goes there.
    pub(crate) fn grow(&mut self, more: usize) -> Result<Room, NoRoom> {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let Budget { for_client, in_all, .. } = *self.budget;
        let mut taken = self.budget.taken();
        let Taken { bytes, memory, by_client } = &mut *taken;
        let held = by_client.entry(self.client.clone()).or_default();
        if held.bytes.saturating_add(more) > for_client {
            return Err(NoRoom::OfClient(for_client));
        }
        if bytes.saturating_add(more) > in_all {
            return Err(NoRoom::InAll(in_all));
        }
        *bytes += more;
        held.bytes += more;
        let was_in_memory = self.memory == self.bytes;
        self.bytes += more;
        let stays = was_in_memory
            && self.bytes <= MAX_IN_MEMORY
            && held.memory + more <= MAX_MEMORY_OF_CLIENT
            && *memory + more <= MAX_MEMORY_IN_ALL;
        if stays {
            *memory += more;
            held.memory += more;
            self.memory += more;
            return Ok(Room::Memory);
        }
        *memory -= self.memory;
        held.memory -= self.memory;
        self.memory = 0;
        Ok(Room::Disk)
    }

    /// Bytes of the message so far.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.bytes -= self.bytes;
        taken.memory -= self.memory;
        if let Some(held) = taken.by_client.get_mut(&self.client) {
            held.messages -= 1;
            held.bytes -= self.bytes;
            held.memory -= self.memory;
            if held.messages == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

/// Above this, a message waits for its end in an unnamed temporary file.
const MAX_IN_MEMORY: u64 = 256 * 1024;
/// Messages of one client share so much memory: what is more goes to the disk.
const MAX_MEMORY_OF_CLIENT: u64 = 1024 * 1024;
/// And those of all clients so much.
const MAX_MEMORY_IN_ALL: u64 = 64 * 1024 * 1024;
/// Messages of one client that have not ended: each holds a buffer, and may hold a file.
pub(crate) const MAX_UNFINISHED: usize = 256;
/// Long messages that may be under way at once, each as long as one may be: more could fill the disk.
const MAX_LONG_MESSAGES: u64 = 2;
/// Where messages may only be short, many of them are no burden.
const MIN_FOR_CLIENT: u64 = 16 * 1024 * 1024;
const MIN_IN_ALL: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn begin<'a>(budget: &'a Budget, client: &str) -> Share<'a> {
        budget.begin(key(client)).unwrap()
    }

    fn key(client: &str) -> QuotaKey {
        QuotaKey::Client(client.into())
    }

    #[test]
    fn memory_is_shared_by_the_messages_of_a_client() {
        let budget = Budget::new(1 << 32);
        let mut small: Vec<_> = (0..MAX_UNFINISHED).map(|_| begin(&budget, "a")).collect();
        let rooms: Vec<Room> = small.iter_mut().map(|share| share.grow(16 * KIB).unwrap()).collect();
        assert_eq!(rooms.iter().filter(|room| **room == Room::Memory).count(), 64);
        assert!(budget.begin(key("a")).is_none());
        // Another client is not affected.
        let mut other = begin(&budget, "b");
        assert_eq!(other.grow(256 * KIB), Ok(Room::Memory));
        assert_eq!(other.grow(1), Ok(Room::Disk));
        assert_eq!(other.grow(1), Ok(Room::Disk));
        assert_eq!(other.len(), 256 * 1024 + 2);
        assert!(budget.taken().memory <= MAX_MEMORY_OF_CLIENT);
        drop((small, other));
        let taken = budget.taken();
        assert_eq!((taken.bytes, taken.memory, taken.by_client.len()), (0, 0, 0));
    }

    #[test]
    fn a_client_takes_the_disk_from_nobody_else() {
        let budget = Budget::new(1 << 30);
        let gib = 1 << 30;
        let (mut first, mut second) = (begin(&budget, "a"), begin(&budget, "a"));
        assert_eq!(first.grow(gib), Ok(Room::Disk));
        assert_eq!(second.grow(1), Err(NoRoom::OfClient(1 << 30)));
        let mut other = begin(&budget, "b");
        assert_eq!(other.grow(gib), Ok(Room::Disk));
        assert_eq!(begin(&budget, "c").grow(1), Err(NoRoom::InAll(1 << 31)));
        drop(first);
        assert_eq!(second.grow(1), Ok(Room::Memory));
    }

    #[test]
    fn memory_in_all_has_an_end() {
        let budget = Budget::new(1 << 32);
        let mut shares: Vec<_> = (0..1000).map(|number| begin(&budget, &number.to_string())).collect();
        for share in &mut shares {
            share.grow(256 * KIB).unwrap();
        }
        assert_eq!(budget.taken().memory, MAX_MEMORY_IN_ALL);
    }
}
