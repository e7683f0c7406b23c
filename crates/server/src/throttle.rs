//! Throttles: limits on the bytes per second of a client over all its channels, separately for streams and
//! datagrams.
//!
//! Existing crates do not fit: with leaky-bucket a task that comes again at once overtakes those that wait, and
//! with governor all tasks try again at the same time. Here each task books the next free time and waits for it.

use std::future::Future as _;
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tunnel::drops::{DropReason, FlowDrops};
use wire_protocol::record::batch;
use wire_protocol::stream::{DatagramSocket, Dropped, Pace};

use crate::open::Meter;

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

    fn rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.rate.load(Ordering::Relaxed))
    }

    /// Returns whether a datagram may pass now. One that comes too soon is dropped.
    fn admits(&self, datagram: usize) -> bool {
        let admits = self.rate().is_none_or(|rate| self.0.datagrams.takes(datagram, rate));
        if admits {
            self.1.add(datagram);
        }
        admits
    }

    /// Returns whether other clones of the throttle exist.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Pace for Throttle {
    fn note(&self, bytes: usize) -> Option<Instant> {
        self.1.add(bytes);
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

/// The datagrams of a client. Those beyond its limit are dropped, and after `ended` no more are received.
#[derive(Debug)]
pub(crate) struct Throttled<D> {
    pub(crate) socket: D,
    pub(crate) throttle: Throttle,
    pub(crate) drops: FlowDrops,
    pub(crate) ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<D: DatagramSocket> DatagramSocket for Throttled<D> {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.poll_recv(cx, buf) {
                Poll::Ready(Ok(len)) if !self.throttle.admits(len) => self.note_excess(len),
                Poll::Pending if self.ended.as_mut().poll(cx).is_ready() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                polled => return polled,
            }
        }
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if self.throttle.admits(datagram.len()) {
            self.socket.try_send(datagram)
        } else {
            self.note_excess(datagram.len());
            Err(io::ErrorKind::QuotaExceeded.into())
        }
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
    }

    fn dropped(&mut self, len: usize, why: &Dropped<'_>) {
        // A datagram beyond the limit has been counted already.
        if !matches!(why, Dropped::NotTaken(error) if error.kind() == io::ErrorKind::QuotaExceeded) {
            self.socket.dropped(len, why);
        }
    }
}

impl<D> Throttled<D> {
    fn note_excess(&self, len: usize) {
        let rate = self.throttle.rate().map_or(0, NonZeroU64::get);
        self.drops.note(DropReason::Rate(rate), len);
    }
}

/// The bytes that may pass at once after a pause, in time: short enough for an even flow, long enough to cost
/// little.
const BURST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio_util::sync::CancellationToken;
    use tunnel::drops::DropCounter;

    use super::*;

    /// A socket that always has datagrams of 100 bytes, and takes all.
    #[derive(Debug)]
    struct Endless {
        left: usize,
    }

    impl DatagramSocket for Endless {
        fn poll_recv(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            if self.left == 0 {
                return Poll::Pending;
            }
            self.left -= 1;
            Poll::Ready(Ok(100))
        }

        fn try_send(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    fn throttle(rate: u64) -> Throttle {
        let throttle = Throttle::default();
        throttle.set_rate(NonZeroU64::new(rate));
        throttle
    }

    fn throttled(throttle: Throttle, left: usize) -> (Throttled<Endless>, CancellationToken) {
        let ended = CancellationToken::new();
        let socket = Throttled {
            socket: Endless { left },
            throttle,
            drops: DropCounter::default().flow("x".into()),
            ended: Box::pin(ended.clone().cancelled_owned()),
        };
        (socket, ended)
    }

    async fn received(socket: &mut Throttled<Endless>) -> usize {
        let mut count = 0;
        while let Ok(Ok(_)) =
            tokio::time::timeout(Duration::ZERO, poll_fn(|cx| socket.poll_recv(cx, &mut []))).await
        {
            count += 1;
        }
        count
    }

    /// Sends `bytes` at a time as often as the throttle permits, and counts the bytes that were sent.
    async fn send(throttle: Throttle, bytes: usize, until: Instant) -> usize {
        let mut sent = 0;
        while Instant::now() < until {
            sent += bytes;
            if let Some(moment) = throttle.note(bytes) {
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
        assert!(shared.note(100_000).is_some_and(|moment| moment > Instant::now() + Duration::from_secs(99)));
        shared.set_rate(NonZeroU64::new(1_000_000));
        assert!(shared.note(100_000).is_some_and(|moment| moment < Instant::now() + Duration::from_secs(1)));
        shared.set_rate(None);
        assert_eq!((shared.note(usize::MAX), shared.records()), (None, batch()));
    }

    #[tokio::test(start_paused = true)]
    async fn datagrams_beyond_the_limit_are_lost() {
        let rate = throttle(20_000);
        // A twentieth of a second's bytes pass at once: ten datagrams, both directions together.
        let (mut socket, _ended) = throttled(rate.clone(), 50);
        let dropped = DropCounter::default();
        socket.drops = dropped.flow("x".into());
        let sent = (0..50).filter(|_| socket.try_send(&[0; 100]).is_ok()).count();
        assert_eq!((sent, dropped.count()), (10, 40));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(received(&mut socket).await, 10);
        assert_eq!(dropped.count(), 80);
        // The relay reports the dropped datagram again, which must not count twice.
        let excess = io::Error::from(io::ErrorKind::QuotaExceeded);
        socket.dropped(100, &Dropped::NotTaken(&excess));
        assert_eq!(dropped.count(), 80);
        let (mut free, _ended) = throttled(Throttle::default(), 50);
        assert_eq!(received(&mut free).await, 50);
        // A datagram that is longer than a burst passes too, from time to time. Bookings of streams do not count.
        rate.note(1_000_000);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(socket.try_send(&[0; 16384]).is_ok());
        assert!(socket.try_send(&[0; 1]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_where_there_is_to_be_one() {
        let (mut socket, ended) = throttled(Throttle::default(), 1);
        assert_eq!(received(&mut socket).await, 1);
        ended.cancel();
        let error = poll_fn(|cx| socket.poll_recv(cx, &mut [])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
