//! What stops a transfer, and slows it down: the control that all its streams have in common.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::files::control::{Control, most_at_rate};
use ::files::error::Error;
use cli_support::wakeable::Waker;
use tunnel::socket::BlockingSocket;
use wire_protocol::message::MAX_DATA_LEN;

/// Stops a transfer from elsewhere. Clones stop the same one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_stopped: AtomicBool,
    held: Mutex<Held>,
}

/// What the threads of the transfer may wait for.
#[derive(Debug, Default)]
struct Held {
    sockets: Vec<BlockingSocket>,
    input: Option<Waker>,
}

impl Stop {
    /// Has the transfer end soon, in a state in which the same one can go on later.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::SeqCst);
        let mut held = self.held();
        for socket in held.sockets.drain(..) {
            socket.shut_down();
        }
        held.input = None;
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::SeqCst)
    }

    /// Shuts `socket` down with the stop.
    pub(super) fn add_socket(&self, socket: BlockingSocket) {
        let mut held = self.held();
        if self.is_stopped() {
            socket.shut_down();
        } else {
            held.sockets.push(socket);
        }
    }

    /// Ends the reads of an input with the stop.
    pub(super) fn add_input(&self, waker: Waker) {
        let mut held = self.held();
        if !self.is_stopped() {
            held.input = Some(waker);
        }
    }

    /// Lets the sockets go without a stop.
    pub(super) fn forget_sockets(&self) {
        self.held().sockets.clear();
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops a transfer that is given up while it begins.
#[derive(Debug)]
pub(super) struct StopOnDrop(Option<Stop>);

impl StopOnDrop {
    pub(super) fn new(stop: Stop) -> Self {
        Self(Some(stop))
    }

    /// Lets the transfer go on.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(stop) = &self.0 {
            stop.stop();
        }
    }
}

/// The control of a transfer's streams: its stop, and a rate that they share.
#[derive(Debug)]
pub(super) struct Pace {
    stop: Stop,
    rate: Option<NonZeroU64>,
    /// When the next bytes may pass.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(stop: Stop, rate: Option<NonZeroU64>) -> Self {
        Self { stop, rate, next: Mutex::default() }
    }

    /// Until when bytes have to wait that were moved at `now`. Unused time is no credit.
    fn book(&self, bytes: usize, rate: NonZeroU64, now: Instant) -> Instant {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let taken = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let booked = next.map_or(now, |next| next.max(now)) + taken;
        *next = Some(booked);
        booked
    }
}

impl Control for Pace {
    fn moved(&self, bytes: usize) -> Result<(), Error> {
        let until = self.rate.map(|rate| self.book(bytes, rate, Instant::now()));
        loop {
            if self.stop.is_stopped() {
                return Err(Error::Stopped);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(STOP_INTERVAL));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    fn most_at_once(&self) -> usize {
        self.rate.map_or(MAX_DATA_LEN, most_at_rate)
    }
}

/// How often a stop is looked for in a pause.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rate: u64) -> Pace {
        Pace::new(Stop::default(), NonZeroU64::new(rate))
    }

    #[test]
    fn streams_share_the_rate_and_unused_time_is_no_credit() {
        let pace = at(1000);
        let rate = NonZeroU64::new(1000).unwrap();
        let begun = Instant::now();
        assert_eq!(pace.book(500, rate, begun), begun + Duration::from_millis(500));
        assert_eq!(pace.book(250, rate, begun), begun + Duration::from_millis(750));
        let later = begun + Duration::from_secs(60);
        assert_eq!(pace.book(1000, rate, later), later + Duration::from_secs(1));
        pace.book(usize::MAX, rate, later);
    }

    #[test]
    fn a_stop_ends_a_pause_and_what_comes_later() {
        let pace = Arc::new(at(1));
        let waiting = thread::spawn({
            let pace = Arc::clone(&pace);
            move || pace.moved(3600)
        });
        pace.stop.stop();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Stopped)));
        assert!(pace.is_stopped());
        assert!(matches!(at(1).moved(0), Ok(())));
        assert!(matches!(pace.moved(0), Err(Error::Stopped)));
    }
}
