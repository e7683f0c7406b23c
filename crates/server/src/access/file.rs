//! The file of allowed clients. It is read again when it has changed, and written as a whole.
//!
//! Without the file no client was ever allowed or revoked, which permits more: messages from this machine are
//! accepted, and pre-shared keys have the usual rights. It therefore matters whether the file does not exist *yet*.
//! A second file, the marker, records that it existed, and outlives the process. A marker without the file means
//! that the list is lost, and no client is let in: otherwise moving the file away, by mistake or not, would let
//! every revoked key in again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cli_support::home::Home;
use cli_support::private_file;
use tokio::time::Instant;

use crate::access::clients::Access;
use crate::access::snapshot::Snapshot;
use crate::error::Error;

/// `clients.toml` of a home.
#[derive(Debug)]
pub struct AccessFile {
    home: Home,
    path: PathBuf,
    marker: PathBuf,
    cached: Mutex<Cached>,
}

/// The result of the last reading.
#[derive(Debug, Default)]
struct Cached {
    /// The state of the file, and its content.
    read: Option<(Stamp, Arc<Access>)>,
    /// The time at which the file was last found to exist.
    checked_at: Option<Instant>,
    /// Whether the marker exists, or could not be created.
    is_marked: bool,
    /// The time since when the file cannot be used, and the reason, which has been logged.
    unusable: Option<(Instant, String)>,
}

/// Distinguishes states of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
    inode: u64,
    /// The time of the last change of the inode, the only field that a change of owner or mode affects. Both decide
    /// whether the file is trusted.
    changed: (i64, i64),
}

impl AccessFile {
    /// The file in `home`.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { path: home.file(NAME), marker: home.file(MARKER), home, cached: Mutex::default() }
    }

    /// Returns the file's current content; `None` where the file has never existed.
    ///
    /// # Errors
    /// [`Error::AccessFile`] when the file is not valid, [`Error::AccessFileGone`] when it existed before,
    /// [`Error::Program`] when it cannot be read, or another user could have written it.
    pub fn read(&self) -> Result<Option<Arc<Access>>, Error> {
        self.read_into(&mut self.cached())
    }

    fn read_into(&self, cached: &mut Cached) -> Result<Option<Arc<Access>>, Error> {
        if let Cached { read: Some((_, access)), checked_at: Some(moment), .. } = &*cached
            && moment.elapsed() < VALID_FOR
        {
            return Ok(Some(Arc::clone(access)));
        }
        cached.checked_at = None;
        let Some(stamp) = stamp(&self.path)? else {
            // An earlier reading in this process counts as well, since the marker may be gone along with the file.
            return if cached.read.is_some() || self.is_marked()? { Err(self.gone()) } else { Ok(None) };
        };
        let access = match &cached.read {
            Some((known, access)) if *known == stamp => Arc::clone(access),
            _ => Arc::new(parse(&self.path)?),
        };
        cached.read = Some((stamp, Arc::clone(&access)));
        cached.checked_at = Some(Instant::now());
        Ok(Some(access))
    }

    /// Reads the file as [`AccessFile::read`] does, for a running server: it logs once that the file cannot be
    /// used, and once that it can be used again.
    pub(crate) fn consult(&self) -> Snapshot {
        let mut cached = self.cached();
        let read = self.read_into(&mut cached);
        match read {
            Ok(access) => {
                if access.is_some() && !cached.is_marked {
                    self.mark();
                    cached.is_marked = true;
                }
                if cached.unusable.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the file of allowed clients can be read again");
                }
                Snapshot::Known(access)
            }
            Err(error) => {
                let now = Instant::now();
                let said = error.to_string();
                let since = match cached.unusable.take() {
                    Some((since, known)) if known == said => since,
                    _ => {
                        tracing::error!(%error, "nobody is let in until this is mended");
                        now
                    }
                };
                // An editor may move the old file away just before it writes the new one.
                let is_lost = matches!(error, Error::AccessFileGone { .. })
                    && now.duration_since(since) >= REPLACEMENT_TIME;
                cached.unusable = Some((since, said));
                if is_lost { Snapshot::Lost } else { Snapshot::Unusable }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Has the next reading check the file again, however recent the last check was.
    pub(crate) fn invalidate(&self) {
        self.cached().checked_at = None;
    }

    /// Changes the file. A running server sees the change with its next connection.
    ///
    /// # Errors
    /// Those of `change`, and those of [`AccessFile::read`].
    pub fn edit<T>(&self, change: impl FnOnce(&mut Access) -> Result<T, Error>) -> Result<T, Error> {
        let _lock = self.home.lock(NAME)?;
        let mut access = match stamp(&self.path)? {
            Some(_) => parse(&self.path)?,
            None if self.is_marked()? => return Err(self.gone()),
            None => Access::default(),
        };
        let changed = change(&mut access)?;
        let text = toml::to_string(&access).map_err(|error| Error::Print(io::Error::other(error)))?;
        let text = format!("{HEADER}{text}");
        private_file::replace(&self.path, text.as_bytes())?;
        self.mark();
        self.invalidate();
        Ok(changed)
    }

    /// Returns whether the marker exists.
    fn is_marked(&self) -> Result<bool, Error> {
        Ok(!private_file::is_absent(&self.marker)?)
    }

    /// Creates the marker. A failure is only logged, since a home that is not writable cannot lose its file either.
    fn mark(&self) {
        match private_file::create_new(&self.marker, MARKER_TEXT.as_bytes()) {
            Ok(()) | Err(cli_support::Error::Exists { .. }) => {}
            Err(error) => {
                tracing::debug!(%error, "it cannot be noted that there is a file of allowed clients");
            }
        }
    }

    fn gone(&self) -> Error {
        Error::AccessFileGone { path: self.path.clone(), marker: self.marker.clone() }
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the file; `None` where it certainly does not exist.
fn stamp(path: &Path) -> Result<Option<Stamp>, Error> {
    use std::os::unix::fs::MetadataExt as _;

    let read = |source| cli_support::Error::File { action: "read", path: path.into(), source };
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp {
            modified: metadata.modified().map_err(read)?,
            len: metadata.len(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })),
        Err(_) if private_file::is_absent(path)? => Ok(None),
        Err(error) => Err(read(error).into()),
    }
}

fn parse(path: &Path) -> Result<Access, Error> {
    let text = private_file::read_public_text(path)?;
    toml::from_str(&text).map_err(|source| Error::AccessFile { path: path.into(), source: Box::new(source) })
}

/// Time for which a check of the file stays valid. The server's own commands have it checked at once.
const VALID_FOR: Duration = Duration::from_millis(100);
/// Time within which a missing file may come back, as while an editor replaces it.
const REPLACEMENT_TIME: Duration = Duration::from_secs(1);
const NAME: &str = "clients.toml";
const MARKER: &str = "clients.toml.known";
const HEADER: &str = "# Written by `server allow` and `server revoke`, which do not keep comments.\n";
const MARKER_TEXT: &str = "\
There is a clients.toml in this home, which says who was allowed and who was revoked. Should it be gone, the server
lets nobody in until it is back. To begin anew without it, remove this file too.
";
