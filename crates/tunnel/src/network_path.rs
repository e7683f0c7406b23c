//! The way of a connection through the network, and whether packets to its other side would take another one by now.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::socket::Socket;

/// The way of a connection: from an address of this machine to one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkPath {
    local: SocketAddr,
    peer: SocketAddr,
}

impl NetworkPath {
    /// From `local` to `peer`.
    #[must_use]
    pub fn new(local: SocketAddr, peer: SocketAddr) -> Self {
        Self { local, peer }
    }

    /// That of a connection; `None` for a unix socket, and for a connection that is gone.
    #[must_use]
    pub fn of(socket: &Socket) -> Option<Self> {
        Some(Self::new(socket.local_address()?, socket.peer_address()?))
    }

    /// Whether the system would have a new connection to the same peer begin at another address: the network of the old one is
    /// gone, or another one is preferred to it. `false` where there is no way to the peer at all: the old one may come back.
    ///
    /// Asks the system without sending anything.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        match source_of_packets_to(self.peer) {
            Ok(source) => source.ip().to_canonical() != self.local.ip().to_canonical(),
            Err(_) => false,
        }
    }
}

/// The address from which the system would send to `peer`.
fn source_of_packets_to(peer: SocketAddr) -> io::Result<SocketAddr> {
    let anywhere = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    // Connecting a socket of datagrams chooses the address, and says nothing to anybody.
    let socket = UdpSocket::bind(anywhere)?;
    socket.connect(peer)?;
    socket.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(local: &str, peer: &str, has_moved: bool) {
        let path = NetworkPath::new(local.parse().unwrap(), peer.parse().unwrap());
        assert_eq!(path.has_moved(), has_moved, "{path:?}");
    }

    #[test]
    fn a_path_has_moved_where_the_system_would_choose_another_address() {
        check("127.0.0.1:5000", "127.0.0.1:7000", false);
        check("127.0.0.9:5000", "127.0.0.1:7000", true);
    }

    #[test]
    fn addresses_of_ipv4_are_the_same_in_both_notations() {
        check("[::ffff:127.0.0.1]:5000", "127.0.0.1:7000", false);
        check("127.0.0.1:5000", "[::ffff:127.0.0.1]:7000", false);
    }

    #[test]
    fn a_path_without_any_way_left_has_not_moved() {
        // An address of no network (RFC 6890): nothing can be sent there.
        check("127.0.0.1:5000", "255.255.255.255:7000", false);
    }
}
