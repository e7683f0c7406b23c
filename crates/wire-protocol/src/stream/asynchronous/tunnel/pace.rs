//! How fast a relay may go.

use tokio::time::Instant;

use crate::record::batch;

/// The way that bytes of a stream go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// A limit of bytes per second, which all streams of a peer may share.
pub trait Pace: Clone + Send + Sync + 'static {
    /// Takes note of bytes that have passed in a direction. Gives the moment before which no more may; a stream that is held up
    /// still gives signs of life.
    fn note(&self, bytes: usize, direction: Direction) -> Option<Instant>;

    /// The most records that are read at once, 1 to [`batch`]: fewer are fairer to other streams.
    fn records(&self) -> usize;
}

/// No limit.
impl Pace for () {
    fn note(&self, _: usize, _: Direction) -> Option<Instant> {
        None
    }

    fn records(&self) -> usize {
        batch()
    }
}

/// What a direction that has gone too fast waits for.
#[derive(Debug, Default)]
pub(super) struct Hold(Option<Instant>);

impl Hold {
    /// Holds the direction up until a moment, if there is one.
    pub(super) fn until(&mut self, moment: Option<Instant>) {
        self.0 = moment;
    }

    /// Whether the direction still has to wait.
    pub(super) fn lasts(&mut self) -> bool {
        self.0 = self.0.filter(|moment| Instant::now() < *moment);
        self.0.is_some()
    }

    /// When it ends.
    pub(super) fn end(&self) -> Option<Instant> {
        self.0
    }
}
