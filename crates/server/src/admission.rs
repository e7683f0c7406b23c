//! Admission: decides which connections get a permit for a handshake, the order of RSA operations, and the
//! penalties for failures.
//!
//! ```text
//! accept --> penalties           a source that keeps failing is rejected
//!        --> handshake_permits   handshakes under way: the oldest without a hello loses its permit
//!        --> queue               RSA: in turn by source network, and in time or not at all
//! ```
//!
//! A source is penalized only for garbage and failed proofs: a message that is not a ClientHello, or a ClientHello
//! that has cost RSA and whose proof never comes. Time that a client waits for the server, a connection that is
//! closed before its first byte, and a handshake that succeeds are free. Tickets and pre-shared keys need no RSA,
//! so that no queue delays them.

mod counts;
pub(crate) mod fault;
mod handshake_permits;
mod penalties;
mod queue;
mod rejection;
mod schedule;
mod source;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_protocol::Error;
use wire_protocol::stream::{self, Operation, Progress};

pub(crate) use self::counts::AdmissionCounts;
use self::handshake_permits::HandshakePermits;
use self::penalties::{Penalties, Reputation};
use self::queue::RsaQueue;
pub(crate) use self::rejection::Rejection;
use self::schedule::Class;
use self::source::SourceNetwork;
pub(crate) use self::source::host;

use crate::descriptors::Shares;

/// Time limit of a handshake, from the first byte to the last (section 8).
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// The state of all decisions on handshakes.
#[derive(Debug)]
pub(crate) struct Admission {
    penalties: Mutex<Penalties>,
    permits: HandshakePermits,
    queue: RsaQueue,
    counts: Arc<AdmissionCounts>,
}

impl Admission {
    /// Creates the state, with as many permits as there are descriptors for.
    pub(crate) fn new(shares: &Shares) -> Self {
        let permits = HandshakePermits::new(shares.half_open, shares.leaving);
        // At most half of the permits may wait for RSA, which leaves the others to handshakes without it.
        let queue = RsaQueue::new((shares.half_open / 2).max(1));
        Self { penalties: Mutex::default(), permits, queue, counts: Arc::default() }
    }

    /// Returns a permit for a handshake, which counts until it is dropped. `source` is `None` for this machine
    /// itself, since all its users share one address: only the total limit applies to it.
    ///
    /// # Errors
    /// The reason why the connection gets no permit.
    pub(crate) fn begin(
        self: &Arc<Self>,
        source: Option<IpAddr>,
        now: Instant,
    ) -> Result<HandshakePermit, Rejection> {
        let source = source.map(SourceNetwork::from);
        if self.reputation(source, now) == Reputation::Banned {
            return Err(Rejection::Penalized);
        }
        // A failure of the randomness turns early drops off.
        let roll = getrandom::u32().unwrap_or(u32::MAX);
        let (number, evicted) = self.permits.acquire(source, now, roll)?;
        Ok(HandshakePermit {
            admission: Arc::clone(self),
            number,
            evicted,
            source,
            has_spoken: AtomicBool::new(false),
            has_said_hello: AtomicBool::new(false),
            has_been_worked_for: AtomicBool::new(false),
            has_cost_rsa: Arc::default(),
            has_proved: AtomicBool::new(false),
        })
    }

    /// Whether no permit is held.
    pub(crate) fn is_idle(&self) -> bool {
        self.permits.are_all_free()
    }

    /// Charges `source` for garbage or a failed proof.
    pub(crate) fn charge(&self, source: Option<IpAddr>, now: Instant) {
        if let Some(source) = source {
            self.counts.charged.one(());
            if self.penalties().charge(host(source), now) {
                self.counts.banned.one(());
            }
        }
    }

    /// What was counted since the start.
    pub(crate) fn counts(&self) -> &AdmissionCounts {
        &self.counts
    }

    /// How many sources are banned at `now`.
    pub(crate) fn banned(&self, now: Instant) -> usize {
        self.penalties().banned(now)
    }

    /// How many handshakes are in progress.
    pub(crate) fn handshakes(&self) -> usize {
        self.permits.held()
    }

    /// How many RSA operations wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Records that an allowed client has connected from `source`.
    pub(crate) fn note_known(&self, source: Option<IpAddr>, now: Instant) {
        if let Some(source) = source {
            self.penalties().note_known(host(source), now);
        }
    }

    /// Whether an allowed client has connected from `source` lately.
    pub(crate) fn is_known(&self, source: Option<IpAddr>, now: Instant) -> bool {
        source.is_some_and(|source| self.penalties().is_known(host(source), now))
    }

    fn reputation(&self, source: Option<SourceNetwork>, now: Instant) -> Reputation {
        source.map_or(Reputation::Clean, |source| self.penalties().reputation(source.host, now))
    }

    fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.penalties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of a handshake in progress. It is returned when dropped.
#[derive(Debug)]
pub(crate) struct HandshakePermit {
    admission: Arc<Admission>,
    number: u64,
    evicted: CancellationToken,
    source: Option<SourceNetwork>,
    has_spoken: AtomicBool,
    has_said_hello: AtomicBool,
    has_been_worked_for: AtomicBool,
    /// Whether an RSA operation was begun for the handshake.
    has_cost_rsa: Arc<AtomicBool>,
    /// Whether the client has said its last word of the handshake, and has proved with it who it is.
    has_proved: AtomicBool,
}

impl HandshakePermit {
    /// The progress of the handshake, for [`fault::of`].
    pub(crate) fn reached(&self) -> fault::Reached {
        if self.has_proved.load(Ordering::Relaxed) {
            fault::Reached::Proved
        } else if self.has_cost_rsa.load(Ordering::Relaxed) {
            fault::Reached::Rsa
        } else if self.has_said_hello.load(Ordering::Relaxed) {
            fault::Reached::Hello
        } else if self.has_spoken.load(Ordering::Relaxed) {
            fault::Reached::FirstBytes
        } else {
            fault::Reached::Nothing
        }
    }

    /// Notes that the client has proved who it is: all that is left is the server's answer.
    pub(crate) fn note_proved(&self) {
        self.has_proved.store(true, Ordering::Relaxed);
    }

    fn class(&self) -> Class {
        // A second operation of a handshake comes first: it is cheap, and the work on the first would be lost
        // otherwise.
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

impl stream::Admission for HandshakePermit {
    async fn execute(&self, operation: Operation) -> io::Result<()> {
        self.admission.permits.begin_work(self.number);
        let has_cost_rsa = Arc::clone(&self.has_cost_rsa);
        let (counts, asked) = (Arc::clone(&self.admission.counts), std::time::Instant::now());
        let operation = Box::new(move || {
            counts.rsa_wait.note((), asked.elapsed());
            has_cost_rsa.store(true, Ordering::Relaxed);
            operation();
        });
        let executed = self.admission.queue.execute(self.class(), self.source, operation).await;
        self.admission.permits.answered(self.number);
        if executed.is_err() {
            self.admission.counts.rsa_dropped.one(());
        }
        executed
    }

    fn note(&self, progress: Progress) {
        match progress {
            Progress::FirstBytes => self.has_spoken.store(true, Ordering::Relaxed),
            Progress::Hello => {
                self.has_said_hello.store(true, Ordering::Relaxed);
                self.admission.permits.answered(self.number);
            }
            Progress::TicketRefused => self.admission.counts.tickets_refused.one(()),
        }
    }

    async fn given_up(&self) -> Error {
        self.evicted.cancelled().await;
        Error::Busy
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.admission.permits.release(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
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
        assert_eq!(admission.begin(ip("192.0.2.1"), now).unwrap_err(), Rejection::Penalized);
        assert!(admission.begin(ip("192.0.2.2"), now).is_ok());
        assert!(admission.begin(None, now).is_ok());
        for host in 0..8 {
            admission.charge(ip(&format!("2001:db8::{host}")), now);
        }
        assert_eq!(admission.begin(ip("2001:db8::ffff"), now).unwrap_err(), Rejection::Penalized);
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
