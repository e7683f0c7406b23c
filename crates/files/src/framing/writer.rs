//! Writes the messages of an exchange, and the content between them.

use std::io::{self, IoSliceMut};
use std::sync::{Arc, Mutex, PoisonError};

use wire_protocol::codec;
use wire_protocol::message::FilesMessage;
#[cfg(doc)]
use wire_protocol::message::MAX_DATA_LEN;

use crate::error::Error;
use crate::framing::halves::Output;

/// Writes messages, several at a time. Clones write to the same stream.
#[derive(Debug)]
pub struct MessageWriter<W>(Arc<Mutex<Buffered<W>>>);

impl<W> Clone for MessageWriter<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Buffered<W> {
    output: W,
    buffer: Vec<u8>,
}

impl<W: Output> MessageWriter<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self(Arc::new(Mutex::new(Buffered { output, buffer: Vec::new() })))
    }

    /// Says `message`, with the next flush at the latest.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn say(&self, message: &FilesMessage) -> Result<(), Error> {
        self.with(|writer| writer.say(message))
    }

    /// Says that `content` follows, and sends it, with the next flush at the latest. At most [`MAX_DATA_LEN`] bytes; for a few, since
    /// they are copied.
    ///
    /// # Errors
    /// [`Error::Channel`].
    ///
    /// # Panics
    /// For 4 GiB and more.
    pub fn say_content(&self, content: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(content.len()).expect("content comes in pieces");
        self.with(|writer| {
            writer.say(&FilesMessage::Data { length })?;
            writer.buffer.extend_from_slice(content);
            writer.send_full()
        })
    }

    /// Says that `length` bytes of content follow, and sends what `fill` puts where records are sealed, each place but the last one
    /// filled to its end, until it has given all of them. `fill` says how many bytes it gave, 0 where there are no more.
    ///
    /// # Errors
    /// That of `fill`, and `UnexpectedEof` where it has fewer: the stream cannot be used any more then, unless the missing bytes follow
    /// by another call of [`MessageWriter::fill_up`]. Those of the stream.
    pub fn say_content_with(
        &self,
        length: u32,
        fill: impl FnMut(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> Result<Sent, Error> {
        self.with(|writer| {
            writer.say(&FilesMessage::Data { length })?;
            writer.send()
        })?;
        self.fill_up(length, fill)
    }

    /// Sends the rest of content that was announced: `length` bytes, from `fill`.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn fill_up(
        &self,
        length: u32,
        mut fill: impl FnMut(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> Result<Sent, Error> {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        let mut source_failed = None;
        while left > 0 {
            let sent = self.with(|writer| {
                let filled = writer.output.write_with(left, &mut |places| match fill(places) {
                    Ok(0) => {
                        source_failed = Some(io::Error::from(io::ErrorKind::UnexpectedEof));
                        Err(io::ErrorKind::UnexpectedEof.into())
                    }
                    Ok(len) => Ok(len),
                    Err(error) => {
                        let kind = error.kind();
                        source_failed = Some(error);
                        Err(kind.into())
                    }
                });
                filled.map_err(Error::from)
            });
            match (sent, source_failed.take()) {
                (Ok(sent), _) => left -= sent.min(left),
                (Err(_), Some(error)) => {
                    return Ok(Sent::SourceFailed { missing: u32::try_from(left).unwrap_or(length), error });
                }
                (Err(error), None) => return Err(error),
            }
        }
        Ok(Sent::All)
    }

    /// Sends all that was said.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn flush(&self) -> Result<(), Error> {
        self.with(|writer| {
            writer.send()?;
            Ok(writer.output.flush()?)
        })
    }

    /// Sends all that was said, and that nothing more comes.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn shutdown(&self) -> Result<(), Error> {
        self.with(|writer| {
            writer.send()?;
            Ok(writer.output.shutdown()?)
        })
    }

    /// What it writes to, for the end of the channel.
    pub fn with_output<T>(&self, work: impl FnOnce(&mut W) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).output)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Buffered<W>) -> Result<T, Error>) -> Result<T, Error> {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What has become of content that was to be sent.
#[derive(Debug)]
pub enum Sent {
    /// All of it has been sent.
    All,
    /// Its source has failed, or has ended too early: so many bytes have still to be sent, whatever they are.
    SourceFailed {
        /// Bytes.
        missing: u32,
        /// The failure.
        error: io::Error,
    },
}

impl<W: Output> Buffered<W> {
    fn say(&mut self, message: &FilesMessage) -> Result<(), Error> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        codec::encode(message, &mut self.buffer);
        let length = u16::try_from(self.buffer.len() - start - 2).expect("a message has 8192 bytes at most");
        self.buffer[start..start + 2].copy_from_slice(&length.to_be_bytes());
        self.send_full()
    }

    /// Sends what has been said where that is much.
    fn send_full(&mut self) -> Result<(), Error> {
        if self.buffer.len() >= BUFFER { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            self.output.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Bytes of messages that are sent at once.
const BUFFER: usize = 64 * 1024;
