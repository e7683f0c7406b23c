//! The file of allowed clients: read when it has changed, changed as a whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use program::home::Home;
use program::private_file;

use super::Access;
use crate::Error;

/// `clients.toml` of a home.
#[derive(Debug)]
pub struct AccessFile {
    home: Home,
    path: PathBuf,
    cached: Mutex<Cached>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Cached {
    /// The state of the file, and what it said.
    read: Option<(Stamp, Arc<Access>)>,
    /// When the file was last looked at, and found to be there.
    looked_at: Option<Instant>,
}

/// Tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
    inode: u64,
}

impl AccessFile {
    /// The file of this home.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { path: home.file(NAME), home, cached: Mutex::default() }
    }

    /// What the file says now; `None` where there is none, which is how it begins.
    ///
    /// # Errors
    /// [`Error::AccessFile`] when it does not make sense, [`Error::Program`] when it cannot be read.
    pub fn read(&self) -> Result<Option<Arc<Access>>, Error> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Cached { read: Some((_, access)), looked_at: Some(moment) } = &*cached
            && moment.elapsed() < LOOK_AGAIN
        {
            return Ok(Some(Arc::clone(access)));
        }
        cached.looked_at = None;
        let Some(stamp) = stamp(&self.path)? else { return Ok(None) };
        let access = match &cached.read {
            Some((known, access)) if *known == stamp => Arc::clone(access),
            _ => Arc::new(parse(&self.path)?),
        };
        *cached = Cached { read: Some((stamp, Arc::clone(&access))), looked_at: Some(Instant::now()) };
        Ok(Some(access))
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file again next time, however short ago that was.
    pub(crate) fn look_again(&self) {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).looked_at = None;
    }

    /// Changes the file. A running server sees it with its next connection.
    ///
    /// # Errors
    /// Those of `change`, and as [`AccessFile::read`].
    pub fn edit(&self, change: impl FnOnce(&mut Access) -> Result<(), Error>) -> Result<(), Error> {
        let _lock = self.home.lock(NAME)?;
        let mut access = if self.path.exists() { parse(&self.path)? } else { Access::default() };
        change(&mut access)?;
        let text = toml::to_string(&access).map_err(|error| Error::Print(io::Error::other(error)))?;
        let text = format!("{HEADER}{text}");
        private_file::replace(&self.path, text.as_bytes())?;
        self.look_again();
        Ok(())
    }
}

fn stamp(path: &Path) -> Result<Option<Stamp>, Error> {
    use std::os::unix::fs::MetadataExt as _;

    let read = |source| program::Error::File { action: "read", path: path.into(), source };
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp {
            modified: metadata.modified().map_err(read)?,
            len: metadata.len(),
            inode: metadata.ino(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read(error).into()),
    }
}

fn parse(path: &Path) -> Result<Access, Error> {
    let text = private_file::read_public_text(path)?;
    toml::from_str(&text).map_err(|source| Error::AccessFile { path: path.into(), source: Box::new(source) })
}

/// For how long a look at the file is good. Whoever edits it with the server's own commands has it looked at at once.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const NAME: &str = "clients.toml";
const HEADER: &str = "# Written by `server allow` and `server revoke`, which do not keep comments.\n";
