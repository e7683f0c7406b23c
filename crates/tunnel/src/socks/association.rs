//! UDP ASSOCIATE (RFC 1928, section 7): a port for the datagrams of one client, each of which says where it is to go.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use wire_protocol::message::Target;

use super::address::{datagram_header, parse_datagram};
use super::negotiation::reply;
use super::request::{Dialect, NOWHERE, Reply};
use crate::drops::DropCounter;
use crate::escape::escape;
use crate::socket::Socket;
use crate::udp::UdpListener;
use crate::udp_sessions::{SessionKey, UdpSession, UdpSessions};

/// A UDP ASSOCIATE request in effect: the socket for the datagrams of one client, and their sessions.
#[derive(Debug)]
pub struct Association {
    sessions: UdpSessions<Destination>,
    client: Client,
}

/// Where a datagram is to go. As it is written, fit for the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Destination {
    host: String,
    port: u16,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", escape(self.host.as_bytes()), self.port)
    }
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
    /// Opens a port on the address that the client has reached, and tells it. Datagrams that are dropped are told to
    /// `drops`.
    ///
    /// # Errors
    /// Those of the sockets. The client has been told, where it could be.
    pub async fn open(control: &mut Socket, drops: &DropCounter) -> io::Result<Self> {
        let here = control.local_address().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
        let (client, reached) = (control.peer_address().map(|address| address.ip()), here.to_canonical());
        match UdpListener::bind_to((reached, 0).into()) {
            Ok(socket) => {
                let address = socket.local_addr()?;
                reply(control, Dialect::Socks5, Reply::Succeeded, address).await?;
                let client = Client::Unknown(client.map(|ip| ip.to_canonical()));
                Ok(Self {
                    sessions: UdpSessions::new(Arc::new(socket), format!("{address}/udp, for SOCKS"), drops),
                    client,
                })
            }
            Err(error) => {
                reply(control, Dialect::Socks5, Reply::GeneralFailure, NOWHERE).await?;
                Err(error)
            }
        }
    }

    /// Waits for a datagram to somebody to whom none is under way, and hands on all others meanwhile. Can be dropped
    /// and called again.
    pub async fn next(&mut self) -> (Target, UdpSession) {
        let Self { sessions, client } = self;
        let begun = sessions.next(|from, datagram| {
            let (host, port, payload) = parse_datagram(datagram)?;
            let header = datagram_header(&host, port)?;
            client.is(from.peer).then_some(SessionKey { key: Destination { host, port }, payload, header })
        });
        let (Destination { host, port }, session) = begun.await;
        (Target::Udp { host, port }, session)
    }

    /// As [`UdpSessions::give_way`].
    pub fn give_way(&mut self) {
        self.sessions.give_way();
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UdpSocket;

    use super::*;
    use crate::dial::dial;
    use crate::listener::Listener;
    use crate::socket::OnDrop;

    #[tokio::test]
    async fn only_the_first_that_speaks_as_the_client_would_is_heard() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), OnDrop::Ends).await.unwrap();
        let address = listener.address().unwrap();
        let (client, accepted) = tokio::join!(dial(&address), listener.accept());
        let (mut client, mut control) = (client.unwrap(), accepted.unwrap().0);
        let drops = DropCounter::default();
        let mut association = Association::open(&mut control, &drops).await.unwrap();
        let mut reply = [0; 10];
        client.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply[..8], [5, 0, 0, 1, 127, 0, 0, 1]);
        let port = u16::from_be_bytes([reply[8], reply[9]]);

        let there = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (first, other) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        first.connect(there).await.unwrap();
        other.connect(there).await.unwrap();
        let header = |port| datagram_header("name.example", port).unwrap();
        // What is no datagram of SOCKS makes nobody the client, and what others send is dropped.
        other.send(b"garbage").await.unwrap();
        first.send(&header(53)).await.unwrap();
        let target = |port| Target::Udp { host: "name.example".into(), port };
        let begun = association.next().await;
        assert_eq!(begun.0, target(53));
        other.send(&header(54)).await.unwrap();
        first.send(&header(55)).await.unwrap();
        let next = association.next().await;
        assert_eq!(next.0, target(55));
        assert_eq!(drops.count(), 2);

        drop(client);
        until_closed(&mut control).await;
    }
}
