//! A file that is sent: its state, its content, and where that has holes.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, preadv};
use sha2::{Digest as _, Sha256};
use wire_protocol::message::HASH_LEN;

use crate::chunks::source_identity;
use crate::control::Control;
use crate::directory::{Directory, Status};
use crate::error::Error;

/// An open file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    file: File,
    status: Status,
    /// Whether it may have holes.
    is_sparse: bool,
    /// Where the data ends in which the last segment began.
    data_end: u64,
}

/// What comes next in a file: so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    /// They have to be read.
    Data(u64),
    /// They are zero, and nothing is stored for them.
    Hole(u64),
}

impl SourceFile {
    /// Opens the file `name` in `directory`, and nothing that is not a file.
    pub(crate) fn open(directory: &Directory, name: &[u8]) -> io::Result<Self> {
        let (file, status) = directory.open_file_with_status(name)?;
        let is_sparse = status.allocated < status.size;
        Ok(Self { file, status, is_sparse, data_end: 0 })
    }

    /// Its size when it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.status.size
    }

    /// Its state when it was opened.
    pub(crate) fn into_status(self) -> Status {
        self.status
    }

    /// Stands for its state when it was opened.
    pub(crate) fn identity(&self) -> [u8; HASH_LEN] {
        source_identity(&self.status)
    }

    /// Whether nothing has written to it since it was opened.
    pub(crate) fn is_unchanged(&self) -> bool {
        Status::of(&self.file).is_ok_and(|status| source_identity(&status) == self.identity())
    }

    /// What comes at `offset`, which is before `end`, and as much of it as is before `end`.
    pub(crate) fn segment(&mut self, offset: u64, end: u64) -> Segment {
        if !self.is_sparse {
            return Segment::Data(end - offset);
        }
        if offset < self.data_end {
            return Segment::Data(self.data_end.min(end) - offset);
        }
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => return Segment::Hole(data.min(end) - offset),
            // There is no data behind.
            Err(Errno::NXIO) => return Segment::Hole(end - offset),
            Ok(_) => {}
            // The file system does not tell.
            Err(_) => {
                self.is_sparse = false;
                return Segment::Data(end - offset);
            }
        }
        match seek(&self.file, SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset => {
                self.data_end = hole;
                Segment::Data(hole.min(end) - offset)
            }
            _ => Segment::Data(end - offset),
        }
    }

    /// Fills places one after the other with what is at `offset`. Gives the bytes that it has read: fewer only at the end of the file.
    pub(crate) fn read_vectored(&self, places: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let mut places = places;
        let mut filled = 0;
        while !places.is_empty() {
            let read = match preadv(&self.file, places, offset + into_u64(filled)) {
                Ok(0) => break,
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                // What has been read before is sent; the next call fails again.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error.into()),
            };
            filled += read;
            IoSliceMut::advance_slices(&mut places, read);
        }
        Ok(filled)
    }

    /// Fills `buffer` with what is at `offset`. Gives the bytes that it has read: fewer only at the end of the file.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + into_u64(filled)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Hands all of what is from `offset` to `end` to `sink`, in pieces.
    ///
    /// # Errors
    /// [`SourceError::Changed`] where it is shorter.
    pub(crate) fn read_all(
        &self,
        mut offset: u64,
        end: u64,
        control: &dyn Control,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), SourceError> {
        let mut buffer = vec![0; PIECE.min(usize::try_from(end - offset).unwrap_or(PIECE))];
        while offset < end {
            if control.is_stopped() {
                return Err(SourceError::Ended(Error::Stopped));
            }
            let most = buffer.len().min(usize::try_from(end - offset).unwrap_or(PIECE));
            let read = self.read(&mut buffer[..most], offset).map_err(SourceError::Io)?;
            if read == 0 {
                return Err(SourceError::Changed);
            }
            sink(&buffer[..read]);
            offset += into_u64(read);
        }
        Ok(())
    }

    /// The SHA-256 of its content.
    pub(crate) fn sha256(&self, control: &dyn Control) -> Result<[u8; HASH_LEN], SourceError> {
        let mut hasher = Sha256::new();
        self.read_all(0, self.size(), control, |bytes| hasher.update(bytes))?;
        if self.is_unchanged() { Ok(hasher.finalize().into()) } else { Err(SourceError::Changed) }
    }
}

/// Why a file has not been read to its end.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// It has changed.
    Changed,
    /// It cannot be read.
    Io(io::Error),
    /// The exchange as a whole has ended.
    Ended(Error),
}

/// A stream that is sent as a file.
pub(crate) struct StreamSource<'a> {
    input: &'a mut dyn Read,
    buffer: Vec<u8>,
    sha256: Option<Sha256>,
    /// Bytes that it has given.
    pub(crate) length: u64,
}

impl<'a> StreamSource<'a> {
    pub(crate) fn new(input: &'a mut dyn Read, has_sha256: bool) -> Self {
        let sha256 = has_sha256.then(Sha256::new);
        Self { input, buffer: vec![0; PIECE], sha256, length: 0 }
    }

    /// The next bytes, at most `most`; none at its end.
    pub(crate) fn next(&mut self, most: usize) -> io::Result<&[u8]> {
        let most = most.min(self.buffer.len());
        let mut filled = 0;
        while filled < most {
            match self.input.read(&mut self.buffer[filled..most]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let bytes = &self.buffer[..filled];
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.length += into_u64(filled);
        Ok(bytes)
    }

    /// The SHA-256 of what it has given, where that was asked for.
    pub(crate) fn sha256(&self) -> Option<[u8; HASH_LEN]> {
        self.sha256.as_ref().map(|sha256| sha256.clone().finalize().into())
    }
}

/// Bytes that are read at once where they are only hashed.
const PIECE: usize = 256 * 1024;

/// A length as a number of the protocol.
pub(crate) fn into_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
