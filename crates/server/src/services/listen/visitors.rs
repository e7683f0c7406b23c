//! Visitors: whoever has come in by a lease and is not on a channel yet. Each has a descriptor, and all leases together have
//! no more of them than the process can spare.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The descriptors that there are for visitors. Half of them is for those that were accepted and wait for one of the other
/// half: one for each lease, which bounds how many leases there are.
#[derive(Debug)]
pub(super) struct Visitors {
    leases: Arc<Semaphore>,
    visitors: Arc<Semaphore>,
    share: usize,
}

/// A descriptor of a visitor's, until it is dropped.
pub(super) type Visitor = OwnedSemaphorePermit;

impl Visitors {
    /// So many in all.
    pub(super) fn new(most: usize) -> Self {
        let half = (most / 2).max(1);
        let semaphore = || Arc::new(Semaphore::new(half));
        Self { leases: semaphore(), visitors: semaphore(), share: (half / SHARES).max(1) }
    }

    /// How many visitors one lease may have at once: what it cannot have others can.
    pub(super) fn share(&self) -> usize {
        self.share
    }

    /// What [`Visitors::visitor`] waits for.
    pub(super) fn descriptors(&self) -> Arc<Semaphore> {
        Arc::clone(&self.visitors)
    }

    /// What another lease needs; `None` where there is none left.
    pub(super) fn lease(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.leases).try_acquire_owned().ok()
    }

    /// Waits until there is a descriptor for one more. Leases have their turn.
    pub(super) async fn visitor(&self) -> Option<Visitor> {
        Arc::clone(&self.visitors).acquire_owned().await.ok()
    }

    /// As [`Visitors::visitor`] without waiting, for what somebody who is here needs besides.
    pub(super) fn try_visitor(&self) -> Option<Visitor> {
        Arc::clone(&self.visitors).try_acquire_owned().ok()
    }
}

/// It takes so many leases with all the visitors that they can have to use all descriptors up.
const SHARES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn descriptors_of_visitors_are_bounded_and_no_lease_has_all() {
        let visitors = Visitors::new(120);
        assert_eq!(visitors.share(), 15);
        let leases: Vec<_> = std::iter::from_fn(|| visitors.lease()).collect();
        assert_eq!(leases.len(), 60);
        let all: Vec<_> = std::iter::from_fn(|| visitors.try_visitor()).collect();
        assert_eq!(all.len(), 60);
        drop((leases, all));
        assert!(visitors.lease().is_some() && visitors.visitor().await.is_some());
        let least = Visitors::new(1);
        assert!(least.share() == 1 && least.lease().is_some() && least.try_visitor().is_some());
    }
}
