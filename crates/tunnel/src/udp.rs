//! Listening UDP sockets, which answer from the address that a datagram was sent to, also where they are bound to all
//! addresses of the machine: by default the system would choose the source address by the route, and a peer that has
//! sent to another address would not accept the answer.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::address::Address;
use crate::dial::explain::{lacks_scope, scope_missing};
use crate::listener::bind::{Families, LocalAddress, bind_by_one_port, candidates};

/// A listener for datagrams: one UDP socket, or one for each address of a name.
#[derive(Debug)]
pub struct UdpListener {
    /// At least one, all with one port.
    sockets: Vec<Bound>,
    /// The one that is asked first next time, so that none that is busy keeps another one waiting.
    first: AtomicUsize,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    /// It is bound to all addresses of the machine, so that each datagram says to which it came.
    is_everywhere: bool,
}

impl LocalAddress for Bound {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// The sender of a datagram, with the socket and the address of this machine that it was sent to. Displayed as the
/// address of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Correspondent {
    /// The other side.
    pub peer: SocketAddr,
    /// `None` where the socket is bound to one address.
    pub(crate) here: Option<IpAddr>,
    pub(crate) socket: usize,
}

impl fmt::Display for Correspondent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port()).fmt(f)
    }
}

impl UdpListener {
    /// Binds all addresses that a name has, and with `*` all of this machine, as [`Listener::bind_beside`] does.
    ///
    /// # Errors
    /// As [`Listener::bind`]; `Unsupported` for a path.
    ///
    /// [`Listener::bind`]: crate::listener::Listener::bind
    /// [`Listener::bind_beside`]: crate::listener::Listener::bind_beside
    pub async fn bind_beside(address: &Address, others: &[Address]) -> io::Result<Self> {
        let Address::Tcp { host, port } = address else { return Err(io::ErrorKind::Unsupported.into()) };
        let addresses = candidates(host, *port).await?;
        let families = Families::beside(&addresses, others, *port);
        Self::bind_all(&addresses, families)
    }

    /// Binds `address`.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn bind_to(address: SocketAddr) -> io::Result<Self> {
        Self::bind_all(&[address], Families::AsUsual)
    }

    pub(crate) fn bind_all(addresses: &[SocketAddr], families: Families) -> io::Result<Self> {
        let sockets = bind_by_one_port(addresses, |address| bind(address, families))?;
        Ok(Self { sockets, first: AtomicUsize::new(0) })
    }

    /// The first address, with the port that the system chose and all have.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.first().ok_or(io::ErrorKind::AddrNotAvailable)?.local_address()
    }

    /// To which address a datagram came.
    #[must_use]
    pub fn address_of(&self, correspondent: &Correspondent) -> Option<SocketAddr> {
        let bound = self.sockets.get(correspondent.socket)?.local_address().ok()?;
        Some(SocketAddr::new(correspondent.here.unwrap_or(bound.ip()), bound.port()))
    }

    /// Waits until a datagram has come. Can be dropped and called again, by one task at a time.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut sockets = self.sockets.iter();
            match sockets.find_map(|bound| ready_of(bound.socket.poll_recv_ready(cx))) {
                Some(ready) => Poll::Ready(ready),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Receives a datagram, if one has come. Gives its length.
    ///
    /// # Errors
    /// `WouldBlock` where none has, else those of the socket.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Correspondent)> {
        let (all, first) = (self.sockets.len(), self.first.fetch_add(1, Ordering::Relaxed));
        for place in (0..all).map(|place| (first % all + place) % all) {
            match self.sockets[place].try_recv(buffer) {
                Ok((len, peer, here)) => return Ok((len, Correspondent { peer, here, socket: place })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Sends what `parts` are together to where something came from, if that can be done at once.
    ///
    /// # Errors
    /// `WouldBlock`, else those of the socket.
    pub fn try_send(&self, to: Correspondent, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let bound = self.sockets.get(to.socket).ok_or(io::ErrorKind::AddrNotAvailable)?;
        bound.try_send(to, parts)
    }

    /// Ready once [`UdpListener::try_send`] is of use.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_send_ready(&self, to: Correspondent, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bound = self.sockets.get(to.socket).ok_or(io::ErrorKind::AddrNotAvailable)?;
        bound.socket.poll_send_ready(cx)
    }
}

fn ready_of<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(ready) => Some(ready),
        Poll::Pending => None,
    }
}

fn bind(address: SocketAddr, families: Families) -> io::Result<Bound> {
    if lacks_scope(address) {
        return Err(scope_missing(address.ip()));
    }
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let is_everywhere = address.ip().is_unspecified();
    if families == Families::Apart && address.is_ipv6() && is_everywhere {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    match address {
        _ if !is_everywhere => {}
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(Bound { socket: UdpSocket::from_std(socket.into())?, is_everywhere })
}

impl Bound {
    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
        if !self.is_everywhere {
            let (len, peer) = self.socket.try_recv_from(buffer)?;
            return Ok((len, peer, None));
        }
        self.socket.try_io(Interest::READABLE, || {
            let mut control = cmsg_space!(in_pktinfo, in6_pktinfo);
            let mut places = [IoSliceMut::new(buffer)];
            let received = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut places,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let mut here = None;
            for message in received.cmsgs()? {
                match message {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        here = Some(from_v4(info.ipi_spec_dst).into());
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        here = Some(IpAddr::V6(info.ipi6_addr.s6_addr.into()));
                    }
                    _ => {}
                }
            }
            let here = here.filter(|here| !here.is_multicast());
            let peer = received.address.as_ref().and_then(socket_address);
            let peer = peer.ok_or_else(|| io::Error::other("a datagram does not say where it comes from"))?;
            Ok((received.bytes, peer, here))
        })
    }

    fn try_send(&self, to: Correspondent, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let peer = SockaddrStorage::from(to.peer);
        let send = |control: &[ControlMessage<'_>]| {
            let sent = sendmsg(self.socket.as_raw_fd(), parts, control, MsgFlags::empty(), Some(&peer));
            sent.map_err(io::Error::from)
        };
        self.socket.try_io(Interest::WRITABLE, || match to.here {
            None => send(&[]),
            Some(IpAddr::V4(here)) => send(&[ControlMessage::Ipv4PacketInfo(&in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: into_v4(here),
                ipi_addr: into_v4(Ipv4Addr::UNSPECIFIED),
            })]),
            Some(IpAddr::V6(here)) => send(&[ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
                ipi6_addr: in6_addr { s6_addr: here.octets() },
                ipi6_ifindex: 0,
            })]),
        })
    }
}

fn from_v4(address: in_addr) -> Ipv4Addr {
    Ipv4Addr::from_octets(address.s_addr.to_ne_bytes())
}

fn into_v4(address: Ipv4Addr) -> in_addr {
    in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::UdpSocket;
    use wire_protocol::stream::DatagramSocket as _;

    use super::*;
    use crate::drops::DropCounter;
    use crate::udp_sessions::{UdpSessions, by_source};

    #[tokio::test]
    async fn all_of_ipv4_and_all_of_ipv6_are_listened_on_side_by_side() {
        let ipv4 = UdpListener::bind_to("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = ipv4.local_addr().unwrap().port();
        let [first, second] = ["0.0.0.0", "::"].map(|host| Address::Tcp { host: host.into(), port });
        UdpListener::bind_beside(&second, &[]).await.expect_err("the first has IPv4");
        UdpListener::bind_beside(&second, &[first]).await.unwrap();
    }

    /// A resolver's client does not take the answer from another address than it has asked.
    #[tokio::test]
    async fn an_answer_comes_from_the_address_that_was_asked() {
        for (bound, asked) in [
            ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.9.8.7"][..]),
            ("[::]:0", &["::1", "127.0.0.2", "127.0.0.1"]),
            ("*:0", &["::1", "127.0.0.2", "127.0.0.1"]),
            ("localhost:0", &["127.0.0.1"]),
        ] {
            let (host, _) = bound.rsplit_once(':').unwrap();
            let address = Address::Tcp { host: host.trim_matches(&['[', ']'][..]).into(), port: 0 };
            let listener = UdpListener::bind_beside(&address, &[]).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut sessions = UdpSessions::new(listener.into(), "here".into(), &DropCounter::default());
            for asked in asked {
                let asked: std::net::IpAddr = asked.parse().unwrap();
                let any = if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
                let client = UdpSocket::bind(any).await.unwrap();
                client.send_to(b"?", (asked, port)).await.unwrap();
                let (key, mut session) = sessions.next(by_source).await;
                assert_eq!(key.to_string(), client.local_addr().unwrap().to_string());
                poll_fn(|cx| session.poll_send_ready(cx)).await.unwrap();
                session.try_send(b"!").unwrap();
                let mut buf = [0; 10];
                let (_, answered) = client.recv_from(&mut buf).await.unwrap();
                assert_eq!(answered, (asked, port).into(), "{bound}");
            }
        }
    }
}
