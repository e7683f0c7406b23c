//! A directory that is open, and the calls on what is in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use wire_protocol::message::{FileTime, FilesCode};

use crate::directory::entries::Entries;
use crate::directory::error::error_of;
use crate::directory::resolve::{Resolver, open_one};
use crate::directory::status::{Kind, Status, set_attributes, times};
use crate::path::{RelativePath, check_name};

/// An open directory. Whatever is done by a name is done in this very directory, to what has that name there, and not to what a
/// symbolic link of that name leads to. Each name is checked again here: it is one name. Clones share the handle.
#[derive(Debug, Clone)]
pub struct Directory {
    handle: Arc<OwnedFd>,
    resolver: Resolver,
}

/// With what each file is opened: a symbolic link is not followed, a FIFO does not block, and a terminal is not taken over.
const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens a directory that the user has named. Symbolic links are followed.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open_trusted(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::new(fs::openat(CWD, path, flags, Mode::empty())?, Resolver::Kernel))
    }

    fn new(handle: OwnedFd, resolver: Resolver) -> Self {
        Self { handle: Arc::new(handle), resolver }
    }

    /// The same directory, from which paths are resolved as where the kernel has no openat2.
    #[doc(hidden)]
    #[must_use]
    pub fn without_openat2(self) -> Self {
        Self { resolver: Resolver::Names, ..self }
    }

    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// Those of the system; for [`FilesCode::NotDirectory`] where a part of the path is a symbolic link or no directory.
    pub fn walk_to(&self, path: &RelativePath) -> io::Result<Self> {
        if path.is_root() {
            return Ok(self.clone());
        }
        Ok(Self::new(self.resolver.open(self.as_fd(), path)?, self.resolver))
    }

    /// Opens the directory at `path`, and makes it and what is above it where that does not exist.
    ///
    /// # Errors
    /// As [`Directory::walk_to`].
    pub fn make_all(&self, path: &RelativePath) -> io::Result<Self> {
        self.make_all_telling(path, &mut |_, _| ())
    }

    /// [`Directory::make_all`], which tells each directory in which one was made, with its name.
    ///
    /// # Errors
    /// As [`Directory::walk_to`].
    pub fn make_all_telling(
        &self,
        path: &RelativePath,
        made: &mut dyn FnMut(&Self, &[u8]),
    ) -> io::Result<Self> {
        self.make_all_with(path, &mut |directory, name| {
            directory.make_directory(name)?;
            made(directory, name);
            Ok(())
        })
    }

    /// [`Directory::make_all`], in which `make` makes each directory.
    ///
    /// # Errors
    /// As [`Directory::walk_to`], and those of `make`.
    pub fn make_all_with(
        &self,
        path: &RelativePath,
        make: &mut dyn FnMut(&Self, &[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        match self.walk_to(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut directory = self.clone();
        for name in path.names() {
            directory = match directory.open_directory(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match make(&directory, name) {
                        Ok(()) => {}
                        // Another transfer was faster.
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(error),
                    }
                    directory.open_directory(name)?
                }
                opened => opened?,
            };
        }
        Ok(directory)
    }

    /// Opens the directory `name`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open_directory(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self::new(open_one(self.as_fd(), checked(name)?)?, self.resolver))
    }

    /// Its device and its number there, which no other directory has while this one is open.
    ///
    /// # Errors
    /// Those of the system.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        self.own_status().map(|status| (status.dev, status.ino))
    }

    /// Its own state.
    ///
    /// # Errors
    /// Those of the system.
    pub fn own_status(&self) -> io::Result<Status> {
        Status::of(self)
    }

    /// The state of what has `name`; `None` where nothing has.
    ///
    /// # Errors
    /// Those of the system.
    pub fn stat(&self, name: &[u8]) -> io::Result<Option<Status>> {
        match fs::statat(self, checked(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Status::from_stat(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file `name` for reading. What is no file is not even opened, since to open a device can do something.
    ///
    /// # Errors
    /// Those of the system; for [`FilesCode::IsDirectory`], [`FilesCode::NotDirectory`] (a symbolic link) and
    /// [`FilesCode::UnsupportedKind`] where it is no file.
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        self.open_file_with_status(name).map(|(file, _)| file)
    }

    /// [`Directory::open_file`], with the state of the file once it is open.
    pub(crate) fn open_file_with_status(&self, name: &[u8]) -> io::Result<(File, Status)> {
        let expect_file = |kind| match kind {
            Kind::File => Ok(()),
            Kind::Directory => Err(error_of(FilesCode::IsDirectory)),
            Kind::Symlink => Err(error_of(FilesCode::NotDirectory)),
            Kind::Other => Err(error_of(FilesCode::UnsupportedKind)),
        };
        expect_file(self.stat(name)?.ok_or(Errno::NOENT)?.kind)?;
        let file = fs::openat(self, name, OFlags::RDONLY | SAFE, Mode::empty())?;
        let status = Status::of(&file)?;
        expect_file(status.kind)?;
        Ok((file.into(), status))
    }

    /// Makes the file `name`, for reading and writing, with the lower nine bits of `mode` less those of the umask.
    ///
    /// # Errors
    /// Those of the system, also where anything has that name.
    pub fn create_new(&self, name: &[u8], mode: u16) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | SAFE;
        Ok(fs::openat(self, checked(name)?, flags, bits(mode))?.into())
    }

    /// Opens the file `name` of an earlier transfer, for reading and writing: nothing but a file of our own that has no second name
    /// elsewhere.
    ///
    /// # Errors
    /// Those of the system; for [`FilesCode::Exists`] where it is something else.
    pub fn open_partial(&self, name: &[u8]) -> io::Result<File> {
        expect_ours(&fs::statat(self, checked(name)?, AtFlags::SYMLINK_NOFOLLOW)?)?;
        let open = || fs::openat(self, name, OFlags::RDWR | SAFE, Mode::empty());
        let file = match open() {
            // It was whole, and has the permissions of its source already.
            Err(Errno::ACCESS) => {
                self.take_permissions_back(name)?;
                open()?
            }
            opened => opened?,
        };
        expect_ours(&fs::fstat(&file)?)?;
        Ok(file.into())
    }

    /// Lets the owner of `name`, who we are, read and write it again, unless another process is at it. What even its owner could not
    /// open is removed: then there is nothing of that name any more, as the error says.
    fn take_permissions_back(&self, name: &[u8]) -> io::Result<()> {
        for access in [OFlags::RDONLY, OFlags::WRONLY] {
            match fs::openat(self, name, access | SAFE, Mode::empty()) {
                Err(Errno::ACCESS) => {}
                Err(error) => return Err(error.into()),
                Ok(file) => {
                    expect_ours(&fs::fstat(&file)?)?;
                    fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                    return Ok(fs::fchmod(&file, bits(0o600))?);
                }
            }
        }
        self.remove(name)?;
        Err(Errno::NOENT.into())
    }

    /// Makes the directory `name`, with the permissions that the umask leaves.
    ///
    /// # Errors
    /// Those of the system.
    pub fn make_directory(&self, name: &[u8]) -> io::Result<()> {
        self.make_directory_with(name, 0o777)
    }

    /// Makes the directory `name`, with the lower nine bits of `mode` less those of the umask.
    ///
    /// # Errors
    /// Those of the system.
    pub fn make_directory_with(&self, name: &[u8], mode: u16) -> io::Result<()> {
        Ok(fs::mkdirat(self, checked(name)?, bits(mode))?)
    }

    /// Takes those of the lower nine bits away from its own permissions that `mode` does not have, and leaves the others. Gives its
    /// permissions as they were, where anything was taken.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn restrict(&self, mode: u16) -> io::Result<Option<Mode>> {
        let own = Mode::from_raw_mode(fs::fstat(self)?.st_mode);
        let kept = own.difference(bits(0o777).difference(bits(mode)));
        if kept == own {
            return Ok(None);
        }
        fs::fchmod(self, kept)?;
        Ok(Some(own))
    }

    /// Gives it back what [`Directory::restrict`] has taken.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn give_back(&self, own: Mode) -> io::Result<()> {
        Ok(fs::fchmod(self, own)?)
    }

    /// What the symbolic link `name` leads to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(self, checked(name)?, Vec::new())?.into_bytes())
    }

    /// Makes the symbolic link `name`, which leads to `target`, whatever that is.
    ///
    /// # Errors
    /// Those of the system, also where anything has that name.
    pub fn make_link(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, self, checked(name)?)?)
    }

    /// Gives `from` the name `to`, in place of a file or symbolic link that has it.
    ///
    /// # Errors
    /// Those of the system.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(self, checked(from)?, self, checked(to)?)?)
    }

    /// Gives the file `from` the name `to`, which nothing else has.
    ///
    /// # Errors
    /// Those of the system, also where anything has that name.
    pub fn rename_new(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let (from, to) = (checked(from)?, checked(to)?);
        match fs::renameat_with(self, from, self, to, RenameFlags::NOREPLACE) {
            // Some file systems cannot do it in one step, NFS among them.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.rename_by_link(from, to),
            renamed => Ok(renamed?),
        }
    }

    fn rename_by_link(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        fs::linkat(self, from, self, to, AtFlags::empty())?;
        match fs::unlinkat(self, from, AtFlags::empty()) {
            // A later transfer of it was faster.
            Err(Errno::NOENT) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Removes the file or symbolic link `name`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(self, checked(name)?, AtFlags::empty())?)
    }

    /// Gives the directory `name` its permissions, the lower nine bits of `mode`, and its time.
    ///
    /// # Errors
    /// Those of the system, also where it is no directory.
    pub fn set_attributes(&self, name: &[u8], mode: u16, modified: FileTime) -> io::Result<()> {
        set_attributes(open_one(self.as_fd(), checked(name)?)?, mode, modified)
    }

    /// Gives the symbolic link `name` its time, and not what it leads to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_link_time(&self, name: &[u8], modified: FileTime) -> io::Result<()> {
        Ok(fs::utimensat(self, checked(name)?, &times(modified)?, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The entries of the directory.
    ///
    /// # Errors
    /// Those of the system.
    pub fn entries(&self) -> io::Result<Entries> {
        Ok(Entries::new(Dir::read_from(self)?))
    }

    /// Waits until the names in it are on disk.
    ///
    /// # Errors
    /// Those of the system.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(self)?)
    }

    /// Bytes that may still be written to its file system.
    ///
    /// # Errors
    /// Those of the system.
    pub fn free_space(&self) -> io::Result<u64> {
        let file_system = fs::fstatvfs(self)?;
        Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Checks that a file of an earlier transfer is one that we have made.
fn expect_ours(stat: &Stat) -> io::Result<()> {
    let status = Status::from_stat(stat);
    if status.kind == Kind::File && status.links == 1 && stat.st_uid == geteuid().as_raw() {
        Ok(())
    } else {
        Err(error_of(FilesCode::Exists))
    }
}

fn checked(name: &[u8]) -> io::Result<&[u8]> {
    check_name(name).map_err(error_of)?;
    Ok(name)
}

fn bits(mode: u16) -> Mode {
    Mode::from_bits_truncate((mode & 0o777).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn where_a_rename_cannot_refuse_to_replace_a_link_does() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open_trusted(root.path()).unwrap();
        let path = |name| root.path().join(name);
        std::fs::write(path("from"), "new").unwrap();
        std::fs::write(path("there"), "old").unwrap();
        symlink("there", path("link")).unwrap();
        for taken in [&b"there"[..], b"link"] {
            let error = directory.rename_by_link(b"from", taken).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read(path("there")).unwrap(), b"old");
        directory.rename_by_link(b"from", b"to").unwrap();
        assert_eq!(std::fs::read(path("to")).unwrap(), b"new");
        assert_eq!(directory.stat(b"from").unwrap(), None);
        // The link itself gets the name, and not what it leads to.
        directory.rename_by_link(b"link", b"moved").unwrap();
        assert_eq!(directory.stat(b"moved").unwrap().unwrap().kind, Kind::Symlink);
        assert_eq!(directory.stat(b"there").unwrap().unwrap().links, 1);
    }
}
