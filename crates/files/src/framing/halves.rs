//! What messages and content are read from and written to: the two halves of a stream.

use std::io::{self, BufRead, IoSliceMut, Read, Write};

use arrayvec::ArrayVec;
use wire_protocol::record::batch;
use wire_protocol::stream::blocking::{ReadHalf, WriteHalf};

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
