//! The sockets that a lease listens on: TCP, a unix socket, or UDP.

use std::io;
use std::sync::Arc;

use tunnel::address::{Address, EVERYWHERE};
use tunnel::listener::Listener;
use tunnel::network::Network;
use tunnel::socket::OnDrop;
use tunnel::udp::UdpListener;
use wire_protocol::message::{ListenAddress, ListenKind};

/// The sockets that a lease listens on.
#[derive(Debug)]
pub(super) enum LeaseListener {
    Stream(Listener),
    Datagram(Arc<UdpListener>),
}

impl LeaseListener {
    pub(super) async fn bind(
        network: &Network,
        address: &ListenAddress,
        kind: ListenKind,
        others: &[Address],
    ) -> io::Result<Self> {
        let address = to_address(address);
        Ok(match kind {
            ListenKind::Stream | ListenKind::Socks => {
                Self::Stream(network.listen_divisible(&address, OnDrop::Resets, others).await?)
            }
            ListenKind::Datagram => Self::Datagram(UdpListener::bind_beside(&address, others).await?.into()),
        })
    }

    /// The port that the system chose; 0 for a unix socket.
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Stream(listener) => match listener.address() {
                Ok(Address::Tcp { port, .. }) => port,
                _ => 0,
            },
            Self::Datagram(socket) => socket.local_addr().map_or(0, |address| address.port()),
        }
    }
}

/// Looks a name up before it is bound, which asks in the name of nobody in particular: one that nobody answers for must not
/// hold up what the server itself, or another client, needs.
pub(super) async fn look_up(network: &Network, asker: &str, address: &ListenAddress) -> io::Result<()> {
    match address {
        ListenAddress::Port { host, port } if host != EVERYWHERE => {
            network.resolve_for(asker, host, *port).await.map(drop)
        }
        _ => Ok(()),
    }
}

pub(super) fn to_address(address: &ListenAddress) -> Address {
    match address {
        ListenAddress::Port { host, port } => Address::Tcp { host: host.clone(), port: *port },
        ListenAddress::Unix { path } => Address::Unix(path.into()),
    }
}
