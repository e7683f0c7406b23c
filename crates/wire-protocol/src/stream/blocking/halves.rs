//! The two halves of a [`SecureStream`], and the transports that come apart into two.

use std::boxed::Box;
use std::io::{self, BufRead, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

#[cfg(doc)]
use super::connection::SecureStream;
use super::timeouts::{Timeouts, within};
use crate::channel::Event;
use crate::message::{ControlMessage, ResetCode};
use crate::record::batch;
use crate::stream::deadline::CLOSE_DEADLINE;
use crate::stream::error::not_closed;
use crate::stream::half::{ReceiveHalf, SendHalf};
use crate::{Error, PeerMisbehaved};

/// The reading half of a [`SecureStream`].
#[derive(Debug)]
pub struct ReadHalf<R> {
    pub(super) io: R,
    pub(super) reading: Box<ReceiveHalf>,
}

impl<R: Read> ReadHalf<R> {
    /// Whether data has been received that has not been read, or the end of the stream has: reading does not wait then.
    ///
    /// # Errors
    /// Whatever ends the stream before its end.
    pub fn has_received(&mut self) -> io::Result<bool> {
        while !self.reading.receiver.has_ended() {
            match self.reading.next_event()? {
                Some(Event::Data) => return Ok(true),
                Some(Event::EndOfStream | Event::Ping(_) | Event::Pong(_)) => {}
                Some(_) => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Waits for data, and gives all that has been decrypted, record by record, of which the first `consume` is to be told about;
    /// nothing at the end of the stream.
    ///
    /// # Errors
    /// Whatever ends the stream before its end.
    pub fn fill_slices(&mut self) -> io::Result<impl Iterator<Item = &[u8]>> {
        self.reading.wait_for_data(&mut self.io)?;
        Ok(self.reading.receiver.data_slices())
    }

    /// As [`ReadHalf::expect_close`], for as long as it takes: what the other side has received may have far to go.
    pub(crate) fn expect_close_whenever(&mut self) -> io::Result<()> {
        self.reading.expect_close(&mut self.io)
    }
}

impl<R: Read + Timeouts> ReadHalf<R> {
    /// Waits for the other side's Close, after the end of its stream, and once all of that has reached its place: the writing
    /// half answers it with its next flush, or with [`WriteHalf::close`]. Where that has been said before, the other side has
    /// [`CLOSE_DEADLINE`] for its answer.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the other side is gone without it, `TimedOut` when it has not said it in time.
    pub fn expect_close(&mut self) -> io::Result<()> {
        if !self.reading.receiver.awaits_close() {
            return self.expect_close_whenever();
        }
        let Self { io, reading } = self;
        within(io, CLOSE_DEADLINE, not_closed, |io| reading.expect_close(io))
    }
}

impl<R: Read> Read for ReadHalf<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reading.read(&mut self.io, buf)
    }
}

/// Gives the data where it was decrypted, as long as one record at most; empty at the end of the stream.
impl<R: Read> BufRead for ReadHalf<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reading.wait_for_data(&mut self.io)? { Ok(self.reading.receiver.data()) } else { Ok(&[]) }
    }

    fn consume(&mut self, len: usize) {
        self.reading.receiver.consume(len);
    }
}

/// The writing half of a [`SecureStream`].
#[derive(Debug)]
pub struct WriteHalf<W> {
    pub(super) io: W,
    pub(super) writing: Box<SendHalf>,
}

impl<W: Write> WriteHalf<W> {
    /// Says EndOfStream: no more data from this side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.writing.shutdown(&mut self.io)
    }

    /// Says Close, after both sides' EndOfStream: all that was received has reached its place.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn close(&mut self) -> io::Result<()> {
        // A flush has said it already where the other side had said it before.
        if !self.writing.sender.has_answered_close() {
            self.writing.control(&ControlMessage::Close)?;
        }
        self.writing.flush(&mut self.io)
    }

    /// Gives the stream up, and the channel with it.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn reset(&mut self, code: ResetCode) -> io::Result<()> {
        self.writing.control(&ControlMessage::Reset { code })?;
        self.writing.flush(&mut self.io)
    }

    /// Seals what `fill` puts into the places of so many records, and sends it: without a copy between where data comes from and the
    /// record. `records` is 1 to [`batch`]. `fill` fills each place but the last one to its end, and says how many
    /// bytes that are; where it fails nothing is sent.
    ///
    /// # Errors
    /// That of `fill`, or those of the socket; [`Error::ApiMisuse`] for more records.
    pub fn write_with(
        &mut self,
        records: usize,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let len = self.writing.data_with(records, fill)?;
        self.writing.send(&mut self.io)?;
        Ok(len)
    }

    /// Sends a sign of life, where one is due (section 7.1): to be called every few seconds in a stream that has them.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn keep_alive(&mut self) -> io::Result<()> {
        self.writing.handle_timeout()?;
        self.writing.send(&mut self.io)
    }

    /// Reads once from `input` straight into the places where records are sealed, seals and sends them. Gives the
    /// bytes that were read: 0 at the end of `input`, which is the one error-free end.
    pub(crate) fn send_from(&mut self, input: &mut impl Read) -> Result<usize, SendError> {
        let writing = &mut self.writing;
        let read = writing.data_with(batch(), |places| {
            loop {
                match input.read_vectored(places) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read.map_err(SendError::Input),
                }
            }
        })?;
        writing.send(&mut self.io).map_err(SendError::Channel)?;
        Ok(read)
    }
}

/// The error of sending from an input to a channel, by the end that failed.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Where the data comes from.
    Input(io::Error),
    /// Where it goes.
    Channel(io::Error),
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::channel(error)
    }
}

impl SendError {
    fn channel(error: Error) -> Self {
        Self::Channel(error.into())
    }
}

impl<W: Write> Write for WriteHalf<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writing.write(&mut self.io, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writing.flush(&mut self.io)
    }
}

/// The two halves of a stream over `S`.
pub type Halves<S> = (ReadHalf<<S as Split>::Read>, WriteHalf<<S as Split>::Write>);

/// A socket that can be split into a reading and a writing half for two threads.
pub trait Split {
    /// The reading half.
    type Read: Read;
    /// The writing half.
    type Write: Write;

    /// Takes the socket apart.
    ///
    /// # Errors
    /// When the socket cannot be cloned.
    fn split(self) -> io::Result<(Self::Read, Self::Write)>;
}

impl Split for TcpStream {
    type Read = Self;
    type Write = Self;

    fn split(self) -> io::Result<(Self, Self)> {
        Ok((self.try_clone()?, self))
    }
}

impl Split for UnixStream {
    type Read = Self;
    type Write = Self;

    fn split(self) -> io::Result<(Self, Self)> {
        Ok((self.try_clone()?, self))
    }
}
