//! Listening sockets for connections: TCP, unix, and in memory.

pub(crate) mod bind;
mod source;
mod tcp;
mod unix;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};

use self::bind::{Families, candidates, is_all_of_ipv4};
use self::tcp::bind_tcp;
use self::unix::bind_unix;
use crate::address::Address;
use crate::dial::explain::explain_path;
#[cfg(feature = "memory-network")]
use crate::memory::MemoryListener;
use crate::socket::{self, OnDrop, Socket};

pub use self::source::Source;
pub use self::tcp::TcpListeners;
pub use self::unix::SocketFile;

/// A listener for connections: one socket, or one for each address of a name.
#[derive(Debug)]
pub enum Listener {
    /// TCP, and what becomes of accepted connections.
    Tcp(TcpListeners, OnDrop),
    /// A unix socket, and the file that goes when the listener goes.
    Unix(UnixListener, SocketFile),
    /// An address on a network in memory, and what becomes of accepted connections.
    #[cfg(feature = "memory-network")]
    Memory(MemoryListener, OnDrop),
}

impl Listener {
    /// Listens on `address`: where it is a name on all addresses that the name has, and with `*` on all of this machine, by
    /// one port in any case. An address that this machine does not have, or a family that is off, counts as none as long as
    /// there is another one. A unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Those of the sockets; `NotFound` for a name without addresses, `TimedOut` where it cannot be looked up.
    pub async fn bind(address: &Address, on_drop: OnDrop) -> io::Result<Self> {
        Self::bind_beside(address, on_drop, &[]).await
    }

    /// As [`Listener::bind`], beside `others` that are listened on too: `[::]` leaves IPv4 to a `0.0.0.0` with the same port
    /// among them, and takes it itself, as the system has it, where there is none.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub async fn bind_beside(address: &Address, on_drop: OnDrop, others: &[Address]) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let addresses = candidates(host, *port).await?;
                let families = Families::beside(&addresses, others, *port);
                TcpListeners::bind(&addresses, on_drop, families)
                    .map(|listeners| Self::Tcp(listeners, on_drop))
            }
            Address::Unix(path) => match bind_unix(path).await {
                Ok((listener, file)) => Ok(Self::Unix(listener, file)),
                Err(error) => Err(explain_path(path, error)),
            },
            Address::Passed(_) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no socket of this name was passed to the process, or it is closed again",
            )),
        }
    }

    /// As [`Listener::bind_beside`], so that [`Listener::take_ipv4`] can be asked of it later.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub async fn bind_divisible(address: &Address, on_drop: OnDrop, others: &[Address]) -> io::Result<Self> {
        let Address::Tcp { host, port } = address else { return Self::bind(address, on_drop).await };
        let with_ipv4 = others.iter().any(|other| is_all_of_ipv4(other, *port));
        if with_ipv4 || host.parse() != Ok(Ipv6Addr::UNSPECIFIED) {
            return Self::bind_beside(address, on_drop, others).await;
        }
        // Without IPv6 it is not what was asked for.
        drop(bind_tcp((Ipv6Addr::UNSPECIFIED, 0).into(), on_drop, Families::Apart)?);
        let both = [Ipv6Addr::UNSPECIFIED.into(), IpAddr::from(Ipv4Addr::UNSPECIFIED)];
        let both = both.map(|ip| SocketAddr::new(ip, *port));
        TcpListeners::bind(&both, on_drop, Families::Apart).map(|listeners| Self::Tcp(listeners, on_drop))
    }

    /// Takes over a TCP socket that listens already.
    ///
    /// # Errors
    /// Those of the socket; `InvalidInput` where it does not listen.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn from_tcp(listener: std::net::TcpListener, on_drop: OnDrop) -> io::Result<Self> {
        check_listens(&listener)?;
        listener.set_nonblocking(true)?;
        socket::options_for_accepted(&listener, on_drop)?;
        Ok(Self::Tcp(TcpListeners::new(vec![TcpListener::from_std(listener)?]), on_drop))
    }

    /// Takes over a unix socket that listens already. Its file stays when the listener goes.
    ///
    /// # Errors
    /// Those of the socket; `InvalidInput` where it does not listen.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        check_listens(&listener)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let file = SocketFile::of_another(address.as_pathname().unwrap_or(Path::new("")));
        Ok(Self::Unix(UnixListener::from_std(listener)?, file))
    }

    /// Takes IPv4 out of what `[::]` has led to, so that it can be listened on apart.
    #[must_use]
    pub fn take_ipv4(&self) -> Option<Self> {
        let Self::Tcp(listeners, on_drop) = self else { return None };
        let mut sockets = listeners.sockets();
        let is =
            |socket: &TcpListener, ip: IpAddr| socket.local_addr().is_ok_and(|address| address.ip() == ip);
        let ipv4 = sockets.iter().position(|socket| is(socket, Ipv4Addr::UNSPECIFIED.into()))?;
        if !sockets.iter().any(|socket| is(socket, Ipv6Addr::UNSPECIFIED.into())) {
            return None;
        }
        let taken = TcpListeners::new(vec![sockets.swap_remove(ipv4)]);
        Some(Self::Tcp(taken, *on_drop))
    }

    /// All addresses, with the port that the system chose.
    ///
    /// # Errors
    /// Those of the sockets.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        match self {
            Self::Tcp(listeners, _) => {
                listeners.sockets().iter().map(|socket| socket.local_addr().map(Address::from)).collect()
            }
            Self::Unix(_, file) => Ok(vec![Address::Unix(file.path.clone())]),
            #[cfg(feature = "memory-network")]
            Self::Memory(listener, _) => Ok(vec![listener.address().into()]),
        }
    }

    /// The first address, with the port that the system chose and all have.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn address(&self) -> io::Result<Address> {
        let first = self.addresses()?.into_iter().next();
        first.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Waits for the next connection. Can be dropped and called again, by one task at a time.
    ///
    /// # Errors
    /// Those of the socket: descriptors that have run out, a client that is gone again.
    pub async fn accept(&self) -> io::Result<(Socket, Source)> {
        match self {
            Self::Tcp(listeners, on_drop) => {
                let (stream, peer) = poll_fn(|cx| listeners.poll_accept(cx)).await?;
                let peer = canonical(peer);
                Ok((Socket::accepted(stream, peer, *on_drop)?, Source::direct(peer)))
            }
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let name = format!("unix:{}", file.path.display());
                Ok((Socket::Unix(stream), Source { name, address: None, proxied_to: None }))
            }
            #[cfg(feature = "memory-network")]
            Self::Memory(listener, on_drop) => {
                let stream = listener.accept().await?;
                stream.set_reset_on_drop(*on_drop == OnDrop::Resets);
                let peer = stream.peer_address();
                Ok((Socket::Memory(stream), Source::direct(peer)))
            }
        }
    }
}

/// Refuses a socket that was bound, and nothing more.
fn check_listens(socket: &impl AsFd) -> io::Result<()> {
    match SockRef::from(socket).is_listener()? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen")),
    }
}

/// An IPv4 client of an IPv6 socket under its own address.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn accepted_connections_have_the_options_of_dialed_ones() {
        for on_drop in [OnDrop::Ends, OnDrop::Resets] {
            let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), on_drop).await.unwrap();
            let address = listener.address().unwrap();
            let (dialed, accepted) = tokio::join!(crate::dial::dial(&address), listener.accept());
            let (dialed, accepted) = (dialed.unwrap(), accepted.unwrap().0);
            if on_drop == OnDrop::Resets {
                dialed.reset_on_drop();
            }
            for socket in [dialed, accepted] {
                let Socket::Tcp(stream) = socket else { panic!("{socket:?} is no TCP connection") };
                let options = SockRef::from(&stream);
                assert!(options.tcp_nodelay().unwrap());
                let expected = (on_drop == OnDrop::Resets).then_some(Duration::ZERO);
                assert_eq!(options.linger().unwrap(), expected);
            }
        }
    }

    /// Connects to each address, and waits until each was accepted.
    async fn check_all(listener: &Listener, addresses: &[SocketAddr]) {
        for address in addresses {
            let dialed = TcpStream::connect(address).await.unwrap();
            let (accepted, source) = listener.accept().await.unwrap();
            assert_eq!(source.address, Some(dialed.local_addr().unwrap()));
            assert_eq!(accepted.local_address().map(canonical), Some(*address));
        }
    }

    fn port(listener: &Listener) -> u16 {
        let Address::Tcp { port, .. } = listener.address().unwrap() else { panic!("{listener:?}") };
        port
    }

    #[tokio::test]
    async fn all_addresses_of_a_name_are_listened_on_by_one_port() {
        // The last one is of a network for documentation (RFC 5737).
        let name =
            ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0", "203.0.113.77:0"].map(|text| text.parse().unwrap());
        let sockets = TcpListeners::bind(&name, OnDrop::Ends, Families::AsUsual).unwrap();
        let listener = Listener::Tcp(sockets, OnDrop::Ends);
        let port = port(&listener);
        let expected = [1, 2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
        assert_eq!(listener.addresses().unwrap(), expected.map(Address::from));
        check_all(&listener, &expected).await;
        check_all(&listener, &[expected[2], expected[0]]).await;

        // What one address lacks, the name lacks.
        let name = [4, 1].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
        let error = TcpListeners::bind(&name, OnDrop::Ends, Families::AsUsual).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("127.0.0.1:{port}: Address already in use (os error 98)"));
        assert_eq!(std::net::TcpListener::bind(name[0]).unwrap().local_addr().unwrap(), name[0]);
        let nobody = ["203.0.113.77:0", "203.0.113.78:0"].map(|text| text.parse().unwrap());
        let error = TcpListeners::bind(&nobody, OnDrop::Ends, Families::AsUsual).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    /// IPv6 may be off where this runs.
    fn has_ipv6() -> bool {
        std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    fn loopback(port: u16) -> Vec<SocketAddr> {
        let ipv6 = has_ipv6().then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        ipv6.into_iter().chain([SocketAddr::from((Ipv4Addr::LOCALHOST, port))]).collect()
    }

    #[tokio::test]
    async fn everywhere_is_both_families() {
        let listener = Listener::bind(&Address::listening("*:0").unwrap(), OnDrop::Ends).await.unwrap();
        check_all(&listener, &loopback(port(&listener))).await;
    }

    #[tokio::test]
    async fn all_addresses_of_the_families_can_be_listened_on_apart_and_together() {
        let bind = async |text: &str, others: &[Address]| {
            Listener::bind_beside(&text.parse().unwrap(), OnDrop::Ends, others).await
        };
        if !has_ipv6() {
            return;
        }
        let alone = bind("[::]:0", &[]).await.unwrap();
        check_all(&alone, &loopback(port(&alone))).await;

        let ipv4 = bind("0.0.0.0:0", &[]).await.unwrap();
        let port = port(&ipv4);
        let ipv6 = format!("[::]:{port}");
        assert_eq!(bind(&ipv6, &[]).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let other: Address = format!("0.0.0.0:{}", port ^ 1).parse().unwrap();
        assert_eq!(bind(&ipv6, &[other]).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let both: [Address; 2] = [ipv4.address().unwrap(), ipv6.parse().unwrap()];
        let ipv6 = bind(&ipv6, &both).await.unwrap();
        let [one, other] = [Ipv4Addr::LOCALHOST.into(), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let [one, other] = [one, other].map(|ip| [SocketAddr::new(ip, port)]);
        check_all(&ipv4, &one).await;
        check_all(&ipv6, &other).await;
        assert!(ipv6.take_ipv4().is_none() && ipv4.take_ipv4().is_none());

        // The same in the other order.
        drop((ipv4, ipv6));
        let both: Address = format!("[::]:{port}").parse().unwrap();
        let divisible = Listener::bind_divisible(&both, OnDrop::Ends, &[]).await.unwrap();
        check_all(&divisible, &[one[0], other[0]]).await;
        let ipv4 = divisible.take_ipv4().unwrap();
        check_all(&ipv4, &one).await;
        check_all(&divisible, &other).await;
        assert!(divisible.take_ipv4().is_none());
    }
}
