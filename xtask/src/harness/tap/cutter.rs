//! Resets all connections through a tap, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::harness::tap::Tap;

/// A thread that cuts, until this goes out of scope.
pub(crate) struct Cutter {
    cuts: Arc<AtomicUsize>,
    _stop: Sender<()>,
}

impl Cutter {
    /// Resets what goes through `tap` at this interval.
    pub(crate) fn start(tap: &Arc<Tap>, interval: Duration) -> Self {
        let (tap, cuts) = (Arc::clone(tap), Arc::new(AtomicUsize::new(0)));
        let (stop, stopped) = channel();
        let counting = Arc::clone(&cuts);
        thread::spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if tap.reset() > 0 {
                    counting.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { cuts, _stop: stop }
    }

    /// How often there was something to cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}
