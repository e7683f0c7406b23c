//! What happens in an exchange, entry by entry, for progress and summaries.

use std::path::PathBuf;
use std::sync::Arc;

use wire_protocol::message::{FilesCode, HASH_LEN};

use crate::cause::SystemError;

/// Something that has happened. Paths are those of the offers: relative to the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry has been found that is to be moved; `size` is 0 for what is no file, and where it is not known.
    Found {
        /// Its path.
        path: Arc<PathBuf>,
        /// Bytes of its content.
        size: u64,
    },
    /// The content of a file begins to move, of which `held` bytes of `size` are there from an earlier attempt; of these, the
    /// last `compare` are compared first.
    Started {
        /// Its path.
        path: Arc<PathBuf>,
        /// Bytes of its content; 0 where it is not known.
        size: u64,
        /// Bytes that need not move again.
        held: u64,
        /// Bytes of `held` whose hashes are compared.
        compare: u64,
    },
    /// So many more bytes of the file that has begun last are done.
    Advanced {
        /// Bytes of its content.
        bytes: u64,
        /// Whether these were moved, and not only found to be the same, or a hole.
        is_moved: bool,
    },
    /// An entry is in its place, and on disk.
    Done {
        /// Its path.
        path: Arc<PathBuf>,
        /// Bytes of its content; 0 for what is no file.
        size: u64,
        /// What it was stored as, where the receiver gave it another name.
        stored_as: Option<PathBuf>,
        /// The SHA-256 of a file, where that was asked for.
        sha256: Option<[u8; HASH_LEN]>,
    },
    /// The receiver has the same entry already.
    Unchanged {
        /// Its path.
        path: Arc<PathBuf>,
        /// Bytes of its content; 0 for what is no file.
        size: u64,
        /// The SHA-256 of a file, where that was asked for.
        sha256: Option<[u8; HASH_LEN]>,
    },
    /// In a dry run: the entry would be moved.
    Would {
        /// Its path.
        path: Arc<PathBuf>,
        /// Bytes of its content that would move.
        size: u64,
    },
    /// An entry has failed; the others go on.
    Failed {
        /// Its path.
        path: Arc<PathBuf>,
        /// Bytes of its content.
        size: u64,
        /// The reason.
        code: FilesCode,
        /// What the system has said, where the reason is on this side.
        system: Option<SystemError>,
        /// On which side the reason is.
        side: Side,
    },
    /// All that there is has been found: what has been found so far is the whole.
    AllFound,
}

/// The side of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the files come from.
    Sender,
    /// Where they go to.
    Receiver,
}
