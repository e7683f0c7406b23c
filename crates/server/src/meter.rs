//! The meter of a channel: what its streams have moved in each direction.
//!
//! A relay adds to it what it has read or written at once, and nothing else happens then. What is made of that is settled now and
//! then: see [`OpenSessions`](crate::open::OpenSessions).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wire_protocol::stream::Direction;

/// Counts what the open stream of a channel moves. Clones are of the same channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// Not settled yet.
    received: AtomicU64,
    sent: AtomicU64,
    received_datagrams: AtomicU64,
    sent_datagrams: AtomicU64,
    /// Bytes of the open stream that are settled, both directions together.
    settled: AtomicU64,
    /// Bytes of all streams of the channel that are settled.
    all_received: AtomicU64,
    all_sent: AtomicU64,
}

/// What was moved, as the server sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Bytes from the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
    /// Datagrams from the client, whose bytes are among those above.
    pub(crate) received_datagrams: u64,
    /// Datagrams to the client.
    pub(crate) sent_datagrams: u64,
}

impl Meter {
    pub(crate) fn add(&self, bytes: usize, direction: Direction) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let count = match direction {
            Direction::Received => &self.0.received,
            Direction::Sent => &self.0.sent,
        };
        count.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_datagram(&self, len: usize, direction: Direction) {
        self.add(len, direction);
        let count = match direction {
            Direction::Received => &self.0.received_datagrams,
            Direction::Sent => &self.0.sent_datagrams,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes what was moved since the last call.
    pub(crate) fn settle(&self) -> Moved {
        let Counted { received, sent, received_datagrams, sent_datagrams, settled, all_received, all_sent } =
            &*self.0;
        let take = |count: &AtomicU64| match count.load(Ordering::Relaxed) {
            0 => 0,
            _ => count.swap(0, Ordering::Relaxed),
        };
        let moved = Moved {
            received: take(received),
            sent: take(sent),
            received_datagrams: take(received_datagrams),
            sent_datagrams: take(sent_datagrams),
        };
        all_received.fetch_add(moved.received, Ordering::Relaxed);
        all_sent.fetch_add(moved.sent, Ordering::Relaxed);
        settled.fetch_add(moved.received.saturating_add(moved.sent), Ordering::Relaxed);
        moved
    }

    /// Another stream begins. All of the last one has to be settled.
    pub(crate) fn begin_stream(&self) {
        self.0.settled.store(0, Ordering::Relaxed);
    }

    /// Bytes of all streams of the channel from the client, and to it, as far as they are settled.
    pub(crate) fn of_channel(&self) -> (u64, u64) {
        (self.0.all_received.load(Ordering::Relaxed), self.0.all_sent.load(Ordering::Relaxed))
    }

    /// Bytes of the open stream, both directions together.
    pub(crate) fn bytes(&self) -> u64 {
        let Counted { received, sent, settled, .. } = &*self.0;
        [received, sent, settled]
            .iter()
            .fold(0, |sum, count| sum.saturating_add(count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_is_settled_once() {
        let meter = Meter::default();
        meter.add(10, Direction::Received);
        meter.add_datagram(5, Direction::Sent);
        assert_eq!(meter.bytes(), 15);
        let moved = Moved { received: 10, sent: 5, received_datagrams: 0, sent_datagrams: 1 };
        assert_eq!((meter.settle(), meter.settle()), (moved, Moved::default()));
        meter.add(1, Direction::Received);
        assert_eq!(meter.bytes(), 16);
        meter.settle();
        meter.begin_stream();
        assert_eq!((meter.bytes(), meter.of_channel()), (0, (11, 5)));
    }
}
