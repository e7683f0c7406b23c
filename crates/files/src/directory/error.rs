//! The code of the protocol for what has gone wrong on disk.

use std::io::{self, ErrorKind};

use rustix::io::Errno;
use wire_protocol::message::FilesCode;

/// The code for `error`.
#[must_use]
pub fn code_of(error: &io::Error) -> FilesCode {
    if let Some(Unusable(code)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return *code;
    }
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => return FilesCode::NotDirectory,
        Some(Errno::NXIO | Errno::NODEV) => return FilesCode::UnsupportedKind,
        Some(Errno::ILSEQ) => return FilesCode::BadPath,
        _ => {}
    }
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => FilesCode::Exists,
        ErrorKind::NotFound => FilesCode::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => FilesCode::Denied,
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => FilesCode::BadPath,
        // What openat2 says of a path that leads out of the directory.
        ErrorKind::NotADirectory | ErrorKind::CrossesDevices => FilesCode::NotDirectory,
        ErrorKind::IsADirectory => FilesCode::IsDirectory,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FilesCode::NoSpace,
        ErrorKind::WouldBlock | ErrorKind::ResourceBusy | ErrorKind::ExecutableFileBusy => FilesCode::Busy,
        _ => FilesCode::Io,
    }
}

/// The error that [`code_of`] gives `code` for.
#[must_use]
pub fn error_of(code: FilesCode) -> io::Error {
    io::Error::other(Unusable(code))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(FilesCode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_has_a_code() {
        for (errno, code) in [
            (Errno::EXIST, FilesCode::Exists),
            (Errno::NOENT, FilesCode::NotFound),
            (Errno::ACCESS, FilesCode::Denied),
            (Errno::PERM, FilesCode::Denied),
            (Errno::ROFS, FilesCode::Denied),
            (Errno::NAMETOOLONG, FilesCode::BadPath),
            (Errno::INVAL, FilesCode::BadPath),
            (Errno::NOTDIR, FilesCode::NotDirectory),
            (Errno::LOOP, FilesCode::NotDirectory),
            (Errno::XDEV, FilesCode::NotDirectory),
            (Errno::ISDIR, FilesCode::IsDirectory),
            (Errno::NXIO, FilesCode::UnsupportedKind),
            (Errno::NOSPC, FilesCode::NoSpace),
            (Errno::DQUOT, FilesCode::NoSpace),
            (Errno::AGAIN, FilesCode::Busy),
            (Errno::IO, FilesCode::Io),
        ] {
            assert_eq!(code_of(&errno.into()), code, "{errno:?}");
        }
        assert_eq!(code_of(&error_of(FilesCode::Quota)), FilesCode::Quota);
        assert_eq!(code_of(&ErrorKind::InvalidFilename.into()), FilesCode::BadPath);
    }
}
