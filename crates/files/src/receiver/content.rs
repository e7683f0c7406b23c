//! The content of a file, from Begin to End or Abandon: written as it comes, and checked chunk by chunk.

use std::io::Write;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wire_protocol::message::{FilesCode, FilesMessage};

use crate::cause::Cause;
use crate::control::{Control, charge};
use crate::error::Error;
use crate::event::{Event, Side};
use crate::failure::Failure;
use crate::framing::{Input, MessageReader, Output};
use crate::journal::Hash;
use crate::partial::PartialFile;
use crate::partial::place::PartialPlace;
use crate::receiver::commit::{Outcome, Pending, PendingFile, Stored};
use crate::receiver::exchange::{Exchange, Wanted, bytes_of};
use crate::receiver::goals::Parent;
use crate::receiver::progress::Progress;
use crate::receiver::space::check_space;

/// Where content goes.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Target {
    /// A file, in its directory and under its name.
    File { partial: PartialFile, stored: Stored, parent: Arc<Parent>, name: Vec<u8> },
    /// The output for a single file.
    Sink { output: Box<dyn Write + Send>, sha256: Option<Sha256> },
}

/// How content has ended.
enum Ended {
    /// With End; the SHA-256 is the sender's.
    Whole(Option<Hash>),
    /// With Abandon.
    Abandoned(FilesCode),
    /// It was not wanted any more.
    Rejected,
}

impl Target {
    fn write(&mut self, pieces: &[&[u8]]) -> Result<(), Failure> {
        match self {
            Self::File { partial, .. } => partial.write(pieces).map_err(Failure::of_disk),
            Self::Sink { output, sha256 } => {
                for bytes in pieces {
                    if let Some(sha256) = sha256 {
                        sha256.update(bytes);
                    }
                    output.write_all(bytes).map_err(Error::Output)?;
                }
                Ok(())
            }
        }
    }

    fn hole(&mut self, mut length: u64, is_stream: bool) -> Result<(), Failure> {
        match self {
            Self::File { partial, .. } if !is_stream => partial.hole(length).map_err(Failure::of_disk),
            // Each chunk of a stream takes memory, so that it has to take room as well.
            Self::File { .. } | Self::Sink { .. } => {
                let zeros = [0; 64 * 1024];
                while length > 0 {
                    let piece = usize::try_from(length).unwrap_or(usize::MAX).min(zeros.len());
                    self.write(&[&zeros[..piece]])?;
                    length -= u64::try_from(piece).unwrap_or(length);
                }
                Ok(())
            }
        }
    }

    fn end_chunk(&mut self, hash: &Hash) -> Result<(), Failure> {
        match self {
            Self::File { partial, .. } => partial.end_chunk(hash).map_err(Failure::of_disk),
            Self::Sink { .. } => Ok(()),
        }
    }

    /// Looks whether there is room for the rest behind `position`, where its size is known.
    fn check_space(&self, wanted: &Wanted, position: u64) -> Result<(), Failure> {
        match (self, wanted.size) {
            (Self::File { partial, parent, .. }, Some(size)) if size > position => {
                Ok(check_space(&parent.directory, partial, size, wanted.allocated)?)
            }
            _ => Ok(()),
        }
    }

    /// Passes over a chunk that is there, and gives its hash.
    fn pass(&mut self, chunk_len: u64, size: u64, number: u32, length: u64) -> Result<Hash, Failure> {
        let Self::File { partial, .. } = self else { return Err(FilesCode::Io.into()) };
        let passed = partial.hash_chunk(chunk_len, size, number);
        let passed = passed.and_then(|hash| partial.pass(length, &hash).map(|()| hash));
        passed.map_err(Failure::of_disk)
    }
}

impl<W: Output> Exchange<'_, W> {
    /// Receives the content of a file that was wanted.
    ///
    /// # Errors
    /// What ends the exchange. What has come until then can be gone on with.
    pub(super) fn content<R: Input>(
        &mut self,
        reader: &mut MessageReader<R>,
        number: u32,
    ) -> Result<(), Error> {
        let Some(mut wanted) = self.wanted.remove(&number) else {
            return Err(Error::Protocol("content of a file comes that is not wanted"));
        };
        let progress = Progress::new(wanted.size, wanted.held, wanted.compare);
        if wanted.size.is_none_or(|size| size > progress.chunk_len) {
            // It takes its time, and the answers to what came before it do not wait for that.
            self.commit_with_directories()?;
            self.writer.flush()?;
            self.tell_start(&wanted, &progress);
        }
        let mut receipt = Receipt { number, progress, target: None, has_failed: false };
        match self.open(&mut wanted) {
            Ok(target) => receipt.target = Some(target),
            Err(Failure::Entry(cause)) => self.fail(&mut receipt, &wanted, cause)?,
            Err(Failure::Exchange(error)) => return Err(error),
        }
        let ended = self.receive(reader, &mut receipt, &wanted);
        match (ended, receipt.target.take()) {
            (Ok(Ended::Whole(sha256)), Some(target)) => {
                self.end(number, wanted, &receipt.progress, target, sha256)
            }
            (ended, target) => {
                self.give_up(target);
                match ended? {
                    Ended::Abandoned(code) => {
                        self.reject(number, wanted.path, wanted.size.unwrap_or(0), code, Side::Sender)
                    }
                    Ended::Whole(_) | Ended::Rejected => Ok(()),
                }
            }
        }
    }

    /// Whether a file gets permissions and time of its source, which a stream does not have.
    fn preserves(&self, wanted: &Wanted) -> bool {
        self.options.preserve && wanted.size.is_some()
    }

    fn tell_start(&mut self, wanted: &Wanted, progress: &Progress) {
        let size = wanted.size.unwrap_or(0);
        let bytes = |chunks: u32| u64::from(chunks).saturating_mul(progress.chunk_len).min(size);
        let held = bytes(wanted.held.saturating_add(wanted.compare));
        let compare = held - bytes(wanted.held);
        (self.events)(Event::Started { path: Arc::clone(&wanted.path), size, held, compare });
    }

    /// Opens what content goes to.
    fn open(&mut self, wanted: &mut Wanted) -> Result<Target, Failure> {
        let Some(mut stored) = wanted.stored.take() else {
            let output = self.sink.take().ok_or(FilesCode::Io)?;
            return Ok(Target::Sink { output, sha256: self.options.checksum.then(Sha256::new) });
        };
        let path = self.goals.path(bytes_of(&wanted.path))?;
        let goal = self.goals.goal(&path)?;
        let parent = goal.parent.ok_or(FilesCode::NotFound)?;
        if !stored.claim.is_in(parent.identity) {
            // Another directory has taken the place of the one that there was.
            stored.claim = self.claim(parent.identity, &goal.name)?;
        }
        let place = PartialPlace::new(parent.directory.clone(), &self.owner, &goal.name);
        let subject = place.subject(wanted.size, crate::chunks::chunk_len(wanted.size), wanted.source);
        let (held, has_content, is_private) = (wanted.held, wanted.compare > 0, self.preserves(wanted));
        let partial = self.outwait(&place, || {
            PartialFile::begin(place.clone(), subject.as_ref(), held, has_content, is_private)
        })?;
        if stored.before == 0 && partial.found() > 0 {
            // What was there of a small file, or of a stream, is not gone on with.
            stored.reservation.release(charge(partial.found()));
        }
        Ok(Target::File { partial, stored, parent, name: goal.name })
    }

    /// Takes messages until the content has ended.
    fn receive<R: Input>(
        &mut self,
        reader: &mut MessageReader<R>,
        receipt: &mut Receipt,
        wanted: &Wanted,
    ) -> Result<Ended, Error> {
        loop {
            let Some(message) = reader.next()? else {
                return Err(Error::Protocol("the stream ends within a file"));
            };
            if self.is_stopped() {
                return Err(Error::Stopped);
            }
            let taken = match message {
                FilesMessage::Data { length } => self.data(reader, receipt, length),
                FilesMessage::Hole { length } => self.hole(receipt, length),
                FilesMessage::ChunkEnd { hash } => receipt.end_chunk(&hash, wanted, self.control),
                FilesMessage::Same => self.same(receipt, wanted),
                FilesMessage::End { hash, sha256 } => {
                    let own = receipt.progress.end()?;
                    if !receipt.has_failed && own != hash {
                        self.fail(receipt, wanted, FilesCode::Mismatch)?;
                    }
                    return Ok(if receipt.has_failed { Ended::Rejected } else { Ended::Whole(sha256) });
                }
                FilesMessage::Abandon { code } => {
                    return Ok(if receipt.has_failed { Ended::Rejected } else { Ended::Abandoned(code) });
                }
                _ => return Err(Error::Protocol("a message comes within a file that does not belong there")),
            };
            match taken {
                Ok(()) => {}
                Err(Failure::Entry(cause)) => self.fail(receipt, wanted, cause)?,
                Err(Failure::Exchange(error)) => return Err(error),
            }
        }
    }

    fn data<R: Input>(
        &mut self,
        reader: &mut MessageReader<R>,
        receipt: &mut Receipt,
        length: u32,
    ) -> Result<(), Failure> {
        receipt.progress.check(length.into(), true)?;
        let mut failed = receipt.grow(length.into()).err().map(Cause::from);
        let Receipt { progress, target, .. } = receipt;
        reader.content(length, self.control.most_at_once(), |pieces| {
            let sum: usize = pieces.iter().map(|piece| piece.len()).sum();
            let count = u64::try_from(sum).unwrap_or(u64::MAX);
            match target {
                Some(target) if failed.is_none() => match target.write(pieces) {
                    Ok(()) => {
                        for piece in pieces {
                            progress.data(piece, self.control)?;
                        }
                        (self.events)(Event::Advanced { bytes: count, is_moved: true });
                    }
                    Err(Failure::Entry(cause)) => {
                        failed = Some(cause);
                        progress.skip(count);
                    }
                    Err(Failure::Exchange(error)) => return Err(error),
                },
                _ => progress.skip(count),
            }
            self.control.moved(sum)
        })?;
        failed.map_or(Ok(()), |cause| Err(cause.into()))
    }

    fn hole(&mut self, receipt: &mut Receipt, length: u64) -> Result<(), Failure> {
        receipt.progress.check(length, false)?;
        let grown = receipt.grow(length);
        let Some(target) = &mut receipt.target else {
            receipt.progress.skip(length);
            return Ok(());
        };
        let taken =
            grown.map_err(Failure::from).and_then(|()| target.hole(length, receipt.progress.is_stream()));
        if taken.is_ok() {
            receipt.progress.hole(length, self.control)?;
            (self.events)(Event::Advanced { bytes: length, is_moved: false });
        } else {
            receipt.progress.skip(length);
        }
        taken
    }

    fn same(&mut self, receipt: &mut Receipt, wanted: &Wanted) -> Result<(), Failure> {
        let (number, length) = receipt.progress.same()?;
        let chunk_len = receipt.progress.chunk_len;
        let passed = match &mut receipt.target {
            Some(target) => target.pass(chunk_len, wanted.size.unwrap_or(0), number, length),
            None => Ok(Hash::default()),
        };
        receipt.progress.pass(length, *passed.as_ref().unwrap_or(&Hash::default()));
        passed?;
        if receipt.target.is_some() {
            (self.events)(Event::Advanced { bytes: length, is_moved: false });
        }
        Ok(())
    }

    /// Says at once that a file is not wanted any more; what still comes of it is left unread.
    fn fail(&mut self, receipt: &mut Receipt, wanted: &Wanted, cause: impl Into<Cause>) -> Result<(), Error> {
        receipt.has_failed = true;
        self.give_up(receipt.target.take());
        let size = wanted.size.unwrap_or(0);
        self.reject(receipt.number, Arc::clone(&wanted.path), size, cause, Side::Receiver)?;
        self.writer.flush()
    }

    fn give_up(&mut self, target: Option<Target>) {
        match target {
            Some(Target::File { partial, stored, .. }) => stored.failed(partial),
            Some(Target::Sink { output, .. }) => self.sink = Some(output),
            None => {}
        }
    }

    /// Takes a file that is whole to the others of its group.
    fn end(
        &mut self,
        number: u32,
        wanted: Wanted,
        progress: &Progress,
        target: Target,
        sha256: Option<Hash>,
    ) -> Result<(), Error> {
        let path = Arc::clone(&wanted.path);
        let size = progress.position();
        let expected = wanted.sha256.or(sha256);
        match target {
            Target::Sink { mut output, sha256 } => {
                output.flush().map_err(Error::Output)?;
                self.sink = Some(output);
                let own: Option<Hash> = sha256.map(|sha256| sha256.finalize().into());
                let is_same = own.is_none() || expected.is_none() || own == expected;
                let result = if is_same { Ok(None) } else { Err(FilesCode::Mismatch.into()) };
                self.tell(Outcome { number, path, size, sha256: own, is_told: true, result })
            }
            Target::File { mut partial, stored, parent, name } => {
                match self.finish(&mut partial, &wanted, progress.chunk_len, expected) {
                    Ok(sha256) => {
                        let file = PendingFile { partial, name, stored };
                        self.complete(Pending::of_file(number, path, size, sha256, parent, file))
                    }
                    Err(Failure::Entry(cause)) => {
                        if cause.code == FilesCode::Mismatch {
                            partial.remove_journal();
                        }
                        stored.failed(partial);
                        self.reject(number, path, size, cause, Side::Receiver)
                    }
                    Err(Failure::Exchange(error)) => {
                        stored.failed(partial);
                        Err(error)
                    }
                }
            }
        }
    }

    /// All that a file needs but for its name.
    fn finish(
        &self,
        partial: &mut PartialFile,
        wanted: &Wanted,
        chunk_len: u64,
        expected: Option<Hash>,
    ) -> Result<Option<Hash>, Failure> {
        partial.end().map_err(Cause::from)?;
        let mut sha256 = None;
        if self.options.verify_disk || self.options.checksum {
            let (verify, has_sha256) = (self.options.verify_disk, self.options.checksum);
            sha256 = partial.read_back(chunk_len, verify, has_sha256, self.control)?;
            if sha256.is_some() && expected.is_some() && sha256 != expected {
                return Err(FilesCode::Mismatch.into());
            }
        }
        if self.preserves(wanted) {
            let set = partial.set_attributes(wanted.mode, wanted.modified);
            set.map_err(Cause::from)?;
        }
        Ok(sha256)
    }
}

/// What comes of a file.
struct Receipt {
    number: u32,
    progress: Progress,
    /// Where it goes; `None` once it has failed.
    target: Option<Target>,
    has_failed: bool,
}

impl Receipt {
    /// Sets room aside for more of what has no size yet.
    fn grow(&mut self, bytes: u64) -> Result<(), FilesCode> {
        match &mut self.target {
            Some(Target::File { stored, .. }) if self.progress.is_stream() => {
                let position = self.progress.position();
                stored.reservation.grow(charge(position.saturating_add(bytes)) - charge(position))
            }
            _ => Ok(()),
        }
    }

    fn end_chunk(&mut self, hash: &Hash, wanted: &Wanted, control: &dyn Control) -> Result<(), Failure> {
        let own = self.progress.end_chunk(control)?;
        match &mut self.target {
            Some(_) if own != *hash => Err(FilesCode::Mismatch.into()),
            Some(target) => {
                target.end_chunk(hash)?;
                target.check_space(wanted, self.progress.position())
            }
            None => Ok(()),
        }
    }
}
