//! The audit log: who was let in and who was not, who changed what clients may do, and when a server ran. AUDIT.md describes it.
//!
//! The home names the file, so that a server and the commands of its home, which are other processes, write to the same
//! one, each line in one piece. A server writes from a thread of its own: a slow disk holds nobody up.

mod event;
mod file;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cli_support::home::Home;
use cli_support::log_limit::LogLimit;
use cli_support::private_file;

pub(crate) use self::event::Event;
use self::file::AuditFile;
use self::writer::Writer;
use crate::error::Error;

/// The audit log of a home. Clones write to the same file. Where the home names none, nothing is written.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    home: Home,
    /// Opened with the first event. `None` where there is no file, or it cannot be opened.
    writer: OnceLock<Option<Writer>>,
    /// For a file that was named only while the server ran.
    begun: OnceLock<Writer>,
    /// The reason why the file could not be opened.
    problem: Mutex<Option<Error>>,
    limits: Limits,
}

/// Limits of events that strangers can cause, or clients by asking over and over. Each kind has its own, so that none who
/// causes many of one has those of another left out.
#[derive(Debug)]
struct Limits {
    failed: LogLimit,
    refused: LogLimit,
    stream_refused: LogLimit,
    invite_refused: LogLimit,
    anonymous: LogLimit,
}

impl Audit {
    /// The audit log that `home` names.
    #[must_use]
    pub fn of(home: &Home) -> Self {
        let most = || LogLimit::new(MOST_OF_A_KIND);
        let (stream_refused, invite_refused) = (most(), most());
        let limits =
            Limits { failed: most(), refused: most(), stream_refused, invite_refused, anonymous: most() };
        Self(Arc::new(Inner {
            home: home.clone(),
            writer: OnceLock::new(),
            begun: OnceLock::new(),
            problem: Mutex::new(None),
            limits,
        }))
    }

    /// Has the home name this file, or none.
    ///
    /// # Errors
    /// [`Error::Program`] that names a file.
    pub fn name(home: &Home, path: Option<&Path>) -> Result<(), Error> {
        let pointer = home.file(POINTER);
        match path {
            Some(path) => {
                let path =
                    std::path::absolute(path).map_err(|source| Error::Audit { path: path.into(), source })?;
                home.create()?;
                private_file::replace(&pointer, format!("{}\n", path.display()).as_bytes())?;
            }
            None => match std::fs::remove_file(&pointer) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Audit { path: pointer, source: error });
                }
                _ => {}
            },
        }
        Ok(())
    }

    /// Opens the file now, before anything is done that has to be noted.
    ///
    /// # Errors
    /// [`Error::Audit`] where it cannot be opened, and [`Error::Program`] where the home does not say which it is.
    pub fn ready(&self) -> Result<(), Error> {
        self.writer();
        self.problem()
    }

    /// Goes on with this file, or with a new one of the same name. Where there was none before, it begins with this one.
    ///
    /// # Errors
    /// [`Error::Audit`]; the file that was open stays in use then, and the home names it as before.
    pub(crate) fn reopen(&self, given: Option<&Path>) -> Result<(), Error> {
        let before = self.writer();
        let path = match given {
            Some(path) => {
                std::path::absolute(path).map_err(|source| Error::Audit { path: path.into(), source })?
            }
            None if before.is_none() => return Ok(()),
            None => match named(&self.0.home)? {
                Some(path) => path,
                None => return Ok(()),
            },
        };
        let file = AuditFile::open(&path)?;
        if given.is_some() {
            Self::name(&self.0.home, Some(&path))?;
        }
        match before {
            Some(writer) => writer.replace(file),
            None => drop(self.0.begun.set(Writer::start(file).map_err(Error::Runtime)?)),
        }
        Ok(())
    }

    /// Notes an event. It never waits for the disk.
    pub(crate) fn note(&self, event: &Event<'_>) {
        if let Some(writer) = self.writer() {
            let limits = &self.0.limits;
            let may = match event {
                Event::Failed { .. } => limits.failed.admits(),
                Event::Refused { .. } => limits.refused.admits(),
                Event::StreamRefused { .. } => limits.stream_refused.admits(),
                Event::InviteRefused { .. } => limits.invite_refused.admits(),
                Event::Admitted { identity, .. } if *identity == ANONYMOUS => limits.anonymous.admits(),
                _ => true,
            };
            if may {
                writer.note(event);
            }
        }
    }

    /// Notes how many events were left out since the last call, since strangers caused too many of them.
    pub(crate) fn note_left_out(&self) {
        let limits = &self.0.limits;
        for (of, limit) in [
            ("failed", &limits.failed),
            ("refused", &limits.refused),
            ("stream_refused", &limits.stream_refused),
            ("invite_refused", &limits.invite_refused),
            ("admitted", &limits.anonymous),
        ] {
            match limit.take_suppressed() {
                0 => {}
                count => self.note(&Event::LeftOut { of, count }),
            }
        }
    }

    /// Waits until all events are written, but only some seconds.
    ///
    /// # Errors
    /// [`Error::NotNoted`] where the file could not be opened, [`Error::AuditIncomplete`] where events are missing in it.
    pub fn finish(&self) -> Result<(), Error> {
        let begun = self.0.begun.get();
        let Some(writer) = begun.or_else(|| self.0.writer.get()?.as_ref()) else {
            return self.problem().map_err(|error| Error::NotNoted(Box::new(error)));
        };
        match writer.finish() {
            0 => Ok(()),
            missing => Err(Error::AuditIncomplete { path: writer.path(), missing }),
        }
    }

    fn writer(&self) -> Option<&Writer> {
        let open = || -> Result<Option<Writer>, Error> {
            let Some(path) = named(&self.0.home)? else { return Ok(None) };
            Writer::start(AuditFile::open(&path)?).map(Some).map_err(Error::Runtime)
        };
        let opened = self.0.writer.get_or_init(|| {
            open().unwrap_or_else(|error| {
                *self.0.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            })
        });
        self.0.begun.get().or(opened.as_ref())
    }

    /// The reason why the file could not be opened, once.
    fn problem(&self) -> Result<(), Error> {
        match self.0.problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The file that a home names.
fn named(home: &Home) -> Result<Option<PathBuf>, Error> {
    let pointer = home.file(POINTER);
    if !pointer.try_exists().is_ok_and(|exists| !exists) {
        let text = private_file::read_public_text(&pointer)?;
        return Ok(Some(text.trim_end_matches('\n').into()));
    }
    Ok(None)
}

/// How a client without an identity is named.
const ANONYMOUS: &str = "anonymous";
/// The file of a home that names its audit log.
const POINTER: &str = "audit-log";
/// Most events of a kind that strangers can cause, in ten seconds.
const MOST_OF_A_KIND: u32 = 300;

#[cfg(test)]
mod tests;
