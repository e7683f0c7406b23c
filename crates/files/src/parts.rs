//! The meeting of the streams of one transfer: what comes last goes on the first stream, once the others have brought all of theirs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::control::Control;
use crate::error::Error;

/// One stream's end of the meeting. Dropped before [`Rendezvous::arrive`], its stream counts as failed.
#[derive(Debug)]
pub struct Rendezvous {
    shared: Arc<Shared>,
    is_first: bool,
    has_arrived: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The streams behind the first one.
#[derive(Debug, Clone, Copy)]
struct State {
    awaited: u16,
    failed: u16,
}

impl Rendezvous {
    /// One for each of `count` streams, the first one's first.
    #[must_use]
    pub fn new(count: u16) -> Vec<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { awaited: count.saturating_sub(1), failed: 0 }),
            changed: Condvar::new(),
        });
        (0..count)
            .map(|index| Self { shared: Arc::clone(&shared), is_first: index == 0, has_arrived: false })
            .collect()
    }

    /// That of a transfer with one stream.
    #[must_use]
    pub fn alone() -> Self {
        let shared = Shared { state: Mutex::new(State { awaited: 0, failed: 0 }), changed: Condvar::new() };
        Self { shared: Arc::new(shared), is_first: true, has_arrived: false }
    }

    /// Says that this stream has brought all of its files. The first one waits for the others then, until each has arrived or
    /// failed, and learns whether all have arrived; the others do not wait.
    ///
    /// # Errors
    /// [`Error::Stopped`] where `control` stops it.
    pub fn arrive(&mut self, control: &dyn Control) -> Result<bool, Error> {
        if !self.is_first {
            self.leave(false);
            return Ok(true);
        }
        self.has_arrived = true;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.awaited > 0 {
            if control.is_stopped() {
                return Err(Error::Stopped);
            }
            let waited = self.shared.changed.wait_timeout(state, STOP_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.failed == 0)
    }

    /// Counts this stream, once.
    fn leave(&mut self, has_failed: bool) {
        if self.has_arrived || self.is_first {
            return;
        }
        self.has_arrived = true;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.awaited = state.awaited.saturating_sub(1);
        state.failed += u16::from(has_failed);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        self.leave(true);
    }
}

/// How often a stop is looked for.
pub(crate) const STOP_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::control::Unlimited;

    #[test]
    fn the_first_waits_for_all_others() {
        let mut parts = Rendezvous::new(4).into_iter();
        let mut first = parts.next().unwrap();
        let arrived = AtomicUsize::new(0);
        thread::scope(|scope| {
            for mut part in parts {
                let arrived = &arrived;
                scope.spawn(move || {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    assert!(part.arrive(&Unlimited).unwrap());
                });
            }
            assert!(first.arrive(&Unlimited).unwrap());
            assert_eq!(arrived.load(Ordering::SeqCst), 3);
        });
    }

    #[test]
    fn what_is_dropped_has_failed_and_holds_nothing_up() {
        let mut parts = Rendezvous::new(3);
        let mut second = parts.remove(1);
        drop(parts.pop());
        second.arrive(&Unlimited).unwrap();
        // Neither a second arrival nor the drop behind it counts again.
        second.arrive(&Unlimited).unwrap();
        drop(second);
        assert!(!parts[0].arrive(&Unlimited).unwrap());
    }

    #[test]
    fn one_stream_meets_nobody() {
        assert!(Rendezvous::alone().arrive(&Unlimited).unwrap());
        assert!(Rendezvous::new(1).remove(0).arrive(&Unlimited).unwrap());
    }

    #[test]
    fn a_stop_ends_the_wait() {
        struct Stopped;
        impl Control for Stopped {
            fn moved(&self, _: usize) -> Result<(), Error> {
                Err(Error::Stopped)
            }
            fn is_stopped(&self) -> bool {
                true
            }
        }
        let mut parts = Rendezvous::new(2);
        assert!(matches!(parts[0].arrive(&Stopped), Err(Error::Stopped)));
    }
}
