//! Admission: who gets a place for a handshake, whose RSA is done first, and what a failure costs its source.
//!
//! ```text
//! accept --> penalties   a source that keeps failing is turned away
//!        --> places      handshakes under way: the oldest without a hello gives way
//!        --> queue       RSA: in turn by source network, and in time or not at all
//! ```
//!
//! Only garbage and failed proofs cost a source anything: a hello that is none, or one that has cost RSA and that nobody
//! stands by. The time that a client waits on the server, a connection that is closed before it has said anything, and a
//! handshake that succeeds are charged to nobody. Tickets and pre-shared keys
//! need no RSA, so that no queue holds them up.

pub(crate) mod fault;
mod penalties;
mod places;
mod queue;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wire_protocol::Error;
use wire_protocol::stream::{self, Operation, Progress};

use penalties::{Penalties, Reputation};
use places::Places;
use queue::{Class, RsaQueue};

use crate::descriptors::Shares;

/// How long a handshake may take, from the first byte to the last (section 8).
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// What counts as one source: an IPv4 address, or the /64 that an IPv6 host can take any address of; and the network
/// around it, which whoever has one address of it may well have more of: a /24, or a /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SourceNetwork {
    host: IpAddr,
    network: IpAddr,
}

impl From<IpAddr> for SourceNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let network = Ipv4Addr::from_bits(address.to_bits() & !0xff);
                Self { host: address.into(), network: network.into() }
            }
            IpAddr::V6(address) => {
                let prefix = |len: u32| Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> len));
                Self { host: prefix(64).into(), network: prefix(48).into() }
            }
        }
    }
}

/// The address that stands for a source in counts.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    SourceNetwork::from(address).host
}

/// Why a connection is not even listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too many handshakes are under way: the client may be told, and come back.
    Busy,
    /// The source has failed too often: it is told nothing.
    Penalized,
}

/// Everything that decides on handshakes.
#[derive(Debug)]
pub(crate) struct Admission {
    penalties: Mutex<Penalties>,
    places: Places,
    queue: RsaQueue,
}

impl Admission {
    /// With as many places as there are descriptors for.
    pub(crate) fn new(shares: &Shares) -> Self {
        let places = Places::new(shares.half_open, shares.leaving);
        // Those that wait for RSA leave places to those that need none.
        let queue = RsaQueue::new((shares.half_open / 2).max(1));
        Self { penalties: Mutex::default(), places, queue }
    }

    /// Takes up a place for a handshake, until what is returned is dropped. `source` is `None` for this machine itself,
    /// where one address stands for everybody: only the limit in all holds there.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn begin(self: &Arc<Self>, source: Option<IpAddr>, now: Instant) -> Result<HalfOpen, Turned> {
        let source = source.map(SourceNetwork::from);
        if self.reputation(source, now) == Reputation::Banned {
            return Err(Turned::Penalized);
        }
        // Without randomness, nothing is dropped early.
        let roll = getrandom::u32().unwrap_or(u32::MAX);
        let (place, evicted) = self.places.take(source, now, roll)?;
        Ok(HalfOpen {
            admission: Arc::clone(self),
            place,
            evicted,
            source,
            has_spoken: AtomicBool::new(false),
            has_said_hello: AtomicBool::new(false),
            has_been_worked_for: AtomicBool::new(false),
            has_cost_rsa: Arc::default(),
        })
    }

    /// Charges `source` for garbage, or for a proof that failed.
    pub(crate) fn charge(&self, source: Option<IpAddr>, now: Instant) {
        if let Some(source) = source {
            self.penalties().charge(host(source), now);
        }
    }

    /// An allowed client has come in from `source`.
    pub(crate) fn note_known(&self, source: Option<IpAddr>, now: Instant) {
        if let Some(source) = source {
            self.penalties().note_known(host(source), now);
        }
    }

    fn reputation(&self, source: Option<SourceNetwork>, now: Instant) -> Reputation {
        source.map_or(Reputation::Clean, |source| self.penalties().reputation(source.host, now))
    }

    fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.penalties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    admission: Arc<Admission>,
    place: u64,
    evicted: CancellationToken,
    source: Option<SourceNetwork>,
    has_spoken: AtomicBool,
    has_said_hello: AtomicBool,
    has_been_worked_for: AtomicBool,
    /// RSA was begun for it.
    has_cost_rsa: Arc<AtomicBool>,
}

impl HalfOpen {
    /// How far it has come, for [`fault::of`].
    pub(crate) fn reached(&self) -> fault::Reached {
        if self.has_cost_rsa.load(Ordering::Relaxed) {
            fault::Reached::Rsa
        } else if self.has_said_hello.load(Ordering::Relaxed) {
            fault::Reached::Hello
        } else if self.has_spoken.load(Ordering::Relaxed) {
            fault::Reached::FirstBytes
        } else {
            fault::Reached::Nothing
        }
    }

    fn class(&self) -> Class {
        // What was begun is finished first: it is cheap, and what has been done for it is lost otherwise.
        if self.has_been_worked_for.swap(true, Ordering::Relaxed) {
            return Class::Begun;
        }
        match self.admission.reputation(self.source, Instant::now()) {
            Reputation::Known => Class::Known,
            Reputation::Clean => Class::Clean,
            Reputation::Owing | Reputation::Banned => Class::Owing,
        }
    }
}

impl stream::Admission for HalfOpen {
    async fn execute(&self, operation: Operation) -> io::Result<()> {
        self.admission.places.begin_work(self.place);
        let has_cost_rsa = Arc::clone(&self.has_cost_rsa);
        let operation = Box::new(move || {
            has_cost_rsa.store(true, Ordering::Relaxed);
            operation();
        });
        let executed = self.admission.queue.execute(self.class(), self.source, operation).await;
        self.admission.places.answered(self.place);
        executed
    }

    fn note(&self, progress: Progress) {
        match progress {
            Progress::FirstBytes => self.has_spoken.store(true, Ordering::Relaxed),
            Progress::Hello => {
                self.has_said_hello.store(true, Ordering::Relaxed);
                self.admission.places.answered(self.place);
            }
        }
    }

    async fn given_up(&self) -> Error {
        self.evicted.cancelled().await;
        Error::Busy
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.admission.places.leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_source_is_an_address_or_a_64_in_its_24_or_48() {
        let source = |text: &str| SourceNetwork::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("192.0.2.1").network, source("192.0.2.254").network);
        assert_ne!(source("192.0.2.1").host, source("192.0.2.254").host);
        assert_ne!(source("192.0.2.1").network, source("192.0.3.1").network);
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::"));
        assert_ne!(source("2001:db8:1:2::").host, source("2001:db8:1:3::").host);
        assert_eq!(source("2001:db8:1:2::").network, source("2001:db8:1:3::").network);
        assert_ne!(source("2001:db8:1::").network, source("2001:db8:2::").network);
    }

    #[test]
    fn a_source_that_keeps_failing_is_turned_away_and_its_neighbors_are_not() {
        let admission = Arc::new(Admission::new(&Shares::of(65536)));
        let now = Instant::now();
        for _ in 0..7 {
            admission.charge(ip("192.0.2.1"), now);
            assert!(admission.begin(ip("192.0.2.1"), now).is_ok());
        }
        admission.charge(ip("192.0.2.1"), now);
        assert_eq!(admission.begin(ip("192.0.2.1"), now).unwrap_err(), Turned::Penalized);
        assert!(admission.begin(ip("192.0.2.2"), now).is_ok());
        assert!(admission.begin(None, now).is_ok());
        for host in 0..8 {
            admission.charge(ip(&format!("2001:db8::{host}")), now);
        }
        assert_eq!(admission.begin(ip("2001:db8::ffff"), now).unwrap_err(), Turned::Penalized);
        assert!(admission.begin(ip("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn this_machine_is_charged_for_nothing() {
        let admission = Arc::new(Admission::new(&Shares::of(65536)));
        let now = Instant::now();
        for _ in 0..100 {
            admission.charge(None, now);
        }
        assert!(admission.begin(None, now).is_ok());
    }
}
