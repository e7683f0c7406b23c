//! What applications have written and read, and whether that fits together.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tunnel::memory::Random;

/// One of the two applications of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// It has connected to a forward.
    Visitor,
    /// The forward leads to it.
    Target,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Visitor => Self::Target,
            Self::Target => Self::Visitor,
        }
    }
}

/// What is known of what one side has written.
#[derive(Debug, Clone, Default)]
pub(super) struct Direction {
    /// Bytes that its socket has taken.
    pub(super) written: usize,
    /// It has ended well, behind all of them.
    pub(super) has_ended: bool,
    /// Bytes that the other side has read.
    pub(super) read: usize,
    /// How reading has ended.
    pub(super) outcome: Option<Outcome>,
}

/// How reading has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    End,
    Error,
}

/// All connections of a schedule, by their number and the side that writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<BTreeMap<(u64, Side), Direction>>>);

impl Ledger {
    /// Notes something of what `side` writes on a connection.
    pub(super) fn note(&self, connection: u64, side: Side, change: impl FnOnce(&mut Direction)) {
        change(self.all().entry((connection, side)).or_default());
    }

    /// Checks bytes that have come from `side` on a connection, and counts them.
    ///
    /// # Panics
    /// Where they are others than were written there.
    pub(super) fn read(&self, connection: u64, side: Side, bytes: &[u8]) {
        let mut all = self.all();
        let direction = all.entry((connection, side)).or_default();
        let at = direction.read;
        assert!(
            at + bytes.len() <= direction.written,
            "connection {connection}: {} bytes of the {side:?} were read, and {} written",
            at + bytes.len(),
            direction.written
        );
        let expected = content(connection, side, at, bytes.len());
        assert!(bytes == expected, "connection {connection}: the {side:?} wrote something else at {at}");
        direction.read += bytes.len();
    }

    /// Checks that whatever has ended is whole.
    pub(super) fn check(&self) {
        for ((connection, side), direction) in &*self.all() {
            if direction.outcome == Some(Outcome::End) {
                assert!(
                    direction.has_ended && direction.read == direction.written,
                    "connection {connection}: what the {side:?} wrote seems to have ended: {direction:?}"
                );
            }
        }
    }

    /// Whether both directions of a connection have ended, and are whole.
    pub(super) fn is_complete(&self, connection: u64) -> bool {
        let all = self.all();
        [Side::Visitor, Side::Target].iter().all(|side| {
            all.get(&(connection, *side)).is_some_and(|direction| direction.outcome == Some(Outcome::End))
        })
    }

    /// Everything that is known of a connection.
    pub(super) fn show(&self, connection: u64) -> String {
        let all = self.all();
        let both = [Side::Visitor, Side::Target].map(|side| (side, all.get(&(connection, side))));
        format!("connection {connection}: {both:?}")
    }

    /// Bytes that were read.
    pub(super) fn bytes(&self) -> usize {
        self.all().values().map(|direction| direction.read).sum()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(u64, Side), Direction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `side` of a connection writes from `at` on: each place of each connection has bytes of its own.
pub(super) fn content(connection: u64, side: Side, at: usize, len: usize) -> Vec<u8> {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut random = Random::new(1);
        (0..PERIOD / 8 + 1).flat_map(|_| random.next_u64().to_le_bytes()).take(PERIOD).collect()
    });
    let start = usize::try_from(connection).unwrap_or_default() * 7919
        + at
        + if side == Side::Visitor { 0 } else { PERIOD / 2 };
    let mut content = Vec::with_capacity(len);
    let mut place = start % PERIOD;
    while content.len() < len {
        let part = (PERIOD - place).min(len - content.len());
        content.extend_from_slice(&NOISE[place..place + part]);
        place = 0;
    }
    content
}

/// A prime number, so that nothing that is lost or doubled is a multiple of it.
const PERIOD: usize = 65_521;
