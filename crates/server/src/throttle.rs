//! Throttles: limits on the bytes per second of a client over all its channels, separately for streams and
//! datagrams.
//!
//! Existing crates do not fit: with leaky-bucket a task that comes again at once overtakes those that wait, and
//! with governor all tasks try again at the same time. Here each task books the next free time and waits for it.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tunnel::drops::DropReason;
use wire_protocol::record::batch;
use wire_protocol::stream::{Direction, Pace};

use crate::meter::Meter;

/// The throttle of a client, which all its channels share. Its rate may change at any time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttle(Arc<Shared>, Meter);

#[derive(Debug, Default)]
struct Shared {
    /// Bytes per second; 0 for no limit.
    rate: AtomicU64,
    streams: Schedule,
    datagrams: Schedule,
}

/// The time at which the next bytes may pass. `None` before the first bytes.
#[derive(Debug, Default)]
struct Schedule(Mutex<Option<Instant>>);

impl Throttle {
    /// Sets the rate. A task that waits already keeps the time that it has booked.
    pub(crate) fn set_rate(&self, rate: Option<NonZeroU64>) {
        let rate = rate.map_or(0, NonZeroU64::get);
        if self.0.rate.swap(rate, Ordering::Relaxed) != rate {
            self.0.streams.clear();
            self.0.datagrams.clear();
        }
    }

    /// The same throttle, for a channel whose bytes `meter` counts.
    pub(crate) fn metered(&self, meter: Meter) -> Self {
        Self(Arc::clone(&self.0), meter)
    }

    /// The rate, if there is one.
    pub(crate) fn rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.rate.load(Ordering::Relaxed))
    }

    /// Notes a datagram of `datagram` bytes, which may pass now in a direction.
    ///
    /// # Errors
    /// The datagram comes too soon for the rate, and is to be dropped.
    pub(crate) fn admit(&self, datagram: usize, direction: Direction) -> Result<(), DropReason> {
        match self.rate() {
            Some(rate) if !self.0.datagrams.takes(datagram, rate) => Err(DropReason::Rate(rate.get())),
            _ => {
                self.1.add_datagram(datagram, direction);
                Ok(())
            }
        }
    }

    /// Returns whether other clones of the throttle exist.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Pace for Throttle {
    fn note(&self, bytes: usize, direction: Direction) -> Option<Instant> {
        self.1.add(bytes, direction);
        self.rate().and_then(|rate| self.0.streams.book(bytes, rate))
    }

    fn records(&self) -> usize {
        if self.rate().is_some() { 1 } else { batch() }
    }
}

impl Schedule {
    /// Books the time that `bytes` take after all earlier bookings. Returns the time until which the sender has to
    /// wait, or `None` where it need not wait.
    fn book(&self, bytes: usize, rate: NonZeroU64) -> Option<Instant> {
        let now = Instant::now();
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let booked = next.map_or(now, |next| next.max(now)) + time(bytes, rate);
        *next = Some(booked);
        booked.checked_sub(BURST).filter(|moment| *moment > now)
    }

    /// Books as [`Schedule::book`] does, unless more than a burst is booked already, and returns whether it did.
    fn takes(&self, bytes: usize, rate: NonZeroU64) -> bool {
        let now = Instant::now();
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = next.map_or(now, |next| next.max(now));
        let takes = free < now + BURST;
        if takes {
            *next = Some(free + time(bytes, rate));
        }
        takes
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The time that `bytes` take, at most an hour.
fn time(bytes: usize, rate: NonZeroU64) -> Duration {
    let nanoseconds =
        u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).min(Duration::from_secs(3600))
}

/// The bytes that may pass at once after a pause, in time: short enough for an even flow, long enough to cost
/// little.
const BURST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(rate: u64) -> Throttle {
        let throttle = Throttle::default();
        throttle.set_rate(NonZeroU64::new(rate));
        throttle
    }

    /// Sends `bytes` at a time as often as the throttle permits, and counts the bytes that were sent.
    async fn send(throttle: Throttle, bytes: usize, until: Instant) -> usize {
        let mut sent = 0;
        while Instant::now() < until {
            sent += bytes;
            if let Some(moment) = throttle.note(bytes, Direction::Sent) {
                tokio::time::sleep_until(moment).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn streams_share_the_rate_evenly_however_many_there_are() {
        let shared = throttle(1_000_000);
        let until = Instant::now() + Duration::from_secs(20);
        let streams: Vec<_> = (0..10).map(|_| tokio::spawn(send(shared.clone(), 16_384, until))).collect();
        let mut sent = Vec::new();
        for stream in streams {
            sent.push(stream.await.unwrap());
        }
        let all: usize = sent.iter().sum();
        assert!((20_000_000..20_300_000).contains(&all), "{sent:?}");
        assert!(sent.iter().all(|sent| (1_950_000..2_100_000).contains(sent)), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_changes_counts_at_once() {
        let shared = throttle(1000);
        assert_eq!(shared.records(), 1);
        assert!(
            shared
                .note(100_000, Direction::Sent)
                .is_some_and(|moment| moment > Instant::now() + Duration::from_secs(99))
        );
        shared.set_rate(NonZeroU64::new(1_000_000));
        assert!(
            shared
                .note(100_000, Direction::Sent)
                .is_some_and(|moment| moment < Instant::now() + Duration::from_secs(1))
        );
        shared.set_rate(None);
        assert_eq!((shared.note(usize::MAX, Direction::Received), shared.records()), (None, batch()));
    }
}
