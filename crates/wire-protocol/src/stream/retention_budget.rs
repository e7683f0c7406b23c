//! The memory that resumable streams may take up in what they keep, for one client and for all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit of the bytes that streams keep together. Clones share it.
#[derive(Clone)]
pub struct RetentionBudget(Arc<Inner>);

struct Inner {
    limit: u64,
    used: AtomicU64,
    /// What is used here is used there as well.
    parent: Option<RetentionBudget>,
}

impl RetentionBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicU64::new(0), parent: None }))
    }

    /// A budget of `limit` bytes that are also used of this one.
    #[must_use]
    pub fn within(&self, limit: u64) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicU64::new(0), parent: Some(self.clone()) }))
    }

    /// The bytes that are used, or set aside for streams that are open.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether somebody else has this budget too, or a part of it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Sets aside what each resumable stream needs at least; `None` where it is not there: the stream cannot be resumable then.
    #[must_use]
    pub fn reserve(&self) -> Option<Reservation> {
        self.take(MIN_RESERVATION).then(|| Reservation { budget: self.clone(), bytes: MIN_RESERVATION })
    }

    fn take(&self, bytes: u64) -> bool {
        if !self.0.parent.as_ref().is_none_or(|parent| parent.take(bytes)) {
            return false;
        }
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.0.limit);
        let taken = self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !taken && let Some(parent) = &self.0.parent {
            parent.give_back(bytes);
        }
        taken
    }

    fn give_back(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.0.parent {
            parent.give_back(bytes);
        }
    }
}

impl fmt::Debug for RetentionBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetentionBudget").field("limit", &self.0.limit).field("used", &self.used()).finish()
    }
}

/// The part of a budget that one stream uses, which goes back when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: RetentionBudget,
    bytes: u64,
}

impl Reservation {
    /// Another one of the same budget, of nothing yet.
    pub(super) fn beside(&self) -> Self {
        Self { budget: self.budget.clone(), bytes: 0 }
    }

    /// Of nothing.
    pub(super) fn none() -> Self {
        Self { budget: RetentionBudget::new(0), bytes: 0 }
    }

    /// How many bytes it is of.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// Makes it at least so large; `false` where the budget does not have that much.
    pub(super) fn ensure(&mut self, bytes: usize) -> bool {
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX);
        let Some(missing) = wanted.checked_sub(self.bytes).filter(|missing| *missing > 0) else {
            return true;
        };
        let more = missing.next_multiple_of(STEP);
        if self.budget.take(more) {
            self.bytes += more;
            return true;
        }
        let taken = self.budget.take(missing);
        self.bytes += if taken { missing } else { 0 };
        taken
    }

    /// Makes it one of nothing.
    pub(super) fn release(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.bytes));
    }

    /// Makes it as large as `bytes` need, and not much larger.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let needed = u64::try_from(bytes).unwrap_or(u64::MAX).max(MIN_RESERVATION);
        let kept = if bytes == 0 { needed } else { needed.next_multiple_of(STEP) };
        if let Some(surplus) = self.bytes.checked_sub(kept).filter(|surplus| *surplus > 0) {
            self.budget.give_back(surplus);
            self.bytes = kept;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// What a stream always may keep: one record, so that it always goes on.
pub(super) const MIN_RESERVATION: u64 = 16 * 1024;
/// More is taken in pieces of this length, so that the count that all share is seldom written to.
const STEP: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn what_is_used_is_within_all_limits_and_comes_back() {
        let all = RetentionBudget::new(MIN_RESERVATION * 3);
        let [one, other] = [(); 2].map(|()| all.within(MIN_RESERVATION * 2));
        let held: Vec<_> = std::iter::from_fn(|| one.reserve()).collect();
        assert_eq!((held.len(), one.used(), all.used()), (2, 2 * MIN_RESERVATION, 2 * MIN_RESERVATION));
        let last = other.reserve().unwrap();
        assert!(other.reserve().is_none(), "there is no more in all");
        assert_eq!((other.used(), all.used()), (MIN_RESERVATION, 3 * MIN_RESERVATION));
        drop((held, last));
        assert_eq!((one.used(), other.used(), all.used()), (0, 0, 0));
    }

    #[test]
    fn a_reservation_grows_as_far_as_there_is_any_left() {
        let budget = RetentionBudget::new(600 * 1024);
        let (mut one, mut other) = (budget.reserve().unwrap(), budget.reserve().unwrap());
        assert!(one.ensure(300 * 1024));
        assert!(one.ensure(300 * 1024), "that much is there already");
        assert!(!other.ensure(400 * 1024));
        assert_eq!(other.bytes(), 16 * 1024);
        assert!(other.ensure(50 * 1024), "less than a step is left");
        one.shrink(0);
        assert!(other.ensure(400 * 1024));
        drop((one, other));
        assert_eq!(budget.used(), 0);
    }
}
