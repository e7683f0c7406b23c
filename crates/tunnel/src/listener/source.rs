//! Where an accepted connection comes from.

use std::net::{IpAddr, SocketAddr};

/// The source of an accepted connection: its name in the log, and its address.
#[derive(Debug, Clone)]
pub struct Source {
    /// As it is written, for the log.
    pub name: String,
    /// `None` for a unix socket. An IPv4 client of an IPv6 socket has its own address.
    pub address: Option<SocketAddr>,
    /// The address that it has come to at a proxy in front, which has said so, as it has said `address`. `None` where there
    /// is none in between.
    pub proxied_to: Option<SocketAddr>,
}

impl Source {
    /// The address without its port; `None` for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }

    /// A connection that comes from `peer` itself.
    pub(crate) fn direct(peer: SocketAddr) -> Self {
        Self { name: peer.to_string(), address: Some(peer), proxied_to: None }
    }

    /// What a proxy has said of a connection.
    #[must_use]
    pub fn proxied(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { name: source.to_string(), address: Some(source), proxied_to: Some(destination) }
    }

    /// Whether it comes from this machine itself. Whatever a proxy hands on comes from elsewhere.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.proxied_to.is_none() && self.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
    }
}
