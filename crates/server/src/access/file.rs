//! The file of allowed clients. It is read again when it has changed, and written as a whole.
//!
//! Without the file no client was ever allowed or revoked, which permits more: messages from this machine are
//! accepted, and pre-shared keys have the usual rights. It therefore matters whether the file does not exist *yet*.
//! A second file, the marker, records that it existed, and outlives the process. A marker without the file means
//! that the list is lost, and no client is let in: otherwise moving the file away, by mistake or not, would let
//! every revoked key in again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cli_support::home::Home;
use cli_support::private_file;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::access::clients::Access;
use crate::access::invite::{Invite, InviteUse};
use crate::access::invite_file::InviteFile;
use crate::access::invites::Invites;
use crate::access::snapshot::Snapshot;
use crate::access::stamp::Stamp;
use crate::audit::Audit;
use crate::error::Error;

/// `clients.toml` of a home.
#[derive(Debug)]
pub struct AccessFile {
    home: Home,
    path: PathBuf,
    marker: PathBuf,
    cached: Mutex<Cached>,
    invites: InviteFile,
    audit: Audit,
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

impl AccessFile {
    /// The file in `home`.
    #[must_use]
    pub fn new(home: Home) -> Self {
        let (path, marker) = (home.file(NAME), home.file(MARKER));
        let (invites, audit) = (InviteFile::new(&home), Audit::of(&home));
        Self { path, marker, invites, audit, home, cached: Mutex::default() }
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
        let Some(stamp) = Stamp::of(&self.path)? else {
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

    /// Has the next reading check the files again, however recent the last check was.
    pub(crate) fn invalidate(&self) {
        self.cached().checked_at = None;
        self.invites.invalidate();
    }

    /// Changes the file. A running server sees the change with its next connection.
    ///
    /// # Errors
    /// Those of `change`, those of [`AccessFile::read`], and [`Error::NameInvited`].
    pub fn edit<T>(&self, change: impl FnOnce(&mut Access) -> Result<T, Error>) -> Result<T, Error> {
        let mut locked = self.lock()?;
        let before = locked.access.clone();
        let changed = change(&mut locked.access)?;
        locked.invites.check_names(&before, &locked.access, Timestamp::now())?;
        locked.store_access()?;
        Ok(changed)
    }

    /// Locks the files of clients and of invites, and reads both. Keys that have used an invite and were not written to
    /// the file of clients, since the server ended just then, are written first.
    ///
    /// # Errors
    /// Those of [`AccessFile::read`] and [`InviteFile::read`].
    pub(super) fn lock(&self) -> Result<Locked<'_>, Error> {
        let lock = self.home.lock(NAME)?;
        // Another process may have changed them since they were last looked at.
        self.invalidate();
        let access = match Stamp::of(&self.path)? {
            Some(_) => parse(&self.path)?,
            None if self.is_marked()? => return Err(self.gone()),
            None => Access::default(),
        };
        let mut locked = Locked { file: self, access, invites: self.invites.load()?, _lock: lock };
        locked.complete(Timestamp::now())?;
        Ok(locked)
    }

    /// Writes the keys that have used an invite to the file of clients, where that was not done.
    ///
    /// # Errors
    /// Those of [`AccessFile::read`] and [`InviteFile::read`].
    pub fn complete_invites(&self) -> Result<(), Error> {
        // The lock needs a home, which this must not make.
        if self.invites.read()?.taken().next().is_some() {
            self.lock()?;
        }
        Ok(())
    }

    /// The file of invites.
    #[must_use]
    pub fn invites(&self) -> &InviteFile {
        &self.invites
    }

    /// The audit log of the home.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Returns whether the marker exists.
    fn is_marked(&self) -> Result<bool, Error> {
        Ok(!private_file::is_absent(&self.marker)?)
    }

    /// Creates the marker. A failure is only logged, since a home that is not writable cannot lose its file either.
    fn mark(&self) {
        // Looking costs less than a file that is synced in vain.
        if matches!(self.is_marked(), Ok(true)) {
            return;
        }
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

/// The lists of clients and of invites while nobody else changes them.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    file: &'a AccessFile,
    pub(super) access: Access,
    pub(super) invites: Invites,
    _lock: File,
}

impl Locked<'_> {
    /// Writes the list of clients: it is on the disk when this returns.
    pub(super) fn store_access(&self) -> Result<(), Error> {
        let text = toml::to_string(&self.access).map_err(|error| Error::Print(io::Error::other(error)))?;
        let text = format!("{HEADER}{text}");
        private_file::replace_long(&self.file.path, text.as_bytes())?;
        self.file.mark();
        self.file.invalidate();
        Ok(())
    }

    /// Writes the list of invites: it is on the disk when this returns.
    pub(super) fn store_invites(&self) -> Result<(), Error> {
        self.file.invites.store(&self.invites)
    }

    /// Adds the keys that have used an invite to the list of clients, where they are missing.
    fn complete(&mut self, now: Timestamp) -> Result<(), Error> {
        let taken: Vec<(Invite, InviteUse)> =
            self.invites.taken().map(|(invite, used)| (invite.clone(), used.clone())).collect();
        let (mut new_clients, mut is_finished) = (Vec::new(), false);
        for (Invite { id, name, grant, .. }, used) in taken {
            match self.access.enrol(used.key, id, &name, &grant, now) {
                Ok(is_new) => {
                    new_clients.extend(is_new.then(|| (used.clone(), id, name)));
                    is_finished = true;
                    self.invites.finish(id, used);
                }
                Err(error) => {
                    let key = used.key.to_string();
                    tracing::error!(%error, id = id.to_string(), key, "a key that has used an invite cannot be enrolled");
                }
            }
        }
        if !new_clients.is_empty() {
            self.store_access()?;
        }
        new_clients.iter().for_each(|(used, id, name)| used.log(*id, name, &self.file.audit));
        if is_finished {
            self.store_invites()?;
        }
        Ok(())
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
