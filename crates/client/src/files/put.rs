//! Puts files into a share.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use ::files::client::{PutRequest, put};
use ::files::framing::{MessageReader, MessageWriter};
use ::files::parts::Rendezvous;
use ::files::path::RelativePath;
use ::files::root::Root;
use ::files::sender::Sources;
use ::files::size_up::is_large;
use cli_support::wakeable::{WakeableInput, Waker};
use tokio::task::{JoinHandle, spawn_blocking};
use wire_protocol::message::{FilesAccess, Part, Placement, TransferOptions};

use super::error::FilesError;
use super::events::{EventSender, EventSenders};
use super::names::{Names, split};
use super::options::Options;
use super::remote_path::RemotePath;
use super::stop::{Pace, Stop};
use super::stream::{Stream, close, failed, open_all};
use super::summary::{Direction, Summary};
use super::transfer::Transfer;
use crate::connect::Credentials;
use crate::error::Error;
use crate::server::Server;

/// A request to put files: the sources here, and the destination in a share.
#[derive(Debug)]
pub struct Put {
    source: Source,
    names: Names,
    share: String,
    destination: RelativePath,
    placement: Placement,
    options: Options,
}

enum Source {
    Roots(Vec<Root>),
    Input { input: WakeableInput, waker: Waker, name: RelativePath },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(roots) => f.debug_tuple("Roots").field(roots).finish(),
            Self::Input { name, .. } => f.debug_struct("Input").field("name", name).finish_non_exhaustive(),
        }
    }
}

impl Put {
    /// Files and directories with all that is in them, under their last names; of a path without one, such as `.`, what is in that
    /// directory. They are stored in the destination, where it was written as a directory or is one, else as it.
    ///
    /// # Errors
    /// [`FilesError::SameName`], [`FilesError::ContentsAndMore`], [`FilesError::Path`]. A path that is not there fails later, and
    /// alone.
    pub fn paths(
        paths: impl IntoIterator<Item = impl Into<PathBuf>>,
        destination: RemotePath,
        options: Options,
    ) -> Result<Self, FilesError> {
        let (mut roots, mut names, mut has_contents) = (Vec::new(), Names::default(), false);
        for path in paths {
            let path: PathBuf = path.into();
            let bytes = path.as_os_str().as_bytes();
            roots.push(Root::new(&path).map_err(|code| FilesError::Path { path: bytes.to_vec(), code })?);
            match split(path.as_os_str()) {
                Some((prefix, name)) if !names.add(prefix, name) => {
                    return Err(match has_contents {
                        true => FilesError::ContentsAndMore,
                        false => FilesError::SameName { name: name.to_vec() },
                    });
                }
                Some(_) => {}
                None => {
                    has_contents = true;
                    let separator = if bytes.is_empty() || bytes.ends_with(b"/") { &b""[..] } else { b"/" };
                    if !names.add_contents(&[bytes, separator].concat()) {
                        return Err(FilesError::ContentsAndMore);
                    }
                }
            }
        }
        let placement = match destination.is_directory() || has_contents || roots.len() > 1 {
            true => Placement::Into,
            false => Placement::Automatic,
        };
        Self::new(Source::Roots(roots), names, &destination, placement, options)
    }

    /// All that comes from `input`, up to its end, as a file of the destination's name.
    ///
    /// # Errors
    /// [`FilesError::NoName`] where the destination is a directory; [`FilesError::Stdio`].
    pub fn input(input: File, destination: RemotePath, options: Options) -> Result<Self, FilesError> {
        let name = destination.name().filter(|_| !destination.is_directory()).ok_or(FilesError::NoName)?;
        let name = relative(name)?;
        let failed = |source| FilesError::Stdio { stream: "standard input", source };
        let (input, waker) = WakeableInput::new(input).map_err(failed)?;
        let source = Source::Input { input, waker, name };
        Self::new(source, Names::of_stream(b"-"), &destination, Placement::As, options)
    }

    fn new(
        source: Source,
        names: Names,
        destination: &RemotePath,
        placement: Placement,
        options: Options,
    ) -> Result<Self, FilesError> {
        let share = destination.share().to_owned();
        Ok(Self { source, names, share, destination: relative(destination.path())?, placement, options })
    }

    /// Puts only these of what was named, with all that is in them, each where it would come to anyway. The paths begin as those that
    /// were named.
    ///
    /// # Errors
    /// [`FilesError::NotNamed`]; [`FilesError::StreamAlone`] where no paths were named.
    pub fn only(mut self, listed: &BTreeSet<Vec<u8>>) -> Result<Self, FilesError> {
        let Source::Roots(roots) = &mut self.source else {
            return Err(FilesError::StreamAlone { stream: "standard input" });
        };
        let mut offers = BTreeSet::new();
        let mut chosen = Vec::new();
        for path in listed {
            let offer =
                self.names.to_offer(path).ok_or_else(|| FilesError::NotNamed { path: path.clone() })?;
            if offer.is_empty() {
                // All that is in the directory that was named.
                return Ok(self);
            }
            chosen.push((offer.clone(), path));
            offers.insert(offer);
        }
        chosen.retain(|(offer, _)| !parents(offer).any(|parent| offers.contains(parent)));
        *roots = Vec::with_capacity(chosen.len());
        for (offer, path) in chosen {
            let named = |code| FilesError::Path { path: path.clone(), code };
            let root =
                Root::new(&PathBuf::from(std::ffi::OsString::from_vec(path.clone()))).map_err(named)?;
            roots.push(root.offered_as(relative(&offer)?));
        }
        Ok(self)
    }

    /// Opens the streams, and begins.
    ///
    /// # Errors
    /// [`FilesError::Share`] where the server does not let this client; what a connection fails with.
    pub async fn start(self, credentials: &Credentials, server: &Server) -> Result<Transfer, Error> {
        let Self { source, names, share, destination, placement, options } = self;
        let stop = Stop::default();
        let (source, wanted) = match source {
            Source::Input { input, waker, name } => {
                stop.add_input(waker);
                (Sources::Stream { input: Box::new(input), name }, 1)
            }
            Source::Roots(roots) => {
                let filter = options.filter.clone();
                let chosen = options.clone();
                let sized = spawn_blocking(move || {
                    let wanted = chosen.streams(|| is_large(&roots, &filter));
                    (Sources::Roots(roots), wanted)
                });
                sized.await.map_err(|error| Error::Runtime(std::io::Error::other(error)))?
            }
        };
        let access: (&str, FilesAccess) = (&share, options.put_access());
        let is_asked_for = options.streams.is_some();
        let streams = open_all(credentials, server, access, wanted, is_asked_for, &stop).await?;
        let count = u16::try_from(streams.len()).unwrap_or(Part::MAX_COUNT);
        let running = Arc::new(Running {
            address: server.to_string(),
            destination,
            options: options.to_wire(),
            pace: Pace::new(stop.clone(), options.rate.map(|rate| rate.bytes_per_second())),
            filter: options.filter,
            stop: stop.clone(),
        });
        let (senders, events) = EventSenders::new();
        let roots = match &source {
            Sources::Roots(roots) => roots.clone(),
            Sources::Stream { .. } => Vec::new(),
        };
        let mut first = Some(source);
        let (placements, mut waiting): (Vec<_>, Vec<_>) =
            (1..count).map(|_| mpsc::sync_channel::<Placement>(1)).unzip();
        let mut placements = Some(placements);
        let mut handles: Vec<JoinHandle<Result<(), FilesError>>> = Vec::with_capacity(streams.len());
        for (index, (stream, rendezvous)) in (0..count).zip(streams.into_iter().zip(Rendezvous::new(count))) {
            let job = Job {
                running: Arc::clone(&running),
                stream,
                rendezvous,
                part: Part { index, count },
                sources: first.take().unwrap_or_else(|| Sources::Roots(roots.clone())),
                events: senders.of(index),
            };
            let others = placements.take();
            let placement_told = if index == 0 { None } else { Some(waiting.remove(0)) };
            handles.push(spawn_blocking(move || match (others, placement_told) {
                (Some(others), _) => job.run_first(placement, &others),
                (None, told) => job.run_behind(told),
            }));
        }
        let summary = Summary::new(Direction::Put, options.dry_run);
        Ok(Transfer::new(events, handles, stop, names, summary))
    }
}

/// The parents of a path.
pub(super) fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| &path[..end])
}

pub(super) fn relative(path: &[u8]) -> Result<RelativePath, FilesError> {
    if path.is_empty() {
        return Ok(RelativePath::root());
    }
    RelativePath::parse(path).map_err(|code| FilesError::Path { path: path.to_vec(), code })
}

/// What all streams of a put have in common.
struct Running {
    address: String,
    destination: RelativePath,
    options: TransferOptions,
    pace: Pace,
    filter: ::files::filter::Filter,
    stop: Stop,
}

/// One stream of a put.
struct Job {
    running: Arc<Running>,
    stream: Stream,
    rendezvous: Rendezvous,
    part: Part,
    sources: Sources,
    events: EventSender,
}

impl Job {
    /// Runs the first stream, which tells the others where to put what they send.
    fn run_first(
        self,
        placement: Placement,
        others: &[mpsc::SyncSender<Placement>],
    ) -> Result<(), FilesError> {
        let tell = |placement| {
            for other in others {
                // One that is gone has failed.
                other.send(placement).ok();
            }
        };
        let mut on_ready = |is_directory| tell(if is_directory { Placement::Into } else { Placement::As });
        let waits = placement == Placement::Automatic && !others.is_empty();
        if !waits {
            tell(placement);
        }
        self.run(placement, waits.then_some(&mut on_ready))
    }

    /// Runs another stream, once it was told where to.
    fn run_behind(self, told: Option<mpsc::Receiver<Placement>>) -> Result<(), FilesError> {
        match told.and_then(|told| told.recv().ok()) {
            Some(placement) => self.run(placement, None),
            // The first one has failed.
            None => Err(FilesError::Stopped),
        }
    }

    fn run(self, placement: Placement, on_ready: Option<&mut dyn FnMut(bool)>) -> Result<(), FilesError> {
        let Self { running, stream, rendezvous, part, sources, events } = self;
        let (mut reader, writer) = (MessageReader::new(stream.read), MessageWriter::new(stream.write));
        let request = PutRequest {
            destination: running.destination.clone(),
            placement,
            options: running.options,
            part,
        };
        let result = put(
            &mut reader,
            &writer,
            sources,
            &request,
            &running.filter,
            rendezvous,
            on_ready,
            &running.pace,
            &mut |event| {
                events.send(event);
            },
        );
        end(result, reader, &writer, &running.address, &running.stop)
    }
}

/// Ends a stream, and with an error the other ones.
pub(super) fn end(
    result: Result<(), ::files::error::Error>,
    reader: MessageReader<super::stream::Input>,
    writer: &MessageWriter<super::stream::Output>,
    address: &str,
    stop: &Stop,
) -> Result<(), FilesError> {
    match result {
        Ok(()) => {
            close(reader.into_inner(), writer);
            Ok(())
        }
        Err(_) if stop.is_stopped() => Err(FilesError::Stopped),
        Err(error) => {
            if let ::files::error::Error::Refused(_) = error {
                close(reader.into_inner(), writer);
            }
            stop.stop();
            Err(failed(address, error))
        }
    }
}
