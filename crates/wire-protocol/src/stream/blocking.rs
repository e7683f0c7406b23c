//! The stream over `std::io::Read + Write`.

mod directions;
mod halves;
mod handshake;

use std::boxed::Box;
use std::io::{self, Read, Write};

use super::{Parts, Reading, Session, Writing};
use crate::channel::{Event, KeyLimits};
use crate::message::ControlMessage;

pub(super) use halves::SendError;
pub use halves::{Halves, ReadHalf, Split, WriteHalf};
pub use handshake::{accept, connect};

/// A channel over a socket, and the stream that is open on it: what is read and written is the stream's data.
///
/// As [`super::SecureStream`], for threads. [`SecureStream::shutdown`] says EndOfStream.
#[derive(Debug)]
pub struct SecureStream<S> {
    io: S,
    session: Session,
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

    /// Ends the channel: both sides say Close once all that they received has reached its place, so that after
    /// this nothing is in doubt.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the other side is gone without a Close.
    pub fn close(mut self) -> io::Result<()> {
        self.writing.control(&ControlMessage::Close)?;
        self.writing.send(&mut self.io)?;
        self.reading.expect_close(&mut self.io)
    }

    fn event(&mut self) -> io::Result<Event> {
        loop {
            match self.reading.event(&mut self.io)? {
                Event::Ping(nonce) => {
                    self.reading.pongs.set(nonce);
                    self.writing.answer_ping()?;
                    self.writing.send(&mut self.io)?;
                }
                event => return Ok(event),
            }
        }
    }
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
