//! The two halves of a [`SecureStream`], and the sockets that come apart into two.

use std::boxed::Box;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

#[cfg(doc)]
use super::connection::SecureStream;
use crate::stream::half::{ReceiveHalf, SendHalf};

/// The reading half of a [`SecureStream`].
#[derive(Debug)]
pub struct ReadHalf<R> {
    pub(super) io: R,
    pub(super) reading: Box<ReceiveHalf>,
}

impl<R: AsyncRead + Unpin> AsyncRead for ReadHalf<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.reading.poll_read(&mut this.io, cx, buf)
    }
}

/// The writing half of a [`SecureStream`].
#[derive(Debug)]
pub struct WriteHalf<W> {
    pub(super) io: W,
    pub(super) writing: Box<SendHalf>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for WriteHalf<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.writing.poll_write(&mut this.io, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.writing.poll_flush(&mut this.io, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.writing.poll_shutdown(&mut this.io, cx)
    }
}

/// A socket that can be split into a reading and a writing half. Sockets need no lock for it; for anything else there
/// is `tokio::io::split`, whose lock is its own.
pub trait Split {
    /// The reading half.
    type Read: AsyncRead + Unpin;
    /// The writing half.
    type Write: AsyncWrite + Unpin;

    /// Takes the socket apart.
    fn split(self) -> (Self::Read, Self::Write);
}

impl Split for TcpStream {
    type Read = tcp::OwnedReadHalf;
    type Write = tcp::OwnedWriteHalf;

    fn split(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

impl Split for UnixStream {
    type Read = unix::OwnedReadHalf;
    type Write = unix::OwnedWriteHalf;

    fn split(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

impl Split for tokio::io::DuplexStream {
    type Read = tokio::io::ReadHalf<Self>;
    type Write = tokio::io::WriteHalf<Self>;

    fn split(self) -> (Self::Read, Self::Write) {
        tokio::io::split(self)
    }
}
