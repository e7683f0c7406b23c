//! Permits for handshakes in progress. Where permits run out, the oldest handshakes without a ClientHello lose
//! theirs.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::rejection::Rejection;
use crate::admission::source::SourceNetwork;

/// Most permits of one source at once: enough for a large household, but not for a flood.
const MAX_PER_HOST: usize = 64;
/// The share of all permits that one network may have at once: one of so many.
const NETWORK_SHARE: usize = 2;
/// The share of all permits (one of so many) above which a new connection may evict another without a ClientHello.
/// The probability grows up to certainty: random early drop, as in OpenSSH's `MaxStartups`, except that the new
/// connection is never the one, since it may bring a ticket.
const EARLY_DROP_SHARE: usize = 2;
/// Age below which a connection is not dropped early, since a client sends its ClientHello right after connecting.
const GRACE: Duration = Duration::from_secs(1);
/// Age below which the permit of a client that was answered is not evicted, since its next message may be on its way.
const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// The permits and their holders.
#[derive(Debug)]
pub(super) struct HandshakePermits {
    most: usize,
    /// Most connections that may have lost their permit and not be closed yet.
    max_leaving: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Number of connections that have a permit, or have lost it and are not closed yet.
    connections: usize,
    held: HashMap<u64, Held>,
    /// Holders without a ClientHello. The oldest has the lowest number.
    silent: BTreeSet<u64>,
    /// Holders whose ClientHello was answered.
    answered: BTreeSet<u64>,
    by_host: HashMap<IpAddr, usize>,
    by_network: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Held {
    source: Option<SourceNetwork>,
    since: Instant,
    evicted: CancellationToken,
}

impl HandshakePermits {
    pub(super) fn new(most: usize, max_leaving: usize) -> Self {
        Self { most, max_leaving, state: Mutex::default() }
    }

    /// Returns the number of a permit, which counts until [`HandshakePermits::release`], and a token that is
    /// cancelled when the permit is evicted. `roll` is random.
    pub(super) fn acquire(
        &self,
        source: Option<SourceNetwork>,
        now: Instant,
        roll: u32,
    ) -> Result<(u64, CancellationToken), Rejection> {
        let mut state = self.state();
        if state.connections >= self.most + self.max_leaving {
            return Err(Rejection::Busy);
        }
        if let Some(source) = source {
            if count(&state.by_host, source.host) >= MAX_PER_HOST.min(self.most) {
                state.evict_silent(|held| held.source.is_some_and(|other| other.host == source.host))?;
            }
            if count(&state.by_network, source.network) >= (self.most / NETWORK_SHARE).max(1) {
                state
                    .evict_silent(|held| held.source.is_some_and(|other| other.network == source.network))?;
            }
        }
        let held = state.held.len();
        if held >= self.most {
            state.evict_silent(|_| true).or_else(|rejection| state.evict_answered(now).ok_or(rejection))?;
        } else {
            let early = self.most / EARLY_DROP_SHARE;
            let above = held.saturating_sub(early);
            let probability = ratio(above, self.most - early);
            if above > 0 && f64::from(roll) < probability * f64::from(u32::MAX) {
                state.drop_early(now, roll);
            }
        }
        Ok(state.add(source, now))
    }

    /// How many permits are held.
    pub(super) fn held(&self) -> usize {
        self.state().held.len()
    }

    /// Records that the ClientHello of a handshake has arrived and was answered.
    pub(super) fn answered(&self, number: u64) {
        let mut state = self.state();
        if state.held.contains_key(&number) {
            state.silent.remove(&number);
            state.answered.insert(number);
        }
    }

    /// Protects the permit from eviction, since the client has to wait for the server's work.
    pub(super) fn begin_work(&self, number: u64) {
        let mut state = self.state();
        state.silent.remove(&number);
        state.answered.remove(&number);
    }

    pub(super) fn release(&self, number: u64) {
        let mut state = self.state();
        state.connections -= 1;
        state.remove(number);
    }

    /// Whether nobody has one, or has lost one and is there still.
    pub(super) fn are_all_free(&self) -> bool {
        let State { next: _, connections, held, silent, answered, by_host, by_network } = &*self.state();
        *connections == 0
            && held.is_empty()
            && silent.is_empty()
            && answered.is_empty()
            && by_host.is_empty()
            && by_network.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, source: Option<SourceNetwork>, now: Instant) -> (u64, CancellationToken) {
        let number = self.next;
        self.next += 1;
        self.connections += 1;
        if let Some(source) = source {
            *self.by_host.entry(source.host).or_default() += 1;
            *self.by_network.entry(source.network).or_default() += 1;
        }
        self.silent.insert(number);
        let evicted = CancellationToken::new();
        self.held.insert(number, Held { source, since: now, evicted: evicted.clone() });
        (number, evicted)
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.silent.remove(&number);
        self.answered.remove(&number);
        if let Some(source) = held.source {
            uncount(&mut self.by_host, source.host);
            uncount(&mut self.by_network, source.network);
        }
        Some(held)
    }

    /// Evicts the permit of the oldest handshake without a ClientHello for which `is_eligible` holds.
    fn evict_silent(&mut self, is_eligible: impl Fn(&Held) -> bool) -> Result<(), Rejection> {
        let oldest =
            self.silent.iter().copied().find(|number| self.held.get(number).is_some_and(&is_eligible));
        oldest.and_then(|number| self.evict(number)).ok_or(Rejection::Busy)
    }

    /// Evicts the permit of the oldest handshake that was answered, unless it is younger than [`ANSWER_GRACE`].
    fn evict_answered(&mut self, now: Instant) -> Option<()> {
        let is_late =
            |number: &u64| self.held.get(number).is_some_and(|held| held.since + ANSWER_GRACE <= now);
        let oldest = self.answered.first().copied().filter(is_late);
        oldest.and_then(|number| self.evict(number))
    }

    /// Evicts a random permit among those of handshakes that have had the time for a ClientHello and have sent
    /// none.
    fn drop_early(&mut self, now: Instant, roll: u32) {
        let is_late = |number: &&u64| self.held.get(number).is_some_and(|held| held.since + GRACE <= now);
        let late: Vec<u64> = self.silent.iter().take_while(is_late).copied().collect();
        // The index uses the low bits, since the decision to drop has used the high ones.
        let index = usize::try_from(roll).unwrap_or_default().checked_rem(late.len());
        if let Some(number) = index.and_then(|index| late.get(index)) {
            self.evict(*number);
        }
    }

    fn evict(&mut self, number: u64) -> Option<()> {
        self.remove(number)?.evicted.cancel();
        Some(())
    }
}

fn count(counts: &HashMap<IpAddr, usize>, key: IpAddr) -> usize {
    counts.get(&key).copied().unwrap_or_default()
}

fn uncount(counts: &mut HashMap<IpAddr, usize>, key: IpAddr) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// The quotient of two small numbers.
fn ratio(part: usize, whole: usize) -> f64 {
    let float = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    float(part) / float(whole).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 512;
    const LEAVING: usize = 64;
    /// The roll that never drops a connection early.
    const KEEP: u32 = u32::MAX;
    /// The roll that drops one early as soon as the permits begin to run out.
    const DROP: u32 = 0;

    fn source(network: u8, host: u8) -> Option<SourceNetwork> {
        Some(IpAddr::from([10, 0, network, host]).into())
    }

    /// Acquires `count` permits for connections that have sent nothing, each from its own network.
    fn silent_connections(
        permits: &HandshakePermits,
        count: usize,
        now: Instant,
    ) -> Vec<(u64, CancellationToken)> {
        let from = |index: usize| {
            let [high, low] = u16::try_from(index).unwrap().to_be_bytes();
            Some(IpAddr::from([172, high, low, 1]).into())
        };
        (0..count).map(|index| permits.acquire(from(index), now, KEEP).unwrap()).collect()
    }

    #[test]
    fn when_all_permits_are_taken_the_oldest_without_a_hello_is_evicted() {
        let permits = HandshakePermits::new(MOST, LEAVING);
        let now = Instant::now();
        let connections = silent_connections(&permits, MOST, now);
        permits.answered(connections[0].0);
        permits.begin_work(connections[1].0);
        let newcomer = permits.acquire(source(1, 1), now, KEEP).unwrap();
        assert!(!newcomer.1.is_cancelled());
        let evicted: Vec<_> = (0..MOST).filter(|index| connections[*index].1.is_cancelled()).collect();
        assert_eq!(evicted, [2]);
    }

    #[test]
    fn without_silent_connections_the_oldest_that_was_answered_is_evicted_in_time() {
        let permits = HandshakePermits::new(MOST, LEAVING);
        let now = Instant::now();
        let connections = silent_connections(&permits, MOST, now);
        for (number, _) in &connections {
            permits.begin_work(*number);
        }
        assert_eq!(permits.acquire(source(1, 1), now + ANSWER_GRACE, KEEP).unwrap_err(), Rejection::Busy);
        permits.answered(connections[7].0);
        assert_eq!(permits.acquire(source(1, 1), now, KEEP).unwrap_err(), Rejection::Busy);
        assert!(permits.acquire(source(1, 1), now + ANSWER_GRACE, KEEP).is_ok());
        assert!(connections[7].1.is_cancelled());
    }

    #[test]
    fn a_source_or_network_above_its_share_evicts_its_own_connections() {
        let permits = HandshakePermits::new(MOST, LEAVING);
        let now = Instant::now();
        let others = silent_connections(&permits, 10, now);
        let of_host: Vec<_> =
            (0..=MAX_PER_HOST).map(|_| permits.acquire(source(1, 1), now, KEEP).unwrap()).collect();
        assert!(of_host[0].1.is_cancelled() && !of_host[1].1.is_cancelled());

        let of_network: Vec<_> = (0..MOST / NETWORK_SHARE)
            .map(|index| permits.acquire(source(2, u8::try_from(index / 32).unwrap()), now, KEEP).unwrap())
            .collect();
        assert!(of_network.iter().all(|(_, evicted)| !evicted.is_cancelled()));
        permits.acquire(source(2, 99), now, KEEP).unwrap();
        assert!(of_network[0].1.is_cancelled());
        assert!(others.iter().all(|(_, evicted)| !evicted.is_cancelled()));

        for (number, _) in &of_host {
            permits.begin_work(*number);
        }
        assert_eq!(permits.acquire(source(1, 1), now, KEEP).unwrap_err(), Rejection::Busy);
    }

    #[test]
    fn before_permits_run_out_late_silent_connections_are_dropped_at_random() {
        let permits = HandshakePermits::new(MOST, LEAVING);
        let now = Instant::now();
        let connections = silent_connections(&permits, MOST / 2 + 1, now);
        // All connections are as young as the new one, so that none is dropped.
        permits.acquire(source(1, 1), now, DROP).unwrap();
        assert!(connections.iter().all(|(_, evicted)| !evicted.is_cancelled()));
        permits.answered(connections[0].0);
        let later = now + GRACE;
        permits.acquire(source(1, 1), later, KEEP).unwrap();
        assert!(connections.iter().all(|(_, evicted)| !evicted.is_cancelled()));
        permits.acquire(source(1, 1), later, DROP).unwrap();
        assert_eq!(connections.iter().filter(|(_, evicted)| evicted.is_cancelled()).count(), 1);
        assert!(!connections[0].1.is_cancelled());
    }

    #[test]
    fn permits_are_returned_and_an_evicted_connection_counts_until_it_is_closed() {
        let permits = HandshakePermits::new(MOST, LEAVING);
        let now = Instant::now();
        let first = silent_connections(&permits, MOST, now);
        let second: Vec<_> = (0..LEAVING).map(|_| permits.acquire(None, now, KEEP).unwrap()).collect();
        assert_eq!(permits.acquire(None, now, KEEP).unwrap_err(), Rejection::Busy);
        for (number, _) in first.iter().chain(&second) {
            permits.release(*number);
        }
        let state = permits.state();
        assert_eq!((state.connections, state.held.len()), (0, 0));
        assert!(state.silent.is_empty() && state.answered.is_empty());
        assert!(state.by_host.is_empty() && state.by_network.is_empty());
    }
}
