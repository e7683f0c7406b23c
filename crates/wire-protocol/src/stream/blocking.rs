//! The stream over `std::io::Read + Write`.
//!
//! A call that blocks can keep to a limit only where the transport does: see [`Timeouts`], which sockets have. Where the
//! other side may take its time, in the middle of a stream, no limit is set, and those that the transport has of its own hold.

mod directions;
mod halves;
mod handshake;
mod timeouts;

use std::boxed::Box;
use std::io::{self, Read, Write};
use std::time::Duration;

use super::{CLOSE_DEADLINE, Parts, Reading, Session, Writing, idle_for, idle_timeout, not_closed, silent};
use crate::channel::{Event, KeyLimits};
use crate::message::ControlMessage;

pub(super) use halves::SendError;
pub use halves::{Halves, ReadHalf, Split, WriteHalf};
pub use handshake::{accept, connect};
use timeouts::within;
pub use timeouts::{Timeouts, Unlimited};

/// A channel over a socket, and the stream that is open on it: what is read and written is the stream's data.
///
/// As [`super::SecureStream`], for threads. [`SecureStream::shutdown`] says EndOfStream.
#[derive(Debug)]
pub struct SecureStream<S> {
    io: S,
    session: Box<Session>,
    reading: Box<Reading>,
    writing: Box<Writing>,
}

impl<S> SecureStream<S> {
    /// Puts a channel on a socket again.
    pub fn from_parts(io: S, parts: Parts) -> Self {
        let Parts { session, reading, writing } = parts;
        Self { io, session, reading, writing }
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

impl<S: Split> SecureStream<S> {
    /// Splits the stream into two halves, for two threads, that share nothing but the socket.
    ///
    /// # Errors
    /// When the socket cannot be cloned.
    pub fn into_split(self) -> io::Result<Halves<S>> {
        let (read, write) = self.io.split()?;
        Ok((ReadHalf { io: read, reading: self.reading }, WriteHalf { io: write, writing: self.writing }))
    }
}

impl<S: Read + Write> SecureStream<S> {
    /// Says EndOfStream: no more data from this side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.writing.shutdown(&mut self.io)
    }
}

impl<S: Read + Write + Timeouts> SecureStream<S> {
    /// Ends the channel: both sides say Close once all that they received has reached its place, so that after
    /// this nothing is in doubt.
    ///
    /// # Errors
    /// [`Error::Truncated`](crate::Error::Truncated) when the other side is gone without a Close, `TimedOut` when it has not
    /// said it after [`CLOSE_DEADLINE`].
    pub fn close(mut self) -> io::Result<()> {
        self.exchange_closes()
    }

    fn exchange_closes(&mut self) -> io::Result<()> {
        let Self { io, reading, writing, .. } = self;
        within(io, CLOSE_DEADLINE, not_closed, |io| {
            writing.control(&ControlMessage::Close)?;
            writing.flush(io)?;
            reading.expect_close(io)
        })
    }

    /// Waits for what a client wants of an idle channel, for as long as it may leave it idle, and then closes it.
    fn next_open(&mut self) -> io::Result<Event> {
        let limit = idle_timeout(&self.session);
        loop {
            let Self { io, reading, writing, .. } = &mut *self;
            let mut was_idle = false;
            let late = || {
                was_idle = true;
                idle_for(limit)
            };
            match within(io, limit, late, |io| next_event(reading, writing, io)) {
                Ok(Event::Ping(_) | Event::Pong(_)) => {}
                Err(error) if was_idle => {
                    // Whether the other side closes too makes no difference to why.
                    self.exchange_closes().ok();
                    return Err(error);
                }
                event => return event,
            }
        }
    }

    /// The next event that is no sign of life, where it comes within `limit`.
    fn event_within(&mut self, limit: Duration, late: impl FnOnce() -> io::Error) -> io::Result<Event> {
        let Self { io, reading, writing, .. } = self;
        within(io, limit, late, |io| {
            loop {
                match next_event(reading, writing, io)? {
                    Event::Ping(_) | Event::Pong(_) => {}
                    event => return Ok(event),
                }
            }
        })
    }

    fn say_within(&mut self, limit: Duration, message: &ControlMessage) -> io::Result<()> {
        let Self { io, writing, .. } = self;
        within(io, limit, silent, |io| {
            writing.control(message)?;
            writing.flush(io)
        })
    }
}

/// The next event; a Ping has been answered.
fn next_event(
    reading: &mut Reading,
    writing: &mut Writing,
    io: &mut (impl Read + Write),
) -> io::Result<Event> {
    let event = reading.event(io)?;
    if let Event::Ping(_) = event {
        writing.flush(io)?;
    }
    Ok(event)
}

impl<S: Read> Read for SecureStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reading.read(&mut self.io, buf)
    }
}

impl<S: Write> Write for SecureStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writing.write(&mut self.io, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writing.flush(&mut self.io)
    }
}
