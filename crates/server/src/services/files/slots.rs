//! How many transfers there may be at once: each has threads of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use wire_protocol::message::ClientIdentity;

/// The transfers that are under way, by client.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Arc<Mutex<BTreeMap<ClientIdentity, usize>>>);

impl Slots {
    /// Counts a transfer of `client` until the result is dropped. `None` where there are as many as there may be, of this client or in
    /// all.
    pub(super) fn begin(&self, client: &ClientIdentity) -> Option<Slot> {
        let mut by_client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = by_client.get(client).copied().unwrap_or_default();
        if of_client >= MAX_PER_CLIENT || by_client.values().sum::<usize>() >= MAX_IN_ALL {
            return None;
        }
        by_client.insert(client.clone(), of_client + 1);
        Some(Slot { slots: self.clone(), client: client.clone() })
    }
}

/// The count of a transfer, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    client: ClientIdentity,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut by_client = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

/// Most transfers of one client: one with all the streams that it may have, and others beside it.
const MAX_PER_CLIENT: usize = 32;
/// Most transfers of all clients.
const MAX_IN_ALL: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_bounded_by_client_and_in_all() {
        let slots = Slots::default();
        let client = |name: usize| ClientIdentity::Psk(name.to_string());
        let mut held: Vec<_> = (0..MAX_PER_CLIENT).map(|_| slots.begin(&client(0)).unwrap()).collect();
        assert!(slots.begin(&client(0)).is_none());
        drop(held.pop());
        held.push(slots.begin(&client(0)).unwrap());
        for name in 1..=MAX_IN_ALL {
            held.extend(slots.begin(&client(name)));
        }
        assert_eq!(held.len(), MAX_IN_ALL);
        drop(held);
        assert!(slots.0.lock().unwrap().is_empty());
    }
}
