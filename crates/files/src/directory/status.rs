//! What stands on disk under a name: kind, size, permissions and times, and how these are set.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, FileType, Mode, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use wire_protocol::message::FileTime;

/// The state of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Bytes of its content.
    pub size: u64,
    /// Its permissions: the lower nine bits of its mode.
    pub mode: u16,
    /// When its content was modified last.
    pub modified: FileTime,
    /// The device that it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// When anything of it was changed last.
    pub ctime: FileTime,
    /// Names that it has.
    pub links: u64,
    /// Bytes that its content takes on the disk: fewer than its size where it has holes.
    pub allocated: u64,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, FIFO or socket.
    Other,
}

impl Status {
    /// That of an open file.
    ///
    /// # Errors
    /// Those of the system.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from_stat(&fs::fstat(file)?))
    }

    pub(super) fn from_stat(stat: &Stat) -> Self {
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Directory,
                FileType::Symlink => Kind::Symlink,
                _ => Kind::Other,
            },
            size: number(stat.st_size),
            mode: number(stat.st_mode & 0o777),
            modified: FileTime { seconds: number(stat.st_mtime), nanoseconds: number(stat.st_mtime_nsec) },
            dev: number(stat.st_dev),
            ino: number(stat.st_ino),
            ctime: FileTime { seconds: number(stat.st_ctime), nanoseconds: number(stat.st_ctime_nsec) },
            links: number(stat.st_nlink),
            allocated: number::<_, u64>(stat.st_blocks).saturating_mul(BLOCK),
        }
    }
}

/// The unit in which the system counts what a file takes.
const BLOCK: u64 = 512;

/// The types of these numbers are not the same on all systems.
fn number<T, U: TryFrom<T> + Default>(value: T) -> U {
    U::try_from(value).unwrap_or_default()
}

/// Gives an open file or directory its permissions, the lower nine bits of `mode`, and its time.
///
/// # Errors
/// Those of the system.
pub fn set_attributes(file: impl AsFd, mode: u16, modified: FileTime) -> io::Result<()> {
    let times = times(modified)?;
    fs::fchmod(&file, Mode::from_bits_truncate((mode & 0o777).into()))?;
    Ok(fs::futimens(file, &times)?)
}

/// That of the content alone. Nanoseconds from 1,000,000,000 on would be commands to the system, such as to leave a time as it is.
pub(super) fn times(modified: FileTime) -> io::Result<Timestamps> {
    if modified.nanoseconds > 999_999_999 {
        return Err(Errno::INVAL.into());
    }
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: number(modified.seconds),
            tv_nsec: modified.nanoseconds.into(),
        },
    })
}
