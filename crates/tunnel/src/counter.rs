//! A counter of things of one kind that exist now, such as open streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts things that exist now, such as open streams. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// One more, until it is dropped.
    #[must_use = "dropped at once, it is not counted"]
    pub fn begin(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps one thing counted by a [`Counter`] until it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_not_counted() {
        let counter = Counter::default();
        let (first, second) = (counter.begin(), counter.begin());
        assert_eq!(counter.count(), 2);
        drop(first);
        assert_eq!(counter.count(), 1);
        drop(second);
        assert_eq!(counter.count(), 0);
    }
}
