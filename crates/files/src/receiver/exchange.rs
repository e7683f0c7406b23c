//! The state of a receiver while entries come, and its answers.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wire_protocol::message::{FileTime, FilesCode, FilesMessage, TransferOptions};

use crate::cause::Cause;
use crate::claims::{Claim, Claimant};
use crate::control::{Control, Room};
use crate::error::Error;
use crate::event::{Event, Side};
use crate::framing::{MessageWriter, Output};
use crate::journal::Hash;
use crate::receiver::commit::{Group, Outcome, Pending, Stored};
use crate::receiver::goals::Goals;

/// Says of an offer's path, and whether it is a directory, whether it is wanted.
pub type OfferFilter = Box<dyn FnMut(&[u8], bool) -> bool + Send>;

/// A receiver at work.
pub(super) struct Exchange<'a, W> {
    pub(super) writer: &'a MessageWriter<W>,
    pub(super) control: &'a dyn Control,
    pub(super) events: &'a mut dyn FnMut(Event),
    pub(super) goals: Goals,
    pub(super) options: TransferOptions,
    /// Whether a sender in a dry run knows that it is one.
    pub(super) tells_dry_run: bool,
    pub(super) room: Arc<dyn Room>,
    pub(super) claims: Claimant,
    pub(super) owner: Box<[u8]>,
    pub(super) roots: Option<BTreeSet<Box<[u8]>>>,
    pub(super) filter: Option<OfferFilter>,
    /// Directories that the filter has left out, each in the one before it, with their permissions: what is in them may not be left out.
    pub(super) declined: Vec<(Arc<PathBuf>, u16)>,
    pub(super) sink: Option<Box<dyn Write + Send>>,
    /// Whether a file has been taken for the sink.
    pub(super) is_sink_taken: bool,
    pub(super) only_made: bool,
    /// Whether it is told what becomes of directories: on another stream than the first they come for what is in them.
    pub(super) tells_directories: bool,
    /// How many offers there were.
    pub(super) offers: u32,
    /// Whether these are all.
    pub(super) has_all: bool,
    /// Files whose content is to come.
    pub(super) wanted: HashMap<u32, Wanted>,
    pub(super) group: Group,
    /// How long it still waits for other processes.
    pub(super) patience: Duration,
}

/// A file whose content is to come.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) path: Arc<PathBuf>,
    pub(super) size: Option<u64>,
    /// Bytes of it that are no holes, where the sender knows; at most the size.
    pub(super) allocated: u64,
    pub(super) source: Hash,
    pub(super) sha256: Option<Hash>,
    pub(super) mode: u16,
    pub(super) modified: FileTime,
    /// What was said of chunks that are there.
    pub(super) held: u32,
    pub(super) compare: u32,
    /// Its place; `None` where it goes to the sink.
    pub(super) stored: Option<Stored>,
}

impl<W: Output> Exchange<'_, W> {
    /// Offers that are not answered.
    pub(super) fn unresolved(&self) -> usize {
        self.wanted.len() + self.group.len()
    }

    /// Whether the exchange is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.control.is_stopped() || self.claims.is_displaced()
    }

    /// Takes a name that is to be written to.
    pub(super) fn claim(&self, directory: (u64, u64), name: &[u8]) -> Result<Claim, FilesCode> {
        self.claims.claim(directory, name, || self.is_stopped()).ok_or(FilesCode::Busy)
    }

    pub(super) fn say(&self, message: &FilesMessage) -> Result<(), Error> {
        self.writer.say(message)
    }

    /// An entry is there already.
    pub(super) fn have(
        &mut self,
        number: u32,
        path: Arc<PathBuf>,
        size: u64,
        sha256: Option<Hash>,
    ) -> Result<(), Error> {
        self.say(&FilesMessage::Have { number, sha256 })?;
        (self.events)(Event::Unchanged { path, size, sha256 });
        Ok(())
    }

    /// An entry is not stored.
    pub(super) fn reject(
        &mut self,
        number: u32,
        path: Arc<PathBuf>,
        size: u64,
        cause: impl Into<Cause>,
        side: Side,
    ) -> Result<(), Error> {
        let Cause { code, system } = cause.into();
        self.say(&FilesMessage::Rejected { number, code })?;
        (self.events)(Event::Failed { path, size, code, system, side });
        Ok(())
    }

    /// An entry is complete, and answered with the others of its group.
    pub(super) fn complete(&mut self, pending: Pending) -> Result<(), Error> {
        self.group.push(pending);
        if self.group.is_full() { self.commit() } else { Ok(()) }
    }

    /// Brings all that is complete to the disk, and says so.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        if self.group.len() == 0 {
            return Ok(());
        }
        let above = self.goals.sync().err().map(Cause::from);
        for outcome in self.group.commit(above) {
            self.tell(outcome)?;
        }
        Ok(())
    }

    /// As [`Exchange::commit`], and brings the directories to the disk that were made for what comes now: it takes its time, and what a
    /// crash leaves of it would be lost with them.
    pub(super) fn commit_with_directories(&mut self) -> Result<(), Error> {
        self.commit()?;
        // What fails is tried again, and told, once the file is complete.
        let _ = self.goals.sync();
        Ok(())
    }

    /// Says what has become of an entry.
    pub(super) fn tell(&mut self, outcome: Outcome) -> Result<(), Error> {
        let Outcome { number, path, size, sha256, is_told, result } = outcome;
        match result {
            Ok(_) if !is_told => self.say(&FilesMessage::Done { number, sha256, stored_as: None }),
            Err(Cause { code, .. }) if !is_told => self.say(&FilesMessage::Rejected { number, code }),
            Ok(stored_as) => {
                let told = stored_as.as_ref().map(|name| name.clone().into_boxed_slice());
                self.say(&FilesMessage::Done { number, sha256, stored_as: told })?;
                let stored_as = stored_as.map(into_path);
                (self.events)(Event::Done { path, size, stored_as, sha256 });
                Ok(())
            }
            Err(cause) => self.reject(number, path, size, cause, Side::Receiver),
        }
    }
}

/// A path in any bytes.
pub(super) fn into_path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec(bytes).into()
}

/// The bytes of a path.
pub(super) fn bytes_of(path: &std::path::Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes()
}
