//! A channel over `AsyncRead + AsyncWrite`, in whatever phase it is.

use std::boxed::Box;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{timeout, timeout_at};

use super::timer::Timer;
use crate::channel::{Event, KeyLimits};
use crate::message::{ControlMessage, ResetCode};
use crate::stream::deadline::CLOSE_DEADLINE;
use crate::stream::error::not_closed;
use crate::stream::half::{ReceiveHalf, SendHalf};
use crate::stream::parts::Parts;
use crate::stream::phase::{Idle, Open, Opening};
use crate::stream::session::Session;
use crate::{Error, PeerMisbehaved};

/// A channel over a socket. `P` is the phase that it is in, which decides on what can be done with it: [`Channel`],
/// [`OpeningStream`], [`SecureStream`].
///
/// Dropping it without [`Channel::close`] cuts the connection, and the other side knows it.
///
/// ```no_run
/// # use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// # use wire_protocol::{message::Target, stream::Channel};
/// # async fn example(channel: Channel<tokio::net::TcpStream>) -> std::io::Result<()> {
/// let mut stream = channel.open(&Target::Pipe).await?;
/// stream.write_all(b"hello").await?;
/// let channel = stream.finish().await?;
/// channel.close().await
/// # }
/// ```
///
/// A channel carries one stream at a time: opening twice does not compile,
///
/// ```compile_fail,E0382
/// # use wire_protocol::{message::Target, stream::Channel};
/// # async fn example(channel: Channel<tokio::net::TcpStream>) -> std::io::Result<()> {
/// let one = channel.open(&Target::Pipe).await?;
/// let another = channel.open(&Target::Pipe).await?;
/// # Ok(()) }
/// ```
///
/// nor opening on a stream that has not been finished,
///
/// ```compile_fail,E0599
/// # use wire_protocol::{message::Target, stream::Channel};
/// # async fn example(channel: Channel<tokio::net::TcpStream>) -> std::io::Result<()> {
/// let one = channel.open(&Target::Pipe).await?;
/// let another = one.open(&Target::Pipe).await?;
/// # Ok(()) }
/// ```
///
/// sending behind its end,
///
/// ```compile_fail,E0599
/// # use tokio::io::AsyncWriteExt as _;
/// # use wire_protocol::stream::SecureStream;
/// # async fn example(stream: SecureStream<tokio::net::TcpStream>) -> std::io::Result<()> {
/// let mut idle = stream.finish().await?;
/// idle.write_all(b"hello").await
/// # }
/// ```
///
/// or using a channel that was closed.
///
/// ```compile_fail,E0382
/// # use wire_protocol::{message::Target, stream::Channel};
/// # async fn example(channel: Channel<tokio::net::TcpStream>) -> std::io::Result<()> {
/// channel.close().await?;
/// let stream = channel.open(&Target::Pipe).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Connection<S, P> {
    pub(super) io: S,
    pub(super) session: Box<Session>,
    pub(super) reading: Box<ReceiveHalf>,
    pub(super) writing: Box<SendHalf>,
    /// The task that waits to write. A socket keeps one waker for that, and reading takes it over when it sends a Pong.
    pub(super) blocked_writer: Option<Waker>,
    /// For the timers of the channel, while a stream that is kept up is read.
    pub(super) timer: Timer,
    pub(super) phase: P,
}

/// A channel on which no stream is open.
pub type Channel<S> = Connection<S, Idle>;

/// A stream that this side has opened, and of which the other side has not said yet that it stands. What is written goes along
/// with the Open; `flush` sends it.
pub type OpeningStream<S> = Connection<S, Opening>;

/// The stream that is open on a channel: what is read and written is the stream's data. `flush` sends what has been written;
/// `shutdown` says EndOfStream.
pub type SecureStream<S> = Connection<S, Open>;

impl<S, P> Connection<S, P> {
    pub(super) fn new(io: S, parts: Parts, phase: P) -> Self {
        let Parts { session, reading, writing } = parts;
        Self { io, session, reading, writing, blocked_writer: None, timer: Timer::default(), phase }
    }

    pub(super) fn take_apart(self) -> (S, Parts) {
        (self.io, Parts { session: self.session, reading: self.reading, writing: self.writing })
    }

    /// As [`Connection::take_apart`], with the phase.
    pub(super) fn take_apart_in(self) -> (S, Parts, P) {
        (self.io, Parts { session: self.session, reading: self.reading, writing: self.writing }, self.phase)
    }

    /// The same channel in the `next` phase.
    pub(super) fn into_phase<Q>(self, next: Q) -> Connection<S, Q> {
        let Self { io, session, reading, writing, blocked_writer, .. } = self;
        Connection { io, session, reading, writing, blocked_writer, timer: Timer::default(), phase: next }
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

impl<S, P> AsMut<Session> for Connection<S, P> {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P> Connection<S, P> {
    /// Gives up whatever is open, and the channel with it. The socket comes back, shut down for writing: whoever closes
    /// it while the other side still sends makes it likely that the reason never arrives.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn reset(mut self, code: ResetCode) -> io::Result<S> {
        self.say(&ControlMessage::Reset { code }).await?;
        self.io.shutdown().await?;
        Ok(self.io)
    }

    /// Asks the other side for a sign of life and does not wait for it.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn begin_ping(&mut self) -> io::Result<()> {
        self.say(&ControlMessage::Ping { nonce: 0 }).await
    }

    /// Asks the other side for a sign of life, and measures how long it takes. For a channel on which the other side has nothing
    /// else to say meanwhile.
    ///
    /// # Errors
    /// [`Error::Closed`] where it has closed the channel instead, else whatever ends the channel.
    pub async fn ping(&mut self) -> io::Result<Duration> {
        let nonce = getrandom::u64().map_err(io::Error::other)?;
        let start = Instant::now();
        self.say(&ControlMessage::Ping { nonce }).await?;
        loop {
            match self.any_event().await? {
                Event::Pong(answered) if answered == nonce => return Ok(start.elapsed()),
                Event::Ping(_) | Event::Pong(_) => {}
                Event::Close => {
                    // It is answered, as far as that is still of use to the other side.
                    self.flush_all().await.ok();
                    return Err(Error::Closed.into());
                }
                _ => return Err(unexpected()),
            }
        }
    }

    /// Says Close, and waits for the other side's as long as section 8 says.
    pub(super) async fn exchange_closes(&mut self) -> io::Result<()> {
        let exchanged = timeout(CLOSE_DEADLINE, async {
            self.say(&ControlMessage::Close).await?;
            self.event().await
        });
        match exchanged.await.map_err(|_| not_closed())?? {
            Event::Close => {}
            _ => return Err(unexpected()),
        }
        // The other side may have gone the moment it had both Closes.
        self.io.shutdown().await.ok();
        Ok(())
    }

    /// Says `message`.
    pub(super) async fn say(&mut self, message: &ControlMessage) -> io::Result<()> {
        self.writing.control(message)?;
        self.flush_all().await
    }

    pub(super) async fn flush_all(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush_all(cx)).await
    }

    pub(super) fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.writing.poll_flush(&mut self.io, cx);
        self.blocked_writer = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    /// The next event that is no sign of life.
    pub(super) async fn event(&mut self) -> io::Result<Event> {
        loop {
            match self.any_event().await? {
                Event::Ping(_) | Event::Pong(_) => {}
                event => return Ok(event),
            }
        }
    }

    /// The next event; a Ping has been answered.
    pub(super) async fn any_event(&mut self) -> io::Result<Event> {
        let event = poll_fn(|cx| self.reading.poll_event(&mut self.io, cx)).await?;
        if let Event::Ping(_) = event {
            self.flush_all().await?;
        }
        Ok(event)
    }

    /// The next event; a Ping has been answered, and the timers of the channel hold.
    pub(super) async fn event_with_signs_of_life(&mut self) -> io::Result<Event> {
        loop {
            let due = [self.writing.poll_timeout(), self.reading.poll_timeout()].into_iter().flatten().min();
            match due {
                None => return self.any_event().await,
                Some(due) => match timeout_at(due, self.any_event()).await {
                    Ok(event) => return event,
                    Err(_) => {
                        self.reading.handle_timeout()?;
                        self.writing.handle_timeout()?;
                        self.flush_all().await?;
                    }
                },
            }
        }
    }
}

/// The other side has said what it may not say now.
pub(super) fn unexpected() -> io::Error {
    Error::from(PeerMisbehaved::UnexpectedMessage).into()
}
