//! A count for each value of its labels, which any thread may raise.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::label::Labels;

/// Counts events, separately for each value of the labels `L`. All start at 0, and are written from the start.
#[derive(Debug)]
pub struct Count<L: Labels = ()> {
    values: Box<[AtomicU64]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels> Count<L> {
    /// One more of `labels`.
    pub fn one(&self, labels: L) {
        self.add(labels, 1);
    }

    /// So many more of `labels`.
    pub fn add(&self, labels: L, count: u64) {
        if let Some(value) = self.values.get(labels.index()) {
            value.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many of `labels` there were.
    #[must_use]
    pub fn get(&self, labels: L) -> u64 {
        self.values.get(labels.index()).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    /// How many there were in all.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.values.iter().fold(0, |sum, value| sum.saturating_add(value.load(Ordering::Relaxed)))
    }
}

impl<L: Labels> Default for Count<L> {
    fn default() -> Self {
        let values = L::all().into_iter().map(|_| AtomicU64::new(0)).collect();
        Self { values, labels: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::label::{StreamKind, StreamOutcome};

    #[test]
    fn what_is_counted_is_counted_where_it_belongs() {
        let count = Count::<(StreamKind, StreamOutcome)>::default();
        count.one((StreamKind::Udp, StreamOutcome::Failed));
        count.add((StreamKind::Forwarded, StreamOutcome::Revoked), 41);
        assert_eq!(count.get((StreamKind::Udp, StreamOutcome::Failed)), 1);
        assert_eq!(count.get((StreamKind::Forwarded, StreamOutcome::Revoked)), 41);
        assert_eq!(count.get((StreamKind::Tcp, StreamOutcome::Completed)), 0);
        assert_eq!(count.sum(), 42);
    }
}
