//! Shares: directories of the server whose files clients can get and put, each known to them by its name.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use bytesize::ByteSize;
use crypto_core::psk::is_valid_id;

use crate::error::Error;
use crate::share_mode::ShareMode;

/// A directory that the server shares under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileShare {
    /// The name: 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The directory.
    pub dir: PathBuf,
    /// The most that any client may do with it.
    pub mode: ShareMode,
    /// Most bytes of all files in it; `None` for no limit.
    pub quota: Option<ByteSize>,
}

impl FileShare {
    /// Finds out whether there is a directory now.
    ///
    /// # Errors
    /// [`Error::Share`].
    pub fn check(&self) -> Result<(), Error> {
        let found = fs::metadata(&self.dir).and_then(|metadata| {
            if metadata.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
        });
        found.map_err(|source| Error::Share { name: self.name.clone(), dir: self.dir.clone(), source })
    }

    /// Resolves a relative path against `folder`.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        self.dir = folder.join(&self.dir);
    }
}

/// `NAME=DIR[:ro|rw|drop]`. What stands behind the last colon and is none of these belongs to the path. It is made absolute,
/// so that it stays what it was when the program was started.
impl FromStr for FileShare {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let problem = |problem| Error::Rule { text: text.into(), problem };
        let (name, rest) = text.split_once('=').ok_or_else(|| problem("is not NAME=DIR[:ro|rw|drop]"))?;
        if !is_valid_id(name) {
            return Err(Error::BadName { name: name.into() });
        }
        let with_mode = rest.rsplit_once(':').and_then(|(dir, mode)| Some((dir, mode.parse().ok()?)));
        let (dir, mode) = with_mode.unwrap_or((rest, ShareMode::default()));
        if dir.is_empty() {
            return Err(problem("names no directory"));
        }
        let dir = std::path::absolute(dir).map_err(|_| problem("has no path that can be made absolute"))?;
        Ok(Self { name: name.into(), dir, mode, quota: None })
    }
}

#[cfg(test)]
mod tests {
    use wire_protocol::message::ShareAccess;

    use super::*;

    #[test]
    fn a_share_is_a_name_a_directory_and_a_mode() {
        for (text, name, dir, mode) in [
            ("in=/srv/in", "in", "/srv/in", ShareAccess::ReadOnly),
            ("in=/srv/in:ro", "in", "/srv/in", ShareAccess::ReadOnly),
            ("in=/srv/in:rw", "in", "/srv/in", ShareAccess::ReadWrite),
            ("in.2=/srv/in:drop", "in.2", "/srv/in", ShareAccess::Drop),
            ("a=/srv/a=b:c", "a", "/srv/a=b:c", ShareAccess::ReadOnly),
            ("a=/srv/a:rw:ro", "a", "/srv/a:rw", ShareAccess::ReadOnly),
            ("a=/srv/a:RW", "a", "/srv/a:RW", ShareAccess::ReadOnly),
            ("a=/", "a", "/", ShareAccess::ReadOnly),
        ] {
            let mode = ShareMode(mode);
            let expected = FileShare { name: name.into(), dir: dir.into(), mode, quota: None };
            assert_eq!(text.parse::<FileShare>().unwrap(), expected, "{text}");
        }
        let here: FileShare = "a=x:rw".parse().unwrap();
        assert_eq!(here.dir, std::env::current_dir().unwrap().join("x"));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "in", "/srv/in", "=/srv/in", "in=", "in=:rw", "i n=/srv", "in:rw=/srv", "in\n=/srv"]
        {
            assert!(text.parse::<FileShare>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_share_needs_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let share = |name: &str| {
            let dir = folder.path().join(name);
            FileShare { name: "in".into(), dir, mode: ShareMode::default(), quota: None }
        };
        fs::write(folder.path().join("file"), "").unwrap();
        fs::create_dir(folder.path().join("dir")).unwrap();
        share("dir").check().unwrap();
        for missing in ["file", "none"] {
            let error = share(missing).check().unwrap_err();
            assert!(matches!(&error, Error::Share { name, .. } if name == "in"), "{error}");
        }
    }
}
