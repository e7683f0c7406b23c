//! Paths in the shares of a server, as a person writes them: `NAME:path`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use tunnel::escape::escape;

/// A path in a share of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePath {
    share: String,
    /// Names with `/` between them.
    path: Vec<u8>,
    is_directory: bool,
}

/// What is wrong with a text that is no [`RemotePath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemotePathError {
    /// It has no colon.
    #[error("it names no share: write NAME:path, or NAME: for all of it (client ls SERVER shows the names)")]
    NoShare,
    /// What stands before the colon is no name of a share.
    #[error(
        "a share's name has 1 to 64 characters out of A-Z a-z 0-9 . _ - (client ls SERVER shows the names)"
    )]
    ShareName,
    /// It begins with a letter and `:\`.
    #[error("it is a path of Windows, and no path in a share: write NAME:path, with / between names")]
    Windows,
    /// The path begins with `/`.
    #[error("a path in a share begins behind the colon and without /, as in NAME:photos/2026")]
    Absolute,
    /// The path has `..` in it.
    #[error("a path in a share has no .. in it")]
    Parent,
    /// The path has a NUL in it.
    #[error("a path has no NUL in it")]
    Nul,
}

impl RemotePath {
    /// The path below `share`; empty for the share itself.
    ///
    /// # Errors
    /// [`RemotePathError`].
    pub fn new(share: &str, path: &[u8]) -> Result<Self, RemotePathError> {
        let is_name_character = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if share.is_empty() || share.len() > MAX_SHARE_LEN || !share.bytes().all(is_name_character) {
            return Err(RemotePathError::ShareName);
        }
        if path.starts_with(b"\\") && share.len() == 1 {
            return Err(RemotePathError::Windows);
        }
        if path.starts_with(b"/") {
            return Err(RemotePathError::Absolute);
        }
        if path.contains(&0) {
            return Err(RemotePathError::Nul);
        }
        let names: Vec<&[u8]> =
            path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        if names.contains(&&b".."[..]) {
            return Err(RemotePathError::Parent);
        }
        let ends_open = path.is_empty() || path.ends_with(b"/") || path.ends_with(b"/.") || path == b".";
        Ok(Self {
            share: share.to_owned(),
            is_directory: ends_open || names.is_empty(),
            path: names.join(&b'/'),
        })
    }

    /// Reads `NAME:path`.
    ///
    /// # Errors
    /// [`RemotePathError`].
    pub fn parse(text: &OsStr) -> Result<Self, RemotePathError> {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|&byte| byte == b':').ok_or(RemotePathError::NoShare)?;
        let share = std::str::from_utf8(&bytes[..colon]).map_err(|_| RemotePathError::ShareName)?;
        Self::new(share, &bytes[colon + 1..])
    }

    /// The name of the share.
    #[must_use]
    pub fn share(&self) -> &str {
        &self.share
    }

    /// The path below the share; empty for the share itself.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The last name of the path; `None` for the share itself.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.path.rsplit(|&byte| byte == b'/').next().filter(|name| !name.is_empty())
    }

    /// Whether it was written as a directory: with `/` at its end, or as the share itself.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// The same path as it is written.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        OsString::from_vec([self.share.as_bytes(), b":", &self.path].concat())
    }
}

/// Shows it escaped.
impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.share, escape(&self.path))
    }
}

/// Most characters of a share's name.
const MAX_SHARE_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, share: &str, path: &str, is_directory: bool) {
        let parsed = RemotePath::parse(OsStr::new(text)).unwrap();
        assert_eq!((parsed.share(), parsed.path()), (share, path.as_bytes()), "{text}");
        assert_eq!(parsed.is_directory(), is_directory, "{text}");
    }

    #[test]
    fn a_path_is_written_behind_the_name_of_its_share() {
        check("backup:", "backup", "", true);
        check("backup:.", "backup", "", true);
        check("backup:./", "backup", "", true);
        check("backup:a", "backup", "a", false);
        check("backup:a/", "backup", "a", true);
        check("backup:a/b", "backup", "a/b", false);
        check("backup:./a//b/./", "backup", "a/b", true);
        check("backup:a/.", "backup", "a", true);
        check("v1.2_x-y:a b:c", "v1.2_x-y", "a b:c", false);
        // A backslash is a character like others within a name.
        check("backup:a\\b", "backup", "a\\b", false);
        check("c:x", "c", "x", false);
        let odd = RemotePath::parse(OsStr::from_bytes(b"s:\xff\n/x")).unwrap();
        assert_eq!((odd.path(), odd.name()), (&b"\xff\n/x"[..], Some(&b"x"[..])));
        assert_eq!(odd.to_string(), "s:\\xff\\n/x");
        assert_eq!(odd.to_os_string().as_bytes(), b"s:\xff\n/x");
        assert_eq!(RemotePath::parse(OsStr::new("s:")).unwrap().name(), None);
    }

    #[test]
    fn what_is_no_path_in_a_share_is_told_so() {
        let problem = |text: &[u8]| RemotePath::parse(OsStr::from_bytes(text)).unwrap_err();
        for text in ["", "a", "a/b", "./a", "C\\x"] {
            assert_eq!(problem(text.as_bytes()), RemotePathError::NoShare, "{text}");
        }
        let long = format!("{}:", "a".repeat(65));
        for text in [":", ":a", "a b:", "ä:", "a/b:c", "@db:", "[::1]:x", &long] {
            assert_eq!(problem(text.as_bytes()), RemotePathError::ShareName, "{text}");
        }
        assert_eq!(problem(b"\xff:a"), RemotePathError::ShareName);
        assert_eq!(problem(b"C:\\Users\\me"), RemotePathError::Windows);
        assert_eq!(problem(b"a:/etc/passwd"), RemotePathError::Absolute);
        for text in ["a:..", "a:../b", "a:b/..", "a:b/../c"] {
            assert_eq!(problem(text.as_bytes()), RemotePathError::Parent, "{text}");
        }
        assert_eq!(problem(b"a:b\0c"), RemotePathError::Nul);
    }
}
