//! How often each kind of event has happened in all schedules: a test that never cuts says nothing of cuts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts by what was counted.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub(super) fn add(&self, what: &'static str, count: usize) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += u64::try_from(count).unwrap_or(u64::MAX);
    }

    /// Checks that each of these has happened at least so often.
    pub(super) fn check(&self, all: &[&'static str], least: u64) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{counts:#?}");
        for what in all {
            let count = counts.get(what).copied().unwrap_or_default();
            assert!(count >= least, "{what}: {count} times, which is less than {least}");
        }
    }
}
