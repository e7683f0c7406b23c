//! The account of one client in a running server: what is in the file, and what is not there yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::accounts::file::{Increment, Stored};
use crate::meter::Moved;
use crate::traffic_quota::TrafficQuota;

/// The account of a client, which all its channels share.
#[derive(Debug)]
pub(crate) struct Account {
    state: Mutex<State>,
    /// Whether the file cannot be used.
    is_unknown: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    stored: Stored,
    pending: Increment,
    quota: Option<TrafficQuota>,
    /// Whether the channels of the client were told that its quota is used up, and nothing has moved since.
    was_told: bool,
}

/// How much of a quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    /// When the period ends.
    pub(crate) until: Timestamp,
}

impl Account {
    pub(super) fn new(stored: Stored, is_unknown: Arc<AtomicBool>) -> Self {
        Self { state: Mutex::new(State { stored, ..State::default() }), is_unknown }
    }

    /// The client has moved this.
    pub(crate) fn add(&self, moved: Moved, now: Timestamp) {
        if moved == Moved::default() {
            return;
        }
        let mut state = self.state();
        // What moves beyond a quota has a channel that was not told: one that came between two periods, and was quicker.
        state.was_told = false;
        let pending = &mut state.pending;
        pending.received = pending.received.saturating_add(moved.received);
        pending.sent = pending.sent.saturating_add(moved.sent);
        pending.since.get_or_insert(now);
        pending.last_seen = Some(now);
    }

    /// The client has begun a stream.
    pub(crate) fn note_stream(&self) {
        self.state().pending.streams += 1;
    }

    /// A stream of the client was refused.
    pub(crate) fn note_refused(&self) {
        self.state().pending.refused += 1;
    }

    /// The client is in, and comes `from` there.
    pub(crate) fn note_seen(&self, from: &str, now: Timestamp) {
        let pending = &mut self.state().pending;
        pending.last_seen = Some(now);
        pending.from = Some(from.to_owned());
    }

    /// The quota that the client has now.
    pub(crate) fn set_quota(&self, quota: Option<TrafficQuota>) {
        let mut state = self.state();
        state.quota = quota;
        state.pending.period = quota.map(TrafficQuota::period);
    }

    /// How much of a quota is used; `None` where nobody knows, since the file cannot be used.
    pub(crate) fn usage(&self, quota: TrafficQuota, now: Timestamp) -> Option<Usage> {
        if self.is_unknown.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state();
        let window = state.stored.window_at(quota.period(), now);
        let since = window.map(|window| window.since).or(state.pending.since).unwrap_or(now);
        let used = window.map_or(0, |window| window.used);
        let bytes = used.saturating_add(state.pending.bytes());
        Some(Usage { bytes, until: since.checked_add(quota.period()).unwrap_or(Timestamp::MAX) })
    }

    /// Whether the quota of the client, if it has one, is used up since the last call, or has been and something moves all the
    /// same.
    pub(super) fn is_newly_used_up(&self, now: Timestamp) -> bool {
        let Some(quota) = self.state().quota else { return false };
        let is_used_up = self.usage(quota, now).is_none_or(|usage| usage.bytes >= quota.bytes());
        let before = std::mem::replace(&mut self.state().was_told, is_used_up);
        is_used_up && !before
    }

    pub(super) fn has_quota(&self) -> bool {
        self.state().quota.is_some()
    }

    /// What is not in the file yet.
    pub(super) fn pending(&self) -> Increment {
        self.state().pending.clone()
    }

    /// `written` of what was pending is in the file, which says `stored` now.
    pub(super) fn settle(&self, written: &Increment, stored: Stored) {
        let mut state = self.state();
        state.pending.subtract(written);
        state.stored = stored;
    }

    pub(super) fn stored(&self) -> Stored {
        self.state().stored.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account of a client, where it has one: clients that nobody has allowed have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccountHandle(pub(crate) Option<Arc<Account>>);

impl PartialEq for AccountHandle {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for AccountHandle {}
