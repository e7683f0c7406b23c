//! Counts what streams carry in each direction, for a program that tells how much that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use wire_protocol::record::batch;
use wire_protocol::stream::{Direction, Pace};

/// Counts the bytes and datagrams of all streams. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    bytes: Pair,
    datagrams: Pair,
}

/// A number for each direction.
#[derive(Debug, Default)]
struct Pair {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Pair {
    fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Received => &self.received,
            Direction::Sent => &self.sent,
        }
    }
}

impl Traffic {
    /// The bytes that have passed in a direction, datagrams included. Up to [`MAX_HELD_BACK`] bytes of each stream that is open
    /// may be missing.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.0.bytes.of(direction).load(Ordering::Relaxed)
    }

    /// The datagrams that have passed in a direction.
    #[must_use]
    pub fn datagrams(&self, direction: Direction) -> u64 {
        self.0.datagrams.of(direction).load(Ordering::Relaxed)
    }

    /// Counts a datagram.
    pub fn note_datagram(&self, len: usize, direction: Direction) {
        self.0.datagrams.of(direction).fetch_add(1, Ordering::Relaxed);
        self.note_bytes(len, direction);
    }

    /// Counts bytes of a connection.
    pub fn note_bytes(&self, len: usize, direction: Direction) {
        self.add(u64::try_from(len).unwrap_or(u64::MAX), direction);
    }

    /// What counts the bytes of one connection.
    #[must_use]
    pub fn connection(&self) -> ConnectionTraffic {
        ConnectionTraffic(Arc::new(Held { all: self.clone(), held: Pair::default() }))
    }

    fn add(&self, bytes: u64, direction: Direction) {
        self.0.bytes.of(direction).fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Counts the bytes of one connection, and adds them up before it tells the count of all: that one is written to by many threads.
#[derive(Debug, Clone)]
pub struct ConnectionTraffic(Arc<Held>);

#[derive(Debug)]
struct Held {
    all: Traffic,
    held: Pair,
}

impl Held {
    fn tell(&self, direction: Direction) {
        self.all.add(self.held.of(direction).swap(0, Ordering::Relaxed), direction);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tell(Direction::Received);
        self.tell(Direction::Sent);
    }
}

impl Pace for ConnectionTraffic {
    fn note(&self, bytes: usize, direction: Direction) -> Option<Instant> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.0.held.of(direction).fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > MAX_HELD_BACK
        {
            self.0.tell(direction);
        }
        None
    }

    fn records(&self) -> usize {
        batch()
    }
}

/// Bytes of a connection and direction that the count of all may be behind.
pub const MAX_HELD_BACK: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_counted_once_and_at_the_end_at_the_latest() {
        let traffic = Traffic::default();
        let connection = traffic.connection();
        let other = connection.clone();
        for _ in 0..3 {
            assert_eq!(connection.note(500_000, Direction::Sent), None);
        }
        other.note(7, Direction::Received);
        traffic.note_datagram(100, Direction::Received);
        assert_eq!((traffic.bytes(Direction::Sent), traffic.bytes(Direction::Received)), (1_500_000, 100));
        drop(connection);
        other.note(1, Direction::Sent);
        drop(other);
        assert_eq!((traffic.bytes(Direction::Sent), traffic.bytes(Direction::Received)), (1_500_001, 107));
        assert_eq!((traffic.datagrams(Direction::Sent), traffic.datagrams(Direction::Received)), (0, 1));
    }
}
