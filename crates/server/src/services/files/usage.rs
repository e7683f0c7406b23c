//! The quota of a share: how many bytes its entries count for, found by a walk now and then and kept by what transfers say meanwhile.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use files::control::{Room, charge};
use files::directory::{Directory, Kind};
use wire_protocol::message::FilesCode;

use crate::services::files::halt::Halt;

/// What is known of the files of a share. Clones are of the same share.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    /// What all entries count for: what a walk has found, with what transfers have taken and given back since.
    used: u64,
    /// When the walk was; `None` before the first one.
    at: Option<Instant>,
    /// Transfers that have taken anything: what they have taken is in part on the disk, which a walk cannot tell.
    takers: usize,
}

/// The room of a share for one transfer.
#[derive(Debug)]
pub(super) struct Quota {
    usage: Usage,
    most: u64,
    directory: Directory,
    halt: Halt,
    /// Whether this transfer counts as one that has taken anything.
    has_taken: Mutex<bool>,
}

impl Usage {
    /// What all entries count for; `None` before they were counted first.
    pub(super) fn known(&self) -> Option<u64> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.at.map(|_| counted.used)
    }
}

impl Quota {
    /// Room for `most` bytes in `directory`, of which `usage` knows how many are taken. A walk ends early with `halt`.
    pub(super) fn new(usage: Usage, most: u64, directory: Directory, halt: Halt) -> Self {
        Self { usage, most, directory, halt, has_taken: Mutex::new(false) }
    }
}

impl Room for Quota {
    fn reserve(&self, bytes: u64) -> Result<(), FilesCode> {
        let mut counted = self.usage.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_taken = self.has_taken.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.is_due(bytes, self.most) && counted.takers == usize::from(*has_taken) && !*has_taken {
            counted.used = bytes_in(&self.directory, &self.halt)?;
            counted.at = Some(Instant::now());
        }
        let used = counted.used.saturating_add(bytes);
        if counted.at.is_none() || used > self.most {
            return Err(FilesCode::Quota);
        }
        counted.used = used;
        if !*has_taken {
            *has_taken = true;
            counted.takers += 1;
        }
        Ok(())
    }

    fn release(&self, bytes: u64) {
        let mut counted = self.usage.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.used = counted.used.saturating_sub(bytes);
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        if *self.has_taken.lock().unwrap_or_else(PoisonError::into_inner) {
            self.usage.0.lock().unwrap_or_else(PoisonError::into_inner).takers -= 1;
        }
    }
}

impl Counted {
    /// Whether it is time for a walk, for somebody who needs `bytes` within `most`.
    fn is_due(&self, bytes: u64, most: u64) -> bool {
        let Some(at) = self.at else { return true };
        let used = self.used.saturating_add(bytes);
        used > most && at.elapsed() >= AGE_WHERE_FULL || used > most / 10 * 9 && at.elapsed() >= AGE
    }
}

/// What all entries beneath a directory count for. Where the server may not look nothing is counted, since it cannot write there either.
fn bytes_in(directory: &Directory, halt: &Halt) -> Result<u64, FilesCode> {
    let mut bytes = 0_u64;
    // Directories that are open, each with what is left to be looked at in it: as many as the tree is deep.
    let mut open = vec![(directory.clone(), entries_of(directory)?)];
    loop {
        let depth = open.len();
        let Some((directory, entries)) = open.last_mut() else { return Ok(bytes) };
        if halt.reason().is_some() {
            return Err(FilesCode::Io);
        }
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        let (name, _) = entry.map_err(|_| FilesCode::Io)?;
        match directory.stat(&name) {
            Ok(Some(status)) if status.kind == Kind::Directory => {
                bytes = bytes.saturating_add(charge(0));
                if depth >= MAX_DEPTH {
                    return Err(FilesCode::TooMany);
                }
                let Some(below) = there(directory.open_directory(&name))? else { continue };
                let Some(entries) = there(below.entries())? else { continue };
                open.push((below, entries));
            }
            Ok(Some(status)) => {
                let size = if status.kind == Kind::File { status.size } else { 0 };
                bytes = bytes.saturating_add(charge(size));
            }
            Ok(None) => {}
            Err(error) => drop(there::<()>(Err(error))?),
        }
    }
}

fn entries_of(directory: &Directory) -> Result<files::directory::Entries, FilesCode> {
    directory.entries().map_err(|_| FilesCode::Io)
}

/// `None` for what is gone meanwhile, or is not for this server.
fn there<T>(found: io::Result<T>) -> Result<Option<T>, FilesCode> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) => match files::directory::code_of(&error) {
            FilesCode::NotFound | FilesCode::Denied | FilesCode::NotDirectory => Ok(None),
            _ => Err(FilesCode::Io),
        },
    }
}

/// How old a count may be that says that a share is nearly full.
const AGE: Duration = Duration::from_secs(60);
/// How old a count may be that says that a share is full: somebody may have made room.
const AGE_WHERE_FULL: Duration = Duration::from_secs(5);
/// Most directories within each other that are counted.
const MAX_DEPTH: usize = 512;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn quota(usage: &Usage, most: u64, folder: &tempfile::TempDir) -> Quota {
        let directory = Directory::open_trusted(folder.path()).unwrap();
        Quota::new(usage.clone(), most, directory, Halt::default())
    }

    #[test]
    fn what_is_there_and_what_comes_counts_and_what_links_lead_to_does_not() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("big"), [0; 50_000]).unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/file"), [0; 60_000]).unwrap();
        fs::write(folder.path().join("file"), [0; 300]).unwrap();
        symlink(elsewhere.path(), folder.path().join("link")).unwrap();
        let usage = Usage::default();
        // Two directories, a small file and a link count as four small files.
        let most = 60_000 + 4 * 4096 + 100;
        let one = quota(&usage, most, &folder);
        assert_eq!(one.reserve(101), Err(FilesCode::Quota));
        assert_eq!(one.reserve(60), Ok(()));
        // Another transfer has the rest.
        let two = quota(&usage, most, &folder);
        assert_eq!((two.reserve(41), two.reserve(40)), (Err(FilesCode::Quota), Ok(())));
        assert_eq!(one.reserve(1), Err(FilesCode::Quota));
        two.release(40);
        assert_eq!((one.reserve(40), one.reserve(u64::MAX)), (Ok(()), Err(FilesCode::Quota)));
        drop((one, two));
        assert_eq!(usage.0.lock().unwrap().takers, 0);
    }

    #[test]
    fn a_share_that_has_room_again_is_counted_again_once_nobody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, [0; 10_000]).unwrap();
        let usage = Usage::default();
        assert_eq!(quota(&usage, 10_000, &folder).reserve(1), Err(FilesCode::Quota));
        fs::remove_file(&file).unwrap();
        assert_eq!(quota(&usage, 10_000, &folder).reserve(1), Err(FilesCode::Quota));
        usage.0.lock().unwrap().at = Instant::now().checked_sub(AGE_WHERE_FULL);
        let writing = quota(&usage, 10_000, &folder);
        assert_eq!(writing.reserve(9900), Ok(()));
        usage.0.lock().unwrap().at = Instant::now().checked_sub(AGE);
        assert_eq!(quota(&usage, 10_000, &folder).reserve(101), Err(FilesCode::Quota));
        drop(writing);
        assert_eq!(quota(&usage, 10_000, &folder).reserve(101), Ok(()));
    }

    #[test]
    fn what_cannot_be_counted_has_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let stopped = Halt::default();
        stopped.stop(wire_protocol::message::ResetCode::NotAllowed);
        let directory = Directory::open_trusted(folder.path()).unwrap();
        let quota = Quota::new(Usage::default(), 1000, directory, stopped);
        assert_eq!((quota.reserve(1), quota.reserve(0)), (Err(FilesCode::Io), Err(FilesCode::Io)));
    }
}
