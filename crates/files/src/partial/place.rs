//! The place of a partial file: its name, that of its journal, and how both are opened for one process alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use wire_protocol::message::FilesCode;

use crate::cause::Cause;
use crate::directory::{Directory, Kind, code_of};
use crate::journal::{Hash, Subject};
use crate::path::unfinished_names;

/// Where the names of a partial file and its journal are.
#[derive(Debug, Clone)]
pub(crate) struct PartialPlace {
    pub(super) directory: Directory,
    name: Vec<u8>,
    pub(super) part: Vec<u8>,
    pub(super) journal: Vec<u8>,
    /// Stands for owner and name.
    pub(super) hash: Hash,
}

impl PartialPlace {
    /// That of `name` in `directory`, for what `owner` sends.
    pub(crate) fn new(directory: Directory, owner: &[u8], name: &[u8]) -> Self {
        let (part, journal, hash) = unfinished_names(owner, name);
        Self { directory, name: name.to_owned(), part, journal, hash }
    }

    /// What the journal of a file is about; `None` where it needs none, or could not be told from another one's.
    pub(crate) fn subject(&self, size: Option<u64>, chunk_len: u64, source: Hash) -> Option<Subject> {
        let size = size.filter(|size| *size > chunk_len && source != [0; 32])?;
        Some(Subject { size, chunk_len, source, name: self.hash })
    }

    /// Removes a journal that was left behind when its file had got its name.
    pub(crate) fn remove_stale_journal(&self) {
        let _ = self.end_rename();
        if matches!(self.directory.stat(&self.part), Ok(None)) {
            // There is none but after a crash at that very point.
            let _ = self.directory.remove(&self.journal);
        }
    }

    /// Takes its first name from a file that has got its final one already: a system that renames in two steps may stop behind the first
    /// of them. Says whether there was such a file.
    fn end_rename(&self) -> io::Result<bool> {
        let (Some(part), Some(goal)) = (self.directory.stat(&self.part)?, self.directory.stat(&self.name)?)
        else {
            return Ok(false);
        };
        let is_same = part.kind == Kind::File && (part.dev, part.ino) == (goal.dev, goal.ino);
        if is_same {
            self.directory.remove(&self.part)?;
        }
        Ok(is_same)
    }

    /// Opens the partial file for this process alone: the one that is there, or else a new one where `create` says its mode. Gives its
    /// length, too.
    pub(super) fn open(&self, create: Option<u16>) -> Result<Option<(File, u64)>, Cause> {
        for _ in 0..ATTEMPTS {
            let created = match create {
                Some(mode) => match self.directory.create_new(&self.part, mode) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                    created => Some(created.map_err(Cause::from)?),
                },
                None => None,
            };
            let is_new = created.is_some();
            let file = match created {
                Some(file) => file,
                None => match self.directory.open_partial(&self.part) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => match create {
                        Some(_) => continue,
                        None => return Ok(None),
                    },
                    Err(error)
                        if code_of(&error) == FilesCode::Exists && self.end_rename().unwrap_or(false) =>
                    {
                        continue;
                    }
                    opened => opened.map_err(Cause::from)?,
                },
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(FilesCode::Busy.into()),
                locked => locked.map_err(|error| Cause::from(io::Error::from(error)))?,
            }
            // Its name may have gone to a whole file while the lock was taken.
            let opened = file.metadata().map_err(Cause::from)?;
            let named = self.directory.stat(&self.part).map_err(Cause::from)?;
            if !named.is_some_and(|named| named.dev == opened.dev() && named.ino == opened.ino()) {
                continue;
            }
            if let Some(mode) = create.filter(|_| !is_new) {
                self.give_mode(&file, opened.mode(), mode).map_err(Cause::from)?;
            }
            return Ok(Some((file, opened.len())));
        }
        Err(FilesCode::Busy.into())
    }

    /// Whether another process writes to the partial file.
    pub(crate) fn is_locked(&self) -> bool {
        let opened = self.directory.open_partial(&self.part);
        opened.is_ok_and(|file| {
            matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
        })
    }

    pub(super) fn open_journal(&self) -> io::Result<File> {
        match self.directory.open_partial(&self.journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.directory.create_new(&self.journal, PRIVATE)
            }
            opened => opened,
        }
    }
}

/// How often a name that another process takes away is tried again.
const ATTEMPTS: usize = 8;
/// The mode of what nobody else is to read.
pub(super) const PRIVATE: u16 = 0o600;
