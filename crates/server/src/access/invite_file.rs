//! The file of invites, which only its owner may read. It is written as a whole, under the lock of the file of clients.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cli_support::home::Home;
use cli_support::private_file;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::access::invites::Invites;
use crate::access::stamp::Stamp;
use crate::error::Error;

/// `invites.toml` of a home.
#[derive(Debug)]
pub struct InviteFile {
    path: PathBuf,
    cached: Mutex<Cached>,
}

/// The result of the last reading.
#[derive(Debug, Default)]
struct Cached {
    /// The state of the file, and its content.
    read: Option<(Stamp, Arc<Invites>)>,
    /// The time at which the file was last checked.
    checked_at: Option<Instant>,
    /// The reason why the file cannot be used, which has been logged.
    unusable: Option<String>,
}

impl InviteFile {
    pub(super) fn new(home: &Home) -> Self {
        Self { path: home.file(NAME), cached: Mutex::default() }
    }

    /// Returns the file's current content, which is empty where there is no file: without it no invite can be used.
    ///
    /// # Errors
    /// [`Error::InviteFile`] when the file is not valid, [`Error::Program`] when it cannot be read, or another user
    /// could read it or could have written it.
    pub fn read(&self) -> Result<Arc<Invites>, Error> {
        let mut cached = self.cached();
        if let Cached { read, checked_at: Some(moment), .. } = &*cached
            && moment.elapsed() < VALID_FOR
        {
            return Ok(read.as_ref().map(|(_, invites)| Arc::clone(invites)).unwrap_or_default());
        }
        cached.checked_at = None;
        let stamp = Stamp::of(&self.path)?;
        cached.read = match (stamp, cached.read.take()) {
            (None, _) => None,
            (Some(stamp), Some((known, invites))) if known == stamp => Some((stamp, invites)),
            (Some(stamp), _) => Some((stamp, Arc::new(self.load()?))),
        };
        cached.checked_at = Some(Instant::now());
        Ok(cached.read.as_ref().map(|(_, invites)| Arc::clone(invites)).unwrap_or_default())
    }

    /// Reads the file as [`InviteFile::read`] does, for a running server: it logs once that the file cannot be used. No
    /// invite can be used then.
    pub(super) fn consult(&self) -> Arc<Invites> {
        match self.read() {
            Ok(invites) => {
                if self.cached().unusable.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the file of invites can be read again");
                }
                invites
            }
            Err(error) => {
                let said = error.to_string();
                let mut cached = self.cached();
                if cached.unusable.as_ref() != Some(&said) {
                    tracing::error!(%error, "no invite can be used until this is mended");
                    cached.unusable = Some(said);
                }
                Arc::default()
            }
        }
    }

    /// Reads the file, whatever was read before.
    pub(super) fn load(&self) -> Result<Invites, Error> {
        if private_file::is_absent(&self.path)? {
            return Ok(Invites::default());
        }
        let text = private_file::read_long_text(&self.path)?;
        toml::from_str(&text)
            .map_err(|source| Error::InviteFile { path: self.path.clone(), source: Box::new(source) })
    }

    /// Writes the file: it is on the disk when this returns.
    pub(super) fn store(&self, invites: &Invites) -> Result<(), Error> {
        let text = toml::to_string(invites).map_err(|error| Error::Print(std::io::Error::other(error)))?;
        let text = Zeroizing::new(format!("{HEADER}{}", *Zeroizing::new(text)));
        private_file::replace(&self.path, text.as_bytes())?;
        self.invalidate();
        Ok(())
    }

    /// Has the next reading check the file again, however recent the last check was.
    pub(super) fn invalidate(&self) {
        self.cached().checked_at = None;
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time for which a check of the file stays valid. The server's own commands have it checked at once.
const VALID_FOR: Duration = Duration::from_millis(100);
const NAME: &str = "invites.toml";
const HEADER: &str = "# Written by `server invite` and by running servers, which do not keep comments.\n";
