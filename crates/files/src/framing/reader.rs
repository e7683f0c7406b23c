//! Reads the messages of an exchange, and the content between them.

use std::io;

use wire_protocol::codec::{self, MAX_MESSAGE_LEN};
use wire_protocol::message::{FilesMessage, MAX_DATA_LEN};

use crate::error::Error;
use crate::framing::halves::{Input, Pieces};

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
