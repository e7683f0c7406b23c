//! Whether a file has room on the disk that it is written to.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use wire_protocol::message::FilesCode;

use crate::cause::Cause;
use crate::chunks::MIN_CHUNK_LEN;
use crate::directory::Directory;
use crate::partial::PartialFile;

/// Looks whether a file of `size` bytes that is offered may be stored, of which `allocated` are no holes, as its sender says, and `there`
/// lie here already.
///
/// # Errors
/// [`FilesCode::NoSpace`] where there is no room, or the code for what the system says.
pub(super) fn check_offer(directory: &Directory, size: u64, allocated: u64, there: u64) -> Result<(), Cause> {
    let needed = if size > MOST_IN_HOLES { size } else { allocated.saturating_sub(there) };
    // Whether there is room for less is found out by writing it: there may be many such files.
    if needed <= MIN_CHUNK_LEN {
        return Ok(());
    }
    let free = directory.free_space().map_err(Cause::from)?;
    if needed <= free { Ok(()) } else { Err(FilesCode::NoSpace.into()) }
}

/// Looks whether the rest of a file of `size` bytes may be stored, of which `allocated` are no holes, as its sender says: it fits, or it may
/// be holes as what has come is in part.
///
/// # Errors
/// [`FilesCode::NoSpace`] where there is no room, or the code for what the system says.
pub(super) fn check_space(
    directory: &Directory,
    partial: &PartialFile,
    size: u64,
    allocated: u64,
) -> Result<(), Cause> {
    let check = || {
        // What an earlier attempt has left behind the position is written over.
        let (there, free) = (partial.length(), directory.free_space()?);
        may_fit(size, allocated, there, free, || {
            Ok(partial.file().metadata()?.blocks().saturating_mul(BLOCK))
        })
    };
    let fits = check().map_err(|error: io::Error| Cause::from(error))?;
    if fits { Ok(()) } else { Err(FilesCode::NoSpace.into()) }
}

/// The same by numbers: `there` bytes lie here, which take `on_disk`, and `free` more have room.
fn may_fit(
    size: u64,
    allocated: u64,
    there: u64,
    free: u64,
    on_disk: impl FnOnce() -> io::Result<u64>,
) -> io::Result<bool> {
    if allocated.saturating_sub(there) > free {
        return Ok(false);
    }
    if size.saturating_sub(there) <= free || there <= MOST_TRIED.min(free) {
        return Ok(true);
    }
    // A sender that does not know what the file takes, or says what is not so, is not asked for more than this.
    Ok(on_disk()?.saturating_add(SMALLEST_HOLES) <= there)
}

/// The largest file that may have more bytes than the disk has room for, since it has holes: the hash of one chunk takes seconds then,
/// where that of the largest file there may be takes years, and no longer than its sender wants it.
const MOST_IN_HOLES: u64 = 1 << 44;
/// So much of a file that is larger than the free space is written to learn whether it has holes, and never more than is left free.
const MOST_TRIED: u64 = 1024 * 1024 * 1024;
/// Less than this is not told from what the system sets aside for itself.
const SMALLEST_HOLES: u64 = 64 * 1024;
/// The unit in which the system counts what a file takes.
const BLOCK: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn what_the_sender_has_on_its_disk_has_to_have_room() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open_trusted(folder.path()).unwrap();
        let huge = MOST_IN_HOLES;
        let check = |size, allocated, there| {
            check_offer(&directory, size, allocated, there).map_err(|cause| cause.code)
        };
        assert_eq!(check(huge, huge, 0), Err(FilesCode::NoSpace));
        assert_eq!(check(huge, 0, 0), Ok(()), "it may be all holes");
        assert_eq!(check(huge, huge, huge - MIB), Ok(()), "what is there needs no more room");
        assert_eq!(check(huge, MIB, 0), Ok(()));
        assert_eq!(check(huge + 1, 0, 0), Err(FilesCode::NoSpace));
    }

    #[test]
    fn what_does_not_fit_ends_as_soon_as_it_is_known() {
        let fits = |size, allocated, there, free, on_disk| {
            may_fit(size, allocated, there, free, || Ok(on_disk)).unwrap()
        };
        // The rest of a dense file has room, or the disk has become fuller meanwhile.
        assert!(fits(9 * GIB, 9 * GIB, GIB, 8 * GIB, GIB));
        assert!(!fits(9 * GIB, 9 * GIB, MIB, 8 * GIB, MIB));
        // Holes need none.
        assert!(fits(9 * GIB, MIB, MIB, GIB, MIB));
        assert!(fits(9 * GIB, MIB, 2 * GIB, MIB, MIB));
        // A sender that does not know, or lies, is let try.
        assert!(fits(9 * GIB, 0, MIB, GIB, MIB));
        assert!(!fits(9 * GIB, 0, MIB, MIB / 2, MIB));
        assert!(!fits(9 * GIB, 0, 2 * GIB, 3 * GIB, 2 * GIB));
        // What lies there of an earlier attempt is written over.
        assert!(fits(9 * GIB, 9 * GIB, 8 * GIB, GIB, 8 * GIB));
    }
}
