//! The order in which operations are executed: by class, then round robin by source network and, within one, by
//! source.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::sync::oneshot;
use wire_protocol::Error;
use wire_protocol::stream::Operation;

use crate::admission::source::SourceNetwork;

/// Interval, in operations, at which the last class comes first, so that it is slowed down but not shut out.
pub(super) const LAST_CLASS_INTERVAL: usize = 8;

/// The urgency of an operation, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The second operation of a handshake.
    Begun,
    /// An operation for a source that allowed clients have come from.
    Known,
    /// An operation for any other source.
    Clean,
    /// An operation for a source that has failed recently.
    Owing,
}

const CLASSES: usize = 4;

/// The waiting operations.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    classes: [RoundRobin<IpAddr, RoundRobin<IpAddr, VecDeque<Waiting>>>; CLASSES],
    len: usize,
    next: u64,
    taken: usize,
}

struct Waiting {
    number: u64,
    operation: Operation,
    done: oneshot::Sender<Done>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The end of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Done {
    Executed,
    /// The operation was dropped for one that is more urgent or has fewer of its network waiting.
    Displaced,
}

impl Schedule {
    /// The number of waiting operations.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no state of earlier operations is left.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0 && self.classes.iter().all(RoundRobin::is_empty)
    }

    /// Adds an operation, and returns its number. `done` is dropped with an operation that is not executed.
    pub(super) fn push(
        &mut self,
        (class, source): (Class, SourceNetwork),
        operation: Operation,
        done: oneshot::Sender<Done>,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(networks) = self.classes.get_mut(usize_of(class)) {
            let waiting = Waiting { number, operation, done };
            networks.entry(source.network).entry(source.host).push_back(waiting);
            self.len += 1;
        }
        number
    }

    /// The next operation: of the most urgent class, and at intervals of the least urgent one.
    pub(super) fn pop(&mut self) -> Option<(Operation, oneshot::Sender<Done>)> {
        self.taken = self.taken.wrapping_add(1);
        let is_for_last_class = self.taken.is_multiple_of(LAST_CLASS_INTERVAL);
        let found = if is_for_last_class {
            self.classes.iter_mut().rev().find_map(pop_of)
        } else {
            self.classes.iter_mut().find_map(pop_of)
        };
        self.len -= usize::from(found.is_some());
        found.map(|Waiting { operation, done, .. }| (operation, done))
    }

    /// Removes an operation; `None` where it no longer waits.
    pub(super) fn remove(
        &mut self,
        (class, source): (Class, SourceNetwork),
        number: u64,
    ) -> Option<oneshot::Sender<Done>> {
        let networks = self.classes.get_mut(usize_of(class))?;
        let hosts = networks.get_mut(source.network)?;
        let waiting = hosts.get_mut(source.host)?;
        let index = waiting.iter().position(|waiting| waiting.number == number)?;
        let removed = waiting.remove(index);
        if waiting.is_empty() {
            hosts.forget(source.host);
        }
        if hosts.is_empty() {
            networks.forget(source.network);
        }
        self.len -= usize::from(removed.is_some());
        removed.map(|waiting| waiting.done)
    }

    /// Makes room for a new operation by dropping the newest one of the network that has the most in the least
    /// urgent class. Fails where that class is more urgent, or the network has no more than the new operation's
    /// own.
    pub(super) fn displace(&mut self, (class, source): (Class, SourceNetwork)) -> Result<(), Error> {
        let least =
            (0..CLASSES).rev().find(|index| self.classes.get(*index).is_some_and(|class| !class.is_empty()));
        let networks = least.and_then(|least| self.classes.get(least)).ok_or(Error::Busy)?;
        let count =
            |hosts: &RoundRobin<IpAddr, VecDeque<Waiting>>| hosts.values().map(VecDeque::len).sum::<usize>();
        let own = networks.get(source.network).map_or(0, count);
        let (network, most) = networks
            .iter()
            .map(|(key, hosts)| (*key, count(hosts)))
            .max_by_key(|(_, count)| *count)
            .ok_or(Error::Busy)?;
        let is_more_urgent = least.is_some_and(|least| usize_of(class) < least);
        let is_as_urgent = least == Some(usize_of(class));
        if !(is_more_urgent || is_as_urgent && own < most) {
            return Err(Error::Busy);
        }
        let hosts = networks.get(network).ok_or(Error::Busy)?;
        let newest = hosts
            .iter()
            .flat_map(|(host, waiting)| waiting.back().map(|waiting| (*host, waiting.number)))
            .max_by_key(|(_, number)| *number);
        let (host, number) = newest.ok_or(Error::Busy)?;
        let class = CLASS_BY_INDEX.get(least.unwrap_or_default()).copied().ok_or(Error::Busy)?;
        let displaced = self.remove((class, SourceNetwork { host, network }), number).ok_or(Error::Busy)?;
        displaced.send(Done::Displaced).ok();
        Ok(())
    }
}

fn pop_of(networks: &mut RoundRobin<IpAddr, RoundRobin<IpAddr, VecDeque<Waiting>>>) -> Option<Waiting> {
    networks.next(|hosts| {
        let popped = hosts.next(|waiting| {
            let popped = waiting.pop_front();
            (popped, waiting.is_empty())
        });
        (popped, hosts.is_empty())
    })
}

const CLASS_BY_INDEX: [Class; CLASSES] = [Class::Begun, Class::Known, Class::Clean, Class::Owing];

fn usize_of(class: Class) -> usize {
    CLASS_BY_INDEX.iter().position(|other| *other == class).unwrap_or_default()
}

/// A round robin: after each turn a key goes behind all others.
#[derive(Debug)]
struct RoundRobin<K, V> {
    order: VecDeque<K>,
    queues: HashMap<K, V>,
}

impl<K, V> Default for RoundRobin<K, V> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash, V: Default> RoundRobin<K, V> {
    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn entry(&mut self, key: K) -> &mut V {
        if !self.queues.contains_key(&key) {
            self.order.push_back(key);
        }
        self.queues.entry(key).or_default()
    }

    fn get(&self, key: K) -> Option<&V> {
        self.queues.get(&key)
    }

    fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.queues.get_mut(&key)
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.queues.iter()
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.queues.values()
    }

    fn forget(&mut self, key: K) {
        self.queues.remove(&key);
        self.order.retain(|other| *other != key);
    }

    /// Returns what `take` takes for the next key. `take` also returns whether the key's queue is empty.
    fn next<T>(&mut self, take: impl FnOnce(&mut V) -> (Option<T>, bool)) -> Option<T> {
        let key = self.order.pop_front()?;
        let (taken, is_done) = take(self.queues.get_mut(&key)?);
        if is_done {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        taken
    }
}
