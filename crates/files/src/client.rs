//! The client's side of an exchange on one stream: it puts, gets and lists.

use wire_protocol::message::{
    FilesCode, FilesMessage, MAX_ENTRIES, Part, Placement, ShareAccess, TransferOptions,
};

use crate::control::Control;
use crate::error::Error;
use crate::event::Event;
use crate::filter::Filter;
use crate::framing::{Input, MessageReader, MessageWriter, Output};
use crate::keep_alive::KeepAlive;
use crate::listing::{Listed, end, ended_early};
use crate::parts::Rendezvous;
use crate::path::RelativePath;
use crate::receiver::Receiver;
use crate::sender::{Ending, OnReady, Sender, Sources};

/// What a client wants to put, and where to.
#[derive(Debug, Clone)]
pub struct PutRequest {
    /// Where to, below the share.
    pub destination: RelativePath,
    /// What the destination is.
    pub placement: Placement,
    /// How it is stored.
    pub options: TransferOptions,
    /// The part of it that goes on this stream.
    pub part: Part,
}

/// What a client wants to get.
#[derive(Debug, Clone)]
pub struct GetRequest {
    /// What, below the share; the path without a name, which is the only one then, for all that is in it.
    pub paths: Vec<RelativePath>,
    /// Whether hashes are told.
    pub checksum: bool,
    /// The part of it that comes on this stream.
    pub part: Part,
}

/// Sends files, and leaves out what `filter` says. The streams of one transfer meet at `rendezvous`, and the others are asked for once
/// the first one's `on_ready` has said whether the destination is a directory. Both directions of the stream are at their end then, also
/// after [`Error::Refused`].
///
/// # Errors
/// What has ended it. Apart from [`Error::Refused`], the stream is of no more use. A file that fails is an [`Event`] instead.
#[expect(clippy::too_many_arguments, reason = "the two directions, what is said, and what is heard of it")]
pub fn put<R: Input + Send, W: Output + Send + 'static>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    sources: Sources,
    request: &PutRequest,
    filter: &Filter,
    rendezvous: Rendezvous,
    on_ready: Option<OnReady<'_>>,
    control: &dyn Control,
    events: &mut dyn FnMut(Event),
) -> Result<(), Error> {
    let _alive = KeepAlive::begin(writer.clone())?;
    let PutRequest { destination, placement, options, part } = request;
    writer.say(&FilesMessage::Put {
        destination: destination.as_bytes().into(),
        placement: *placement,
        options: *options,
        part: *part,
    })?;
    let sender = Sender {
        sources,
        filter,
        part: *part,
        has_checksums: options.checksum,
        is_dry_run: options.dry_run,
        ending: Ending::Meeting { rendezvous, has_attributes: options.preserve },
    };
    sender.run(reader, writer, on_ready, control, events)
}

/// Receives files. `on_ready` is told whether the server wants the other parts to be asked for: where it does not, all comes on this
/// stream. Both directions of the stream are at their end then, also after [`Error::Refused`].
///
/// # Errors
/// As [`put`].
pub fn get<R: Input + Send, W: Output + Send + 'static>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    request: &GetRequest,
    receiver: Receiver,
    on_ready: &mut dyn FnMut(bool),
    control: &dyn Control,
    events: &mut dyn FnMut(Event),
) -> Result<(), Error> {
    for path in &request.paths {
        writer.say(&FilesMessage::Path { path: path.as_bytes().into() })?;
    }
    writer.say(&FilesMessage::Get { checksum: request.checksum, part: request.part })?;
    writer.flush()?;
    match reader.next()?.ok_or_else(ended_early)? {
        FilesMessage::Ready { is_large, .. } => on_ready(is_large),
        FilesMessage::Failed { code } => return Err(refused(reader, writer, code)),
        _ => return Err(Error::Protocol("it answers before it is ready")),
    }
    receiver.run(reader, writer, control, events)?;
    end(reader, writer)
}

/// Lists what is at `path`, or all shares there are on a stream for that, and hands it to `each`.
///
/// # Errors
/// As [`put`], and those of `each`, which end it.
pub fn list<R: Input, W: Output + Send + 'static>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    path: &RelativePath,
    is_recursive: bool,
    each: &mut dyn FnMut(Listed) -> Result<(), Error>,
) -> Result<(), Error> {
    let _alive = ask_list(writer, path, is_recursive)?;
    let mut count = 0;
    loop {
        let listed = match reader.next()?.ok_or_else(ended_early)? {
            FilesMessage::Listed { entry }
                if entry.modified.nanoseconds < 1_000_000_000 && RelativePath::parse(&entry.path).is_ok() =>
            {
                Listed::Entry(entry)
            }
            FilesMessage::Unreadable { path, code } => Listed::Unreadable { path, code },
            FilesMessage::ListEnd => return end(reader, writer),
            FilesMessage::Failed { code } => return Err(refused(reader, writer, code)),
            _ => return Err(Error::Protocol("it lists what is no entry")),
        };
        count += 1;
        if count > MAX_ENTRIES {
            return Err(Error::Protocol("its listing does not end"));
        }
        each(listed)?;
    }
}

/// The shares that there are for the client.
///
/// # Errors
/// As [`put`].
pub fn shares<R: Input, W: Output + Send + 'static>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
) -> Result<Vec<(String, ShareAccess)>, Error> {
    let _alive = ask_list(writer, &RelativePath::root(), false)?;
    let mut shares = Vec::new();
    loop {
        match reader.next()?.ok_or_else(ended_early)? {
            FilesMessage::Share { name, access } if shares.len() < MAX_SHARES => shares.push((name, access)),
            FilesMessage::ListEnd => {
                end(reader, writer)?;
                return Ok(shares);
            }
            FilesMessage::Failed { code } => return Err(refused(reader, writer, code)),
            _ => return Err(Error::Protocol("it lists what is no share")),
        }
    }
}

/// Most shares that are listed.
const MAX_SHARES: usize = 10_000;

fn ask_list<W: Output + Send + 'static>(
    writer: &MessageWriter<W>,
    path: &RelativePath,
    is_recursive: bool,
) -> Result<KeepAlive, Error> {
    let alive = KeepAlive::begin(writer.clone())?;
    writer.say(&FilesMessage::List { path: path.as_bytes().into(), is_recursive })?;
    writer.flush()?;
    Ok(alive)
}

/// The error of a request that the server has refused: it ends the stream then.
fn refused<R: Input, W: Output>(
    reader: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
    code: FilesCode,
) -> Error {
    end(reader, writer).err().unwrap_or(Error::Refused(code))
}
