//! The two directions of a stream, each over any socket that can be polled.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::channel::Event;
use crate::message::ControlMessage;
use crate::stream::error::cut_off;
use crate::stream::half::{ReceiveHalf, SendHalf};
use crate::stream::memory;
use crate::{Error, PeerMisbehaved};

impl ReceiveHalf {
    pub(super) fn poll_event<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Event>> {
        loop {
            if let Some(event) = self.next_event()? {
                return Poll::Ready(Ok(event));
            }
            if let Some(unused) = self.receiver.lend(memory::take) {
                memory::give_back(unused);
            }
            let mut spare = ReadBuf::new(self.receiver.spare());
            match Pin::new(&mut *io).poll_read(cx, &mut spare) {
                Poll::Ready(Ok(())) => match spare.filled().len() {
                    0 => {
                        self.receiver.handle_end()?;
                        return Poll::Ready(Err(Error::Truncated.into()));
                    }
                    len => self.receiver.handle_input(len),
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(cut_off(error))),
                Poll::Pending => {
                    if let Some(unused) = self.receiver.release_to(memory::take_record) {
                        memory::give_back(unused);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Hands what has arrived to the channel before the end of a message is said.
    pub(super) fn look_before_end<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        while self.receiver.awaits_confirmation()
            && let Poll::Ready(event) = self.poll_event(io, cx)
        {
            event?;
        }
        Ok(())
    }

    /// Data for the reader; nothing left in `buf` changed means the end of the stream.
    pub(super) fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.receiver.has_ended() {
            match ready!(self.poll_event(io, cx))? {
                Event::Data => {
                    let data = self.receiver.data();
                    let len = data.len().min(buf.remaining());
                    buf.put_slice(&data[..len]);
                    self.receiver.consume(len);
                    return Poll::Ready(Ok(()));
                }
                Event::EndOfStream | Event::Ping(_) | Event::Pong(_) => {}
                _ => return Poll::Ready(Err(Error::from(PeerMisbehaved::UnexpectedMessage).into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl SendHalf {
    pub(super) fn poll_send<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.unsent().is_empty() {
            let len = ready!(Pin::new(&mut *io).poll_write(cx, self.unsent())).map_err(cut_off)?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent(len);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a batch at most while nothing waits to be sent: so back-pressure is the socket's own.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(io, cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = self.data(bytes)?;
        // What the socket does not take now goes out with the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_send(io, cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    pub(super) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        // A Pong may have had to wait for what was under way.
        loop {
            ready!(self.poll_send(io, cx))?;
            self.answer()?;
            if self.unsent().is_empty() {
                return Pin::new(io).poll_flush(cx);
            }
        }
    }

    pub(super) fn poll_shutdown<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sender.is_streaming() {
            self.control(&ControlMessage::EndOfStream)?;
        }
        self.poll_flush(io, cx)
    }
}
