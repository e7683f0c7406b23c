//! Tells at once that the network of this machine has changed, or that the machine has slept, so that a client can dial
//! anew instead of waiting until a silent connection is given up.

mod sleep_detector;

#[cfg(target_os = "linux")]
mod netlink;
mod polling;
pub mod source;
pub mod suspend_clock;
pub mod system_network;

use std::future::{Future, pending};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::task::AbortOnDropHandle;

use self::sleep_detector::SleepDetector;
use self::source::{NetworkSource, NetworkState};
use self::suspend_clock::{SuspendClock, SystemSuspendClock};
use self::system_network::SystemNetwork;
use crate::network_path::NetworkPath;

/// What may have left connections dead without a sign on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// An address of this machine was added or removed; routes may have changed with it.
    AddressesChanged,
    /// Packets to other networks take another way than before, or a default route was removed for a moment.
    RoutesChanged,
    /// The machine was suspended, or this process was stopped. The network may have changed meanwhile.
    WokeUp {
        /// How long: exact for a suspended machine, for a stopped process up to a second less than it was.
        asleep: Duration,
    },
}

impl Disturbance {
    /// Whether a connection on this path is likely to be dead by it. One without a path is on this machine.
    #[must_use]
    pub fn outdates(&self, path: Option<&NetworkPath>) -> bool {
        match self {
            Self::WokeUp { asleep } if *asleep >= LONG_ASLEEP => path.is_some(),
            // The network may have changed meanwhile.
            Self::AddressesChanged | Self::RoutesChanged | Self::WokeUp { .. } => {
                path.is_some_and(NetworkPath::has_moved)
            }
        }
    }
}

/// A task that observes the network and the sleep of this machine. One serves the whole program, and ends when it is
/// dropped. While nothing happens its task is woken once a second.
///
/// A machine whose virtual clocks were stopped with it, as by some hypervisors, wakes up unnoticed.
#[derive(Debug)]
pub struct NetworkMonitor {
    latest: watch::Receiver<Option<Disturbance>>,
    _task: AbortOnDropHandle<()>,
}

impl NetworkMonitor {
    /// Observes the system's network and clocks.
    ///
    /// # Panics
    /// Outside of a tokio runtime whose I/O and time are enabled.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(SystemNetwork::open(), SystemSuspendClock::new())
    }

    /// Observes what it is given instead, by tokio's clock. What changes after this call is noticed.
    ///
    /// # Panics
    /// Outside of a tokio runtime whose time is enabled.
    #[must_use]
    pub fn start_with(mut network: impl NetworkSource, clock: impl SuspendClock) -> Self {
        let (publisher, latest) = watch::channel(None);
        let (known, suspended) = (network.state().ok(), clock.suspended());
        let task = tokio::spawn(Observer { network, clock, known, suspended, publisher }.run());
        Self { latest, _task: AbortOnDropHandle::new(task) }
    }

    /// The disturbances from now on, for one listener of any number.
    #[must_use]
    pub fn disturbances(&self) -> Disturbances {
        let mut latest = self.latest.clone();
        latest.mark_unchanged();
        Disturbances { latest }
    }

    /// Waits, from now on, for a disturbance by which a connection on this path is likely to be dead.
    pub fn outdated(&self, path: Option<NetworkPath>) -> impl Future<Output = ()> + Send + use<> {
        let mut disturbances = self.disturbances();
        async move { while !disturbances.changed().await.outdates(path.as_ref()) {} }
    }
}

/// The disturbances that one listener learns of. A clone learns of the one, too, that this listener has not been told yet.
#[derive(Debug, Clone)]
pub struct Disturbances {
    latest: watch::Receiver<Option<Disturbance>>,
}

impl Disturbances {
    /// Waits for a disturbance. Of several since the last call only the latest is told. When the monitor has ended this
    /// waits for ever. Cancellation loses nothing.
    pub async fn changed(&mut self) -> Disturbance {
        while self.latest.changed().await.is_ok() {
            if let Some(disturbance) = *self.latest.borrow_and_update() {
                return disturbance;
            }
        }
        pending().await
    }
}

/// What the task of a monitor holds.
struct Observer<N, C> {
    network: N,
    clock: C,
    /// The last state that could be read.
    known: Option<NetworkState>,
    /// What the clock said at the start.
    suspended: Duration,
    publisher: watch::Sender<Option<Disturbance>>,
}

impl<N: NetworkSource, C: SuspendClock> Observer<N, C> {
    async fn run(mut self) {
        let mut tick = interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut detector = SleepDetector::new(CHECK_EVERY, Instant::now(), self.suspended);
        let mut is_due = self.known.is_none();
        loop {
            tokio::select! {
                _ = tick.tick() => is_due |= self.network.is_polled(),
                () = self.network.notified() => {
                    // A change comes as a burst of notifications, which are read together.
                    sleep(SETTLE).await;
                    is_due = true;
                }
            }
            let asleep = detector.check(Instant::now(), self.clock.suspended());
            let mut disturbance = asleep.map(|asleep| Disturbance::WokeUp { asleep });
            if is_due || disturbance.is_some() {
                match self.network.state() {
                    Ok(state) => {
                        let change = self.known.as_ref().and_then(|known| difference(known, &state));
                        disturbance = disturbance.or(change);
                        self.known = Some(state);
                        is_due = false;
                    }
                    // The state is read again at the next tick.
                    Err(error) => {
                        tracing::debug!(%error, "the state of the network cannot be read");
                        is_due = true;
                    }
                }
            }
            if let Some(disturbance) = disturbance {
                tracing::debug!(?disturbance, "connections may be dead");
                self.publisher.send_replace(Some(disturbance));
            }
        }
    }
}

/// What leads from one state to the other. A change of addresses comes before one of routes, which it causes.
fn difference(before: &NetworkState, after: &NetworkState) -> Option<Disturbance> {
    if (&before.addresses, before.removed_addresses) != (&after.addresses, after.removed_addresses) {
        Some(Disturbance::AddressesChanged)
    } else if before != after {
        Some(Disturbance::RoutesChanged)
    } else {
        None
    }
}

/// A machine that has slept for so long has lost its connections: their other sides, and what is in between, have heard nothing of
/// them for as long, and a client of resumable streams itself takes that for the end ([`RESUMABLE_SILENCE`]).
///
/// [`RESUMABLE_SILENCE`]: wire_protocol::channel::RESUMABLE_SILENCE
const LONG_ASLEEP: Duration = Duration::from_secs(10);

/// How often the clocks are compared, and the network where nothing is notified.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The pause between a notification and reading the state: longer than a burst, and short to whom it concerns.
const SETTLE: Duration = Duration::from_millis(200);
