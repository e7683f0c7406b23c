//! A machine on a network in memory.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::listener::MemoryListener;
use super::registry::Registry;
use super::socket::MemorySocket;

/// A machine on a network in memory, whose address is the source of the connections that it dials.
#[derive(Debug, Clone)]
pub struct MemoryHost {
    registry: Arc<Registry>,
    ip: IpAddr,
}

impl MemoryHost {
    pub(super) fn new(registry: Arc<Registry>, ip: IpAddr) -> Self {
        Self { registry, ip }
    }

    /// Connects to `address`, in the time that the network takes for it; for ever where nothing arrives there.
    ///
    /// # Errors
    /// `ConnectionRefused` where nobody listens.
    pub async fn dial(&self, address: SocketAddr) -> io::Result<MemorySocket> {
        self.registry.dial(self.ip, address).await
    }

    /// Listens on `address`. Port 0 stands for one that is free.
    ///
    /// # Errors
    /// `AddrInUse`.
    pub fn listen(&self, address: SocketAddr) -> io::Result<MemoryListener> {
        let (address, arrived) = self.registry.listen(address)?;
        Ok(MemoryListener::new(&self.registry, address, arrived))
    }

    /// The addresses of a name.
    ///
    /// # Errors
    /// `NotFound` where it has none.
    pub fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.registry.look_up(name)
    }
}
