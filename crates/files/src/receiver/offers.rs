//! Answers offers: what is there already, what is made at once, and the files whose content is wanted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire_protocol::message::{
    Entry, EntryKind, Existing, FilesCode, FilesMessage, MAX_ENTRIES, MAX_HASHES, MAX_LINK_LEN,
    MAX_OUTSTANDING, TransferOptions,
};

use crate::cause::Cause;
use crate::chunks::chunk_len;
use crate::control::{charge, named_len};
use crate::directory::Kind;
use crate::error::Error;
use crate::event::{Event, Side};
use crate::failure::Failure;
use crate::framing::Output;
use crate::partial::place::PartialPlace;
use crate::partial::resume::Leftover;
use crate::path::part_name;
use crate::receiver::commit::{Pending, Stored, first_free};
use crate::receiver::exchange::{Exchange, Wanted, bytes_of, into_path};
use crate::receiver::existing::{OfferedFile, Verdict, judge_file, judge_link};
use crate::receiver::goals::Goal;
use crate::receiver::reservation::Reservation;
use crate::receiver::space::check_offer;

/// An offer that has to be answered.
struct Offered {
    number: u32,
    path: Arc<PathBuf>,
    entry: Entry,
}

impl<W: Output> Exchange<'_, W> {
    /// Answers an offer.
    ///
    /// # Errors
    /// What ends the exchange.
    pub(super) fn offer(&mut self, mut entry: Entry) -> Result<(), Error> {
        if self.has_all || self.offers >= MAX_ENTRIES {
            return Err(Error::Protocol("there are more offers than there may be"));
        }
        if self.unresolved() >= MAX_OUTSTANDING {
            return Err(Error::Protocol("more offers are not answered than may be"));
        }
        if entry.modified.nanoseconds > 999_999_999 {
            return Err(Error::Protocol("a time is none"));
        }
        self.control.named(named_len(&entry))?;
        let number = self.offers;
        self.offers += 1;
        let path = Arc::new(into_path(std::mem::take(&mut entry.path).into_vec()));
        let (size, is_directory) = match &entry.kind {
            EntryKind::File { size, .. } => (size.unwrap_or(0), false),
            EntryKind::Directory => (0, true),
            EntryKind::Symlink { .. } => (0, false),
        };
        if !self.is_asked_for(bytes_of(&path)) {
            return self.reject(number, path, size, FilesCode::BadPath, Side::Receiver);
        }
        if let Some(filter) = &mut self.filter
            && !filter(bytes_of(&path), is_directory)
        {
            if is_directory && self.goals.path(bytes_of(&path)).is_ok() {
                self.declined.retain(|(above, _)| *above != path && path.starts_with(&**above));
                self.declined.push((path, entry.mode));
            }
            return self.say(&FilesMessage::Have { number, sha256: None });
        }
        let is_told = !is_directory || self.tells_directories;
        if is_told {
            (self.events)(Event::Found { path: Arc::clone(&path), size });
        }
        self.make_declined(&path);
        let offered = Offered { number, path: Arc::clone(&path), entry };
        match self.answer(offered) {
            Ok(()) => Ok(()),
            Err(Failure::Entry(Cause { code, .. })) if !is_told => {
                self.say(&FilesMessage::Rejected { number, code })
            }
            Err(Failure::Entry(cause)) => self.reject(number, path, size, cause, Side::Receiver),
            Err(Failure::Exchange(error)) => Err(error),
        }
    }

    /// Makes the directories above an entry that the filter has left out, so that they have their permissions before what is in them. What
    /// fails the entry itself tells.
    fn make_declined(&mut self, path: &Path) {
        let declined = std::mem::take(&mut self.declined);
        if !self.options.preserve || self.options.dry_run || self.sink.is_some() {
            return;
        }
        for (above, mode) in declined.iter().filter(|(above, _)| path.starts_with(&**above)) {
            let made = self.goals.path(bytes_of(above)).map(|above| self.goals.make(&above, mode | 0o700));
            if !matches!(made, Ok(Ok(()))) {
                return;
            }
        }
    }

    pub(super) fn is_asked_for(&self, path: &[u8]) -> bool {
        let Some(roots) = &self.roots else { return true };
        path.split(|byte| *byte == b'/').next().is_some_and(|root| roots.contains(root))
    }

    fn answer(&mut self, offered: Offered) -> Result<(), Failure> {
        match &offered.entry.kind {
            EntryKind::File { .. } if self.sink.is_some() => self.answer_for_sink(offered),
            _ if self.sink.is_some() => Err(FilesCode::IsDirectory.into()),
            EntryKind::File { .. } => self.answer_file(offered),
            EntryKind::Directory => self.answer_directory(&offered),
            EntryKind::Symlink { .. } => self.answer_link(&offered),
        }
    }

    fn goal(&mut self, offered: &Offered) -> Result<Goal, Cause> {
        let path = self.goals.path(bytes_of(&offered.path))?;
        self.goals.goal(&path)
    }

    fn answer_directory(&mut self, offered: &Offered) -> Result<(), Failure> {
        let path = self.goals.path(bytes_of(&offered.path))?;
        let is_told = self.tells_directories;
        let Goal { parent: Some(parent), name } = self.goals.goal(&path)? else {
            return Ok(self.would_make(offered, is_told)?);
        };
        // Nobody is to read in it before it has its permissions who cannot read in it then.
        let mode = if self.options.preserve { offered.entry.mode | 0o700 } else { 0o777 };
        let mut there = parent.directory.stat(&name).map_err(Cause::from)?;
        if there.is_none() {
            if self.options.dry_run {
                return Ok(self.would_make(offered, is_told)?);
            }
            let mut reservation = Reservation::new(&self.room, charge(0))?;
            match self.goals.make_one(&parent, &name, mode, !is_told) {
                // Another stream of the transfer has made it for what is in it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    there =
                        Some(parent.directory.stat(&name).map_err(Cause::from)?.ok_or(FilesCode::NotFound)?);
                }
                Err(error) => return Err(Cause::from(error).into()),
                Ok(()) => reservation.spend(u64::MAX),
            }
        }
        if let Some(there) = there {
            if there.kind != Kind::Directory {
                return Err(FilesCode::Exists.into());
            }
            let identity = (there.dev, there.ino);
            let is_new = self.goals.is_made_above(identity);
            let is_ours = is_told && self.goals.was_made_above(identity);
            let is_older = is_told && !self.only_made && !is_new;
            if self.options.preserve && (is_new || is_older) && !self.options.dry_run {
                // A stream of another process may have made it. What cannot be done is left, as it is at the end.
                let _ = self.goals.restrict(&path, mode, is_older);
            }
            if !is_ours {
                let (number, path) = (offered.number, &offered.path);
                let said = match is_told {
                    true => self.have(number, Arc::clone(path), 0, None),
                    false => self.say(&FilesMessage::Have { number, sha256: None }),
                };
                return Ok(said?);
            }
        }
        if self.only_made {
            self.goals.remember(&path);
        }
        let made = Pending::without_content(offered.number, &offered.path, parent, None);
        Ok(self.complete(Pending { is_told, ..made })?)
    }

    /// In a dry run: a directory or a link would be made.
    fn would_make(&mut self, offered: &Offered, is_told: bool) -> Result<(), Error> {
        let number = offered.number;
        self.say(&if self.tells_dry_run {
            FilesMessage::Done { number, sha256: None, stored_as: None }
        } else {
            FilesMessage::Have { number, sha256: None }
        })?;
        if is_told {
            (self.events)(Event::Would { path: Arc::clone(&offered.path), size: 0 });
        }
        Ok(())
    }

    fn answer_link(&mut self, offered: &Offered) -> Result<(), Failure> {
        let EntryKind::Symlink { target } = &offered.entry.kind else {
            return Err(FilesCode::BadPath.into());
        };
        if target.is_empty() || target.len() > MAX_LINK_LEN || target.contains(&0) {
            return Err(FilesCode::BadPath.into());
        }
        let Goal { parent: Some(parent), name } = self.goal(offered)? else {
            return Ok(self.would_make(offered, true)?);
        };
        let claim = self.claim(parent.identity, &name)?;
        let judged = judge_link(&parent.directory, &name, target, self.options.existing);
        let replaced = match judged.map_err(Cause::from)?? {
            Verdict::Same(_) => return Ok(self.have(offered.number, Arc::clone(&offered.path), 0, None)?),
            Verdict::Store { replaced } => replaced,
        };
        if self.options.dry_run {
            return Ok(self.would_make(offered, true)?);
        }
        let mut reservation = Reservation::new(&self.room, charge(0))?;
        let made = parent.directory.make_link(target, &name);
        let stored_as = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.options.existing {
                Existing::Refuse => return Err(FilesCode::Exists.into()),
                Existing::Rename => first_free(&name, |name| parent.directory.make_link(target, name))?,
                Existing::Replace => {
                    let part = part_name(&self.owner, &name);
                    let replace = || {
                        // What is left there of another attempt was of a file, or of this link.
                        if parent.directory.stat(&part)?.is_some() {
                            parent.directory.remove(&part)?;
                        }
                        parent.directory.make_link(target, &part)?;
                        let renamed = parent.directory.rename(&part, &name);
                        if renamed.is_err() {
                            parent.directory.remove(&part)?;
                        }
                        renamed
                    };
                    replace().map_err(Cause::from)?;
                    reservation.release(replaced);
                    None
                }
            },
            made => made.map(|()| None).map_err(Cause::from)?,
        };
        reservation.spend(u64::MAX);
        drop(claim);
        if self.options.preserve {
            // Not all file systems have such times, and nothing compares them.
            let name = stored_as.as_ref().unwrap_or(&name);
            let _ = parent.directory.set_link_time(name, offered.entry.modified);
        }
        Ok(self.complete(Pending::without_content(offered.number, &offered.path, parent, stored_as))?)
    }

    fn answer_for_sink(&mut self, offered: Offered) -> Result<(), Failure> {
        if std::mem::replace(&mut self.is_sink_taken, true) {
            return Err(FilesCode::Exists.into());
        }
        let EntryKind::File { size, source, sha256, .. } = offered.entry.kind else {
            return Err(FilesCode::IsDirectory.into());
        };
        if self.options.dry_run {
            return Ok(self.would_move(offered.number, offered.path, size, 0)?);
        }
        self.say(&FilesMessage::Want { number: offered.number, held: 0, compare: 0 })?;
        let wanted = Wanted {
            path: offered.path,
            size,
            allocated: 0,
            source,
            sha256,
            mode: 0,
            modified: offered.entry.modified,
            held: 0,
            compare: 0,
            stored: None,
        };
        self.wanted.insert(offered.number, wanted);
        Ok(())
    }

    /// In a dry run: a file would move, but for its first `held` chunks.
    fn would_move(
        &mut self,
        number: u32,
        path: Arc<PathBuf>,
        size: Option<u64>,
        held: u32,
    ) -> Result<(), Error> {
        self.say(&if self.tells_dry_run {
            FilesMessage::Want { number, held, compare: 0 }
        } else {
            FilesMessage::Have { number, sha256: None }
        })?;
        let there = u64::from(held).saturating_mul(chunk_len(size));
        (self.events)(Event::Would { path, size: size.unwrap_or(0).saturating_sub(there) });
        Ok(())
    }

    fn answer_file(&mut self, offered: Offered) -> Result<(), Failure> {
        let EntryKind::File { size, allocated, source, sha256 } = offered.entry.kind else {
            return Err(FilesCode::IsDirectory.into());
        };
        let Offered { number, ref path, ref entry } = offered;
        let Goal { parent: Some(parent), name } = self.goal(&offered)? else {
            return Ok(self.would_move(number, offered.path, size, 0)?);
        };
        let claim = self.claim(parent.identity, &name)?;
        let file = OfferedFile { size, modified: entry.modified, sha256 };
        // To who may not read, an answer about content would tell what it is.
        let options = TransferOptions { checksum: self.options.checksum && !self.only_made, ..self.options };
        let replaced = match judge_file(&parent.directory, &name, &file, &options, self.control)? {
            Verdict::Same(sha256) => {
                if !self.options.dry_run && size.is_some_and(|size| size > chunk_len(Some(size))) {
                    PartialPlace::new(parent.directory.clone(), &self.owner, &name).remove_stale_journal();
                }
                return Ok(self.have(number, Arc::clone(path), size.unwrap_or(0), sha256)?);
            }
            Verdict::Store { replaced } => replaced,
        };
        if size.is_some_and(|size| i64::try_from(size).is_err()) {
            // No system has files of that size.
            return Err(FilesCode::NoSpace.into());
        }
        let chunk = chunk_len(size);
        let leftover = match size {
            Some(size) if size > chunk => {
                let place = PartialPlace::new(parent.directory.clone(), &self.owner, &name);
                let subject = place.subject(Some(size), chunk, source);
                let is_read_only = self.options.dry_run;
                self.outwait(&place, || Leftover::find(&place, size, chunk, subject.as_ref(), is_read_only))?
            }
            _ => None,
        };
        let there = leftover.as_ref().map_or(0, |leftover| leftover.length);
        let before = leftover.as_ref().map_or(0, |leftover| charge(leftover.length));
        let needed = charge(size.unwrap_or(0)).saturating_sub(before);
        let allocated = allocated.unwrap_or(0).min(size.unwrap_or(0));
        check_offer(&parent.directory, size.unwrap_or(0), allocated, there)?;
        let (held, compare) = leftover.as_ref().map_or((0, 0), |leftover| (leftover.held, leftover.compare));
        if self.options.dry_run {
            return Ok(self.would_move(number, offered.path, size, held)?);
        }
        let reservation = Reservation::new(&self.room, needed)?;
        self.say(&FilesMessage::Want { number, held, compare })?;
        if let Some(leftover) = leftover.filter(|leftover| leftover.compare > 0) {
            // It may take minutes, in which the sender has other files to send.
            self.writer.flush()?;
            self.tell_hashes(&leftover)?;
        }
        let wanted = Wanted {
            path: Arc::clone(path),
            size,
            allocated,
            source,
            sha256,
            mode: entry.mode,
            modified: entry.modified,
            held,
            compare,
            stored: Some(Stored { reservation, replaced, before, claim }),
        };
        self.wanted.insert(number, wanted);
        Ok(())
    }

    /// Says the hashes of chunks that may differ.
    fn tell_hashes(&self, leftover: &Leftover) -> Result<(), Error> {
        let mut hashes = Vec::new();
        let mut number = leftover.held;
        for left in (0..leftover.compare).rev() {
            if self.is_stopped() {
                return Err(Error::Stopped);
            }
            hashes.push(leftover.hash(number));
            number = number.saturating_add(1);
            if hashes.len() == MAX_HASHES || left == 0 {
                self.say(&FilesMessage::Hashes { hashes: std::mem::take(&mut hashes) })?;
            }
        }
        Ok(())
    }
}
