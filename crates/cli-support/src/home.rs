//! The folder that a program keeps its keys and its trust in.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::Error;

/// A program's home. Server and client use different names in it, so one folder can serve both.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// The folder given (`--home` or `SOCKSEAL_HOME`), else `sockseal` in the XDG data folder.
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

    /// Makes the folder, for its owner alone, where it does not exist.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(&self) -> Result<(), Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(Error::file("create", &self.0))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is the folder that is taken where none is given.
    #[must_use]
    pub fn is_default(&self) -> bool {
        Self::resolve(None).is_ok_and(|default| default.0 == self.0)
    }

    /// The path of the file `name` in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Keeps others from changing the file `name` until what is returned is dropped: two commands that edit it
    /// at once must not lose either's change.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn lock(&self, name: &str) -> Result<File, Error> {
        self.create()?;
        let path = self.file(&format!("{name}.lock"));
        let lock = File::create(&path).map_err(Error::file("create", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(lock)
    }
}
