//! The state of a file, by which a change of it is noticed without reading it.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use cli_support::private_file;

use crate::error::Error;

/// Distinguishes states of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: SystemTime,
    len: u64,
    inode: u64,
    /// The time of the last change of the inode, the only field that a change of owner or mode affects. Both decide
    /// whether the file is trusted.
    changed: (i64, i64),
}

impl Stamp {
    /// The state of the file; `None` where it certainly does not exist.
    ///
    /// # Errors
    /// [`Error::Program`] where that cannot be told.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, Error> {
        use std::os::unix::fs::MetadataExt as _;

        let read = |source| cli_support::Error::File { action: "read", path: path.into(), source };
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                modified: metadata.modified().map_err(read)?,
                len: metadata.len(),
                inode: metadata.ino(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            })),
            Err(_) if private_file::is_absent(path)? => Ok(None),
            Err(error) => Err(read(error).into()),
        }
    }
}
