//! The stream that is open on a channel, over a transport that blocks.

use std::io::{self, Read, Write};

use super::connection::{Channel, SecureStream, unexpected};
use super::halves::{Halves, ReadHalf, Split, WriteHalf};
use super::timeouts::Timeouts;
use crate::stream::Parts;

impl<S> SecureStream<S> {
    /// Puts a stream on a socket again.
    pub fn from_parts(io: S, parts: Parts) -> Self {
        Self::new(io, parts)
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

    /// Ends the stream, where that has not been done, and waits until the other side has ended it too. Gives the channel, idle.
    ///
    /// # Errors
    /// Whatever ends the channel, which data of the other side does that nobody has read.
    pub fn finish(mut self) -> io::Result<Channel<S>> {
        self.shutdown()?;
        if self.reading.wait_for_data(&mut self.io)? {
            return Err(unexpected());
        }
        Ok(self.into_phase())
    }
}

impl<S: Read + Write + Timeouts> SecureStream<S> {
    /// Ends the channel, once both directions of the stream have ended: as [`Channel::close`].
    ///
    /// # Errors
    /// As [`Channel::close`]; [`Error::ApiMisuse`](crate::Error::ApiMisuse) where this side has not said EndOfStream.
    pub fn close(mut self) -> io::Result<()> {
        self.exchange_closes()
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
