//! From a directory down to one beneath it, whatever others rename meanwhile: never out, and never through a symbolic link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use crate::path::RelativePath;

/// How a path of several names is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// By the kernel, in one call, where it can.
    Kernel,
    /// Name by name.
    Names,
}

/// With what a directory is opened by one name. That name is never followed.
const ONE: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Resolver {
    /// Opens the directory at `path`, which is not the root.
    pub(super) fn open(self, base: BorrowedFd<'_>, path: &RelativePath) -> io::Result<OwnedFd> {
        match self {
            Self::Kernel => match by_kernel(base, path) {
                // ENOSYS is an old kernel, EPERM may be a filter of calls that does not know this one, and EAGAIN comes where
                // others rename without end. Name by name nothing is permitted that the kernel would have refused.
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => by_names(base, path),
                opened => Ok(opened?),
            },
            Self::Names => by_names(base, path),
        }
    }
}

/// Opens the directory with one name.
pub(super) fn open_one(base: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    fs::openat(base, name, ONE, Mode::empty())
}

fn by_names(base: BorrowedFd<'_>, path: &RelativePath) -> io::Result<OwnedFd> {
    let mut names = path.names();
    let mut directory = open_one(base, names.next().ok_or(Errno::NOENT)?)?;
    for name in names {
        directory = open_one(directory.as_fd(), name)?;
    }
    Ok(directory)
}

#[cfg(target_os = "linux")]
fn by_kernel(base: BorrowedFd<'_>, path: &RelativePath) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..ATTEMPTS {
        match fs::openat2(base, path.as_bytes(), ONE, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// How often a path is resolved anew where something was renamed meanwhile.
#[cfg(target_os = "linux")]
const ATTEMPTS: usize = 16;

#[cfg(not(target_os = "linux"))]
fn by_kernel(_: BorrowedFd<'_>, _: &RelativePath) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}
