//! The entries of a directory, as a stream.

use std::io;

use rustix::fs::{Dir, FileType};

use crate::directory::status::Kind;

/// The names in a directory, without `.` and `..`, in the order of the file system; with each what it is, where the file system says
/// it with the name. Memory does not grow with the directory.
#[derive(Debug)]
pub struct Entries(Dir);

impl Entries {
    pub(super) fn new(directory: Dir) -> Self {
        Self(directory)
    }
}

impl Iterator for Entries {
    type Item = io::Result<(Box<[u8]>, Option<Kind>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.0.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => Some(Kind::File),
                FileType::Directory => Some(Kind::Directory),
                FileType::Symlink => Some(Kind::Symlink),
                FileType::Unknown => None,
                _ => Some(Kind::Other),
            };
            return Some(Ok((name.into(), kind)));
        }
    }
}
