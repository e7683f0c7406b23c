//! Places for handshakes under way. A place is taken from whoever has had it for long and has not said hello.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{SourceNetwork, Turned};

/// Places of one source at once: enough for a busy household, not for a flood.
const MAX_PER_HOST: usize = 64;
/// Places of one network at once, as a share of all.
const NETWORK_SHARE: usize = 2;
/// From this share of the places on, one of those that have not said hello is dropped at random for a newcomer, with a
/// probability that grows to certainty: random early drop, as OpenSSH's `MaxStartups` has it, only that the newcomer, who
/// may hold a ticket, is not the one.
const EARLY_DROP_SHARE: usize = 2;
/// A client says hello right behind connecting: whoever is younger than this is not dropped early.
const GRACE: Duration = Duration::from_secs(1);
/// An answered client has this long to go on before its place can be taken.
const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// Connections that have lost their place and are not gone yet.
    max_leaving: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Those that have a place, and those that have lost it and are not gone yet.
    there: usize,
    held: HashMap<u64, Held>,
    /// Those without a hello. The oldest has the lowest number.
    silent: BTreeSet<u64>,
    /// Those whose hello was answered.
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

impl Places {
    pub(super) fn new(most: usize, max_leaving: usize) -> Self {
        Self { most, max_leaving, state: Mutex::default() }
    }

    /// Takes a place until [`Places::leave`]. The token is cancelled where the place is needed for others. `roll` is
    /// random.
    pub(super) fn take(
        &self,
        source: Option<SourceNetwork>,
        now: Instant,
        roll: u32,
    ) -> Result<(u64, CancellationToken), Turned> {
        let mut state = self.state();
        if state.there >= self.most + self.max_leaving {
            return Err(Turned::Busy);
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
            state.evict_silent(|_| true).or_else(|turned| state.evict_answered(now).ok_or(turned))?;
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

    /// The hello of a place has come, and is answered.
    pub(super) fn answered(&self, place: u64) {
        let mut state = self.state();
        if state.held.contains_key(&place) {
            state.silent.remove(&place);
            state.answered.insert(place);
        }
    }

    /// The server has to do something before the client can go on: meanwhile nobody takes the place.
    pub(super) fn begin_work(&self, place: u64) {
        let mut state = self.state();
        state.silent.remove(&place);
        state.answered.remove(&place);
    }

    pub(super) fn leave(&self, place: u64) {
        let mut state = self.state();
        state.there -= 1;
        state.remove(place);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, source: Option<SourceNetwork>, now: Instant) -> (u64, CancellationToken) {
        let place = self.next;
        self.next += 1;
        self.there += 1;
        if let Some(source) = source {
            *self.by_host.entry(source.host).or_default() += 1;
            *self.by_network.entry(source.network).or_default() += 1;
        }
        self.silent.insert(place);
        let evicted = CancellationToken::new();
        self.held.insert(place, Held { source, since: now, evicted: evicted.clone() });
        (place, evicted)
    }

    fn remove(&mut self, place: u64) -> Option<Held> {
        let held = self.held.remove(&place)?;
        self.silent.remove(&place);
        self.answered.remove(&place);
        if let Some(source) = held.source {
            uncount(&mut self.by_host, source.host);
            uncount(&mut self.by_network, source.network);
        }
        Some(held)
    }

    /// Takes the place of the oldest without a hello for which `is_meant` holds.
    fn evict_silent(&mut self, is_meant: impl Fn(&Held) -> bool) -> Result<(), Turned> {
        let oldest = self.silent.iter().copied().find(|place| self.held.get(place).is_some_and(&is_meant));
        oldest.and_then(|place| self.evict(place)).ok_or(Turned::Busy)
    }

    /// Takes the place of the oldest that was answered and has not gone on for long.
    fn evict_answered(&mut self, now: Instant) -> Option<()> {
        let is_late = |place: &u64| self.held.get(place).is_some_and(|held| held.since + ANSWER_GRACE <= now);
        let oldest = self.answered.first().copied().filter(is_late);
        oldest.and_then(|place| self.evict(place))
    }

    /// Takes the place of one of those that have not said hello and had the time for it.
    fn drop_early(&mut self, now: Instant, roll: u32) {
        let is_late = |place: &&u64| self.held.get(place).is_some_and(|held| held.since + GRACE <= now);
        let late: Vec<u64> = self.silent.iter().take_while(is_late).copied().collect();
        // The low bits, of which the decision to drop has not made use.
        let index = usize::try_from(roll).unwrap_or_default().checked_rem(late.len());
        if let Some(place) = index.and_then(|index| late.get(index)) {
            self.evict(*place);
        }
    }

    fn evict(&mut self, place: u64) -> Option<()> {
        self.remove(place)?.evicted.cancel();
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

/// `part` of `whole`, both of which are small.
fn ratio(part: usize, whole: usize) -> f64 {
    let float = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    float(part) / float(whole).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 512;
    const LEAVING: usize = 64;
    /// Nobody is dropped early by this roll.
    const KEEP: u32 = u32::MAX;
    /// Somebody is by this one, as soon as the places begin to fill.
    const DROP: u32 = 0;

    fn source(network: u8, host: u8) -> Option<SourceNetwork> {
        Some(IpAddr::from([10, 0, network, host]).into())
    }

    /// So many connections that have said nothing, each from a network of its own.
    fn crowd(places: &Places, count: usize, now: Instant) -> Vec<(u64, CancellationToken)> {
        let from = |index: usize| {
            let [high, low] = u16::try_from(index).unwrap().to_be_bytes();
            Some(IpAddr::from([172, high, low, 1]).into())
        };
        (0..count).map(|index| places.take(from(index), now, KEEP).unwrap()).collect()
    }

    #[test]
    fn when_all_places_are_taken_the_oldest_without_a_hello_gives_way() {
        let places = Places::new(MOST, LEAVING);
        let now = Instant::now();
        let crowd = crowd(&places, MOST, now);
        places.answered(crowd[0].0);
        places.begin_work(crowd[1].0);
        let newcomer = places.take(source(1, 1), now, KEEP).unwrap();
        assert!(!newcomer.1.is_cancelled());
        let evicted: Vec<_> = (0..MOST).filter(|index| crowd[*index].1.is_cancelled()).collect();
        assert_eq!(evicted, [2]);
    }

    #[test]
    fn where_everybody_has_said_hello_the_oldest_that_was_answered_gives_way_in_time() {
        let places = Places::new(MOST, LEAVING);
        let now = Instant::now();
        let crowd = crowd(&places, MOST, now);
        for (place, _) in &crowd {
            places.begin_work(*place);
        }
        assert_eq!(places.take(source(1, 1), now + ANSWER_GRACE, KEEP).unwrap_err(), Turned::Busy);
        places.answered(crowd[7].0);
        assert_eq!(places.take(source(1, 1), now, KEEP).unwrap_err(), Turned::Busy);
        assert!(places.take(source(1, 1), now + ANSWER_GRACE, KEEP).is_ok());
        assert!(crowd[7].1.is_cancelled());
    }

    #[test]
    fn one_source_and_one_network_have_their_share_and_pay_for_more_themselves() {
        let places = Places::new(MOST, LEAVING);
        let now = Instant::now();
        let others = crowd(&places, 10, now);
        let of_host: Vec<_> =
            (0..=MAX_PER_HOST).map(|_| places.take(source(1, 1), now, KEEP).unwrap()).collect();
        assert!(of_host[0].1.is_cancelled() && !of_host[1].1.is_cancelled());

        let of_network: Vec<_> = (0..MOST / NETWORK_SHARE)
            .map(|index| places.take(source(2, u8::try_from(index / 32).unwrap()), now, KEEP).unwrap())
            .collect();
        assert!(of_network.iter().all(|(_, evicted)| !evicted.is_cancelled()));
        places.take(source(2, 99), now, KEEP).unwrap();
        assert!(of_network[0].1.is_cancelled());
        assert!(others.iter().all(|(_, evicted)| !evicted.is_cancelled()));

        for (place, _) in &of_host {
            places.begin_work(*place);
        }
        assert_eq!(places.take(source(1, 1), now, KEEP).unwrap_err(), Turned::Busy);
    }

    #[test]
    fn before_that_those_that_had_time_for_a_hello_are_dropped_at_random() {
        let places = Places::new(MOST, LEAVING);
        let now = Instant::now();
        let crowd = crowd(&places, MOST / 2 + 1, now);
        // Not yet: everybody is as young as the newcomer.
        places.take(source(1, 1), now, DROP).unwrap();
        assert!(crowd.iter().all(|(_, evicted)| !evicted.is_cancelled()));
        places.answered(crowd[0].0);
        let later = now + GRACE;
        places.take(source(1, 1), later, KEEP).unwrap();
        assert!(crowd.iter().all(|(_, evicted)| !evicted.is_cancelled()));
        places.take(source(1, 1), later, DROP).unwrap();
        assert_eq!(crowd.iter().filter(|(_, evicted)| evicted.is_cancelled()).count(), 1);
        assert!(!crowd[0].1.is_cancelled());
    }

    #[test]
    fn places_come_back_and_whoever_lost_one_counts_until_it_is_gone() {
        let places = Places::new(MOST, LEAVING);
        let now = Instant::now();
        let first = crowd(&places, MOST, now);
        let second: Vec<_> = (0..LEAVING).map(|_| places.take(None, now, KEEP).unwrap()).collect();
        assert_eq!(places.take(None, now, KEEP).unwrap_err(), Turned::Busy);
        for (place, _) in first.iter().chain(&second) {
            places.leave(*place);
        }
        let state = places.state();
        assert_eq!((state.there, state.held.len()), (0, 0));
        assert!(state.silent.is_empty() && state.answered.is_empty());
        assert!(state.by_host.is_empty() && state.by_network.is_empty());
    }
}
