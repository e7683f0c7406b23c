//! A network in memory as its test has it in hand: machines, names, and connections to cut.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::connection::Connection;
use super::host::MemoryHost;
use super::registry::{Conditions, Registry};

/// A simulated network in memory, with its listeners and connections, for tests.
#[derive(Debug, Clone)]
pub struct MemoryNetwork(Arc<Registry>);

impl MemoryNetwork {
    /// A network on which everything that is left to chance goes by `seed`.
    #[must_use]
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self(Arc::new(Registry::new(seed, conditions)))
    }

    /// The machine with this address.
    #[must_use]
    pub fn host(&self, ip: IpAddr) -> MemoryHost {
        MemoryHost::new(Arc::clone(&self.0), ip)
    }

    /// Gives a name these addresses.
    pub fn set_name(&self, name: &str, addresses: Vec<IpAddr>) {
        self.0.set_name(name, addresses);
    }

    /// Lets nothing that is dialed arrive at `address`, or lets it arrive again.
    pub fn set_reachable(&self, address: SocketAddr, is_reachable: bool) {
        self.0.set_reachable(address, is_reachable);
    }

    /// Resets one of the connections to addresses that are meant, for both of its ends. Gives whether there was one.
    pub fn cut(&self, is_meant: impl Fn(SocketAddr) -> bool) -> bool {
        self.pick(is_meant).inspect(|connection| connection.cut()).is_some()
    }

    /// Lets nothing arrive any more on one of the connections to addresses that are meant, with no word to its ends. Gives
    /// whether there was one.
    pub fn silence(&self, is_meant: impl Fn(SocketAddr) -> bool) -> bool {
        self.pick(is_meant).inspect(|connection| connection.silence()).is_some()
    }

    /// The connections of which somebody holds an end, as they stand, for what a test says of them.
    #[must_use]
    pub fn open_connections(&self) -> Vec<String> {
        let open = self.0.connections().into_iter().filter(|connection| connection.open_ends() > 0);
        open.map(|connection| format!("{connection:?}")).collect()
    }

    /// Addresses that are listened on.
    #[must_use]
    pub fn listened_on(&self) -> Vec<SocketAddr> {
        self.0.listened_on()
    }

    fn pick(&self, is_meant: impl Fn(SocketAddr) -> bool) -> Option<Arc<Connection>> {
        let mut all = self.0.connections();
        all.retain(|connection| is_meant(connection.addresses[1]) && connection.is_standing());
        self.0.pick(all)
    }
}
