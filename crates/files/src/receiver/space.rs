//! Whether a file has room on the disk that it is written to.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use wire_protocol::message::FilesCode;

use crate::directory::{Directory, code_of};
use crate::partial::PartialFile;

/// Looks whether the rest of a file of `size` bytes may be stored: it fits, or it may be holes as what has come is in part.
///
/// # Errors
/// [`FilesCode::NoSpace`] where there is no room, or the code for what the system says.
pub(super) fn check_space(directory: &Directory, partial: &PartialFile, size: u64) -> Result<(), FilesCode> {
    let check = || -> io::Result<bool> {
        let written = partial.position();
        let free = directory.free_space()?;
        if size.saturating_sub(written) <= free || written <= MOST_TRIED.min(free) {
            return Ok(true);
        }
        let allocated = partial.file().metadata()?.blocks().saturating_mul(BLOCK);
        Ok(allocated.saturating_add(SMALLEST_HOLES) <= written)
    };
    if check().map_err(|error| code_of(&error))? { Ok(()) } else { Err(FilesCode::NoSpace) }
}

/// So much of a file that is larger than the free space is written to learn whether it has holes, and never more than is left free.
const MOST_TRIED: u64 = 1024 * 1024 * 1024;
/// Less than this is not told from what the system sets aside for itself.
const SMALLEST_HOLES: u64 = 64 * 1024;
/// The unit in which the system counts what a file takes.
const BLOCK: u64 = 512;
