//! The server's side of an exchange on one stream: it reads what the client asks for, and does it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use wire_protocol::message::{
    Existing, FilesAccess, FilesCode, FilesMessage, MAX_PATH_LEN, MAX_PATHS, Part, Placement, ShareAccess,
    TransferOptions,
};

use crate::claims::{Claims, End};
use crate::control::{Control, Room};
use crate::directory::{Directory, Kind};
use crate::error::Error;
use crate::event::{Event, Side};
use crate::filter::Filter;
use crate::framing::{Input, MessageReader, MessageWriter, Output};
use crate::keep_alive::KeepAlive;
use crate::listing::{self, end, ended_early, parse_requested};
use crate::path::RelativePath;
use crate::receiver::{Placed, Receiver};
use crate::root::Root;
use crate::sender::{Ending, Sender, Sources};
use crate::size_up::is_large;

/// A directory that a server shares.
#[derive(Clone)]
pub struct Share {
    /// The directory.
    pub directory: Directory,
    /// What the client may do with it.
    pub access: ShareAccess,
    /// How much may be stored in it.
    pub room: Arc<dyn Room>,
    /// The names that are being written now, by whatever client.
    pub claims: Claims,
    /// Ends the transfer where a later one of the same client takes a name over from it.
    pub end: Option<End>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, access, .. } = self;
        f.debug_struct("Share").field("directory", directory).field("access", access).finish_non_exhaustive()
    }
}

/// What a client asks for.
enum Request {
    Put { destination: Box<[u8]>, placement: Placement, options: TransferOptions, part: Part },
    Get { paths: Vec<Box<[u8]>>, checksum: bool, part: Part },
    List { path: Box<[u8]>, is_recursive: bool },
    TooManyPaths,
}

/// Does what a client asks for on a stream that was opened for `access`, which has been found to be its right. Unfinished files belong to
/// `owner`. Both directions of the stream are at their end then, also where the request was refused: then this gives the reason.
///
/// # Errors
/// What has ended it: the stream is of no more use. A file that fails is an [`Event`] instead.
pub fn serve<R: Input + Send, W: Output + Send + 'static>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    share: &Share,
    access: FilesAccess,
    owner: &[u8],
    control: &dyn Control,
    events: &mut dyn FnMut(Event),
) -> Result<Option<FilesCode>, Error> {
    let _alive = KeepAlive::begin(writer.clone())?;
    let served = match (read_request(reader)?, access) {
        (Request::TooManyPaths, _) => Err(Refusal::Failed(FilesCode::TooMany)),
        (Request::Put { destination, placement, options, part }, FilesAccess::Add | FilesAccess::Replace) => {
            put(share, access, owner, &destination, placement, options, part, writer).and_then(|receiver| {
                receiver.run(reader, writer, control, events)?;
                Ok(end(reader, writer)?)
            })
        }
        (Request::Get { paths, checksum, part }, FilesAccess::Read) => {
            get(share, &paths, checksum, part, reader, writer, control, events)
        }
        (Request::List { path, is_recursive }, FilesAccess::Read) => {
            let refused = listing::tell(writer, &share.directory, &path, is_recursive, control)?;
            end(reader, writer)?;
            return Ok(refused);
        }
        _ => Err(Refusal::Failed(FilesCode::Denied)),
    };
    match served {
        Ok(()) => Ok(None),
        Err(Refusal::Failed(code)) => refuse(reader, writer, code).map(|()| Some(code)),
        Err(Refusal::Ended(error)) => Err(error),
    }
}

/// Tells a client which shares there are.
///
/// # Errors
/// As [`serve`].
pub fn serve_shares<R: Input, W: Output + Send + 'static>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    shares: &[(String, ShareAccess)],
) -> Result<Option<FilesCode>, Error> {
    let _alive = KeepAlive::begin(writer.clone())?;
    let code = match read_request(reader)? {
        Request::List { path, .. } if path.is_empty() => {
            listing::tell_shares(writer, shares)?;
            return end(reader, writer).map(|()| None);
        }
        Request::List { .. } => FilesCode::BadPath,
        _ => FilesCode::Denied,
    };
    refuse(reader, writer, code).map(|()| Some(code))
}

/// Why a request is not done.
enum Refusal {
    /// It cannot be done.
    Failed(FilesCode),
    /// The exchange has ended.
    Ended(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Ended(error)
    }
}

fn read_request<R: Input>(reader: &mut MessageReader<R>) -> Result<Request, Error> {
    let mut paths = Vec::new();
    loop {
        let request = match reader.next()?.ok_or_else(ended_early)? {
            FilesMessage::Path { .. } if paths.len() >= MAX_PATHS => return Ok(Request::TooManyPaths),
            FilesMessage::Path { path } => {
                paths.push(path);
                continue;
            }
            FilesMessage::Get { checksum, part } => {
                return Ok(Request::Get { paths, checksum, part: valid(part)? });
            }
            FilesMessage::Put { destination, placement, options, part } => {
                Request::Put { destination, placement, options, part: valid(part)? }
            }
            FilesMessage::List { path, is_recursive } => Request::List { path, is_recursive },
            _ => return Err(Error::Protocol("it begins with what is no request")),
        };
        if !paths.is_empty() {
            return Err(Error::Protocol("it names paths for what needs none"));
        }
        return Ok(request);
    }
}

fn valid(part: Part) -> Result<Part, Error> {
    if part.is_valid() { Ok(part) } else { Err(Error::Protocol("it wants a part that there is not")) }
}

/// Makes ready for what a client puts, and says so.
#[expect(clippy::too_many_arguments, reason = "the share, the request, and where the answer goes")]
fn put<W: Output>(
    share: &Share,
    access: FilesAccess,
    owner: &[u8],
    destination: &[u8],
    placement: Placement,
    options: TransferOptions,
    part: Part,
    writer: &MessageWriter<W>,
) -> Result<Receiver, Refusal> {
    if options.existing == Existing::Replace && access != FilesAccess::Replace {
        return Err(Refusal::Failed(FilesCode::Denied));
    }
    let base = parse_requested(destination).map_err(Refusal::Failed)?;
    let placed = match placement {
        Placement::As if base.is_root() => return Err(Refusal::Failed(FilesCode::BadPath)),
        Placement::As => Placed::As,
        Placement::Into => Placed::Into,
        Placement::Automatic if is_directory(share, &base) => Placed::Into,
        Placement::Automatic => Placed::As,
    };
    writer.say(&FilesMessage::Ready { is_directory: placed == Placed::Into, is_large: false })?;
    writer.flush()?;
    let mut receiver = Receiver::new(share.directory.clone(), base, placed, options, owner);
    receiver.part = part;
    receiver.room = Arc::clone(&share.room);
    receiver.claims = share.claims.clone();
    receiver.end.clone_from(&share.end);
    receiver.only_made = share.access == ShareAccess::Drop;
    Ok(receiver)
}

/// Whether a directory stands there, and no link to one.
fn is_directory(share: &Share, path: &RelativePath) -> bool {
    let Some(name) = path.name() else { return true };
    let parent = path.parent().unwrap_or_else(RelativePath::root);
    let status = share.directory.walk_to(&parent).and_then(|parent| parent.stat(name));
    status.is_ok_and(|status| status.is_some_and(|status| status.kind == Kind::Directory))
}

/// Sends what a client wants to get.
#[expect(clippy::too_many_arguments, reason = "the share, the request, and the two directions")]
fn get<R: Input + Send, W: Output>(
    share: &Share,
    paths: &[Box<[u8]>],
    checksum: bool,
    part: Part,
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    control: &dyn Control,
    events: &mut dyn FnMut(Event),
) -> Result<(), Refusal> {
    let has_whole = paths.iter().any(|path| path.is_empty());
    if paths.is_empty() || (has_whole && paths.len() > 1) {
        return Err(Refusal::Failed(FilesCode::BadPath));
    }
    let mut roots = Vec::new();
    let mut bad = Vec::new();
    for path in paths {
        match parse_requested(path) {
            Ok(path) => roots.push(Root::beneath(&share.directory, path)),
            Err(_) => bad.push(path),
        }
    }
    let filter = Filter::all();
    let is_large = part.count > 1 && (part.index > 0 || is_large(&roots, &filter));
    // So little comes on one stream.
    let part = if is_large { part } else { Part::WHOLE };
    writer.say(&FilesMessage::Ready { is_directory: false, is_large })?;
    for path in bad.into_iter().filter(|_| part.index == 0) {
        let code = FilesCode::BadPath;
        let path: Box<[u8]> = path[..path.len().min(MAX_PATH_LEN)].into();
        let shown = Arc::new(PathBuf::from(OsStr::from_bytes(&path)));
        writer.say(&FilesMessage::Unreadable { path, code })?;
        events(Event::Failed { path: shown, size: 0, code, system: None, side: Side::Sender });
    }
    let sender = Sender {
        sources: Sources::Roots(roots),
        filter: &filter,
        part,
        has_checksums: checksum,
        is_dry_run: false,
        ending: Ending::Asked,
    };
    Ok(sender.run(reader, writer, None, control, events)?)
}

/// Says that what the client asks for cannot be done, and reads what comes until it has heard that. Both directions of the stream are at
/// their end then.
///
/// # Errors
/// As [`serve`].
pub fn refuse<R: Input, W: Output>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    code: FilesCode,
) -> Result<(), Error> {
    writer.say(&FilesMessage::Failed { code })?;
    writer.shutdown()?;
    reader.discard()
}
