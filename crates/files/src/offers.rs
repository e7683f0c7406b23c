//! What a sender offers, one entry after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use wire_protocol::message::{Entry, EntryKind, FileTime, FilesCode, HASH_LEN};

use crate::cause::Cause;
use crate::chunks::{chunk_count, source_identity};
use crate::control::Control;
use crate::directory::Kind;
use crate::error::Error;
use crate::path::RelativePath;
use crate::root::{Locator, Root};
use crate::source::SourceError;
use crate::walk::{Found, Step, Walk};

/// An offer that has been made.
#[derive(Debug)]
pub(crate) struct Offered {
    /// The path of the offer.
    pub(crate) path: Arc<PathBuf>,
    /// What it is the path of.
    pub(crate) origin: Origin,
    /// Bytes of its content: 0 for what is no file, `None` where it is not known.
    pub(crate) size: Option<u64>,
    /// Its SHA-256, where that was asked for and is known.
    pub(crate) sha256: Option<[u8; HASH_LEN]>,
    /// Why its content was given up.
    pub(crate) abandoned: Option<Cause>,
    /// Whether nobody is told what becomes of it: a directory that is offered for what is in it.
    pub(crate) is_implied: bool,
}

/// Where the content of an offer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// There is none: it is no file.
    None,
    /// A file.
    File {
        /// Below which root.
        root: usize,
        /// The state of the file that was offered.
        identity: [u8; HASH_LEN],
    },
    /// A stream.
    Stream,
}

impl Offered {
    /// The chunks of a file, 0 where they are not known; `None` for what is no file.
    pub(crate) fn chunks(&self) -> Option<u32> {
        match self.origin {
            Origin::None => None,
            Origin::File { .. } => self.size.map(chunk_count),
            Origin::Stream => Some(0),
        }
    }
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// An entry to be offered.
    Offer(Box<(Entry, Offered)>),
    /// Something that cannot be sent.
    Unreadable(RelativePath, Cause),
}

/// The entries of trees that are to be offered.
#[derive(Debug)]
pub(crate) struct Offers<'a> {
    walk: Walk<'a>,
    locator: Locator<'a>,
    has_sha256: bool,
}

impl<'a> Offers<'a> {
    pub(crate) fn new(walk: Walk<'a>, roots: &'a [Root], has_sha256: bool) -> Self {
        Self { walk, locator: Locator::new(roots), has_sha256 }
    }

    /// The next one. With SHA-256, a file is read for it.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) fn next(&mut self, control: &dyn Control) -> Result<Option<Next>, Error> {
        Ok(match self.walk.next() {
            None => None,
            Some(Step::Unreadable { path, cause }) => Some(Next::Unreadable(path, cause)),
            Some(Step::Entry(found)) => Some(self.offer(found, control)?),
        })
    }

    fn offer(&mut self, found: Found, control: &dyn Control) -> Result<Next, Error> {
        let Found { root, path, mut status, target, is_implied } = found;
        let mut sha256 = None;
        if self.has_sha256 && status.kind == Kind::File {
            let file = match self.locator.open(root, &path) {
                Ok(file) => file,
                Err(error) => return Ok(Next::Unreadable(path, error.into())),
            };
            sha256 = match file.sha256(control) {
                Ok(sha256) => Some(sha256),
                Err(SourceError::Changed) => return Ok(Next::Unreadable(path, FilesCode::Changed.into())),
                Err(SourceError::Io(error)) => return Ok(Next::Unreadable(path, error.into())),
                Err(SourceError::Ended(error)) => return Err(error),
            };
            status = file.into_status();
        }
        let (kind, origin, size) = match (status.kind, target) {
            (Kind::Directory, _) => (EntryKind::Directory, Origin::None, 0),
            (_, Some(target)) => (EntryKind::Symlink { target }, Origin::None, 0),
            _ => {
                let source = source_identity(&status);
                // What is set aside behind its end does not move.
                let allocated = Some(status.allocated.min(status.size));
                let kind = EntryKind::File { size: Some(status.size), allocated, source, sha256 };
                (kind, Origin::File { root, identity: source }, status.size)
            }
        };
        let (size, shown) = (Some(size), Arc::new(path.to_path_buf()));
        let offered = Offered { path: shown, origin, size, sha256, abandoned: None, is_implied };
        let entry =
            Entry { path: path.as_bytes().into(), kind, mode: status.mode, modified: status.modified };
        Ok(Next::Offer(Box::new((entry, offered))))
    }
}

/// The offer of a stream under `path`.
pub(crate) fn stream_offer(path: &RelativePath) -> Next {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified = FileTime {
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: now.subsec_nanos(),
    };
    let kind = EntryKind::File { size: None, allocated: None, source: [0; HASH_LEN], sha256: None };
    let entry = Entry { path: path.as_bytes().into(), kind, mode: STREAM_MODE, modified };
    let path = Arc::new(path.to_path_buf());
    let (origin, size, sha256) = (Origin::Stream, None, None);
    let offered = Offered { path, origin, size, sha256, abandoned: None, is_implied: false };
    Next::Offer(Box::new((entry, offered)))
}

/// The permissions of a file that comes from a stream, which has none.
const STREAM_MODE: u16 = 0o644;
