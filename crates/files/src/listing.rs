//! What is in a share, as a server tells it, and which shares there are.

use std::io;

use wire_protocol::message::{
    Entry, EntryKind, FilesCode, FilesMessage, HASH_LEN, MAX_ENTRIES, Part, ShareAccess,
};

use crate::control::{Control, named_len};
use crate::directory::{Directory, Kind};
use crate::error::Error;
use crate::filter::Filter;
use crate::framing::{Input, MessageReader, MessageWriter, Output};
use crate::path::RelativePath;
use crate::root::Root;
use crate::walk::{Found, Order, Step, Walk};

/// Tells what is at `path` in `directory`: a file or link itself, of a directory what is in it, and with `is_recursive` what is in the
/// directories there, too. Gives the reason where it was refused.
///
/// # Errors
/// Those of the stream; [`Error::Stopped`].
pub(crate) fn tell<W: Output>(
    writer: &MessageWriter<W>,
    directory: &Directory,
    path: &[u8],
    is_recursive: bool,
    control: &dyn Control,
) -> Result<Option<FilesCode>, Error> {
    match tell_entries(writer, directory, path, is_recursive, control) {
        Ok(()) => writer.say(&FilesMessage::ListEnd).map(|()| None),
        Err(Unlisted::Failed(code)) => writer.say(&FilesMessage::Failed { code }).map(|()| Some(code)),
        Err(Unlisted::Ended(error)) => Err(error),
    }
}

/// Why a listing does not come to its end.
enum Unlisted {
    Failed(FilesCode),
    Ended(Error),
}

impl From<Error> for Unlisted {
    fn from(error: Error) -> Self {
        Self::Ended(error)
    }
}

fn tell_entries<W: Output>(
    writer: &MessageWriter<W>,
    directory: &Directory,
    path: &[u8],
    is_recursive: bool,
    control: &dyn Control,
) -> Result<(), Unlisted> {
    let path = parse_requested(path).map_err(Unlisted::Failed)?;
    let roots = [Root::beneath(directory, path.clone()).offered_as(path.clone())];
    let filter = Filter::all();
    let walk = Walk::new(&roots, &filter, Part::WHOLE, Order::Parents);
    let walk = if is_recursive { walk } else { walk.shallow() };
    let mut count = 0;
    for step in walk {
        if control.is_stopped() {
            return Err(Error::Stopped.into());
        }
        let message = match step {
            // What was asked for itself.
            Step::Unreadable { path: missing, cause }
                if missing == path && cause.code != FilesCode::UnsupportedKind =>
            {
                return Err(Unlisted::Failed(cause.code));
            }
            Step::Entry(found) if found.path == path && found.status.kind == Kind::Directory => continue,
            Step::Unreadable { path, cause } => {
                FilesMessage::Unreadable { path: path.as_bytes().into(), code: cause.code }
            }
            Step::Entry(found) => {
                let entry = entry(found);
                control.named(named_len(&entry))?;
                FilesMessage::Listed { entry }
            }
        };
        count += 1;
        if count > MAX_ENTRIES {
            return Err(Unlisted::Failed(FilesCode::TooMany));
        }
        writer.say(&message)?;
    }
    Ok(())
}

fn entry(found: Found) -> Entry {
    let Found { path, status, target, .. } = found;
    let kind = match (status.kind, target) {
        (Kind::Directory, _) => EntryKind::Directory,
        (_, Some(target)) => EntryKind::Symlink { target },
        _ => {
            EntryKind::File { size: Some(status.size), allocated: None, source: [0; HASH_LEN], sha256: None }
        }
    };
    Entry { path: path.as_bytes().into(), kind, mode: status.mode, modified: status.modified }
}

/// Tells which shares there are.
///
/// # Errors
/// Those of the stream.
pub(crate) fn tell_shares<W: Output>(
    writer: &MessageWriter<W>,
    shares: &[(String, ShareAccess)],
) -> Result<(), Error> {
    for (name, access) in shares {
        writer.say(&FilesMessage::Share { name: name.clone(), access: *access })?;
    }
    writer.say(&FilesMessage::ListEnd)
}

/// Something in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// A file, directory or link. Its path is relative to the share.
    Entry(Entry),
    /// Something that the server cannot read, or that is none of these.
    Unreadable {
        /// Its path.
        path: Box<[u8]>,
        /// The reason.
        code: FilesCode,
    },
}

/// The path of a request: one that no unfinished file is named by.
pub(crate) fn parse_requested(path: &[u8]) -> Result<RelativePath, FilesCode> {
    let path = RelativePath::parse_or_root(path)?;
    if path.has_reserved_name() { Err(FilesCode::BadPath) } else { Ok(path) }
}

/// Ends the stream in both directions.
///
/// # Errors
/// Where the other side goes on.
pub(crate) fn end<R: Input, W: Output>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
) -> Result<(), Error> {
    writer.shutdown()?;
    match reader.next()? {
        None => Ok(()),
        Some(_) => Err(Error::Protocol("it goes on behind the end")),
    }
}

/// The error of a stream that ends too early.
pub(crate) fn ended_early() -> Error {
    Error::Channel(io::ErrorKind::UnexpectedEof.into())
}
