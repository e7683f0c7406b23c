//! The stream over `AsyncRead + AsyncWrite`.

mod datagram;
mod directions;
mod duplex;
mod early;
mod halves;
mod handshake;
mod tunnel;

use std::boxed::Box;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::{timeout, timeout_at};

use super::{CLOSE_DEADLINE, Parts, Peer, Reading, Session, Writing, idle_for, idle_timeout, not_closed};
use crate::channel::{Event, KeyLimits};
use crate::message::{ControlMessage, LEASE_LEN, RefusedCode, ResetCode, Target};
use crate::{Error, PeerMisbehaved};

pub use datagram::{
    ANSWERED_IDLE, DatagramSocket, DatagramsEnd, Dropped, relay_datagrams, send_past_earlier_errors,
};
pub use duplex::Duplex;
pub use early::{never_stood, open_early};
pub use halves::{ReadHalf, Split, WriteHalf};
pub use handshake::{
    Admission, Operation, Progress, RsaPool, accept, accept_channel, connect, connect_channel,
    fetch_server_key,
};
pub use tunnel::{Pace, tunnel, tunnel_until};

/// A channel over a socket, and the stream that is open on it: what is read and written is the stream's data.
///
/// `flush` sends what has been written; `shutdown` says EndOfStream. Dropping it without
/// [`SecureStream::close`] cuts the connection, and the other side knows it.
#[derive(Debug)]
pub struct SecureStream<S> {
    io: S,
    session: Box<Session>,
    reading: Box<Reading>,
    writing: Box<Writing>,
    /// Whoever waits to write. A socket keeps one waker for that, and reading takes it over when it sends a Pong.
    blocked_writer: Option<Waker>,
}

/// What the other side wants of an idle channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A stream: to be answered with [`SecureStream::answer_open`] or [`SecureStream::refuse_open`].
    Open(Target),
    /// That this side opens streams from now on, under this lease: with [`SecureStream::open`].
    Park([u8; LEASE_LEN]),
    /// Nothing but to be known to be there: its Ping has been answered, or it has answered ours.
    SignOfLife,
    /// The end: to be answered with [`SecureStream::answer_close`].
    Close,
}

impl<S> SecureStream<S> {
    /// Puts a channel on a socket again.
    pub fn from_parts(io: S, parts: Parts) -> Self {
        let Parts { session, reading, writing } = parts;
        Self { io, session, reading, writing, blocked_writer: None }
    }

    /// Takes the channel off its socket, to go on with it in another way (see [`super::blocking`]).
    pub fn into_parts(self) -> (S, Parts) {
        (self.io, Parts { session: self.session, reading: self.reading, writing: self.writing })
    }

    /// What the handshake has settled.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What the handshake has settled, to take the ticket out.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The socket.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// Updates keys earlier than after the default limits.
    pub fn set_key_limits(&mut self, limits: KeyLimits) {
        self.writing.sender.set_key_limits(limits);
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
    /// Opens a stream on an idle channel and waits until it stands.
    ///
    /// # Errors
    /// [`Error::Refused`] when the server does not want it; the channel is idle again then.
    pub async fn open(&mut self, target: Target) -> io::Result<()> {
        self.begin_open(&target)?;
        self.flush().await?;
        self.confirm_opened().await
    }

    /// Opens a stream on an idle channel, to be sent with the next flush and confirmed with
    /// [`SecureStream::confirm_opened`].
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when the channel is not idle.
    pub fn begin_open(&mut self, target: &Target) -> Result<(), Error> {
        self.writing.control(&ControlMessage::Open { target: target.clone() })
    }

    /// Waits until the stream stands that was opened with the handshake.
    ///
    /// # Errors
    /// As [`SecureStream::open`].
    pub async fn confirm_opened(&mut self) -> io::Result<()> {
        let event = self.event().await?;
        self.confirm(event).await
    }

    async fn confirm(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Opened => Ok(()),
            Event::Refused(code) => {
                // That the other side is gone already changes nothing about its answer.
                self.writing.control(&ControlMessage::EndOfStream)?;
                self.flush().await.ok();
                Err(Error::Refused(code).into())
            }
            Event::Close => {
                // The stream never stood: this side closes too, and that it does not arrive changes nothing.
                self.writing.control(&ControlMessage::Close)?;
                self.flush().await.ok();
                Err(Error::Closed.into())
            }
            _ => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
        }
    }

    /// Waits for the other side to open a stream; `None` when it closes the channel instead. Pings are answered. A
    /// server closes a channel that has been idle for as long as its limits say.
    ///
    /// # Errors
    /// `TimedOut` when the channel was closed for having been idle, else whatever ends it.
    pub async fn next_open(&mut self) -> io::Result<Option<Target>> {
        loop {
            let incoming = match self.idle_timeout() {
                Some(limit) => match timeout(limit, self.next_incoming()).await {
                    Ok(incoming) => incoming,
                    Err(_) => return Err(self.close_idle(limit).await),
                },
                None => self.next_incoming().await,
            };
            match incoming? {
                Incoming::Open(target) => return Ok(Some(target)),
                Incoming::SignOfLife => {}
                Incoming::Park(_) => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
                Incoming::Close => return Ok(None),
            }
        }
    }

    /// How long a client may leave the channel idle; `None` at the client.
    fn idle_timeout(&self) -> Option<Duration> {
        matches!(self.session.peer, Peer::Client(_)).then(|| idle_timeout(&self.session))
    }

    /// Says Close, and waits for the other side's as long as section 8 says. Gives the reason.
    async fn close_idle(&mut self, limit: Duration) -> io::Error {
        // Whether the other side closes too makes no difference to why.
        self.exchange_closes().await.ok();
        idle_for(limit)
    }

    /// Waits for what the other side wants of an idle channel, for as long as that takes. Can be dropped and called
    /// again.
    ///
    /// # Errors
    /// Whatever ends the channel.
    pub async fn next_incoming(&mut self) -> io::Result<Incoming> {
        match self.any_event().await? {
            Event::Open(target) => Ok(Incoming::Open(target)),
            Event::Park(lease) => Ok(Incoming::Park(lease)),
            Event::Ping(_) | Event::Pong(_) => Ok(Incoming::SignOfLife),
            Event::Close => Ok(Incoming::Close),
            _ => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
        }
    }

    /// Answers the other side's Open: the stream stands.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn answer_open(&mut self) -> io::Result<()> {
        self.begin_answer()?;
        self.flush().await
    }

    /// Answers the other side's Open: the stream stands. To be sent with the next flush, or by [`tunnel()`]: where data came
    /// with the Open, together with what the plain connection says to it, or as soon as the other side says anything
    /// else, or after [`HEARTBEAT`].
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when there is no Open to answer.
    pub fn begin_answer(&mut self) -> Result<(), Error> {
        self.writing.control(&ControlMessage::Opened)
    }

    /// Answers the other side's Open of a listen target: this side listens, on `port`.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn answer_listen(&mut self, port: u16) -> io::Result<()> {
        self.writing.control(&ControlMessage::Listening { port })?;
        self.flush().await
    }

    /// Asks the other side to listen, and waits until it does. Gives the port.
    ///
    /// # Errors
    /// As [`SecureStream::open`].
    pub async fn open_listen(&mut self, target: &Target) -> io::Result<u16> {
        self.begin_open(target)?;
        self.flush().await?;
        match self.event().await? {
            Event::Listening(port) => Ok(port),
            Event::Opened => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
            event => self.confirm(event).await.map(|()| 0),
        }
    }

    /// Parks an idle channel: from now on the other side opens streams (see [`SecureStream::next_incoming`]).
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn park(&mut self, lease: [u8; LEASE_LEN]) -> io::Result<()> {
        self.writing.control(&ControlMessage::Park { lease })?;
        self.flush().await
    }

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
                _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
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
            _ => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
        }
    }

    /// Answers the other side's Open: there will be no stream. The channel is idle again.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn refuse_open(&mut self, code: RefusedCode) -> io::Result<()> {
        self.writing.control(&ControlMessage::Refused { code })?;
        self.flush().await
    }

    /// Gives the stream up, and the channel with it. The socket comes back, shut down for writing: whoever closes
    /// it while the other side still sends makes it likely that the reason never arrives.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn reset(mut self, code: ResetCode) -> io::Result<S> {
        self.writing.control(&ControlMessage::Reset { code })?;
        self.flush().await?;
        self.io.shutdown().await?;
        Ok(self.io)
    }

    /// Ends the channel: both sides say Close once all that they received has reached its place, so that after
    /// this nothing is in doubt. What has crossed our Close never stood, and is discarded.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the other side is gone without a Close, `TimedOut` when it has not said it after
    /// [`CLOSE_DEADLINE`].
    pub async fn close(mut self) -> io::Result<()> {
        self.exchange_closes().await
    }

    async fn exchange_closes(&mut self) -> io::Result<()> {
        let exchanged = timeout(CLOSE_DEADLINE, async {
            self.writing.control(&ControlMessage::Close)?;
            self.flush().await?;
            self.event().await
        });
        match exchanged.await.map_err(|_| not_closed())?? {
            Event::Close => {}
            _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
        }
        // The other side may have gone the moment it had both Closes.
        self.io.shutdown().await.ok();
        Ok(())
    }

    /// Answers the other side's Close with our own: to be called after [`SecureStream::next_open`] gave `None`.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn answer_close(mut self) -> io::Result<()> {
        self.writing.control(&ControlMessage::Close)?;
        self.flush().await?;
        self.io.shutdown().await
    }

    /// Asks the other side for a sign of life and does not wait for it: [`SecureStream::next_incoming`] gives it.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn begin_ping(&mut self) -> io::Result<()> {
        self.writing.control(&ControlMessage::Ping { nonce: 0 })?;
        self.flush().await
    }

    /// Whether an idle channel still stands, as far as can be seen without waiting: what has arrived is looked at.
    #[must_use]
    pub fn is_standing(&mut self) -> bool {
        loop {
            // A task that has used up its turn would find nothing, whatever there is.
            let event = pin!(unconstrained(poll_fn(|cx| self.reading.poll_event(&mut self.io, cx))));
            match event.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return true,
                // A Ping is answered with what is sent next.
                Poll::Ready(Ok(Event::Ping(_) | Event::Pong(_))) => {}
                Poll::Ready(_) => return false,
            }
        }
    }

    /// Asks the other side for a sign of life on an idle channel, and measures how long it takes.
    ///
    /// # Errors
    /// Whatever ends the channel.
    pub async fn ping(&mut self) -> io::Result<Duration> {
        let nonce = getrandom::u64().map_err(io::Error::other)?;
        let start = Instant::now();
        self.writing.control(&ControlMessage::Ping { nonce })?;
        self.flush().await?;
        loop {
            match self.any_event().await? {
                Event::Pong(answered) if answered == nonce => return Ok(start.elapsed()),
                Event::Ping(_) | Event::Pong(_) => {}
                Event::Close => {
                    self.writing.control(&ControlMessage::Close)?;
                    self.flush().await.ok();
                    return Err(Error::Closed.into());
                }
                _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
            }
        }
    }

    /// The next event that is no sign of life.
    async fn event(&mut self) -> io::Result<Event> {
        loop {
            match self.any_event().await? {
                Event::Ping(_) | Event::Pong(_) => {}
                event => return Ok(event),
            }
        }
    }

    /// The next event; a Ping has been answered.
    async fn any_event(&mut self) -> io::Result<Event> {
        let event = poll_fn(|cx| self.reading.poll_event(&mut self.io, cx)).await?;
        if let Event::Ping(_) = event {
            self.flush().await?;
        }
        Ok(event)
    }

    /// The next event; a Ping has been answered, and the timers of the channel hold.
    async fn event_with_signs_of_life(&mut self) -> io::Result<Event> {
        loop {
            let due = [self.writing.poll_timeout(), self.reading.poll_timeout()].into_iter().flatten().min();
            match due {
                None => return self.any_event().await,
                Some(due) => match timeout_at(due, self.any_event()).await {
                    Ok(event) => return event,
                    Err(_) => {
                        self.reading.handle_timeout()?;
                        self.writing.handle_timeout()?;
                        self.flush().await?;
                    }
                },
            }
        }
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
        // A Ping that was seen on the way is answered at once; where the socket is full, with the next call.
        this.writing.answer_ping()?;
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SecureStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = this.writing.poll_write(&mut this.io, cx, bytes);
        this.blocked_writer = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let polled = this.writing.poll_flush(&mut this.io, cx);
        this.blocked_writer = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.writing.sender.is_streaming() {
            this.reading.check_before_end(&mut this.io, cx)?;
        }
        let polled = this.writing.poll_shutdown(&mut this.io, cx);
        this.blocked_writer = polled.is_pending().then(|| cx.waker().clone());
        polled
    }
}
