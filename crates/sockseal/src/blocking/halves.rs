//! The two halves of a stream, for two threads.

use std::io::{self, Read, Write};

use wire_protocol::stream::blocking::{self, Split, Timeouts};

use crate::error::Error;

/// The two halves of a stream over `S`.
pub type Halves<S> = (ReadHalf<<S as Split>::Read>, WriteHalf<<S as Split>::Write>);

/// The reading half of a [`SecureStream`](super::SecureStream).
#[derive(Debug)]
pub struct ReadHalf<R>(pub(super) blocking::ReadHalf<R>);

impl<R: Read + Timeouts> ReadHalf<R> {
    /// Waits, after the end of file, until the other side has closed: all that it was sent has reached its place then. Where this
    /// side has closed before, the other has [`CLOSE_DEADLINE`](crate::CLOSE_DEADLINE) for that.
    ///
    /// # Errors
    /// [`Error::Protocol`] with [`ProtocolError::Truncated`](crate::reason::ProtocolError::Truncated) when the other side
    /// is gone without it, [`Error::TimedOut`] when it has not closed in time.
    pub fn expect_close(&mut self) -> Result<(), Error> {
        Ok(self.0.expect_close()?)
    }
}

impl<R: Read> Read for ReadHalf<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

/// The writing half of a [`SecureStream`](super::SecureStream).
#[derive(Debug)]
pub struct WriteHalf<W>(pub(super) blocking::WriteHalf<W>);

impl<W: Write> WriteHalf<W> {
    /// Says that no more will come from this side.
    ///
    /// # Errors
    /// Those of the transport, and [`Error::Protocol`] on a stream that has ended already.
    pub fn shutdown(&mut self) -> Result<(), Error> {
        Ok(self.0.shutdown()?)
    }

    /// Says that all that was received has reached its place: after [`WriteHalf::shutdown`], and after the reading half has
    /// come to the end of file.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn close(&mut self) -> Result<(), Error> {
        Ok(self.0.close()?)
    }
}

impl<W: Write> Write for WriteHalf<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
