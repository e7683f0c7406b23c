//! Who listens where on a network in memory, what the way there is like, and which connections stand.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::connection::{Connection, Side};
use super::random::Random;
use super::socket::MemorySocket;

/// The delay and the capacity of connections that are made from now on.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "tests give all of it")]
pub struct Conditions {
    /// How long bytes, and connecting, take at most: whole milliseconds between nothing and this.
    pub max_delay: Duration,
    /// Bytes that may be under way in one direction, 1 at least.
    pub capacity: usize,
}

/// What the machines of a network in memory share.
#[derive(Debug)]
pub(super) struct Registry(Mutex<State>);

#[derive(Debug)]
struct State {
    listeners: BTreeMap<SocketAddr, mpsc::UnboundedSender<MemorySocket>>,
    connections: Vec<Weak<Connection>>,
    names: BTreeMap<String, Vec<IpAddr>>,
    conditions: Conditions,
    /// Nothing that is dialed there arrives.
    unreachable: Vec<SocketAddr>,
    next_port: u16,
    random: Random,
}

impl Registry {
    pub(super) fn new(seed: u64, conditions: Conditions) -> Self {
        Self(Mutex::new(State {
            listeners: BTreeMap::new(),
            connections: Vec::new(),
            names: BTreeMap::new(),
            conditions,
            unreachable: Vec::new(),
            next_port: FIRST_PORT,
            random: Random::new(seed),
        }))
    }

    pub(super) fn set_name(&self, name: &str, addresses: Vec<IpAddr>) {
        self.state().names.insert(name.into(), addresses);
    }

    pub(super) fn set_reachable(&self, address: SocketAddr, is_reachable: bool) {
        let mut state = self.state();
        state.unreachable.retain(|other| *other != address);
        if !is_reachable {
            state.unreachable.push(address);
        }
    }

    pub(super) fn listened_on(&self) -> Vec<SocketAddr> {
        self.state().listeners.keys().copied().collect()
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        self.state().connections.iter().filter_map(Weak::upgrade).collect()
    }

    /// One of `all`, by chance.
    pub(super) fn pick<T>(&self, mut all: Vec<T>) -> Option<T> {
        if all.is_empty() {
            return None;
        }
        let index = self.state().random.index(all.len());
        Some(all.swap_remove(index))
    }

    pub(super) async fn dial(&self, from: IpAddr, to: SocketAddr) -> io::Result<MemorySocket> {
        let delay = {
            let mut state = self.state();
            let most = u64::try_from(state.conditions.max_delay.as_millis()).unwrap_or(u64::MAX);
            state.random.below(most.saturating_add(1))
        };
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
        if self.state().unreachable.contains(&to) {
            pending::<()>().await;
        }
        let (listener, connection) = {
            let mut state = self.state();
            let listener = state.listeners.get(&to).cloned().ok_or(Errno::CONNREFUSED)?;
            let from = SocketAddr::new(from, state.port());
            let (Conditions { max_delay, capacity }, random) = (state.conditions, state.random.fork());
            let connection = Arc::new(Connection::new([from, to], max_delay, capacity.max(1), random));
            state.connections.retain(|connection| connection.strong_count() > 0);
            state.connections.push(Arc::downgrade(&connection));
            (listener, connection)
        };
        let accepted = MemorySocket::new(Arc::clone(&connection), Side::Accepted);
        let dialed = MemorySocket::new(connection, Side::Dialed);
        listener.send(accepted).map_err(|_| Errno::CONNREFUSED)?;
        Ok(dialed)
    }

    /// Begins to listen. Gives the address, with the port that was chosen, and where connections arrive.
    pub(super) fn listen(
        &self,
        mut address: SocketAddr,
    ) -> io::Result<(SocketAddr, mpsc::UnboundedReceiver<MemorySocket>)> {
        let mut state = self.state();
        while address.port() == 0 {
            let chosen = SocketAddr::new(address.ip(), state.port());
            if !state.listeners.contains_key(&chosen) {
                address = chosen;
            }
        }
        if state.listeners.contains_key(&address) {
            return Err(Errno::ADDRINUSE.into());
        }
        let (sender, arrived) = mpsc::unbounded_channel();
        state.listeners.insert(address, sender);
        Ok((address, arrived))
    }

    /// Ends what [`Registry::listen`] began.
    pub(super) fn end_listening(&self, address: SocketAddr) {
        self.state().listeners.remove(&address);
    }

    pub(super) fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.state().names.get(name).cloned().unwrap_or_default();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One port after the other.
    fn port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }
}

/// Where ports begin that nobody asks for.
const FIRST_PORT: u16 = 49152;
