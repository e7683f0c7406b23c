//! A walk over trees of files, which never follows a link and holds little more than the way to where it is.

use std::collections::VecDeque;
use std::io;

use wire_protocol::message::{FilesCode, MAX_LINK_LEN, Part};

use crate::cause::Cause;
use crate::chunks::part_of;
use crate::directory::{Directory, Entries, Kind, Status};
use crate::filter::{Filter, Verdict};
use crate::path::{RelativePath, is_reserved};
use crate::root::Root;

/// A walk over roots, in their order. What is in a directory comes sorted by name, in a large one portion by portion.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    roots: &'a [Root],
    next_root: usize,
    filter: &'a Filter,
    part: Part,
    order: Order,
    most_levels: usize,
    levels: Vec<Level>,
    /// Entries that come next, whatever is found then.
    waiting: VecDeque<Step>,
}

/// When a directory comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before what is in it.
    Parents,
    /// Behind what is in it, and nothing but directories.
    DirectoriesBehind,
}

/// What a walk comes to.
#[derive(Debug)]
pub(crate) enum Step {
    /// An entry.
    Entry(Found),
    /// Something that cannot be read.
    Unreadable {
        /// Its path, as it would be offered.
        path: RelativePath,
        /// The reason.
        cause: Cause,
    },
}

/// An entry that a walk has found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The number of the root that it belongs to.
    pub(crate) root: usize,
    /// Its path, as it is offered.
    pub(crate) path: RelativePath,
    /// Its state.
    pub(crate) status: Status,
    /// What it leads to, where it is a link.
    pub(crate) target: Option<Box<[u8]>>,
    /// Whether it is a directory that comes only so that it has its permissions before what is in it.
    pub(crate) is_implied: bool,
}

/// A directory that the walk is in.
#[derive(Debug)]
struct Level {
    directory: Directory,
    path: RelativePath,
    /// Whether and with what it comes behind what is in it.
    behind: Option<Status>,
    /// The directory itself, until something in it comes, where it is told for that alone.
    implied: Option<Found>,
    /// Whether a name in it that cannot be in a path has been reported.
    has_bad_name: bool,
    names: Names,
}

/// The names in a directory: as many as are sorted at once, and the rest of the directory.
#[derive(Debug)]
struct Names {
    sorted: std::vec::IntoIter<Name>,
    rest: Option<Entries>,
    /// What has ended the rest too early.
    failed: Option<io::Error>,
}

/// A name, and what has it, where the file system tells.
type Name = (Box<[u8]>, Option<Kind>);

/// Most names that are sorted and kept at once.
const MAX_SORTED: usize = 512;
/// Most bytes of these.
const MAX_SORTED_BYTES: usize = 16 * 1024;

impl<'a> Walk<'a> {
    pub(crate) fn new(roots: &'a [Root], filter: &'a Filter, part: Part, order: Order) -> Self {
        Self {
            roots,
            next_root: 0,
            filter,
            part,
            order,
            most_levels: usize::MAX,
            levels: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The walk that does not go into directories below those that were named.
    pub(crate) fn shallow(self) -> Self {
        Self { most_levels: 1, ..self }
    }

    /// Goes to the next root.
    fn enter_root(&mut self, root: &Root) -> Option<Step> {
        let path = root.offered().clone();
        let base = match root.open_base() {
            Ok(base) => base,
            Err(error) => return self.unreadable(path, error),
        };
        let Some(name) = root.source().name() else {
            // The base itself.
            if path.is_root() {
                return self.enter(base, path, None, None);
            }
            return match base.own_status() {
                Ok(status) => self.found(None, &base, path, status),
                Err(error) => self.unreadable(path, error),
            };
        };
        if is_reserved(name) {
            return self.unreadable(path, FilesCode::BadPath);
        }
        let parent = root.source().parent().unwrap_or_else(RelativePath::root);
        let found = base.walk_to(&parent).and_then(|parent| Ok((parent.stat(name)?, parent)));
        match found {
            // What is in it, without its own name.
            Ok((Some(status), parent)) if path.is_root() => {
                if status.kind != Kind::Directory {
                    return self.unreadable(root.source().clone(), FilesCode::NotDirectory);
                }
                match parent.open_directory(name) {
                    Ok(directory) => self.enter(directory, path, None, None),
                    Err(error) => self.unreadable(root.source().clone(), error),
                }
            }
            Ok((Some(status), parent)) => self.found(Some(name), &parent, path, status),
            Ok((None, _)) => self.unreadable(path, FilesCode::NotFound),
            Err(error) => self.unreadable(path, error),
        }
    }

    /// Goes into a directory. Gives something only where that fails.
    fn enter(
        &mut self,
        directory: Directory,
        path: RelativePath,
        behind: Option<Status>,
        implied: Option<Found>,
    ) -> Option<Step> {
        match directory.entries() {
            Ok(entries) => {
                let names = Names { sorted: Vec::new().into_iter(), rest: Some(entries), failed: None };
                self.levels.push(Level { directory, path, behind, implied, has_bad_name: false, names });
                None
            }
            Err(error) => self.unreadable(path, error),
        }
    }

    /// What cannot be read is told once, by the first stream.
    fn unreadable(&self, path: RelativePath, cause: impl Into<Cause>) -> Option<Step> {
        let is_told = self.order == Order::Parents && self.part.index == 0;
        is_told.then(|| Step::Unreadable { path, cause: cause.into() })
    }

    /// Comes to an entry of `parent`; without a name to `parent` itself.
    fn found(
        &mut self,
        name: Option<&[u8]>,
        parent: &Directory,
        path: RelativePath,
        status: Status,
    ) -> Option<Step> {
        let root = self.next_root - 1;
        let is_directory = status.kind == Kind::Directory;
        let verdict = self.judge(&path, is_directory);
        if verdict == Verdict::Leave {
            return None;
        }
        let mut target = None;
        match status.kind {
            Kind::Directory => {
                let is_taken = verdict == Verdict::Take && self.part.index == 0;
                let behind = (is_taken && self.order == Order::DirectoriesBehind).then(|| status.clone());
                let is_told = is_taken && self.order == Order::Parents;
                // Without its permissions others might read what is in it, until the first stream has told it, or for good.
                let implied = (self.order == Order::Parents && !is_told).then(|| Found {
                    root,
                    path: path.clone(),
                    status: status.clone(),
                    target: None,
                    is_implied: true,
                });
                let mut failed = None;
                if self.levels.len() < self.most_levels {
                    let opened = match name {
                        Some(name) => parent.open_directory(name),
                        None => Ok(parent.clone()),
                    };
                    failed = match opened {
                        Ok(directory) => self.enter(directory, path.clone(), behind, implied),
                        Err(error) => self.unreadable(path.clone(), error),
                    };
                }
                // A directory that cannot be read is reported in its place.
                if failed.is_some() || !is_told {
                    return failed;
                }
            }
            _ if self.order == Order::DirectoriesBehind => return None,
            Kind::File => {
                if part_of(path.as_bytes(), self.part.count) != self.part.index {
                    return None;
                }
            }
            _ if self.part.index != 0 => return None,
            Kind::Symlink => match parent.read_link(name.unwrap_or_default()) {
                Ok(read) if read.len() <= MAX_LINK_LEN => target = Some(read.into()),
                Ok(_) => return Some(Step::Unreadable { path, cause: FilesCode::BadPath.into() }),
                Err(error) => return Some(Step::Unreadable { path, cause: error.into() }),
            },
            Kind::Other => return Some(Step::Unreadable { path, cause: FilesCode::UnsupportedKind.into() }),
        }
        let implied = self.levels.iter_mut().filter_map(|level| level.implied.take());
        self.waiting.extend(implied.map(Step::Entry));
        self.waiting.push_back(Step::Entry(Found { root, path, status, target, is_implied: false }));
        self.waiting.pop_front()
    }

    fn judge(&self, path: &RelativePath, is_directory: bool) -> Verdict {
        let root = self.roots[self.next_root - 1].offered().as_bytes();
        let below = path.as_bytes().get(root.len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let name = root.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.filter.judge(if below.is_empty() { name } else { below }, is_directory)
    }

    /// Goes on within the directory that it is in.
    fn go_on(&mut self) -> Option<Step> {
        let level = self.levels.last_mut()?;
        match level.names.next() {
            Some(Ok((name, kind))) => self.visit(&name, kind),
            Some(Err(error)) => {
                let path = level.path.clone();
                self.unreadable(path, error)
            }
            None => {
                let Level { path, behind, .. } = self.levels.pop()?;
                let root = self.next_root - 1;
                let found = |status| Found { root, path, status, target: None, is_implied: false };
                behind.map(|status| Step::Entry(found(status)))
            }
        }
    }

    /// Looks at a name in the directory that it is in.
    fn visit(&mut self, name: &[u8], kind: Option<Kind>) -> Option<Step> {
        let level = self.levels.last_mut()?;
        if is_reserved(name) {
            return None;
        }
        let path = match level.path.join(name) {
            Ok(path) => path,
            Err(code) => {
                let path = level.path.clone();
                let is_known = std::mem::replace(&mut level.has_bad_name, true);
                return self.unreadable(path, code).filter(|_| !is_known);
            }
        };
        // What is none of this walk's is not looked at any closer.
        let is_skipped = match kind {
            None | Some(Kind::Directory) => false,
            Some(_) if self.order == Order::DirectoriesBehind => true,
            Some(Kind::File) => part_of(path.as_bytes(), self.part.count) != self.part.index,
            Some(_) => self.part.index != 0,
        };
        if is_skipped {
            return None;
        }
        let directory = level.directory.clone();
        if kind.is_some() && self.judge(&path, kind == Some(Kind::Directory)) == Verdict::Leave {
            return None;
        }
        match directory.stat(name) {
            Ok(Some(status)) => self.found(Some(name), &directory, path, status),
            // It was removed since the directory was read.
            Ok(None) => None,
            // A file of another stream has been skipped above.
            Err(error) if kind == Some(Kind::File) => Some(Step::Unreadable { path, cause: error.into() }),
            Err(error) => self.unreadable(path, error),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.waiting.pop_front() {
                return Some(step);
            } else if self.levels.is_empty() {
                let root = self.roots.get(self.next_root)?;
                self.next_root += 1;
                if let Some(step) = self.enter_root(root) {
                    return Some(step);
                }
            } else if let Some(step) = self.go_on() {
                return Some(step);
            }
        }
    }
}

impl Names {
    fn next(&mut self) -> Option<io::Result<Name>> {
        if let Some(name) = self.sorted.next() {
            return Some(Ok(name));
        }
        let Some(rest) = &mut self.rest else { return self.failed.take().map(Err) };
        let mut names = Vec::new();
        let mut bytes = 0;
        while names.len() < MAX_SORTED && bytes < MAX_SORTED_BYTES {
            match rest.next() {
                Some(Ok((name, kind))) => {
                    bytes += name.len();
                    names.push((name, kind));
                }
                end => {
                    self.failed = end.and_then(Result::err);
                    self.rest = None;
                    break;
                }
            }
        }
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        self.sorted = names.into_iter();
        self.sorted.next().map(Ok).or_else(|| self.failed.take().map(Err))
    }
}
