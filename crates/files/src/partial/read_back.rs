//! Reads a file back from the disk before it gets its name.

use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use wire_protocol::message::FilesCode;

use crate::cause::Cause;
use crate::chunks::ChunkHasher;
use crate::control::Control;
use crate::error::Error;
use crate::failure::Failure;
use crate::journal::{Hash, read_up_to};
use crate::partial::PartialFile;
use crate::partial::resume::BUFFER;

impl PartialFile {
    /// Reads the file. With `verify` it comes from the disk itself, and has to be what has arrived, chunk by chunk. Gives its
    /// SHA-256 where `has_sha256` asks for it.
    ///
    /// # Errors
    /// [`FilesCode::Mismatch`] where it is not what has arrived; where it cannot be read; [`Error::Stopped`].
    pub(crate) fn read_back(
        &mut self,
        chunk_len: u64,
        verify: bool,
        has_sha256: bool,
        control: &dyn Control,
    ) -> Result<Option<Hash>, Failure> {
        if verify {
            if let Err(error) = self.file.sync_all() {
                self.forsake();
                return Err(Cause::from(error).into());
            }
            // Where the system does not drop its copy, what it would give to others is what is verified.
            let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        }
        let mut sha256 = has_sha256.then(Sha256::new);
        let mut hashes = self.hashes.iter();
        let mut buffer = vec![0; BUFFER];
        let mut offset = 0;
        while offset < self.length {
            let end = self.length.min(offset.saturating_add(chunk_len));
            let mut chunk = ChunkHasher::new();
            while offset < end {
                if control.is_stopped() {
                    return Err(Error::Stopped.into());
                }
                let piece = usize::try_from(end - offset).unwrap_or(usize::MAX).min(BUFFER);
                let read = read_up_to(&self.file, &mut buffer[..piece], offset);
                if read.map_err(Cause::from)? < piece {
                    return Err(FilesCode::Mismatch.into());
                }
                if verify {
                    chunk.update(&buffer[..piece]);
                }
                if let Some(sha256) = &mut sha256 {
                    sha256.update(&buffer[..piece]);
                }
                offset = offset.saturating_add(u64::try_from(piece).unwrap_or(u64::MAX));
            }
            if verify && hashes.next() != Some(&chunk.finish()) {
                return Err(FilesCode::Mismatch.into());
            }
        }
        Ok(sha256.map(|sha256| sha256.finalize().into()))
    }
}
