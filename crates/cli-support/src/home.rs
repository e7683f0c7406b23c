//! The home: the folder of a program's keys and trust files.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::{Error, private_file};

/// The home of a program. Server and client use different file names in it, so that one folder can serve both.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// Returns the folder `given` (`--home` or `SOCKSEAL_HOME`), else `sockseal` in the XDG data folder.
    ///
    /// # Errors
    /// [`Error::NoHome`] when neither is known.
    pub fn resolve(given: Option<PathBuf>) -> Result<Self, Error> {
        match given {
            Some(path) => Ok(Self(path)),
            None => {
                let base = etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?;
                Ok(Self(base.data_dir().join("sockseal")))
            }
        }
    }

    /// Creates the folder, accessible to its owner only, where it does not exist. After the return a power failure does not
    /// take it away, and a key in it neither.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be created.
    pub fn create(&self) -> Result<(), Error> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let missing: Vec<&Path> = self.0.ancestors().take_while(is_missing).collect();
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        created.map_err(Error::file("create", &self.0))?;
        missing.into_iter().try_for_each(private_file::keep_name)
    }

    /// The path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns whether the folder is the one that is used where none is given.
    #[must_use]
    pub fn is_default(&self) -> bool {
        Self::resolve(None).is_ok_and(|default| default.0 == self.0)
    }

    /// The path of the file `name` in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Locks the file `name` until the returned lock file is dropped, so that of two commands that edit it at once
    /// neither loses the other's change.
    ///
    /// # Errors
    /// [`Error::File`] when the lock file cannot be created or locked.
    pub fn lock(&self, name: &str) -> Result<File, Error> {
        self.create()?;
        let path = self.file(&format!("{name}.lock"));
        let lock = File::create(&path).map_err(Error::file("create", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(lock)
    }
}
