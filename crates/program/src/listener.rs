//! Sockets that are listened on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use crate::address::Address;
use crate::socket::{self, Socket};

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// TCP, and what becomes of accepted connections.
    Tcp(TcpListener, OnDrop),
    /// A unix socket, and the file that goes when the listener goes.
    Unix(UnixListener, SocketFile),
}

/// What dropping an accepted connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrop {
    /// A good end.
    Ends,
    /// As after [`Socket::reset_on_drop`].
    Resets,
}

/// Where an accepted connection comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// As it is written, for the log.
    pub name: String,
    /// `None` for a unix socket. An IPv4 client of an IPv6 socket has its own address.
    pub address: Option<SocketAddr>,
}

impl Source {
    /// The address without its port; `None` for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }
}

impl Listener {
    /// Listens on `address`. A unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn bind(address: &Address, on_drop: OnDrop) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                bind_tcp(host, *port, on_drop).await.map(|listener| Self::Tcp(listener, on_drop))
            }
            Address::Unix(path) => bind_unix(path).await,
        }
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener, _) => {
                let address = listener.local_addr()?;
                Ok(Address::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }

    /// Waits for the next connection. Can be dropped and called again.
    ///
    /// # Errors
    /// Those of the socket: descriptors that have run out, a client that is gone again.
    pub async fn accept(&self) -> io::Result<(Socket, Source)> {
        match self {
            Self::Tcp(listener, on_drop) => {
                let (stream, peer) = listener.accept().await?;
                let peer = canonical(peer);
                Ok((
                    Socket::accepted(stream, peer, *on_drop)?,
                    Source { name: peer.to_string(), address: Some(peer) },
                ))
            }
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let name = format!("unix:{}", file.path.display());
                Ok((Socket::Unix(stream), Source { name, address: None }))
            }
        }
    }
}

/// The file of a unix socket. Goes with it, unless another socket has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Binds the first address of a name that can be bound, with a backlog that takes a burst of connections.
async fn bind_tcp(host: &str, port: u16, on_drop: OnDrop) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A server that was ended a moment ago must be able to come back to its port.
        socket.set_reuseaddr(true)?;
        socket::options_for_accepted(&socket, on_drop)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path).await => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let inode = std::fs::metadata(path)?.ino();
    Ok(Listener::Unix(listener, SocketFile { path: path.into(), inode }))
}

/// A socket file on which nobody listens. Anything else at this path is not ours to remove.
async fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).await.is_err_and(refused)
}

/// An IPv4 client of an IPv6 socket under its own address.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Connections that wait to be accepted at most; the system's own limit is 4096 as a rule.
const BACKLOG: u32 = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;

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
}
