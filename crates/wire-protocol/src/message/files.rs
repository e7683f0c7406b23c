//! The messages with which files are moved and listed (section 7.5). They travel within the data of a stream to a
//! [`Target::Files`](super::Target::Files) or [`Target::Shares`](super::Target::Shares), and not as control messages.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// A message within a stream for files. Its encoding has a `u16` with its length in front; the bytes of
/// [`FilesMessage::Data`] follow behind it.
///
/// The client asks, with Put, Get or List. What is put or got goes from a sender (client in a Put, server in a Get) to a
/// receiver. Offers have numbers, 0, 1, 2 and so on in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesMessage {
    /// Client: it will send files, to be stored below the share's directory.
    Put {
        /// Where to, below the share; empty for the share's directory itself.
        destination: Box<[u8]>,
        /// What the destination is.
        placement: Placement,
        /// How to store.
        options: TransferOptions,
        /// The part of the files that comes on this stream.
        part: Part,
    },
    /// Client, before Get: a file or directory that it wants.
    Path {
        /// The path below the share; empty for all that is in it.
        path: Box<[u8]>,
    },
    /// Client: it wants what it has named with Path.
    Get {
        /// Whether hashes are to be told.
        checksum: bool,
        /// The part of the files that is to come on this stream.
        part: Part,
    },
    /// Client: it wants to know what there is; on a stream to shares, with an empty path, which shares there are.
    List {
        /// The path below the share; empty for the share's directory itself.
        path: Box<[u8]>,
        /// Whether what is in the directories is listed as well.
        is_recursive: bool,
    },
    /// Server: what the client wants with a Put or Get can begin.
    Ready {
        /// Put with [`Placement::Automatic`]: the destination is a directory, and what comes is stored in it.
        is_directory: bool,
        /// Get, on the stream with index 0: there is so much that several streams are worth while. Else all comes on this one.
        is_large: bool,
    },
    /// Server, in place of Ready or in the middle of a listing: it cannot.
    Failed {
        /// The reason.
        code: FilesCode,
    },
    /// Server: an entry of a listing. Its path is relative to the share.
    Listed {
        /// The entry.
        entry: Entry,
    },
    /// Server: a share that the client may use.
    Share {
        /// Its name.
        name: String,
        /// What the client may do with it.
        access: ShareAccess,
    },
    /// Server: the listing is complete.
    ListEnd,
    /// Sender: a file, directory or symbolic link that it can send. Its path is relative to the destination.
    Offer {
        /// The entry.
        entry: Entry,
    },
    /// Sender: it cannot send an entry. Server, in a listing: it cannot list one.
    Unreadable {
        /// The path, as in an offer.
        path: Box<[u8]>,
        /// The reason.
        code: FilesCode,
    },
    /// Sender: there are no more offers.
    OffersEnd,
    /// Sender, after Want: what follows is the content of this file, from the first chunk that the receiver lacks.
    Begin {
        /// The number of its offer.
        number: u32,
    },
    /// Sender: so many bytes of content follow behind this message. They do not cross the end of a chunk.
    Data {
        /// 1 to [`MAX_DATA_LEN`].
        length: u32,
    },
    /// Sender: so many bytes of content that are zero, and a hole at the sender. They do not cross the end of a chunk.
    Hole {
        /// At least 1.
        length: u64,
    },
    /// Sender: all bytes of the current chunk have been sent.
    ChunkEnd {
        /// The hash of the chunk.
        hash: [u8; HASH_LEN],
    },
    /// Sender, in place of a chunk's content: its hash is the one that the receiver has told.
    Same,
    /// Sender: the file is complete.
    End {
        /// The hash of the file.
        hash: [u8; HASH_LEN],
        /// Its SHA-256, where that was asked for.
        sha256: Option<[u8; HASH_LEN]>,
    },
    /// Sender, in place of End: it does not send the rest of the file. Answered with Rejected, unless that is the reason.
    Abandon {
        /// The reason.
        code: FilesCode,
    },
    /// Sender: mode and time of a directory in which all has arrived.
    Attributes {
        /// The path, as in an offer.
        path: Box<[u8]>,
        /// The permissions.
        mode: u16,
        /// When it was modified last.
        modified: FileTime,
    },
    /// Sender: there is nothing more to come. Receiver: all that has arrived is on disk.
    Finish,
    /// Receiver: it has the same entry, or does not want it.
    Have {
        /// The number of the offer.
        number: u32,
        /// The SHA-256 of a file, where that was asked for.
        sha256: Option<[u8; HASH_LEN]>,
    },
    /// Receiver: it wants the content of a file; in a dry run, it would.
    Want {
        /// The number of the offer.
        number: u32,
        /// Chunks at the beginning that it has, and that are of this very source.
        held: u32,
        /// Chunks behind these that it has, and that may differ: their hashes follow.
        compare: u32,
    },
    /// Receiver, behind a Want: hashes of chunks to compare, in their order, at most [`MAX_HASHES`] in a message.
    Hashes {
        /// One for each chunk.
        hashes: Vec<[u8; HASH_LEN]>,
    },
    /// Receiver: the entry is in its place, and on disk.
    Done {
        /// The number of the offer.
        number: u32,
        /// The SHA-256 of a file as it was stored, where that was asked for.
        sha256: Option<[u8; HASH_LEN]>,
        /// The name that it was given, where that differs from the one that was offered.
        stored_as: Option<Box<[u8]>>,
    },
    /// Receiver: the entry is not stored. Where its content is under way, the sender abandons it.
    Rejected {
        /// The number of the offer.
        number: u32,
        /// The reason.
        code: FilesCode,
    },
    /// Receiver, in a Get, always: all streams have brought what they have to, and the Attributes of directories may come.
    AskAttributes,
}

/// Most bytes behind one [`FilesMessage::Data`].
pub const MAX_DATA_LEN: usize = 1024 * 1024;
/// Bytes of a hash.
pub const HASH_LEN: usize = 32;
/// Most hashes in one [`FilesMessage::Hashes`].
pub const MAX_HASHES: usize = 128;
/// Most offers that have been made and not been answered with Have, Done or Rejected.
pub const MAX_OUTSTANDING: usize = 1024;
/// Most bytes of a path, without a separator at its end.
pub const MAX_PATH_LEN: usize = 4000;
/// Most bytes of a name within a path.
pub const MAX_NAME_LEN: usize = 255;
/// Most names in a path.
pub const MAX_DEPTH: usize = 256;
/// Most bytes of what a symbolic link leads to.
pub const MAX_LINK_LEN: usize = 4000;
/// Most [`FilesMessage::Path`] before a [`FilesMessage::Get`].
pub const MAX_PATHS: usize = 1024;
/// Most entries that one stream offers or lists.
pub const MAX_ENTRIES: u32 = 4_000_000;

/// What a client wants to do with a share, which decides on whether it may open the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesAccess {
    /// List and get.
    Read,
    /// Put, where nothing of the name stands yet.
    Add,
    /// Put, also in place of what stands there.
    Replace,
}

/// What a client may do with a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ShareAccess {
    /// List and get.
    ReadOnly,
    /// List, get, and put, also in place of what stands there.
    ReadWrite,
    /// Put where nothing of the name stands yet, and neither list nor get.
    Drop,
}

impl ShareAccess {
    /// Whether it includes `access`.
    #[must_use]
    pub fn permits(self, access: FilesAccess) -> bool {
        match self {
            Self::ReadOnly => access == FilesAccess::Read,
            Self::ReadWrite => true,
            Self::Drop => access == FilesAccess::Add,
        }
    }
}

/// What the destination of a Put is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// A directory, which is made where it does not exist. What is offered is stored in it.
    Into,
    /// The name that the only root of what is offered gets: it takes the place of the first name in each path.
    As,
    /// [`Placement::Into`] where a directory stands there, else [`Placement::As`]; Ready says which.
    Automatic,
}

/// How a receiver stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferOptions {
    /// What happens where something else has the name already.
    pub existing: Existing,
    /// Whether permissions and times are those of the source.
    pub preserve: bool,
    /// Whether files are compared by SHA-256 in place of size and time, and hashes told.
    pub checksum: bool,
    /// Whether a file is read back from the disk and compared before it gets its name.
    pub verify_disk: bool,
    /// Whether nothing is to be changed, only told what would be.
    pub dry_run: bool,
}

/// What a receiver does where something else has an entry's name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// Reject the entry.
    Refuse,
    /// Replace it.
    Replace,
    /// Give the entry another name.
    Rename,
}

/// The part of a transfer's files that a stream carries. Each stream of the transfer has the same request with another index; a file
/// belongs to the stream that section 7.5 says, and all that is no file to the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// 0 to count - 1.
    pub index: u16,
    /// 1 to [`Part::MAX_COUNT`].
    pub count: u16,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };
    /// Most streams of one transfer.
    pub const MAX_COUNT: u16 = 16;

    /// Whether the numbers are in their ranges.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.index < self.count && self.count <= Self::MAX_COUNT
    }
}

/// A file, directory or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Names with `/` between them, in any bytes but 0; no empty name, `.` or `..`, no `/` at either end.
    pub path: Box<[u8]>,
    /// What it is.
    pub kind: EntryKind,
    /// The permissions: the lower nine bits of its mode.
    pub mode: u16,
    /// When it was modified last.
    pub modified: FileTime,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A file.
    File {
        /// Its size in bytes; `None` where that is not known yet, which is a stream's.
        size: Option<u64>,
        /// Bytes that it takes on the sender's disk, at most its size: fewer where it has holes. `None` where that is not
        /// known, and in a listing.
        allocated: Option<u64>,
        /// Stands for the state of the source: equal where nothing has written to it. Zeros in a listing, and where there is no
        /// such state.
        source: [u8; HASH_LEN],
        /// The SHA-256 of the content, where that was asked for.
        sha256: Option<[u8; HASH_LEN]>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it leads to, at most [`MAX_LINK_LEN`] bytes; with the path at most [`MAX_PATH_LEN`] + 3000.
        target: Box<[u8]>,
    },
}

/// A time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileTime {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999 after these.
    pub nanoseconds: u32,
}

/// Why an entry, or a whole request, has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilesCode {
    /// Something else has that name.
    Exists,
    /// There is nothing of that name.
    NotFound,
    /// The system does not let it.
    Denied,
    /// The path is none that may be used: too long, too deep, with a name that is not allowed, or one of the names that unfinished
    /// files have.
    BadPath,
    /// A part of the path is not a directory, or is a symbolic link, which is never followed.
    NotDirectory,
    /// It is a directory, and something else is meant.
    IsDirectory,
    /// It is neither a file nor a directory nor a symbolic link.
    UnsupportedKind,
    /// The disk is full.
    NoSpace,
    /// The share holds as much as it may.
    Quota,
    /// Another transfer writes to that name now.
    Busy,
    /// The source has changed while it was sent.
    Changed,
    /// What has arrived, or was read back from the disk, is not what was sent.
    Mismatch,
    /// There are more entries than one request may have.
    TooMany,
    /// Only its name is known: reading or writing has failed.
    Io,
}

impl fmt::Display for FilesCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "something else has that name already",
            Self::NotFound => "there is nothing of that name",
            Self::Denied => "the system does not permit it",
            Self::BadPath => "the path is too long or too deep, or has a name that is not allowed",
            Self::NotDirectory => "a part of the path is not a directory, or is a symbolic link",
            Self::IsDirectory => "it is a directory",
            Self::UnsupportedKind => "it is neither a file nor a directory nor a symbolic link",
            Self::NoSpace => "the disk is full",
            Self::Quota => "the share holds as much as it may",
            Self::Busy => "another transfer writes to that name",
            Self::Changed => "it has changed while it was being sent",
            Self::Mismatch => "what was stored is not what was sent",
            Self::TooMany => "there are too many entries",
            Self::Io => "it could not be read or written",
        })
    }
}
