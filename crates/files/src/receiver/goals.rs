//! Where what is offered goes: the paths of offers, and the directories that their goals are in.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use rustix::fs::Mode;
use wire_protocol::message::FilesCode;

use crate::cause::Cause;
use crate::control::{Room, charge};
use crate::directory::{Directory, error_of};
use crate::made::MadeAbove;
use crate::path::RelativePath;
use crate::receiver::reservation::Reservation;

/// What the destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// A directory, in which what is offered is stored.
    Into,
    /// What the only root of the offers is stored as.
    As,
}

/// A directory with the goals of entries.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) directory: Directory,
    pub(super) identity: (u64, u64),
}

/// A place for an entry.
#[derive(Debug)]
pub(super) struct Goal {
    /// `None` in a dry run, where it does not exist.
    pub(super) parent: Option<Arc<Parent>>,
    pub(super) name: Vec<u8>,
}

/// Finds goals beneath one directory.
pub(super) struct Goals {
    directory: Directory,
    base: RelativePath,
    placed: Placed,
    /// Whether missing directories are made.
    makes: bool,
    /// Directories that were found a moment ago.
    found: HashMap<Box<[u8]>, Arc<Parent>>,
    /// Directories in which others were made, which is not on disk yet.
    made_in: Vec<Directory>,
    /// Directories that were made above entries, and may be offered on another stream.
    made_above: MadeAbove,
    room: Arc<dyn Room>,
    /// Directories that this transfer has made and this stream has offers of, by device and inode.
    made: HashSet<(u64, u64)>,
    /// Directories that stood there before, by device and inode, with the permissions that they have back unless they get others.
    restricted: HashMap<(u64, u64), (RelativePath, Mode)>,
}

/// Most directories that are kept open for the next entry.
const MOST_FOUND: usize = 64;
/// Most directories that are remembered as made.
const MOST_MADE: usize = 65_536;

impl Goals {
    pub(super) fn new(
        directory: Directory,
        base: RelativePath,
        placed: Placed,
        makes: bool,
        made_above: MadeAbove,
        room: Arc<dyn Room>,
    ) -> Self {
        Self {
            directory,
            base,
            placed,
            makes,
            found: HashMap::new(),
            made_in: Vec::new(),
            made_above,
            room,
            made: HashSet::new(),
            restricted: HashMap::new(),
        }
    }

    /// The path of what is offered as `offered`, below the directory.
    pub(super) fn path(&self, offered: &[u8]) -> Result<RelativePath, FilesCode> {
        let path = RelativePath::parse(offered)?;
        if path.has_reserved_name() || self.base.has_reserved_name() {
            return Err(FilesCode::BadPath);
        }
        let below = match self.placed {
            Placed::Into => offered,
            Placed::As => match offered.iter().position(|byte| *byte == b'/') {
                Some(separator) => &offered[separator + 1..],
                None => return Ok(self.base.clone()),
            },
        };
        if self.base.is_root() {
            return RelativePath::parse(below);
        }
        RelativePath::parse(&[self.base.as_bytes(), b"/", below].concat())
    }

    /// The goal at `path`, with the directories above it.
    pub(super) fn goal(&mut self, path: &RelativePath) -> Result<Goal, Cause> {
        let Some(name) = path.name() else { return Err(FilesCode::BadPath.into()) };
        let name = name.to_vec();
        let above = path.parent().unwrap_or_else(RelativePath::root);
        match self.parent(&above) {
            Ok(parent) => Ok(Goal { parent: Some(parent), name }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.makes => {
                Ok(Goal { parent: None, name })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the directory at `path`, where there is none, with the lower nine bits of `mode` less those of the umask.
    pub(super) fn make(&mut self, path: &RelativePath, mode: u16) -> Result<(), Cause> {
        let Goal { parent: Some(parent), name } = self.goal(path)? else { return Ok(()) };
        match parent.directory.make_directory_with(&name, mode) {
            Ok(()) => self.made_in.push(parent.directory.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn parent(&mut self, path: &RelativePath) -> io::Result<Arc<Parent>> {
        if let Some(parent) = self.found.get(path.as_bytes()) {
            return Ok(Arc::clone(parent));
        }
        let directory = match self.directory.walk_to(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.makes => {
                let (made_in, room) = (&mut self.made_in, &self.room);
                self.made_above.remember(|note| {
                    self.directory.make_all_with(path, &mut |directory, name| {
                        let mut reservation = Reservation::new(room, charge(0)).map_err(error_of)?;
                        directory.make_directory(name)?;
                        reservation.spend(u64::MAX);
                        made_in.push(directory.clone());
                        if let Ok(Some(made)) = directory.stat(name) {
                            note((made.dev, made.ino));
                        }
                        Ok(())
                    })
                })?
            }
            walked => walked?,
        };
        if self.made_in.len() >= MOST_FOUND {
            self.sync()?;
        }
        let parent = Arc::new(Parent { identity: directory.identity()?, directory });
        if self.found.len() >= MOST_FOUND {
            self.found.clear();
        }
        self.found.insert(path.as_bytes().into(), Arc::clone(&parent));
        Ok(parent)
    }

    /// Brings the directories that were made for entries to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        // Several in one directory are one call.
        let mut synced = HashSet::new();
        while let Some(directory) = self.made_in.last() {
            if synced.insert(directory.identity()?) {
                directory.sync()?;
            }
            // One that fails stays, and is tried again for what comes next.
            self.made_in.pop();
        }
        Ok(())
    }

    /// The directory at `path`, with nothing made.
    pub(super) fn walk_to(&self, path: &RelativePath) -> io::Result<Directory> {
        self.directory.walk_to(path)
    }

    /// Makes a directory; where `is_above`, for what is in it, so that it is offered on another stream as well.
    pub(super) fn make_one(&self, parent: &Parent, name: &[u8], mode: u16, is_above: bool) -> io::Result<()> {
        let make = || parent.directory.make_directory_with(name, mode);
        if !is_above {
            return make();
        }
        self.made_above.remember(|note| {
            make()?;
            if let Ok(Some(made)) = parent.directory.stat(name) {
                note((made.dev, made.ino));
            }
            Ok(())
        })
    }

    /// Whether it was made above an entry, on another stream or on this one, and is offered for the first time since.
    pub(super) fn was_made_above(&self, identity: (u64, u64)) -> bool {
        self.made_above.take(identity)
    }

    /// Whether it was made above an entry, and was not offered on the first stream since.
    pub(super) fn is_made_above(&self, identity: (u64, u64)) -> bool {
        self.made_above.has(identity)
    }

    /// Takes permissions away from the directory at `path` that `mode` does not have.
    pub(super) fn restrict(&mut self, path: &RelativePath, mode: u16, is_older: bool) -> io::Result<()> {
        let directory = self.walk_to(path)?;
        let identity = directory.identity()?;
        if let Some(own) = directory.restrict(mode)?
            && is_older
            && self.restricted.len() < MOST_MADE
        {
            self.restricted.entry(identity).or_insert_with(|| (path.clone(), own));
        }
        Ok(())
    }

    /// The directory has its own attributes now.
    pub(super) fn has_attributes(&mut self, identity: (u64, u64)) {
        self.restricted.remove(&identity);
    }

    /// Gives older directories back what [`Goals::restrict`] has taken, where they have got no attributes of their own: those that were
    /// offered for what is in them alone.
    pub(super) fn give_back(&mut self) {
        for (identity, (path, own)) in std::mem::take(&mut self.restricted) {
            let Ok(directory) = self.walk_to(&path) else { continue };
            if directory.identity().is_ok_and(|there| there == identity) {
                // What cannot be done is left.
                let _ = directory.give_back(own);
            }
        }
    }

    /// Remembers a directory as made by this transfer.
    pub(super) fn remember(&mut self, path: &RelativePath) {
        if self.made.len() < MOST_MADE
            && let Ok(identity) = self.walk_to(path).and_then(|directory| directory.identity())
        {
            self.made.insert(identity);
        }
    }

    /// Whether it was made by this transfer.
    pub(super) fn has_made(&self, identity: (u64, u64)) -> bool {
        self.made.contains(&identity)
    }
}
