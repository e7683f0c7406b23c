//! Why an entry has failed: what both sides know of it, and what the system has said to this one.

use std::{fmt, io};

use wire_protocol::message::FilesCode;

use crate::directory::code_of;

/// Why an entry has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// What both sides know.
    pub code: FilesCode,
    /// What the system of this side has said, where it says more than the code.
    pub system: Option<SystemError>,
}

/// An error of this side's system, which the other side does not learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemError(i32);

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl From<FilesCode> for Cause {
    fn from(code: FilesCode) -> Self {
        Self { code, system: None }
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        let code = code_of(error);
        let says_all = matches!(
            code,
            FilesCode::Exists
                | FilesCode::NotFound
                | FilesCode::NotDirectory
                | FilesCode::IsDirectory
                | FilesCode::UnsupportedKind
        );
        let system = error.raw_os_error().filter(|_| !says_all).map(SystemError);
        Self { code, system }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::directory::error_of;

    fn said(error: impl Into<io::Error>) -> Option<String> {
        Cause::from(error.into()).system.map(|system| system.to_string())
    }

    #[test]
    fn the_system_is_heard_where_it_says_more_than_the_code() {
        for (errno, code, text) in [
            (Errno::IO, FilesCode::Io, "Input/output error (os error 5)"),
            (Errno::ROFS, FilesCode::Denied, "Read-only file system (os error 30)"),
            (Errno::DQUOT, FilesCode::NoSpace, "Disk quota exceeded (os error 122)"),
        ] {
            assert_eq!(Cause::from(io::Error::from(errno)).code, code);
            assert_eq!(said(errno).unwrap(), text);
        }
        for nothing_new in [Errno::EXIST, Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::ISDIR] {
            assert_eq!(said(nothing_new), None, "{nothing_new:?}");
        }
        assert_eq!(said(error_of(FilesCode::Io)), None);
        assert_eq!(Cause::from(FilesCode::Busy), Cause { code: FilesCode::Busy, system: None });
    }
}
