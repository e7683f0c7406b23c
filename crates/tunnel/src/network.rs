//! The network that a program dials and listens on: that of the system, or for tests one in memory.

#[cfg(feature = "memory-network")]
mod in_memory;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::address::Address;
use crate::dial;
use crate::listener::Listener;
use crate::network_monitor::NetworkMonitor;
use crate::socket::{OnDrop, Socket};

#[cfg(feature = "memory-network")]
use crate::memory::MemoryHost;

/// The network that a program dials and listens on. Datagrams always use that of the system.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Network {
    /// The system's: TCP, unix sockets, and its resolver.
    #[default]
    System,
    /// One in memory, as a machine on it.
    #[cfg(feature = "memory-network")]
    Memory(MemoryHost),
}

impl Network {
    /// Observes this network and the sleep of this machine; `None` for one in memory, which never changes.
    ///
    /// # Panics
    /// Outside of a tokio runtime whose I/O and time are enabled, for the system's.
    #[must_use]
    pub fn monitor(&self) -> Option<Arc<NetworkMonitor>> {
        match self {
            Self::System => Some(Arc::new(NetworkMonitor::start())),
            #[cfg(feature = "memory-network")]
            Self::Memory(_) => None,
        }
    }

    /// As [`dial::dial`].
    ///
    /// # Errors
    /// As [`dial::dial`].
    pub async fn dial(&self, address: &Address) -> io::Result<Socket> {
        match self {
            Self::System => dial::dial(address).await,
            #[cfg(feature = "memory-network")]
            Self::Memory(host) => in_memory::dial(host, in_memory::resolve(host, address)?).await,
        }
    }

    /// As [`dial::resolve_for`].
    ///
    /// # Errors
    /// As [`dial::resolve_for`].
    pub async fn resolve_for(&self, asker: &str, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => dial::resolve_for(asker, host, port).await,
            #[cfg(feature = "memory-network")]
            Self::Memory(machine) => in_memory::resolve(machine, &Address::Tcp { host: host.into(), port }),
        }
    }

    /// As [`dial::dial_first`].
    ///
    /// # Errors
    /// As [`dial::dial_first`].
    pub async fn dial_first(&self, candidates: Vec<SocketAddr>) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::System => dial::dial_first(candidates).await,
            #[cfg(feature = "memory-network")]
            Self::Memory(host) => {
                let socket = in_memory::dial(host, candidates).await?;
                let address = socket.peer_address().ok_or(io::ErrorKind::NotConnected)?;
                Ok((socket, address))
            }
        }
    }

    /// As [`Listener::bind_beside`].
    ///
    /// # Errors
    /// As [`Listener::bind_beside`].
    pub async fn listen_beside(
        &self,
        address: &Address,
        on_drop: OnDrop,
        others: &[Address],
    ) -> io::Result<Listener> {
        match self {
            Self::System => Listener::bind_beside(address, on_drop, others).await,
            #[cfg(feature = "memory-network")]
            Self::Memory(host) => in_memory::listen(host, address, on_drop),
        }
    }

    /// As [`Listener::bind_divisible`].
    ///
    /// # Errors
    /// As [`Listener::bind_divisible`].
    pub async fn listen_divisible(
        &self,
        address: &Address,
        on_drop: OnDrop,
        others: &[Address],
    ) -> io::Result<Listener> {
        match self {
            Self::System => Listener::bind_divisible(address, on_drop, others).await,
            #[cfg(feature = "memory-network")]
            Self::Memory(host) => in_memory::listen(host, address, on_drop),
        }
    }
}
