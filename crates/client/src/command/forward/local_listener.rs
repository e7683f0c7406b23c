//! What a forward listens on here: a socket for connections, or one for datagrams.

use std::io;
use std::sync::Arc;

use cli_support::forward::{LocalForward, Transport};
use tunnel::address::Address;
use tunnel::listener::Listener;
use tunnel::network::Network;
use tunnel::socket::OnDrop;
use tunnel::udp::UdpListener;

use crate::Error;
use crate::command::forward::event::shown;

/// Where connections, or datagrams, come in.
#[derive(Debug)]
pub(super) enum LocalListener {
    Stream(Listener),
    Datagram(Arc<UdpListener>),
}

impl LocalListener {
    /// Listens on one of the addresses that are `listened_on`.
    pub(super) async fn bind(
        network: &Network,
        forward: &LocalForward,
        listened_on: &[Address],
    ) -> Result<Self, Error> {
        let address = &forward.listen.address;
        match forward.listen.transport {
            Transport::Stream => listen(network, address, listened_on).await.map(Self::Stream),
            Transport::Datagram => match UdpListener::bind_beside(address, listened_on).await {
                Ok(socket) => Ok(Self::Datagram(Arc::new(socket))),
                Err(source) => Err(Error::Listen { address: address.to_string(), source }),
            },
        }
    }

    /// As it is shown.
    pub(super) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Stream(listener) => shown(&listener.address()?, Transport::Stream),
            Self::Datagram(socket) => shown(&socket.local_addr()?, Transport::Datagram),
        })
    }
}

/// Listens for connections on one of the addresses that are `listened_on`.
pub(super) async fn listen(
    network: &Network,
    address: &Address,
    listened_on: &[Address],
) -> Result<Listener, Error> {
    let listener = network.listen_beside(address, OnDrop::Resets, listened_on).await;
    listener.map_err(|source| Error::Listen { address: address.to_string(), source })
}
