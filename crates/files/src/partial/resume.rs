//! What an earlier attempt has left of a file, and how the next one goes on with it.

use std::fs::File;
use std::io;

use wire_protocol::message::FilesCode;

use crate::cause::Cause;
use crate::chunks::{ChunkHasher, chunk_count};
use crate::journal::{Hash, Journal, Recorded, Subject, read_up_to};
use crate::partial::PartialFile;
use crate::partial::place::PartialPlace;

/// The content of a file that an earlier attempt has left.
#[derive(Debug)]
pub(crate) struct Leftover {
    file: File,
    chunk_len: u64,
    size: u64,
    /// Chunks at the beginning that are of the same source.
    pub(crate) held: u32,
    /// Chunks behind these, of which nothing is known.
    pub(crate) compare: u32,
    /// The length of what is there.
    pub(crate) length: u64,
}

impl Leftover {
    /// Looks for it; `None` where there is nothing. Where nothing may be changed, less may count than does.
    ///
    /// # Errors
    /// The reason why it cannot be known, [`FilesCode::Busy`] where it is being written to.
    pub(crate) fn find(
        place: &PartialPlace,
        size: u64,
        chunk_len: u64,
        subject: Option<&Subject>,
        is_read_only: bool,
    ) -> Result<Option<Self>, Cause> {
        let Some((file, length)) = place.open(None)? else { return Ok(None) };
        let journal = match place.directory.open_partial(&place.journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened.map_err(Cause::from)?),
        };
        let mut held = 0;
        if let (Some(journal), Some(subject)) = (journal, subject) {
            if is_read_only {
                let read = Journal::read(journal, subject, chunk_count(size));
                let read = read.map_err(Cause::from)?;
                held = read.map_or(0, |(_, recorded)| recorded.synced);
            } else {
                let read = recorded(&file, length, journal, subject);
                held = read.map_err(Cause::from)?.map_or(0, |(_, hashes)| hashes.len());
            }
        }
        let held = u32::try_from(held).unwrap_or(0);
        // The last chunk may be a short one.
        let whole = if length >= size {
            chunk_count(size)
        } else {
            u32::try_from(length / chunk_len).unwrap_or(u32::MAX)
        };
        let compare = whole.saturating_sub(held);
        Ok(Some(Self { file, chunk_len, size, held, compare, length }))
    }

    /// The hash of a chunk that may differ. One that cannot be read differs from any.
    pub(crate) fn hash(&self, number: u32) -> Hash {
        hash_chunk(&self.file, self.chunk_len, self.size, number).unwrap_or_default()
    }
}

impl PartialFile {
    /// Takes up what an earlier attempt has left.
    pub(super) fn go_on(
        &mut self,
        subject: Option<&Subject>,
        held: u32,
        has_content: bool,
    ) -> Result<(), Cause> {
        let io = |error: io::Error| Cause::from(error);
        if subject.is_none() && self.length > 0 {
            // A journal of what was there would outlive it.
            let _ = self.place.directory.remove(&self.place.journal);
        }
        let Some(subject) = subject else {
            if !has_content && self.length > 0 {
                self.file.set_len(0).map_err(io)?;
                self.length = 0;
            }
            return if held == 0 { Ok(()) } else { Err(FilesCode::Busy.into()) };
        };
        let file = self.place.open_journal().map_err(io)?;
        if held == 0 {
            if !has_content && self.length > 0 {
                self.file.set_len(0).map_err(io)?;
                self.length = 0;
            }
            self.journal = Some(Journal::begin(file, subject).map_err(io)?);
            return self.place.directory.sync().map_err(io);
        }
        let Some((journal, hashes)) = recorded(&self.file, self.length, file, subject).map_err(io)? else {
            return Err(FilesCode::Busy.into());
        };
        // More than was told would be spoilt by what comes now.
        if u32::try_from(hashes.len()) != Ok(held) {
            return Err(FilesCode::Busy.into());
        }
        self.journal = Some(journal);
        self.hashes = hashes;
        self.position = u64::from(held).saturating_mul(subject.chunk_len);
        Ok(())
    }

    /// The hash of a chunk as it is on disk.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn hash_chunk(&self, chunk_len: u64, size: u64, number: u32) -> io::Result<Hash> {
        hash_chunk(&self.file, chunk_len, size, number)
    }
}

/// The chunks that are there by the journal. Those that may not have reached the disk are hashed, and have reached it then; so
/// that the journal says at the end what this does.
fn recorded(
    file: &File,
    length: u64,
    journal: File,
    subject: &Subject,
) -> io::Result<Option<(Journal, Vec<Hash>)>> {
    let again = journal.try_clone()?;
    let Some((mut journal, Recorded { mut hashes, synced })) =
        Journal::read(journal, subject, chunk_count(subject.size))?
    else {
        return Ok(None);
    };
    let all = hashes.len();
    let mut good = synced;
    while let Some(hash) = hashes.get(good) {
        let number = u32::try_from(good).unwrap_or(u32::MAX);
        if hash_chunk(file, subject.chunk_len, subject.size, number)? != *hash {
            break;
        }
        good += 1;
    }
    // A file that was cut short has lost what it had.
    while good > 0 {
        let end = u64::try_from(good).unwrap_or(u64::MAX).saturating_mul(subject.chunk_len);
        if end.min(subject.size) <= length {
            break;
        }
        good -= 1;
    }
    hashes.truncate(good);
    if good < all {
        journal = Journal::begin(again, subject)?;
        for (number, hash) in (0..).zip(&hashes) {
            journal.add_chunk(number, hash)?;
        }
    }
    if good < all || good > synced {
        if let Err(error) = file.sync_data() {
            // The system says so once. What it still remembers of the content would be believed the next time.
            file.set_len(0)?;
            return Err(error);
        }
        journal.add_sync(u32::try_from(good).unwrap_or(u32::MAX))?;
    }
    Ok(Some((journal, hashes)))
}

/// The hash of a chunk in `file`; where the file has ended before, of zeros in place of the rest.
fn hash_chunk(file: &File, chunk_len: u64, size: u64, number: u32) -> io::Result<Hash> {
    let mut offset = u64::from(number).saturating_mul(chunk_len);
    let end = offset.saturating_add(chunk_len).min(size);
    let mut hasher = ChunkHasher::new();
    let mut buffer = vec![0; BUFFER];
    while offset < end {
        let piece = usize::try_from(end - offset).unwrap_or(usize::MAX).min(BUFFER);
        let read = read_up_to(file, &mut buffer[..piece], offset)?;
        if read == 0 {
            hasher.update_zeros(end - offset);
            break;
        }
        hasher.update(&buffer[..read]);
        offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    Ok(hasher.finish())
}

/// Bytes that are read at once.
pub(super) const BUFFER: usize = 256 * 1024;
