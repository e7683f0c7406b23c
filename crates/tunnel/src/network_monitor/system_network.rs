//! The network of the system as the source of a monitor: by netlink where there is it, or else by looking again and again.

use std::future::pending;
use std::io;

#[cfg(target_os = "linux")]
use super::netlink::Netlink;
use super::polling;
use super::source::{NetworkSource, NetworkState};

/// The network of the system.
#[derive(Debug)]
pub struct SystemNetwork(Method);

#[derive(Debug)]
enum Method {
    #[cfg(target_os = "linux")]
    Netlink(Netlink),
    Polling,
}

impl SystemNetwork {
    /// Has changes notified by netlink. Where that is refused, or the system has none, it is [`Self::polled`].
    ///
    /// # Panics
    /// Outside of a tokio runtime whose I/O is enabled.
    #[must_use]
    pub fn open() -> Self {
        #[cfg(target_os = "linux")]
        match Netlink::open() {
            Ok(netlink) => return Self(Method::Netlink(netlink)),
            Err(error) => without_netlink(&error),
        }
        #[cfg(not(target_os = "linux"))]
        without_netlink(&io::ErrorKind::Unsupported.into());
        Self::polled()
    }

    /// The state alone, which is read every second: addresses of interfaces, and the addresses that packets come from.
    #[must_use]
    pub fn polled() -> Self {
        Self(Method::Polling)
    }
}

impl NetworkSource for SystemNetwork {
    async fn notified(&mut self) {
        #[cfg(target_os = "linux")]
        if let Method::Netlink(netlink) = &self.0 {
            match netlink.notified().await {
                Ok(()) => return,
                Err(error) => without_netlink(&error),
            }
            self.0 = Method::Polling;
        }
        pending::<()>().await;
    }

    fn is_polled(&self) -> bool {
        matches!(self.0, Method::Polling)
    }

    fn state(&mut self) -> io::Result<NetworkState> {
        #[cfg(target_os = "linux")]
        if let Method::Netlink(netlink) = &mut self.0 {
            match netlink.state() {
                Ok(state) => return Ok(state),
                Err(error) if polling::is_temporary(&error) => return Err(error),
                Err(error) => without_netlink(&error),
            }
            self.0 = Method::Polling;
        }
        polling::state()
    }
}

fn without_netlink(error: &io::Error) {
    tracing::debug!(%error, "no netlink: the addresses of this machine are compared every second");
}
