//! Keeps the directory open that was needed last, since entries come directory by directory.

use std::io;

use crate::directory::handle::Directory;
use crate::path::RelativePath;

/// Opens directories below another one. A directory that is moved while it is kept open stays the one that is meant.
#[derive(Debug)]
pub struct Directories {
    base: Directory,
    last: Option<(RelativePath, Directory)>,
}

impl Directories {
    /// Below `base`.
    #[must_use]
    pub fn new(base: Directory) -> Self {
        Self { base, last: None }
    }

    /// What they are below.
    #[must_use]
    pub fn base(&self) -> &Directory {
        &self.base
    }

    /// The one at `path`.
    ///
    /// # Errors
    /// Those of [`Directory::walk_to`].
    pub fn get(&mut self, path: &RelativePath) -> io::Result<Directory> {
        self.open(path, |base| base.walk_to(path))
    }

    /// The one at `path`, which is made where it does not exist. `made` is told each directory in which one was made, with its name.
    ///
    /// # Errors
    /// Those of [`Directory::make_all`].
    pub fn make(
        &mut self,
        path: &RelativePath,
        made: &mut dyn FnMut(&Directory, &[u8]),
    ) -> io::Result<Directory> {
        self.open(path, |base| base.make_all_telling(path, made))
    }

    /// Opens anew what is needed next.
    pub fn forget(&mut self) {
        self.last = None;
    }

    fn open(
        &mut self,
        path: &RelativePath,
        open: impl FnOnce(&Directory) -> io::Result<Directory>,
    ) -> io::Result<Directory> {
        if let Some((known, directory)) = &self.last
            && known == path
        {
            return Ok(directory.clone());
        }
        let directory = open(&self.base)?;
        self.last = Some((path.clone(), directory.clone()));
        Ok(directory)
    }
}
