//! How far the content of a file has come, and whether what comes next may come there.

use wire_protocol::message::MAX_DATA_LEN;

use crate::chunks::{ChunkHasher, FileHasher, chunk_len};
use crate::control::Control;
use crate::error::Error;
use crate::journal::Hash;

/// The place in the content of a file.
#[derive(Debug)]
pub(super) struct Progress {
    size: Option<u64>,
    pub(super) chunk_len: u64,
    held: u32,
    compare: u32,
    position: u64,
    /// Where the current chunk begins, and its number.
    chunk_start: u64,
    number: u32,
    hasher: ChunkHasher,
    /// The chunks of this transfer.
    hashes: Vec<Hash>,
    /// Whether a chunk of a stream was shorter than others: it is the last one.
    is_last: bool,
    /// The hash of the last chunk of zeros, with its length: there are many in a file with holes.
    zeros: Option<(u64, Hash)>,
    /// The length of the hole that the current chunk has been so far, which is not hashed yet.
    hole: u64,
}

impl Progress {
    pub(super) fn new(size: Option<u64>, held: u32, compare: u32) -> Self {
        let chunk_len = chunk_len(size);
        let position = u64::from(held).saturating_mul(chunk_len).min(size.unwrap_or(u64::MAX));
        Self {
            size,
            chunk_len,
            held,
            compare,
            position,
            chunk_start: position,
            number: held,
            hasher: ChunkHasher::new(),
            hashes: Vec::new(),
            is_last: false,
            zeros: None,
            hole: 0,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the size is not known before the end.
    pub(super) fn is_stream(&self) -> bool {
        self.size.is_none()
    }

    fn chunk_end(&self) -> u64 {
        self.chunk_start.saturating_add(self.chunk_len).min(self.size.unwrap_or(u64::MAX))
    }

    /// Whether so many bytes may come now.
    pub(super) fn check(&self, length: u64, is_data: bool) -> Result<(), Error> {
        if length == 0 || (is_data && usize::try_from(length).is_ok_and(|length| length > MAX_DATA_LEN)) {
            return Err(Error::Protocol("a piece of content has no length that there may be"));
        }
        if self.is_last || length > self.chunk_end() - self.position {
            return Err(Error::Protocol("content goes on behind the end of its chunk"));
        }
        Ok(())
    }

    /// Passes over content that has come.
    pub(super) fn data(&mut self, bytes: &[u8], control: &dyn Control) -> Result<(), Error> {
        self.hash_hole(control)?;
        self.hasher.update(bytes);
        self.skip(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Passes over a hole.
    pub(super) fn hole(&mut self, length: u64, control: &dyn Control) -> Result<(), Error> {
        if self.hole == self.position - self.chunk_start {
            self.hole += length;
        } else {
            self.hasher.update_hole(length, control)?;
        }
        self.skip(length);
        Ok(())
    }

    /// Passes over content that nobody looks at any more.
    pub(super) fn skip(&mut self, length: u64) {
        self.position = self.position.saturating_add(length);
    }

    fn hash_hole(&mut self, control: &dyn Control) -> Result<(), Error> {
        if self.hole > 0 {
            self.hasher.update_hole(self.hole, control)?;
            self.hole = 0;
        }
        Ok(())
    }

    /// The hash of the chunk that ends here.
    pub(super) fn end_chunk(&mut self, control: &dyn Control) -> Result<Hash, Error> {
        let length = self.position - self.chunk_start;
        if self.position < self.chunk_end() && self.size.is_some() || length == 0 {
            return Err(Error::Protocol("a chunk ends too early"));
        }
        let hash = match self.zeros {
            Some((known, hash)) if self.hole == length && known == length => {
                self.hole = 0;
                hash
            }
            _ => {
                let is_hole = self.hole == length;
                self.hash_hole(control)?;
                let hash = std::mem::replace(&mut self.hasher, ChunkHasher::new()).finish();
                if is_hole {
                    self.zeros = Some((length, hash));
                }
                hash
            }
        };
        self.is_last = length < self.chunk_len;
        self.next_chunk(hash);
        Ok(hash)
    }

    /// The chunk that is passed over since the receiver has it: its number and length.
    pub(super) fn same(&self) -> Result<(u32, u64), Error> {
        let is_compared = self.number.checked_sub(self.held).is_some_and(|behind| behind < self.compare);
        if !is_compared || self.position != self.chunk_start || self.chunk_end() == self.position {
            return Err(Error::Protocol("a chunk is said to be the same that was not told"));
        }
        Ok((self.number, self.chunk_end() - self.position))
    }

    /// Passes over that chunk.
    pub(super) fn pass(&mut self, length: u64, hash: Hash) {
        self.skip(length);
        self.next_chunk(hash);
    }

    fn next_chunk(&mut self, hash: Hash) {
        self.hashes.push(hash);
        self.chunk_start = self.position;
        self.number = self.number.saturating_add(1);
    }

    /// The hash of the file that ends here.
    pub(super) fn end(&self) -> Result<Hash, Error> {
        let size = self.size.unwrap_or(self.position);
        if self.position != size || self.position != self.chunk_start {
            return Err(Error::Protocol("a file ends too early"));
        }
        let mut hasher = FileHasher::new(size, self.held);
        self.hashes.iter().for_each(|hash| hasher.add(hash));
        Ok(hasher.finish())
    }
}
