//! A file that is being received: written under a name of its own beside its goal, and renamed once it is whole.

mod mode;
pub(crate) mod place;
mod read_back;
pub(crate) mod resume;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pwritev};
use wire_protocol::message::{FileTime, FilesCode};

use crate::cause::Cause;
use crate::directory::set_attributes;
use crate::framing::MOST_PIECES;
use crate::journal::{Hash, Journal, Subject};
use crate::partial::place::{PRIVATE, PartialPlace};

/// A partial file that is written.
#[derive(Debug)]
pub(crate) struct PartialFile {
    place: PartialPlace,
    file: File,
    /// The length of the file on disk.
    length: u64,
    /// That which it had when it was opened.
    found: u64,
    /// Where the next byte goes.
    position: u64,
    /// Hashes of the chunks up to there.
    hashes: Vec<Hash>,
    /// Has entries for files alone that a later attempt can go on with.
    journal: Option<Journal>,
    sync: Sync,
    is_published: bool,
}

/// How far the content is known to be on disk.
#[derive(Debug)]
struct Sync {
    /// Bytes of chunks that the last sync does not have.
    unsynced: u64,
    last: Instant,
    running: Option<JoinHandle<(u32, io::Result<()>)>>,
}

/// So many bytes may have to be sent again, after a crash of the system.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// So much time of writing may.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

impl PartialFile {
    /// Begins or goes on: with the first `held` chunks that an earlier attempt has brought, and with other content of it where
    /// `has_content` says so. A private one can be read by nobody else before it has its permissions.
    ///
    /// # Errors
    /// The reason why it cannot, [`FilesCode::Busy`] where the earlier attempt's work is not what it was.
    pub(crate) fn begin(
        place: PartialPlace,
        subject: Option<&Subject>,
        held: u32,
        has_content: bool,
        is_private: bool,
    ) -> Result<Self, Cause> {
        let create = if is_private { PRIVATE } else { 0o666 };
        let (file, length) = place.open(Some(create))?.ok_or(FilesCode::Busy)?;
        let mut partial = Self {
            file,
            length,
            found: length,
            position: 0,
            hashes: Vec::new(),
            journal: None,
            sync: Sync { unsynced: 0, last: Instant::now(), running: None },
            is_published: false,
            place,
        };
        match partial.go_on(subject, held, has_content) {
            Ok(()) => Ok(partial),
            Err(cause) => {
                // What an earlier attempt has left stays as it is.
                partial.is_published = held > 0 || has_content;
                Err(cause)
            }
        }
    }

    /// Writes what comes next, in pieces.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn write(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        for pieces in pieces.chunks(MOST_PIECES) {
            let mut slices: ArrayVec<_, MOST_PIECES> =
                pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut slices = &mut slices[..];
            IoSlice::advance_slices(&mut slices, 0);
            while !slices.is_empty() {
                match pwritev(&self.file, slices, self.position) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        IoSlice::advance_slices(&mut slices, written);
                        self.advance(u64::try_from(written).unwrap_or(u64::MAX));
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Leaves a hole.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn hole(&mut self, length: u64) -> io::Result<()> {
        let end = self.position.saturating_add(length);
        if self.position < self.length {
            // There is something of an earlier attempt.
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let stale = end.min(self.length) - self.position;
            if fallocate(&self.file, punch, self.position, stale).is_err() {
                self.write_zeros(stale)?;
            }
        }
        if end > self.length {
            self.file.set_len(end)?;
        }
        self.advance(length);
        Ok(())
    }

    fn write_zeros(&self, length: u64) -> io::Result<()> {
        let zeros = [0; 64 * 1024];
        let mut offset = self.position;
        let end = offset.saturating_add(length);
        while offset < end {
            let piece = usize::try_from(end - offset).unwrap_or(usize::MAX).min(zeros.len());
            self.file.write_all_at(&zeros[..piece], offset)?;
            offset = offset.saturating_add(u64::try_from(piece).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn advance(&mut self, length: u64) {
        self.position = self.position.saturating_add(length);
        self.length = self.length.max(self.position);
        self.sync.unsynced = self.sync.unsynced.saturating_add(length);
    }

    /// Passes over a chunk that is there.
    ///
    /// # Errors
    /// As [`PartialFile::end_chunk`].
    pub(crate) fn pass(&mut self, length: u64, hash: &Hash) -> io::Result<()> {
        self.position = self.position.saturating_add(length);
        self.end_chunk(hash)
    }

    /// The content up to here is as it should be, to the end of a chunk with this hash.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn end_chunk(&mut self, hash: &Hash) -> io::Result<()> {
        let number = u32::try_from(self.hashes.len()).unwrap_or(u32::MAX);
        self.hashes.push(*hash);
        if self.journal.is_none() {
            return Ok(());
        }
        if let Some(journal) = &mut self.journal {
            journal.add_chunk(number, hash)?;
        }
        if self.sync.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_sync()?;
        }
        if self.sync.unsynced >= SYNC_BYTES || self.sync.last.elapsed() >= SYNC_INTERVAL {
            self.end_sync()?;
            self.begin_sync()?;
        }
        Ok(())
    }

    /// Brings what is written to the disk, while more is written.
    fn begin_sync(&mut self) -> io::Result<()> {
        let count = u32::try_from(self.hashes.len()).unwrap_or(u32::MAX);
        let file = self.file.try_clone()?;
        self.sync.unsynced = 0;
        self.sync.last = Instant::now();
        let sync = thread::Builder::new().name("sync".into()).stack_size(64 * 1024);
        self.sync.running = Some(sync.spawn(move || (count, file.sync_data()))?);
        Ok(())
    }

    /// Notes how far the content is on disk.
    fn end_sync(&mut self) -> io::Result<()> {
        let Some(running) = self.sync.running.take() else { return Ok(()) };
        let joined = running.join().map_err(|_| io::Error::other("a sync has failed"));
        let count = match joined.and_then(|(count, synced)| synced.map(|()| count)) {
            Ok(count) => count,
            Err(error) => {
                self.forsake();
                return Err(error);
            }
        };
        self.journal.as_mut().map_or(Ok(()), |journal| journal.add_sync(count))
    }

    /// Cuts off what an earlier attempt has left behind the end.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.length > self.position {
            self.file.set_len(self.position)?;
            self.length = self.position;
        }
        self.end_sync()
    }

    /// Gives the file its permissions and its time.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn set_attributes(&self, mode: u16, modified: FileTime) -> io::Result<()> {
        set_attributes(&self.file, mode, modified)
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The length of what an earlier attempt had left.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// Its length on disk.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether a later attempt could go on with it.
    pub(crate) fn is_resumable(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether it has got its name.
    pub(crate) fn is_published(&self) -> bool {
        self.is_published
    }

    /// Gives the file, which is whole and on disk, its name: one that is free, or one that it takes from something else.
    ///
    /// # Errors
    /// Those of the system, `AlreadyExists` where the name is not free.
    pub(crate) fn publish(&mut self, name: &[u8], replaces: bool) -> io::Result<()> {
        let Self { place, .. } = self;
        if replaces {
            place.directory.rename(&place.part, name)?;
        } else {
            place.directory.rename_new(&place.part, name)?;
        }
        self.is_published = true;
        Ok(())
    }

    /// The content has not reached the disk. The system says so once: another sync may succeed, and so may reading, as long as the system
    /// remembers what the disk does not have. So nothing of it is to be gone on with.
    pub(crate) fn forsake(&mut self) {
        self.remove_journal();
    }

    /// Removes the journal: once the name is on disk, or where nothing of the file is to stay.
    pub(crate) fn remove_journal(&mut self) {
        if self.journal.take().is_some() {
            // One that stays behind is of a name that has no partial file: it does not count.
            let _ = self.place.directory.remove(&self.place.journal);
        }
    }
}

/// What has not got its name stays for a later attempt, which finds on disk what the journal says; where there is no journal
/// nothing stays.
impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        if self.journal.is_none() {
            // What does not go away is of no harm: the next attempt writes over it.
            let _ = self.place.directory.remove(&self.place.part);
            return;
        }
        let count = u32::try_from(self.hashes.len()).unwrap_or(u32::MAX);
        if self.end_sync().and_then(|()| self.file.sync_data()).is_err() {
            self.forsake();
            let _ = self.place.directory.remove(&self.place.part);
        } else if let Some(journal) = &mut self.journal {
            // Without this mark the chunks behind the last one are hashed first.
            let _ = journal.add_sync(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::directory::Directory;

    #[test]
    fn what_could_not_be_brought_to_the_disk_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open_trusted(folder.path()).unwrap();
        let place = PartialPlace::new(directory, b"owner", b"f");
        let subject = place.subject(Some(3 << 20), 1 << 20, [1; 32]);
        let mut partial = PartialFile::begin(place, subject.as_ref(), 0, false, true).unwrap();
        let content = vec![1; 1 << 20];
        partial.write(&[&content]).unwrap();
        partial.end_chunk(&[2; 32]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        // The end of a pipe has no place on a disk.
        let (_reader, writer) = io::pipe().unwrap();
        partial.file = OwnedFd::from(writer).into();
        drop(partial);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
