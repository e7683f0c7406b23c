//! A connected socket, TCP or unix, for the reactor and for threads.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as BlockingUnix;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use wire_protocol::stream::{Duplex, blocking};

#[cfg(feature = "memory-network")]
use crate::memory::MemorySocket;

/// The effect of dropping an accepted connection: an orderly end, or a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrop {
    /// A good end.
    Ends,
    /// As after [`Socket::reset_on_drop`].
    Resets,
}

/// A connected socket for asynchronous code.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// A connection in memory.
    #[cfg(feature = "memory-network")]
    Memory(MemorySocket),
}

/// Does the same with the socket of each kind.
macro_rules! each {
    ($socket:expr, $stream:ident => $done:expr) => {
        match $socket {
            Socket::Tcp($stream) => $done,
            Socket::Unix($stream) => $done,
            #[cfg(feature = "memory-network")]
            Socket::Memory($stream) => $done,
        }
    };
}

impl Socket {
    /// Takes a TCP connection with `peer`. Small writes are sent at once, since records are batched already; and a peer
    /// that is gone without a word is noticed in a few minutes. (One on this machine never is.)
    ///
    /// # Errors
    /// Those of the socket.
    pub fn tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        if !peer.ip().to_canonical().is_loopback() {
            SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
        }
        Ok(Self::Tcp(stream))
    }

    /// Takes a TCP connection that was accepted by a listener with [`options_for_accepted`].
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn accepted(stream: TcpStream, peer: SocketAddr, on_drop: OnDrop) -> io::Result<Self> {
        if INHERITS {
            return Ok(Self::Tcp(stream));
        }
        let socket = Self::tcp(stream, peer)?;
        if on_drop == OnDrop::Resets {
            socket.reset_on_drop();
        }
        Ok(socket)
    }

    /// From now on, until [`Socket::end_well`], dropping the socket resets the connection, however that comes
    /// about, the end of the process included: what was cut off must not look as if it had ended.
    ///
    /// A unix socket knows no reset: there the other side sees an end, or an error where it still writes.
    pub fn reset_on_drop(&self) {
        self.set_linger(Some(Duration::ZERO));
    }

    /// Both sides have said all they have: dropping the socket is a good end.
    pub fn end_well(self) {
        self.set_linger(None);
    }

    /// Ends a connection to whose other side something has been said last that has to arrive: where a socket is closed
    /// while there is something unread, the system resets the connection, and that overtakes what was said.
    pub async fn end_after_reply(mut self) {
        self.set_linger(None);
        if Duplex::shutdown_write(&self).is_err() {
            return;
        }
        // On the heap, so that connections that do not end like this have no room for it.
        let mut nothing = vec![0; 4096];
        let read_all = async {
            let mut unread = MAX_UNREAD;
            while let Ok(len @ 1..) = self.read(&mut nothing).await {
                unread = unread.saturating_sub(len);
                if unread == 0 {
                    break;
                }
            }
        };
        timeout(LAST_WORD, read_all).await.ok();
    }

    fn set_linger(&self, linger: Option<Duration>) {
        match self {
            // It fails only for what is no socket any more.
            Self::Tcp(stream) => drop(SockRef::from(stream).set_linger(linger)),
            Self::Unix(_) => {}
            #[cfg(feature = "memory-network")]
            Self::Memory(stream) => stream.set_reset_on_drop(linger.is_some()),
        }
    }

    /// The address of the other side; `None` for a unix socket, and for a connection that is gone.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
            #[cfg(feature = "memory-network")]
            Self::Memory(stream) => Some(stream.peer_address()),
        }
    }

    /// The address of this side; `None` for a unix socket.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
            #[cfg(feature = "memory-network")]
            Self::Memory(stream) => Some(stream.local_address()),
        }
    }

    /// The same socket for threads.
    ///
    /// # Errors
    /// Those of the socket; `Unsupported` for a connection in memory.
    pub fn into_blocking(self) -> io::Result<BlockingSocket> {
        Ok(match self {
            Self::Tcp(stream) => {
                let stream = stream.into_std()?;
                stream.set_nonblocking(false)?;
                BlockingSocket::Tcp(stream)
            }
            Self::Unix(stream) => {
                let stream = stream.into_std()?;
                stream.set_nonblocking(false)?;
                BlockingSocket::Unix(stream)
            }
            #[cfg(feature = "memory-network")]
            Self::Memory(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }
}

/// Gives a listener the options that connections are to have, where the system hands them on: for each of them that is
/// one call less.
pub(crate) fn options_for_accepted(listener: &impl AsFd, on_drop: OnDrop) -> io::Result<()> {
    if INHERITS {
        let listener = SockRef::from(listener);
        listener.set_tcp_nodelay(true)?;
        listener.set_tcp_keepalive(&keepalive())?;
        if on_drop == OnDrop::Resets {
            listener.set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(4)
}

/// How long the other side may take to end a connection whose end it has been told.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Bytes that it may still send meanwhile.
const MAX_UNREAD: usize = 1024 * 1024;

/// On Linux an accepted connection begins with the options of its listener.
const INHERITS: bool = cfg!(target_os = "linux");

impl Duplex for Socket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Duplex::poll_read_ready(stream, cx))
    }

    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // The trait's function, which tokio's own of this name would hide.
        each!(self, stream => Duplex::try_read_vectored(stream, places))
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Duplex::poll_write_ready(stream, cx))
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, stream => Duplex::try_write_vectored(stream, slices))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        each!(self, stream => Duplex::shutdown_write(stream))
    }

    fn finish(self) {
        self.end_well();
    }

    async fn reset(&self) -> io::Error {
        each!(self, stream => Duplex::reset(stream).await)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut *self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A connected socket with blocking reads and writes, for threads.
#[derive(Debug)]
pub enum BlockingSocket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A unix socket.
    Unix(BlockingUnix),
}

impl BlockingSocket {
    /// Lets neither reading nor writing wait for longer than `limit`, which is more than nothing. What is over time fails
    /// with `WouldBlock`.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn set_timeout(&self, limit: Duration) -> io::Result<()> {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        };
        socket.set_read_timeout(Some(limit))?;
        socket.set_write_timeout(Some(limit))
    }

    /// Shuts both directions down, for whoever else holds the socket too: what waits on it returns.
    pub fn shut_down(&self) {
        // It fails only for what is no connection any more.
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both).ok(),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both).ok(),
        };
    }
}

impl Read for BlockingSocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for BlockingSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl blocking::Timeouts for BlockingSocket {
    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        match self {
            Self::Tcp(stream) => stream.read_timeout(),
            Self::Unix(stream) => stream.read_timeout(),
        }
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Unix(stream) => stream.set_read_timeout(limit),
        }
    }

    fn write_timeout(&self) -> io::Result<Option<Duration>> {
        match self {
            Self::Tcp(stream) => stream.write_timeout(),
            Self::Unix(stream) => stream.write_timeout(),
        }
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(limit),
            Self::Unix(stream) => stream.set_write_timeout(limit),
        }
    }
}

impl blocking::Split for BlockingSocket {
    type Read = Self;
    type Write = Self;

    fn split(self) -> io::Result<(Self, Self)> {
        let other = match &self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        };
        Ok((other, self))
    }
}

/// Silence after which TCP asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
