//! Unix sockets that are listened on, and their files.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The file of a listening unix socket. Dropping it removes the file, unless another socket has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    pub(super) path: PathBuf,
    /// `None` where another program has made the file.
    inode: Option<u64>,
}

impl SocketFile {
    /// The file of a socket that somebody else removes.
    pub(super) fn of_another(path: &Path) -> Self {
        Self { path: path.into(), inode: None }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|metadata| Some(metadata.ino()) == self.inode) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Listens at `path`, in place of a socket on which nobody listens any more.
pub(super) async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path).await => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let inode = Some(std::fs::metadata(path)?.ino());
    Ok((listener, SocketFile { path: path.into(), inode }))
}

/// A socket file on which nobody listens. Anything else at this path is not ours to remove.
async fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).await.is_err_and(refused)
}
