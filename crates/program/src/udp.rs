//! A UDP socket that others send to. What goes back to them leaves from the address that they have sent to, also where the
//! socket is bound to all of the machine's: left to itself the system would choose the one that the route begins with,
//! and whoever has asked another does not take the answer.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::task::{Context, Poll};

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::address::{Address, EVERYWHERE};
use crate::listener::candidates;

/// A UDP socket that others send to.
#[derive(Debug)]
pub struct UdpListener {
    socket: UdpSocket,
    /// It is bound to all addresses of the machine, so that each datagram says to which it came.
    is_everywhere: bool,
}

/// Where a datagram came from, and to which address of this machine. As it is written, where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Correspondent {
    /// The other side.
    pub peer: SocketAddr,
    /// `None` where the socket is bound to one address.
    pub here: Option<IpAddr>,
}

impl fmt::Display for Correspondent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port()).fmt(f)
    }
}

impl UdpListener {
    /// Binds the first address of a name that can be bound.
    ///
    /// # Errors
    /// Those of the socket; `Unsupported` for a path.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        let Address::Tcp { host, port } = address else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut addresses = candidates(host, *port).await?;
        if host == EVERYWHERE {
            // The socket of IPv6 takes both families.
            addresses.reverse();
        }
        for candidate in addresses {
            match Self::bind_to(candidate).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Binds `address`.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn bind_to(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let is_everywhere = address.ip().is_unspecified();
        match address {
            _ if !is_everywhere => {}
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(Self { socket, is_everywhere })
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits until a datagram has come. Can be dropped and called again.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives a datagram, if one has come. Gives its length.
    ///
    /// # Errors
    /// `WouldBlock` where none has, else those of the socket.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Correspondent)> {
        if !self.is_everywhere {
            let (len, peer) = self.socket.try_recv_from(buffer)?;
            return Ok((len, Correspondent { peer, here: None }));
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
            Ok((received.bytes, Correspondent { peer, here }))
        })
    }

    /// Sends what `parts` are together to where something came from, if that can be done at once.
    ///
    /// # Errors
    /// `WouldBlock`, else those of the socket.
    pub fn try_send(&self, to: Correspondent, parts: &[IoSlice<'_>]) -> io::Result<usize> {
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

    /// Ready once [`UdpListener::try_send`] is of use.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
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
