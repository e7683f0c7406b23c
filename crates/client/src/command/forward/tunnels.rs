//! What all forwards of the program share: permits, counters, and the end.

use std::sync::Arc;
use std::time::Instant;

use cli_support::admin::{Counts, ForwardState, ResumptionState, ServerState, Status, TrafficState};
use cli_support::protection::protection;
use cli_support::status_server::MetricsFormat;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::counter::Counter;
use tunnel::drops::DropCounter;
use tunnel::network::Network;
use tunnel::network_monitor::NetworkMonitor;
use tunnel::pool::MAX_WARM;
use tunnel::resumptions::Resumptions;
use wire_protocol::message::Retention;
use wire_protocol::stream::{Direction, RetentionBudget};

use crate::command::forward::counts::{ForwardCounts, Gauges, Servers};
use crate::command::forward::event::Observer;
use crate::config::Forward;

/// What all forwards of the program share.
#[derive(Debug, Clone)]
pub(super) struct Tunnels {
    /// Nothing new is taken any more.
    pub(super) draining: CancellationToken,
    /// What is open is not waited for any longer: the server is told so.
    pub(super) ending: CancellationToken,
    pub(super) tracker: TaskTracker,
    pub(super) streams: Counter,
    /// Channels on which the server may open a stream.
    pub(super) parked: Counter,
    pub(super) leases: Counter,
    pub(super) drops: DropCounter,
    /// How connections outlive a lost connection to their server, and how often they have.
    pub(super) resumptions: Resumptions,
    /// What tells that channels are likely to be dead.
    pub(super) monitor: Option<Arc<NetworkMonitor>>,
    pub(super) counts: Arc<ForwardCounts>,
    /// Connections that are accepted here. Each needs a channel too: without a limit, those that wait for one would
    /// hold every descriptor that a channel could have.
    pub(super) accepted: Arc<Semaphore>,
    /// Channels that are parked, each of which needs a connection to its target.
    pub(super) parking: Arc<Semaphore>,
    /// How many permits each of the two has.
    room: usize,
    started: Instant,
    /// The forwards, as they are shown.
    forwards: Arc<[ForwardState]>,
    pub(super) observer: Observer,
}

impl Tunnels {
    /// For a process on `network` that may have `descriptors` open.
    pub(super) fn new(
        network: &Network,
        descriptors: usize,
        forwards: &[Forward],
        observer: Observer,
    ) -> Self {
        // Warm channels have theirs, where there are many.
        let reserved = RESERVED_DESCRIPTORS + MAX_WARM.min(descriptors / 8);
        let pairs = descriptors.saturating_sub(reserved) / 2;
        // Each kind has its share, so that neither can starve the other.
        let is_mixed = forwards.iter().any(|forward| !forward.remote.is_empty())
            && forwards.iter().any(|forward| !(forward.local.is_empty() && forward.dynamic.is_empty()));
        let room = if is_mixed { pairs / 2 } else { pairs }.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            forwards: forwards.iter().flat_map(Forward::states).collect(),
            accepted: Arc::new(Semaphore::new(room)),
            parking: Arc::new(Semaphore::new(room)),
            room,
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
            tracker: TaskTracker::new(),
            streams: Counter::default(),
            parked: Counter::default(),
            leases: Counter::default(),
            drops: DropCounter::default(),
            resumptions: Resumptions::new(Retention::default(), RetentionBudget::new(MAX_KEPT)),
            monitor: network.monitor(),
            counts: Arc::default(),
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

    /// The metrics, where the pools have so many `idle` channels, and are to so many `servers`.
    pub(super) fn metrics(&self, format: MetricsFormat, idle: usize, servers: Servers) -> String {
        let gauges = Gauges {
            started: self.started,
            idle,
            parked: self.parked.count(),
            leases: self.leases.count(),
            servers,
            dropped_datagrams: self.drops.count(),
            is_draining: self.draining.is_cancelled(),
            resumption: self.resumption(),
        };
        self.counts.write(format, gauges)
    }

    /// How it is with the streams that outlive their channels.
    fn resumption(&self) -> ResumptionState {
        let counts = &self.resumptions;
        ResumptionState {
            held: usize::try_from(counts.waiting()).unwrap_or(usize::MAX),
            kept: counts.kept(),
            resumed: counts.resumed(),
            lost: counts.lost(),
            longest_pause_ms: u64::try_from(counts.longest_pause().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What `status` shows, where the pools have so many `idle_channels`, and are to `servers`.
    pub(super) fn status(&self, idle_channels: usize, servers: Vec<ServerState>) -> Status {
        let streams = self.streams.count();
        let idle_channels = idle_channels + self.parked.count();
        let channels = streams + idle_channels;
        let (leases, dropped_datagrams) = (self.leases.count(), self.drops.count());
        let counts = Counts { channels, streams, leases, idle_channels, dropped_datagrams };
        let tasks = Handle::current().metrics().num_alive_tasks();
        Status {
            draining: self.draining.is_cancelled(),
            traffic: Some(TrafficState {
                received: self.counts.traffic.bytes(Direction::Received),
                sent: self.counts.traffic.bytes(Direction::Sent),
                ..TrafficState::default()
            }),
            resumption: Some(self.resumption()),
            refused: self.counts.refused(),
            protection: protection(),
            servers,
            forwards: self.forwards.to_vec(),
            ..Status::of_this_process("client", self.started, tasks, counts)
        }
    }
}

/// Bytes that are kept of all connections, so that they outlive a lost connection to their server.
const MAX_KEPT: u64 = 1 << 30;
/// For everything but connections and their channels: listeners, a few warm channels, files for a moment.
const RESERVED_DESCRIPTORS: usize = 32;
