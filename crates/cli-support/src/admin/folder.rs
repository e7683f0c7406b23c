//! The folder `run` of a home, which holds the admin sockets of running programs.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Pid, geteuid, test_kill_process};

use tunnel::dial::MAX_PATH_LEN;

use crate::error::Error;
use crate::home::Home;

/// The open folder. Only its owner, the user of this process, can look into it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Creates the folder where it does not exist, and opens it.
    pub(super) fn create(home: &Home) -> Result<Self, Error> {
        home.create()?;
        let path = home.file(NAME);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::file("create", path)(error))
            }
            _ => Self::open_at(&path).map_err(Error::file("open", &path))?.checked(),
        }
    }

    /// Opens the folder; `None` where it does not exist.
    pub(super) fn open(home: &Home) -> Result<Option<Self>, Error> {
        let path = home.file(NAME);
        match Self::open_at(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map_err(Error::file("open", &path))?.checked().map(Some),
        }
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self { path: path.into(), file })
    }

    /// Checks owner and mode: a user who can change the folder could replace a program's socket.
    fn checked(self) -> Result<Self, Error> {
        let metadata = self.file.metadata().map_err(Error::file("open", &self.path))?;
        check_access(&self.path, metadata.mode(), metadata.uid(), geteuid().as_raw())?;
        Ok(self)
    }

    /// The path of the socket `name`.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The path to bind or connect the socket `name` through, which is a short one where the socket's own path is
    /// too long for a socket address. The path is valid as long as the folder is open.
    pub(super) fn address(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        if path.as_os_str().len() <= MAX_PATH_LEN {
            return path;
        }
        Path::new("/proc/self/fd").join(self.file.as_raw_fd().to_string()).join(name)
    }

    /// The ids of the processes of `program` that have a socket here, running or not.
    pub(super) fn pids(&self, program: &str) -> Result<Vec<u32>, Error> {
        let mut pids = Vec::new();
        for entry in self.path.read_dir().map_err(Error::file("read", &self.path))? {
            let entry = entry.map_err(Error::file("read", &self.path))?;
            pids.extend(entry.file_name().to_str().and_then(|name| pid_of(name, program)));
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// Removes the socket of a process that has ended. A file of that name that is not a socket is kept.
    pub(super) fn remove_left_behind(&self, program: &str, pid: u32) {
        let path = self.path(&socket_name(program, pid));
        if !is_running(pid) && is_socket(&path) {
            std::fs::remove_file(&path).ok();
        }
    }
}

/// The file of a listening socket. Dropping it removes the file, unless another one has replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Takes over the file of a newly bound socket, and keeps other users from connecting to it.
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let inode = std::fs::symlink_metadata(&path)?.ino();
        Ok(Self { path, inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// The name of the socket of the process `pid`.
pub(super) fn socket_name(program: &str, pid: u32) -> String {
    format!("{program}-{pid}.sock")
}

pub(super) fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn pid_of(name: &str, program: &str) -> Option<u32> {
    let pid = name.strip_prefix(program)?.strip_prefix('-')?.strip_suffix(".sock")?.parse().ok()?;
    // A number has several spellings, and a socket's name only one.
    (socket_name(program, pid) == name).then_some(pid)
}

/// Returns whether the process exists, as this or another user's.
fn is_running(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

fn check_access(path: &Path, mode: u32, owner: u32, user: u32) -> Result<(), Error> {
    if owner != user {
        return Err(Error::ForeignFolder { path: path.into() });
    }
    if mode & 0o077 != 0 {
        return Err(Error::ExposedFolder { path: path.into(), mode: mode & 0o7777 });
    }
    Ok(())
}

/// The name of the folder in a home.
const NAME: &str = "run";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_its_users_alone_is_refused() {
        let check = |mode, owner| check_access(Path::new("/run"), mode, owner, 1000);
        check(0o40700, 1000).unwrap();
        for mode in [0o40701, 0o40710, 0o40720, 0o40755, 0o40777, 0o41777] {
            assert!(matches!(check(mode, 1000), Err(Error::ExposedFolder { .. })), "{mode:o}");
        }
        for owner in [0, 1001] {
            assert!(matches!(check(0o40700, owner), Err(Error::ForeignFolder { .. })), "{owner}");
        }
    }

    #[test]
    fn a_name_is_one_programs_and_has_one_spelling() {
        assert_eq!(pid_of("server-17.sock", "server"), Some(17));
        for name in [
            "client-17.sock",
            "server-17",
            "server-.sock",
            "server-017.sock",
            "server-+17.sock",
            "server--17.sock",
            "server17.sock",
            "server-4294967296.sock",
            "server-17.sock.sock",
            "server-17.socket",
            "",
        ] {
            assert_eq!(pid_of(name, "server"), None, "{name}");
        }
    }

    #[test]
    fn processes_that_are_gone_are_told_from_those_that_are_there() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!is_running(child.id()));
        assert!(is_running(std::process::id()));
        assert!(is_running(1));
        assert!(!is_running(0));
        assert!(!is_running(u32::MAX));
    }
}
