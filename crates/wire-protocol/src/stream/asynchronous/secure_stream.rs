//! The stream that is open on a channel, over `AsyncRead + AsyncWrite`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Channel, Connection, SecureStream, unexpected};
use super::halves::{ReadHalf, Split, WriteHalf};
use crate::Error;
use crate::channel::Event;
use crate::message::ControlMessage;
use crate::stream::parts::Parts;
use crate::stream::phase::{Idle, Open, Streaming};

impl<S> SecureStream<S> {
    /// Puts a stream on a socket again.
    pub fn from_parts(io: S, parts: Parts) -> Self {
        Self::new(io, parts, Open)
    }

    /// Takes the stream off its socket, to go on with it in another way (see [`blocking`](crate::stream::blocking)).
    pub fn into_parts(self) -> (S, Parts) {
        self.take_apart()
    }
}

impl<S: Split> SecureStream<S> {
    /// Splits the stream into two halves that share nothing but the socket.
    ///
    /// A Ping that the reading half sees is answered with the writing half's next write or flush.
    pub fn into_split(self) -> (ReadHalf<S::Read>, WriteHalf<S::Write>) {
        let (read, write) = self.io.split();
        (ReadHalf { io: read, reading: self.reading }, WriteHalf { io: write, writing: self.writing })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SecureStream<S> {
    /// Keeps a stream without data up, with signs of life both ways, until the other side ends it. Can be dropped
    /// and called again.
    ///
    /// # Errors
    /// `TimedOut` when the other side has not been heard of for [`SILENCE`](crate::channel::SILENCE), else whatever ends the
    /// channel.
    pub async fn hold(&mut self) -> io::Result<()> {
        loop {
            match self.event_with_signs_of_life().await? {
                Event::Ping(_) | Event::Pong(_) => {}
                Event::EndOfStream => return Ok(()),
                Event::Close => return Err(Error::Truncated.into()),
                _ => return Err(unexpected()),
            }
        }
    }

    /// Reads data of the stream as [`AsyncRead`] does, and gives the bytes, 0 at the end of the stream; `None` for a sign of
    /// life in between. Gives signs of life where the stream is one that is kept up. Can be dropped and called again.
    ///
    /// # Errors
    /// `TimedOut` when the other side of such a stream has not been heard of for [`SILENCE`](crate::channel::SILENCE), else
    /// whatever ends the channel.
    pub async fn read_or_sign_of_life(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if self.reading.receiver.has_ended() {
            return Ok(Some(0));
        }
        match self.event_with_signs_of_life().await? {
            Event::Data => {
                let data = self.reading.receiver.data();
                let len = data.len().min(buf.len());
                buf[..len].copy_from_slice(&data[..len]);
                self.reading.receiver.consume(len);
                Ok(Some(len))
            }
            Event::EndOfStream => Ok(Some(0)),
            Event::Ping(_) | Event::Pong(_) => Ok(None),
            _ => Err(unexpected()),
        }
    }

    /// Has the timers of the channel hold, while its other side is waited for.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            // A Ping is no use while other bytes wait to go out.
            let heartbeat = self.writing.poll_timeout().filter(|_| self.writing.unsent().is_empty());
            let due = heartbeat.into_iter().chain(self.reading.poll_timeout()).min();
            if self.timer.poll_due(due, cx).is_pending() {
                return Ok(());
            }
            self.reading.handle_timeout()?;
            self.writing.handle_timeout()?;
        }
    }

    /// Ends the channel, once both directions of the stream have ended: as [`Channel::close`].
    ///
    /// # Errors
    /// As [`Channel::close`]; [`Error::ApiMisuse`] where this side has not said EndOfStream.
    pub async fn close(mut self) -> io::Result<()> {
        self.exchange_closes().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Streaming> Connection<S, P> {
    /// Ends the stream, where that has not been done, and waits until the other side has ended it too. Gives the channel, idle.
    ///
    /// # Errors
    /// Whatever ends the channel, which data of the other side does that nobody has read.
    pub async fn finish(mut self) -> io::Result<Channel<S>> {
        std::future::poll_fn(|cx| self.poll_end(cx)).await?;
        while !self.reading.receiver.has_ended() {
            match self.event_with_signs_of_life().await? {
                Event::Opened | Event::EndOfStream | Event::Refused(_) | Event::Ping(_) | Event::Pong(_) => {}
                _ => return Err(unexpected()),
            }
        }
        Ok(self.into_phase(Idle))
    }

    /// Says EndOfStream, where that has not been done.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing.sender.is_streaming() {
            self.reading.look_before_end(&mut self.io, cx)?;
            self.writing.control(&ControlMessage::EndOfStream)?;
        }
        self.poll_flush_all(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SecureStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let polled = this.reading.poll_read(&mut this.io, cx, buf);
        if polled.is_pending() {
            this.poll_timers(cx)?;
        }
        // A Ping that was seen on the way is answered at once; where the socket is full, with the next call.
        this.writing.answer()?;
        if this.writing.unsent().is_empty() {
            return polled;
        }
        let sent = this.writing.poll_send(&mut this.io, cx);
        if let Some(writer) = this.blocked_writer.take() {
            writer.wake();
        }
        match (polled, sent) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            // The other side's last word counts more than that it takes none of ours any more.
            (polled, _) => polled,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Streaming + Unpin> AsyncWrite for Connection<S, P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = this.writing.poll_write(&mut this.io, cx, bytes);
        this.blocked_writer = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_all(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)
    }
}
