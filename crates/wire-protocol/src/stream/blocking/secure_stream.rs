//! The stream that is open on a channel, over a transport that blocks.

use std::io::{self, Read, Write};
use std::time::Instant;

use super::connection::{Channel, SecureStream, unexpected};
use super::halves::{Halves, ReadHalf, Split, WriteHalf};
use super::timeouts::{Timeouts, within};
use crate::stream::error::silent;
use crate::stream::half::ReceiveHalf;
use crate::stream::parts::Parts;

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

impl<S: Write> SecureStream<S> {
    /// Says EndOfStream: no more data from this side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.writing.shutdown(&mut self.io)
    }
}

impl<S: Read + Write + Timeouts> SecureStream<S> {
    /// Ends the stream, where that has not been done, and waits until the other side has ended it too. Gives the channel, idle.
    ///
    /// # Errors
    /// Whatever ends the channel, which data of the other side does that nobody has read.
    pub fn finish(mut self) -> io::Result<Channel<S>> {
        self.shutdown()?;
        if self.until_due(|reading, io| reading.wait_for_data(io))? {
            return Err(unexpected());
        }
        Ok(self.into_phase())
    }

    /// Waits with `wait` for the other side, again and again, and has the timers of the channel hold meanwhile.
    fn until_due<T>(
        &mut self,
        mut wait: impl FnMut(&mut ReceiveHalf, &mut dyn Read) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let Self { io, reading, writing, .. } = &mut *self;
            let Some(due) = reading.due().into_iter().chain(writing.due()).min() else {
                return wait(reading, io);
            };
            let mut is_due = false;
            let late = || {
                is_due = true;
                silent()
            };
            let limit = due.saturating_duration_since(Instant::now());
            let waited = within(io, limit, late, |io| wait(reading, io));
            if !is_due {
                return waited;
            }
            self.reading.handle_timeout()?;
            self.writing.handle_timeout()?;
            self.writing.send(&mut self.io)?;
        }
    }

    /// Ends the channel, once both directions of the stream have ended: as [`Channel::close`].
    ///
    /// # Errors
    /// As [`Channel::close`]; [`Error::ApiMisuse`](crate::Error::ApiMisuse) where this side has not said EndOfStream.
    pub fn close(mut self) -> io::Result<()> {
        self.exchange_closes()
    }
}

/// Where the stream is one that is kept up, a read gives signs of life meanwhile, and takes the other side's silence for its
/// end: within the limits that the transport can keep.
impl<S: Read + Write + Timeouts> Read for SecureStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.until_due(|reading, io| reading.read(io, buf))
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
