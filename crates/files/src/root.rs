//! What a person or a peer has named to be sent: a place in the file system, and the path under which it is offered.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use wire_protocol::message::FilesCode;

use crate::directory::{Directories, Directory, error_of};
use crate::path::RelativePath;
use crate::source::SourceFile;

/// A file, a symbolic link, or a directory with all that is in it.
#[derive(Debug, Clone)]
pub struct Root {
    base: Base,
    /// Where it is below the base; without a name the base itself.
    source: RelativePath,
    /// What it is offered as; without a name what is in it is offered, and not the directory itself.
    offered: RelativePath,
}

/// The directory beneath which a root is.
#[derive(Debug, Clone)]
enum Base {
    /// One that is open.
    Open(Directory),
    /// One on the user's own path, opened when it is needed: there may be more roots than files can be open.
    Trusted(PathBuf),
}

impl Root {
    /// What the user's own `path` names, offered under its last name. Links on the way to it are followed. A link itself is sent as a link,
    /// unless `/` stands behind it. Of a path without a last name (`.`, `..`, `/`) what is in that directory is offered.
    ///
    /// # Errors
    /// [`FilesCode::BadPath`] for a name that cannot be offered.
    pub fn new(path: &Path) -> Result<Self, FilesCode> {
        let ends_in_dot = path.as_os_str().as_bytes().ends_with(b"/.") || path == Path::new(".");
        let Some(name) = path.file_name().filter(|_| !ends_in_dot) else {
            return Ok(Self {
                base: Base::Trusted(path.to_owned()),
                source: RelativePath::root(),
                offered: RelativePath::root(),
            });
        };
        let offered = RelativePath::parse(name.as_bytes())?;
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Ok(Self { base: Base::Trusted(path.to_owned()), source: RelativePath::root(), offered });
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { base: Base::Trusted(parent), source: offered.clone(), offered })
    }

    /// What `path` names beneath `directory`, offered under its last name; all that is in `directory` for the path without a name.
    #[must_use]
    pub fn beneath(directory: &Directory, path: RelativePath) -> Self {
        let offered =
            path.name().and_then(|name| RelativePath::parse(name).ok()).unwrap_or_else(RelativePath::root);
        Self { base: Base::Open(directory.clone()), source: path, offered }
    }

    /// The same under another path.
    #[must_use]
    pub fn offered_as(self, offered: RelativePath) -> Self {
        Self { offered, ..self }
    }

    /// What it is offered as.
    #[must_use]
    pub fn offered(&self) -> &RelativePath {
        &self.offered
    }

    /// Where it is below its base.
    pub(crate) fn source(&self) -> &RelativePath {
        &self.source
    }

    pub(crate) fn open_base(&self) -> io::Result<Directory> {
        match &self.base {
            Base::Open(directory) => Ok(directory.clone()),
            Base::Trusted(path) => Directory::open_trusted(path),
        }
    }

    /// Where an entry is below the base whose path in an offer is `offered`.
    pub(crate) fn locate(&self, offered: &RelativePath) -> Result<RelativePath, FilesCode> {
        let below = offered.as_bytes().get(self.offered.as_bytes().len()..).unwrap_or_default();
        let mut source = self.source.clone();
        for name in below.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            source = source.join(name)?;
        }
        Ok(source)
    }
}

/// Opens the directories of entries, and keeps the last one open, since entries come directory by directory.
#[derive(Debug)]
pub(crate) struct Locator<'a> {
    roots: &'a [Root],
    last: Option<(usize, Directories)>,
}

impl<'a> Locator<'a> {
    pub(crate) fn new(roots: &'a [Root]) -> Self {
        Self { roots, last: None }
    }

    /// Opens the file that belongs to a root and is offered as `offered`.
    pub(crate) fn open(&mut self, root: usize, offered: &RelativePath) -> io::Result<SourceFile> {
        let is_last = self.last.as_ref().is_some_and(|(last, _)| self.have_one_base(*last, root));
        let root_of = &self.roots[root];
        if !is_last {
            self.last = None;
        }
        let (_, directories) = match &mut self.last {
            Some(last) => last,
            none => none.insert((root, Directories::new(root_of.open_base()?))),
        };
        let source = root_of.locate(offered).map_err(error_of)?;
        let name = source.name().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = source.parent().unwrap_or_else(RelativePath::root);
        SourceFile::open(&directories.get(&parent)?, name)
    }

    fn have_one_base(&self, one: usize, other: usize) -> bool {
        match (&self.roots[one].base, &self.roots[other].base) {
            (Base::Trusted(one), Base::Trusted(other)) => one == other,
            _ => one == other,
        }
    }
}
