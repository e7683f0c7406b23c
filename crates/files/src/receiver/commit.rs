//! Entries that are complete, and get their names and their places on disk several at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use wire_protocol::message::{Existing, FilesCode};

use crate::cause::Cause;
use crate::claims::Claim;
use crate::control::charge;
use crate::directory::Directory;
use crate::journal::Hash;
use crate::partial::PartialFile;
use crate::receiver::existing::numbered;
use crate::receiver::goals::Parent;
use crate::receiver::reservation::Reservation;

/// An entry that is answered with Done once it is on disk.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) number: u32,
    pub(super) path: Arc<PathBuf>,
    pub(super) size: u64,
    pub(super) sha256: Option<Hash>,
    pub(super) parent: Arc<Parent>,
    /// The name that it was given, where that is another one.
    pub(super) stored_as: Option<Vec<u8>>,
    /// Whether it is told what becomes of it.
    pub(super) is_told: bool,
    /// A file, which has not got its name yet.
    pub(super) file: Option<PendingFile>,
}

impl Pending {
    /// A file.
    pub(super) fn of_file(
        number: u32,
        path: Arc<PathBuf>,
        size: u64,
        sha256: Option<Hash>,
        parent: Arc<Parent>,
        file: PendingFile,
    ) -> Self {
        Self { number, path, size, sha256, parent, stored_as: None, is_told: true, file: Some(file) }
    }

    /// A directory or a link.
    pub(super) fn without_content(
        number: u32,
        path: &Arc<PathBuf>,
        parent: Arc<Parent>,
        stored_as: Option<Vec<u8>>,
    ) -> Self {
        let path = Arc::clone(path);
        Self { number, path, size: 0, sha256: None, parent, stored_as, is_told: true, file: None }
    }
}

/// A file that is whole.
#[derive(Debug)]
pub(super) struct PendingFile {
    pub(super) partial: PartialFile,
    pub(super) name: Vec<u8>,
    pub(super) stored: Stored,
}

/// What is known of the place that a file takes.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) reservation: Reservation,
    /// What the entry counts for that it replaces.
    pub(super) replaced: u64,
    /// What that counts for which an earlier attempt had left.
    pub(super) before: u64,
    /// Keeps others away from the name.
    pub(super) claim: Claim,
}

impl Stored {
    /// The file has got its name.
    fn published(mut self, size: u64) {
        self.reservation.spend(u64::MAX);
        self.reservation.release(self.replaced);
        self.reservation.release(self.before.saturating_sub(charge(size)));
    }

    /// The file has not got its name.
    pub(super) fn failed(mut self, partial: PartialFile) {
        if partial.is_resumable() {
            self.reservation.spend(charge(partial.length()).saturating_sub(self.before));
        } else {
            self.reservation.release(self.before);
        }
        drop(partial);
    }
}

/// What has become of an entry.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) number: u32,
    pub(super) path: Arc<PathBuf>,
    pub(super) size: u64,
    pub(super) sha256: Option<Hash>,
    /// Whether it is told.
    pub(super) is_told: bool,
    /// The name that it was given, where that is another one; or why it is not stored.
    pub(super) result: Result<Option<Vec<u8>>, Cause>,
}

/// Entries that are complete.
#[derive(Debug)]
pub(super) struct Group {
    existing: Existing,
    /// Most entries before it is full.
    most: usize,
    pending: Vec<Pending>,
    bytes: u64,
    parents: HashMap<(u64, u64), Directory>,
}

/// Most entries in a group.
const MOST_ENTRIES: usize = 256;
/// Most open directories in a group.
const MOST_PARENTS: usize = 64;
/// Bytes that make a group full.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

impl Group {
    pub(super) fn new(existing: Existing) -> Self {
        // Each file is open. Others of this process need open files as well.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(limit / 8).unwrap_or(usize::MAX).clamp(1, MOST_ENTRIES);
        Self { existing, most, pending: Vec::new(), bytes: 0, parents: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no more may come before it is committed.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= self.most || self.parents.len() >= MOST_PARENTS || self.bytes >= MOST_BYTES
    }

    pub(super) fn push(&mut self, pending: Pending) {
        let Parent { identity, directory } = &*pending.parent;
        if !self.parents.contains_key(identity) {
            self.parents.insert(*identity, directory.clone());
        }
        self.bytes = self.bytes.saturating_add(pending.size);
        self.pending.push(pending);
    }

    /// Brings all of them to the disk and gives the files their names.
    /// With `above` they fail in the end: the directories above them are not on disk.
    pub(super) fn commit(&mut self, above: Option<Cause>) -> Vec<Outcome> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let files: Vec<_> = self
            .pending
            .iter()
            .filter_map(|pending| pending.file.as_ref().map(|file| file.partial.file()))
            .collect();
        let mut synced = sync(&files, QUICK).into_iter();
        let mut results = Vec::with_capacity(self.pending.len());
        for pending in &mut self.pending {
            let result = match &mut pending.file {
                None => Ok(pending.stored_as.take()),
                Some(file) => match synced.next() {
                    Some(Ok(())) => publish(file, self.existing),
                    Some(Err(error)) => {
                        file.partial.forsake();
                        Err(error.into())
                    }
                    None => Err(FilesCode::Io.into()),
                },
            };
            results.push(above.map_or(result, Err));
        }
        // Names are on disk where their directory is.
        let failed: HashMap<_, _> = self
            .parents
            .drain()
            .filter_map(|(identity, directory)| Some((identity, Cause::from(directory.sync().err()?))))
            .collect();
        self.bytes = 0;
        let ended = self.pending.drain(..).zip(results);
        ended.map(|(pending, result)| outcome(pending, result, &failed)).collect()
    }
}

fn outcome(
    pending: Pending,
    result: Result<Option<Vec<u8>>, Cause>,
    failed: &HashMap<(u64, u64), Cause>,
) -> Outcome {
    let Pending { number, path, size, sha256, parent, is_told, file, .. } = pending;
    let result = result.and_then(|stored_as| match failed.get(&parent.identity) {
        Some(cause) => Err(*cause),
        None => Ok(stored_as),
    });
    if let Some(PendingFile { mut partial, stored, .. }) = file {
        if partial.is_published() {
            partial.remove_journal();
            stored.published(size);
        } else {
            stored.failed(partial);
        }
    }
    Outcome { number, path, size, sha256, is_told, result }
}

/// Gives a file its name, and tells it where that is another one.
fn publish(file: &mut PendingFile, existing: Existing) -> Result<Option<Vec<u8>>, Cause> {
    let PendingFile { partial, name, .. } = file;
    match partial.publish(name, existing == Existing::Replace) {
        Ok(()) => return Ok(None),
        Err(error) if existing == Existing::Rename && error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    first_free(name, |name| partial.publish(name, false))
}

/// Tries one name after the other until one is free.
pub(super) fn first_free(
    name: &[u8],
    mut attempt: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Option<Vec<u8>>, Cause> {
    for number in 1..=MOST_NUMBERS {
        let name = numbered(name, number);
        match attempt(&name) {
            Ok(()) => return Ok(Some(name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(FilesCode::Exists.into())
}

/// Most names that are tried.
const MOST_NUMBERS: u32 = 10_000;

/// Brings files to the disk: on several threads where that takes time, since a file system does it for several at once.
fn sync(files: &[&File], quick: Duration) -> Vec<io::Result<()>> {
    let Some((first, others)) = files.split_first() else { return Vec::new() };
    let begun = Instant::now();
    let mut results = vec![first.sync_all()];
    if others.len() < 2 || begun.elapsed() < quick {
        results.extend(others.iter().map(|file| file.sync_all()));
        return results;
    }
    thread::scope(|scope| {
        let threads: Vec<_> = others
            .chunks(others.len().div_ceil(THREADS))
            .map(|files| {
                let work = move || files.iter().map(|file| file.sync_all()).collect::<Vec<_>>();
                (files, thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, work))
            })
            .collect();
        for (files, thread) in threads {
            match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(synced)) => results.extend(synced),
                // There are no threads left, or this one has failed.
                _ => results.extend(files.iter().map(|file| file.sync_all())),
            }
        }
    });
    results
}

/// A sync that takes less is worth no thread.
const QUICK: Duration = Duration::from_micros(300);
/// Threads that sync at once.
const THREADS: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn each_file_has_its_own_result() {
        let mut files: Vec<_> = (0..100).map(|_| tempfile::tempfile().unwrap()).collect();
        // The ends of a pipe have no place on a disk.
        let (reader, writer) = std::io::pipe().unwrap();
        files[41] = OwnedFd::from(reader).into();
        files[99] = OwnedFd::from(writer).into();
        let files: Vec<_> = files.iter().collect();
        for quick in [Duration::ZERO, Duration::MAX] {
            for count in [0, 1, 2, 3, 17, 100] {
                let results = sync(&files[..count], quick);
                assert_eq!(results.len(), count);
                for (number, result) in results.iter().enumerate() {
                    assert_eq!(result.is_err(), [41, 99].contains(&number), "{number} of {count}");
                }
            }
        }
    }
}
