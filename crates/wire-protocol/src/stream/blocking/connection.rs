//! A channel over a transport that blocks, in whatever phase it is.

use std::boxed::Box;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::time::Duration;

use super::timeouts::{Limited, Timeouts, within};
use crate::channel::{Event, KeyLimits};
use crate::message::{ControlMessage, ResetCode};
use crate::stream::deadline::CLOSE_DEADLINE;
use crate::stream::error::{not_closed, silent};
use crate::stream::half::{ReceiveHalf, SendHalf};
use crate::stream::parts::Parts;
use crate::stream::phase::{Idle, Open};
use crate::stream::session::Session;
use crate::{Error, PeerMisbehaved};

/// A channel over a socket, for threads. `P` is the phase that it is in, which decides on what can be done with it: [`Channel`],
/// [`SecureStream`].
///
/// Dropping it without [`Channel::close`] cuts the connection, and the other side knows it.
///
/// ```no_run
/// # use std::io::Write as _;
/// # use wire_protocol::{message::Target, stream::blocking::Channel};
/// # fn example(channel: Channel<std::net::TcpStream>) -> std::io::Result<()> {
/// let mut stream = channel.open(&Target::Pipe)?;
/// stream.write_all(b"hello")?;
/// let channel = stream.finish()?;
/// channel.close()
/// # }
/// ```
///
/// A channel carries one stream at a time: opening twice does not compile,
///
/// ```compile_fail,E0382
/// # use wire_protocol::{message::Target, stream::blocking::Channel};
/// # fn example(channel: Channel<std::net::TcpStream>) -> std::io::Result<()> {
/// let one = channel.open(&Target::Pipe)?;
/// let another = channel.open(&Target::Pipe)?;
/// # Ok(()) }
/// ```
///
/// nor sending behind the end of a stream,
///
/// ```compile_fail,E0599
/// # use std::io::Write as _;
/// # use wire_protocol::stream::blocking::SecureStream;
/// # fn example(stream: SecureStream<std::net::TcpStream>) -> std::io::Result<()> {
/// let mut idle = stream.finish()?;
/// idle.write_all(b"hello")
/// # }
/// ```
///
/// or using a channel that was closed.
///
/// ```compile_fail,E0382
/// # use wire_protocol::{message::Target, stream::blocking::Channel};
/// # fn example(channel: Channel<std::net::TcpStream>) -> std::io::Result<()> {
/// channel.close()?;
/// let stream = channel.open(&Target::Pipe)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Connection<S, P> {
    pub(super) io: S,
    pub(super) session: Box<Session>,
    pub(super) reading: Box<ReceiveHalf>,
    pub(super) writing: Box<SendHalf>,
    phase: PhantomData<P>,
}

/// A channel on which no stream is open.
pub type Channel<S> = Connection<S, Idle>;

/// The stream that is open on a channel: what is read and written is the stream's data. [`SecureStream::shutdown`] says
/// EndOfStream.
pub type SecureStream<S> = Connection<S, Open>;

impl<S, P> Connection<S, P> {
    pub(super) fn new(io: S, parts: Parts) -> Self {
        let Parts { session, reading, writing } = parts;
        Self { io, session, reading, writing, phase: PhantomData }
    }

    /// The same channel in another phase.
    pub(super) fn into_phase<Q>(self) -> Connection<S, Q> {
        let Self { io, session, reading, writing, .. } = self;
        Connection { io, session, reading, writing, phase: PhantomData }
    }

    /// What the handshake has settled.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What the handshake has settled, to take the ticket out.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Updates keys earlier than after the default limits.
    pub fn set_key_limits(&mut self, limits: KeyLimits) {
        self.writing.sender.set_key_limits(limits);
    }
}

impl<S: Read + Write + Timeouts, P> Connection<S, P> {
    /// Gives up whatever is open, and the channel with it. The socket comes back: whoever closes it while the other side still
    /// sends makes it likely that the reason never arrives.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn reset(mut self, code: ResetCode) -> io::Result<S> {
        self.writing.control(&ControlMessage::Reset { code })?;
        self.writing.flush(&mut self.io)?;
        Ok(self.io)
    }

    /// Says Close, and waits for the other side's as long as section 8 says.
    pub(super) fn exchange_closes(&mut self) -> io::Result<()> {
        let Self { io, reading, writing, .. } = self;
        within(io, CLOSE_DEADLINE, not_closed, |io| {
            writing.control(&ControlMessage::Close)?;
            writing.flush(io)?;
            reading.expect_close(io)
        })
    }

    /// The next event that is no sign of life, where it comes within `limit`.
    pub(super) fn event_within(
        &mut self,
        limit: Duration,
        late: impl FnOnce() -> io::Error,
    ) -> io::Result<Event> {
        self.within(limit, late, |reading, writing, io| {
            loop {
                match next_event(reading, writing, io)? {
                    Event::Ping(_) | Event::Pong(_) => {}
                    event => return Ok(event),
                }
            }
        })
    }

    /// The next event, where it comes within `limit`; a Ping has been answered.
    pub(super) fn any_event_within(
        &mut self,
        limit: Duration,
        late: impl FnOnce() -> io::Error,
    ) -> io::Result<Event> {
        self.within(limit, late, |reading, writing, io| next_event(reading, writing, io))
    }

    pub(super) fn say_within(&mut self, limit: Duration, message: &ControlMessage) -> io::Result<()> {
        self.within(limit, silent, |_, writing, io| {
            writing.control(message)?;
            writing.flush(io)
        })
    }

    /// Sends what has been said, and what the channel has to answer.
    pub(super) fn flush_within(&mut self, limit: Duration) -> io::Result<()> {
        self.within(limit, silent, |_, writing, io| writing.flush(io))
    }

    fn within<T>(
        &mut self,
        limit: Duration,
        late: impl FnOnce() -> io::Error,
        work: impl FnOnce(&mut ReceiveHalf, &mut SendHalf, &mut Limited<'_, S>) -> io::Result<T>,
    ) -> io::Result<T> {
        let Self { io, reading, writing, .. } = self;
        within(io, limit, late, |io| work(reading, writing, io))
    }
}

/// The next event; a Ping has been answered.
fn next_event(
    reading: &mut ReceiveHalf,
    writing: &mut SendHalf,
    io: &mut (impl Read + Write),
) -> io::Result<Event> {
    let event = reading.event(io)?;
    if let Event::Ping(_) = event {
        writing.flush(io)?;
    }
    Ok(event)
}

/// The other side has said what it may not say now.
pub(super) fn unexpected() -> io::Error {
    Error::from(PeerMisbehaved::UnexpectedMessage).into()
}
