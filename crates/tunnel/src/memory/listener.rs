//! A socket in memory that is listened on.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, mpsc};

use super::registry::Registry;
use super::socket::MemorySocket;

/// A socket in memory that is listened on. Connections that nobody has accepted are reset with it.
#[derive(Debug)]
pub struct MemoryListener {
    registry: Weak<Registry>,
    address: SocketAddr,
    arrived: Mutex<mpsc::UnboundedReceiver<MemorySocket>>,
}

impl MemoryListener {
    pub(super) fn new(
        registry: &Arc<Registry>,
        address: SocketAddr,
        arrived: mpsc::UnboundedReceiver<MemorySocket>,
    ) -> Self {
        Self { registry: Arc::downgrade(registry), address, arrived: Mutex::new(arrived) }
    }

    /// The address, with the port that was chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// `NotConnected` where the network is gone.
    pub async fn accept(&self) -> io::Result<MemorySocket> {
        let arrived = self.arrived.lock().await.recv().await;
        arrived.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.end_listening(self.address);
        }
        let arrived = self.arrived.get_mut();
        arrived.close();
        while let Ok(socket) = arrived.try_recv() {
            socket.set_reset_on_drop(true);
        }
    }
}
