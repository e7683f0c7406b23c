//! Sockets that both directions of a relay use at once, and vectored.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::stream::error::cut_off;

/// A connected socket that both directions of a relay use at once, and vectored.
///
/// The functions are those of `tokio::net::TcpStream`, and mean the same. A read that gives less than there is room for
/// should also take back that there is something to read: asking again at once would be in vain.
pub trait Duplex: Send + Sync + 'static {
    /// Waits until a read may give something.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing yet, else those of the socket.
    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Waits until a write may take something.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes without waiting, on a new connection before any event too.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is taken now, else those of the socket.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that nothing more will be written; reading goes on.
    ///
    /// # Errors
    /// Those of the socket.
    fn shutdown_write(&self) -> io::Result<()>;

    /// Closes a connection on which both sides have said all: what was written still arrives, even where dropping the
    /// socket would reset it.
    fn finish(self);

    /// Waits until the connection is reset, for whoever has nothing left to read and would not notice otherwise.
    fn reset(&self) -> impl Future<Output = io::Error> + Send;
}

/// Implements [`Duplex`] for a socket of tokio's, which has all of it.
macro_rules! duplex {
    ($socket:ty) => {
        impl Duplex for $socket {
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let room = places.iter().map(|place| place.len()).sum();
                let mut short = None;
                let read = self.try_io(Interest::READABLE, || {
                    let read = (&*SockRef::from(self)).read_vectored(places)?;
                    if (1..room).contains(&read) {
                        // The socket had no more. A caller that is told WouldBlock in here waits for the next event
                        // and does not ask the socket again before that.
                        short = Some(read);
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Ok(read)
                });
                short.map_or(read, Ok)
            }

            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                let mut asked = false;
                let written = self.try_io(Interest::WRITABLE, || {
                    asked = true;
                    (&*SockRef::from(self)).write_vectored(slices)
                });
                match written {
                    // Nothing has said so far that the socket takes something, which one that is new does.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !asked => {
                        (&*SockRef::from(self)).write_vectored(slices)
                    }
                    written => written,
                }
            }

            fn shutdown_write(&self) -> io::Result<()> {
                SockRef::from(self).shutdown(std::net::Shutdown::Write)
            }

            fn finish(self) {
                // It fails only where there is nothing to unset, as on a unix socket.
                SockRef::from(&self).set_linger(None).ok();
            }

            async fn reset(&self) -> io::Error {
                match self.ready(Interest::ERROR).await.and_then(|_| self.take_error()) {
                    Ok(Some(error)) | Err(error) => error,
                    // Readiness that means nothing, and that would be there again at once.
                    Ok(None) => std::future::pending().await,
                }
            }
        }
    };
}

duplex!(TcpStream);
duplex!(UnixStream);

/// A socket that both directions use, for one of them.
pub(super) struct Shared<'a, D>(pub(super) &'a D);

impl<D: Duplex> AsyncRead for Shared<'_, D> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_vectored(&mut [IoSliceMut::new(buf.initialize_unfilled())]) {
                Err(error) if is_transient(&error) => {}
                Ok(len) => {
                    buf.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(cut_off(error))),
            }
        }
    }
}

impl<D: Duplex> AsyncWrite for Shared<'_, D> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(&[IoSlice::new(bytes)]) {
                Err(error) if is_transient(&error) => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown_write())
    }
}

/// Whether an error only means that the socket has nothing, or takes nothing, now.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
