//! What all forwards of the program share: permits, counters, and the end.

use std::sync::Arc;
use std::time::Instant;

use cli_support::admin::{Counts, Status};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::counter::Counter;
use tunnel::drops::DropCounter;
use tunnel::pool::MAX_WARM;

use crate::command::forward::event::Observer;
use crate::config::Forward;

/// What all forwards of the program share.
#[derive(Debug, Clone)]
pub(super) struct Tunnels {
    /// Nothing new is taken any more.
    pub(super) draining: CancellationToken,
    pub(super) tracker: TaskTracker,
    pub(super) streams: Counter,
    /// Channels on which the server may open a stream.
    pub(super) parked: Counter,
    pub(super) leases: Counter,
    pub(super) drops: DropCounter,
    /// Connections that are accepted here. Each needs a channel too: without a limit, those that wait for one would
    /// hold every descriptor that a channel could have.
    pub(super) accepted: Arc<Semaphore>,
    /// Channels that are parked, each of which needs a connection to its target.
    pub(super) parking: Arc<Semaphore>,
    /// How many permits each of the two has.
    room: usize,
    started: Instant,
    pub(super) observer: Observer,
}

impl Tunnels {
    /// For a process that may have `descriptors` open.
    pub(super) fn new(descriptors: usize, forwards: &[Forward], observer: Observer) -> Self {
        // Warm channels have theirs, where there are many.
        let reserved = RESERVED_DESCRIPTORS + MAX_WARM.min(descriptors / 8);
        let pairs = descriptors.saturating_sub(reserved) / 2;
        // Each kind has its share, so that neither can starve the other.
        let is_mixed = forwards.iter().any(|forward| !forward.remote.is_empty())
            && forwards.iter().any(|forward| !(forward.local.is_empty() && forward.dynamic.is_empty()));
        let room = if is_mixed { pairs / 2 } else { pairs }.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            accepted: Arc::new(Semaphore::new(room)),
            parking: Arc::new(Semaphore::new(room)),
            room,
            draining: CancellationToken::new(),
            tracker: TaskTracker::new(),
            streams: Counter::default(),
            parked: Counter::default(),
            leases: Counter::default(),
            drops: DropCounter::default(),
            started: Instant::now(),
            observer,
        }
    }

    /// Has `work` done, and the end of the program wait for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(work);
    }

    /// Checks, in builds for tests, that everything was given back with the last connection: a permit that is forgotten is
    /// missing for as long as the program runs.
    pub(super) fn assert_nothing_held(&self) {
        debug_assert_eq!(
            self.accepted.available_permits(),
            self.room,
            "permits of connections that are gone"
        );
        debug_assert_eq!(self.parking.available_permits(), self.room, "permits of channels that are gone");
        debug_assert_eq!(self.parked.count(), 0, "parked channels are counted that are gone");
    }

    /// What `status` shows, where the pools have so many `idle_channels`.
    pub(super) fn status(&self, idle_channels: usize) -> Status {
        let streams = self.streams.count();
        let idle_channels = idle_channels + self.parked.count();
        let channels = streams + idle_channels;
        let (leases, dropped_datagrams) = (self.leases.count(), self.drops.count());
        let counts = Counts { channels, streams, leases, idle_channels, dropped_datagrams };
        Status::of_this_process("client", self.started, counts)
    }
}

/// For everything but connections and their channels: listeners, a few warm channels, files for a moment.
const RESERVED_DESCRIPTORS: usize = 32;
