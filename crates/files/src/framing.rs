//! The messages of an exchange, and the content between them, on the two halves of a stream.

use std::io::{self, BufRead, IoSliceMut, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;
use wire_protocol::codec::{self, MAX_MESSAGE_LEN};
use wire_protocol::message::{FilesMessage, MAX_DATA_LEN};
use wire_protocol::record::batch;
use wire_protocol::stream::blocking::{ReadHalf, WriteHalf};

use crate::error::Error;

/// What messages are read from: the reading half of a stream.
pub trait Input: BufRead {
    /// Whether the next read gives something without waiting for the other side.
    ///
    /// # Errors
    /// Those of the stream.
    fn has_received(&mut self) -> io::Result<bool>;

    /// As [`BufRead::fill_buf`], and with the first piece what lies ready behind it. Empty at the end of the stream.
    ///
    /// # Errors
    /// Those of the stream.
    fn fill_pieces(&mut self) -> io::Result<Pieces<'_>> {
        Ok(Some(self.fill_buf()?).filter(|piece| !piece.is_empty()).into_iter().collect())
    }
}

/// Pieces of a stream, in their order.
pub type Pieces<'a> = ArrayVec<&'a [u8], MOST_PIECES>;

/// Most pieces that are handed on at once: as many as the largest batch has records.
pub const MOST_PIECES: usize = 16;

impl<R: Read> Input for ReadHalf<R> {
    fn has_received(&mut self) -> io::Result<bool> {
        Self::has_received(self)
    }

    fn fill_pieces(&mut self) -> io::Result<Pieces<'_>> {
        Ok(self.fill_slices()?.take(MOST_PIECES).collect())
    }
}

/// What messages are written to: the writing half of a stream.
pub trait Output: Write {
    /// Sends what `fill` puts into places of its own memory, each but the last one filled to its end, without a copy in
    /// between. `fill` says how many bytes that are, at most `most`.
    ///
    /// # Errors
    /// That of `fill`, or those of the stream.
    fn write_with(
        &mut self,
        most: usize,
        fill: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize>;

    /// Sends a sign of life, where one is due.
    ///
    /// # Errors
    /// Those of the stream.
    fn keep_alive(&mut self) -> io::Result<()>;

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// Those of the stream.
    fn shutdown(&mut self) -> io::Result<()>;
}

impl<W: Write> Output for WriteHalf<W> {
    fn write_with(
        &mut self,
        most: usize,
        fill: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // The last record of a whole batch is shorter. Without it all of them are of the same length, so that content is hashed, and
        // written on the other side, in pieces that begin where pages do.
        let records = most.div_ceil(RECORD).clamp(1, batch() - 1);
        Self::write_with(self, records, |places| match most.checked_sub((records - 1) * RECORD) {
            Some(last) if last < RECORD => {
                // The last place is as long as what is left.
                let (cut, whole) = places.split_last_mut().expect("there is a place at least");
                let mut places: Vec<_> = whole.iter_mut().map(|place| IoSliceMut::new(place)).collect();
                places.push(IoSliceMut::new(&mut cut[..last]));
                fill(&mut places)
            }
            _ => fill(places),
        })
    }

    fn keep_alive(&mut self) -> io::Result<()> {
        Self::keep_alive(self)
    }

    fn shutdown(&mut self) -> io::Result<()> {
        Self::shutdown(self)
    }
}

/// The payload of a record.
const RECORD: usize = 16_384;

/// Reads messages.
#[derive(Debug)]
pub struct MessageReader<R> {
    input: R,
}

impl<R: Input> MessageReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input }
    }

    /// The next message; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error::Channel`], also where the stream ends within a message; [`Error::Protocol`] for what is no message.
    #[expect(clippy::should_implement_trait, reason = "a stream is no iterator: it ends or fails")]
    pub fn next(&mut self) -> Result<Option<FilesMessage>, Error> {
        let mut length = [0; 2];
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.input.read_exact(&mut length)?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_MESSAGE_LEN {
            return Err(Error::Protocol("a message is too long"));
        }
        // Most messages lie in the buffer as a whole.
        let buffered = self.input.fill_buf()?;
        let message = if let Some(bytes) = buffered.get(..length) {
            let message = codec::decode(bytes);
            self.input.consume(length);
            message
        } else {
            let mut bytes = vec![0; length];
            self.input.read_exact(&mut bytes)?;
            codec::decode(&bytes)
        };
        match message.map_err(|_| Error::Protocol("a message is none of those that there are"))? {
            FilesMessage::Data { length }
                if usize::try_from(length).is_ok_and(|length| length > MAX_DATA_LEN) =>
            {
                Err(Error::Protocol("content comes in pieces that are too long"))
            }
            message => Ok(Some(message)),
        }
    }

    /// Hands the content behind a [`FilesMessage::Data`] on, as many pieces at once as are there and about `most` bytes of it, one piece
    /// at least. What `sink` says ends it there, with the rest unread.
    ///
    /// # Errors
    /// Those of the stream, or that of `sink`.
    pub fn content<E: From<Error>>(
        &mut self,
        length: u32,
        most: usize,
        mut sink: impl FnMut(&[&[u8]]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        while left > 0 {
            let mut pieces = self.input.fill_pieces().map_err(Error::from)?;
            let length = first(&mut pieces, left, most);
            if length == 0 {
                return Err(Error::from(io::Error::from(io::ErrorKind::UnexpectedEof)).into());
            }
            sink(&pieces)?;
            drop(pieces);
            self.input.consume(length);
            left -= length;
        }
        Ok(())
    }

    /// Whether the next message begins without waiting for the other side.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn has_received(&mut self) -> Result<bool, Error> {
        Ok(self.input.has_received()?)
    }

    /// Reads to the end of the stream, whatever comes.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn discard(&mut self) -> Result<(), Error> {
        loop {
            let length = self.input.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.input.consume(length);
        }
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.input
    }
}

/// Cuts `pieces` off behind `length` bytes, and behind the piece in which there are `most`. Gives the bytes that are left.
fn first(pieces: &mut Pieces<'_>, length: usize, most: usize) -> usize {
    let (mut count, mut sum) = (0, 0);
    for piece in pieces.iter_mut() {
        if sum >= length.min(most) {
            break;
        }
        *piece = &piece[..piece.len().min(length - sum)];
        sum += piece.len();
        count += 1;
    }
    pieces.truncate(count);
    sum
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_pieces_are_handed_on_than_were_asked_for() {
        let bytes = [0; 100];
        let pieces = || Pieces::from_iter([&bytes[..40], &bytes[40..70], &bytes[70..]]);
        for (length, most, expected) in [
            (200, 200, &[40, 30, 30][..]),
            (100, 71, &[40, 30, 30]),
            (100, 70, &[40, 30]),
            (100, 1, &[40]),
            (55, 100, &[40, 15]),
            (40, 100, &[40]),
            (1, 100, &[1]),
        ] {
            let mut pieces = pieces();
            let sum = first(&mut pieces, length, most);
            let lengths: Vec<_> = pieces.iter().map(|piece| piece.len()).collect();
            assert_eq!(lengths, expected, "{length} {most}");
            assert_eq!(sum, expected.iter().sum::<usize>());
        }
        assert_eq!(first(&mut Pieces::new(), 10, 10), 0);
    }
}
