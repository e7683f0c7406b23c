//! Sockets that are listened on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use program::address::Address;
use program::socket::Socket;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::Error;

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket, and the file that goes when the listener goes.
    Unix(UnixListener, SocketFile),
}

/// Where an accepted connection comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// For the log.
    pub(crate) name: String,
    /// `None` for a unix socket.
    pub(crate) ip: Option<IpAddr>,
}

impl Listener {
    /// Listens on `address`. A unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn bind(address: &Address) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: address.to_string(), source };
        match address {
            Address::Tcp { host, port } => {
                TcpListener::bind((host.as_str(), *port)).await.map(Self::Tcp).map_err(failed)
            }
            Address::Unix(path) => bind_unix(path).await.map_err(failed),
        }
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(Socket, Source)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::tcp(stream)?, Source { name: canonical(peer).to_string(), ip: Some(peer.ip()) }))
            }
            Self::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let name = format!("unix:{}", file.path.display());
                Ok((Socket::Unix(stream), Source { name, ip: None }))
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
