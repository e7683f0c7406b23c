//! UDP ASSOCIATE (RFC 1928, section 7): a port for the datagrams of one client, each of which says where it is to go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::UdpSocket;
use wire_protocol::message::Target;

use super::{Reply, datagram_header, parse_datagram, reply};
use crate::flows::{Belonging, Flow, Flows};
use crate::socket::Socket;

/// What a client's datagrams come in by, for as long as its connection stands.
#[derive(Debug)]
pub struct Association {
    flows: Flows<(String, u16)>,
    client: Client,
}

/// From where datagrams are taken.
#[derive(Debug)]
enum Client {
    /// From whichever port of the address that the connection came from is the first; from any address where that
    /// was a unix socket.
    Unknown(Option<IpAddr>),
    Known(SocketAddr),
}

impl Association {
    /// Opens a port on the address that the client has reached, and tells it.
    ///
    /// # Errors
    /// Those of the sockets. The client has been told, where it could be.
    pub async fn open(control: &mut Socket) -> io::Result<Self> {
        let here = control.local_address().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
        let (client, reached) = (control.peer_address().map(|address| address.ip()), here.to_canonical());
        match UdpSocket::bind((reached, 0)).await {
            Ok(socket) => {
                reply(control, Reply::Succeeded, socket.local_addr()?).await?;
                let client = Client::Unknown(client.map(|ip| ip.to_canonical()));
                Ok(Self { flows: Flows::new(Arc::new(socket)), client })
            }
            Err(error) => {
                reply(control, Reply::GeneralFailure, super::NOWHERE).await?;
                Err(error)
            }
        }
    }

    /// Waits for a datagram to somebody to whom none is under way, and hands on all others meanwhile. Can be dropped
    /// and called again.
    pub async fn next(&mut self) -> (Target, Flow) {
        let Self { flows, client } = self;
        let begun = flows.next(|peer, datagram| {
            let (host, port, payload) = parse_datagram(datagram)?;
            let header = datagram_header(&host, port)?;
            client.is(peer).then_some(Belonging { key: (host, port), payload, header })
        });
        let ((host, port), flow) = begun.await;
        (Target::Udp { host, port }, flow)
    }
}

impl Client {
    /// Whether `peer` is the client: the first that can be is.
    fn is(&mut self, peer: SocketAddr) -> bool {
        match self {
            Self::Known(known) => *known == peer,
            Self::Unknown(Some(ip)) if *ip != peer.ip().to_canonical() => false,
            Self::Unknown(_) => {
                *self = Self::Known(peer);
                true
            }
        }
    }
}

/// Waits until the client ends its connection, and with it what it asked for. What it says on it means nothing.
pub async fn until_closed(control: &mut Socket) {
    let mut nothing = [0; 64];
    while control.read(&mut nothing).await.is_ok_and(|len| len > 0) {}
}
