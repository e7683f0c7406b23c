//! Gets files out of a share.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ::files::claims::Claims;
use ::files::client::{GetRequest, get};
use ::files::control::Unbounded;
use ::files::framing::{MessageReader, MessageWriter};
use ::files::parts::Rendezvous;
use ::files::path::RelativePath;
use ::files::receiver::{OfferFilter, Receiver, Role};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use wire_protocol::message::{FilesAccess, Part};

use super::destination::Destination;
use super::error::FilesError;
use super::events::{EventSender, EventSenders, Events};
use super::names::Names;
use super::options::Options;
use super::put::{end, parents, relative};
use super::remote_path::RemotePath;
use super::stop::{Pace, Stop, StopOnDrop};
use super::stream::{Stream, open, open_others};
use super::summary::{Direction, Summary};
use super::transfer::Transfer;
use crate::connect::Credentials;
use crate::error::Error;
use crate::server::Server;

/// A request to get files: their paths in a share, and the destination here.
#[derive(Debug)]
pub struct Get {
    share: String,
    paths: Vec<RelativePath>,
    names: Names,
    /// Whether all that is in the share is to be got.
    has_contents: bool,
    goal: Goal,
    /// The offers that are wanted, where not all are.
    only: Option<Arc<BTreeSet<Vec<u8>>>>,
    options: Options,
}

/// Where it goes.
enum Goal {
    Path(PathBuf),
    Output(Box<dyn Write + Send>),
}

impl fmt::Debug for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Output(_) => f.write_str("Output"),
        }
    }
}

impl Get {
    /// Files and directories with all that is in them, under their last names; of a share itself what is in it. They are stored in
    /// `destination`, where that is a directory or is written as one, or where there are several, else as it.
    ///
    /// # Errors
    /// [`FilesError::SeveralShares`], [`FilesError::SameName`], [`FilesError::ContentsAndMore`].
    pub fn paths(
        sources: &[RemotePath],
        destination: impl Into<PathBuf>,
        options: Options,
    ) -> Result<Self, FilesError> {
        Self::new(sources, Goal::Path(destination.into()), options)
    }

    /// The content of a single file, into `output`.
    ///
    /// # Errors
    /// [`FilesError::StreamAlone`] where the source is none.
    pub fn output(
        source: &RemotePath,
        output: impl Write + Send + 'static,
        options: Options,
    ) -> Result<Self, FilesError> {
        if source.is_directory() {
            return Err(FilesError::StreamAlone { stream: "standard output" });
        }
        Self::new(std::slice::from_ref(source), Goal::Output(Box::new(output)), options)
    }

    fn new(sources: &[RemotePath], goal: Goal, options: Options) -> Result<Self, FilesError> {
        let share = sources.first().map_or("", RemotePath::share);
        if sources.iter().any(|source| source.share() != share) {
            return Err(FilesError::SeveralShares);
        }
        let (mut names, mut has_contents) = (Names::in_share(share), false);
        for source in sources {
            let path = source.path();
            let is_new = match source.name() {
                Some(name) => names.add(&path[..path.len() - name.len()], name),
                None => {
                    has_contents = true;
                    names.add_contents(b"")
                }
            };
            if !is_new {
                return Err(match source.name() {
                    Some(name) if !has_contents => FilesError::SameName { name: name.to_vec() },
                    _ => FilesError::ContentsAndMore,
                });
            }
        }
        let paths = sources.iter().map(|source| relative(source.path())).collect::<Result<_, _>>()?;
        Ok(Self { share: share.to_owned(), paths, names, has_contents, goal, only: None, options })
    }

    /// Gets only these of what was named, with all that is in them, each where it would come to anyway. The paths begin as those that
    /// were named, with their share.
    ///
    /// # Errors
    /// [`FilesError::NotNamed`].
    pub fn only(mut self, listed: &BTreeSet<Vec<u8>>) -> Result<Self, FilesError> {
        let offer = |path: &Vec<u8>| {
            self.names.to_offer(path).ok_or_else(|| FilesError::NotNamed { path: path.clone() })
        };
        let offers = listed.iter().map(offer).collect::<Result<BTreeSet<_>, _>>()?;
        // The empty one is all that is in the share.
        self.only = (!offers.contains(&b""[..])).then(|| Arc::new(offers));
        Ok(self)
    }

    /// Opens the streams, and begins.
    ///
    /// # Errors
    /// [`FilesError::Share`] where the server does not let this client; [`FilesError::LocalFile`] where the destination cannot be
    /// used; what a connection fails with.
    pub async fn start(self, credentials: &Credentials, server: &Server) -> Result<Transfer, Error> {
        let Self { share, paths, names, has_contents, goal, only, options } = self;
        let has_many = has_contents || paths.len() > 1;
        let (destination, mut output) = match goal {
            Goal::Path(path) => (path, None),
            // Nothing is stored: the directory is a place like any other.
            Goal::Output(output) => (PathBuf::from("."), Some(output)),
        };
        let is_dry_run = options.dry_run;
        let resolved = spawn_blocking(move || Destination::resolve(&destination, has_many, is_dry_run)).await;
        let destination = resolved.map_err(|error| Error::Runtime(std::io::Error::other(error)))??;
        let access = (share.as_str(), FilesAccess::Read);
        let mut count = if output.is_some() { 1 } else { options.streams(|| true) };
        let request = Arc::new(Request {
            address: server.to_string(),
            roots: (!has_contents)
                .then(|| paths.iter().filter_map(RelativePath::name).map(Box::from).collect()),
            paths,
            destination,
            only,
            claims: Claims::new(),
            options,
        });
        loop {
            let stop = Stop::default();
            let guard = StopOnDrop::new(stop.clone());
            let pace = Pace::new(stop.clone(), request.options.rate.map(|rate| rate.bytes_per_second()));
            let pace = Arc::new(pace);
            let stream = open(credentials, server, Some(access), &stop).await?;
            let (senders, events) = EventSenders::new();
            let mut meeting = Rendezvous::new(count).into_iter();
            let job = |index, stream, rendezvous, output| Job {
                request: Arc::clone(&request),
                pace: Arc::clone(&pace),
                stop: stop.clone(),
                stream,
                rendezvous,
                part: Part { index, count },
                output,
                events: senders.of(index),
            };
            let Some(rendezvous) = meeting.next() else { return Err(FilesError::Stopped.into()) };
            let others: Vec<Rendezvous> = meeting.collect();
            let first = job(0, stream, rendezvous, output.take());
            if others.is_empty() {
                let handle = spawn_blocking(move || first.run(&mut |_| {}));
                guard.forget();
                return Ok(transfer(events, vec![handle], stop, names, is_dry_run));
            }
            let (ready, is_large) = oneshot::channel();
            let (go, told) = mpsc::channel::<()>();
            let handle = spawn_blocking(move || first.run_first(ready, &told));
            // Without an answer it has failed, which the end of the transfer tells.
            if !is_large.await.unwrap_or(false) {
                for mut rendezvous in others {
                    rendezvous.arrive(pace.as_ref()).map_err(|_| FilesError::Stopped)?;
                }
                guard.forget();
                return Ok(transfer(events, vec![handle], stop, names, is_dry_run));
            }
            match open_others(credentials, server, access, count, &stop).await {
                Ok(streams) => {
                    let mut handles = vec![handle];
                    for ((index, stream), rendezvous) in (1..count).zip(streams).zip(others) {
                        let job = job(index, stream, rendezvous, None);
                        handles.push(spawn_blocking(move || job.run(&mut |_| {})));
                    }
                    go.send(()).ok();
                    guard.forget();
                    return Ok(transfer(events, handles, stop, names, is_dry_run));
                }
                Err(error) if request.options.streams.is_some() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "the server has no room for several streams: one is used");
                    drop(go);
                    drop(guard);
                    drop(events);
                    // Its end says nothing: it was told to.
                    handle.await.ok();
                    count = 1;
                }
            }
        }
    }
}

fn transfer(
    events: Events,
    handles: Vec<JoinHandle<Result<(), FilesError>>>,
    stop: Stop,
    names: Names,
    is_dry_run: bool,
) -> Transfer {
    Transfer::new(events, handles, stop, names, Summary::new(Direction::Get, is_dry_run))
}

/// What all streams of a get have in common.
struct Request {
    address: String,
    paths: Vec<RelativePath>,
    /// The first names that offers may have; `None` for all that is in the share.
    roots: Option<BTreeSet<Box<[u8]>>>,
    destination: Destination,
    only: Option<Arc<BTreeSet<Vec<u8>>>>,
    claims: Claims,
    options: Options,
}

impl Request {
    /// Says which offers are wanted.
    fn filter(&self) -> OfferFilter {
        let (filter, has_root, only) = (self.options.filter.clone(), self.roots.is_some(), self.only.clone());
        Box::new(move |path, is_directory| {
            only.as_ref().is_none_or(|only| is_listed(only, path, is_directory))
                && filter.takes(path, has_root, is_directory)
        })
    }
}

/// Whether a path is in a list, or in a directory there, or is a directory above one.
fn is_listed(listed: &BTreeSet<Vec<u8>>, path: &[u8], is_directory: bool) -> bool {
    let is_above = || {
        let start = [path, b"/"].concat();
        is_directory && listed.range(start.clone()..).next().is_some_and(|next| next.starts_with(&start))
    };
    listed.contains(path) || parents(path).any(|parent| listed.contains(parent)) || is_above()
}

/// One stream of a get.
struct Job {
    request: Arc<Request>,
    pace: Arc<Pace>,
    stop: Stop,
    stream: Stream,
    rendezvous: Rendezvous,
    part: Part,
    output: Option<Box<dyn Write + Send>>,
    events: EventSender,
}

impl Job {
    /// Runs the first one of several streams: tells whether there is so much that the others are wanted, and waits for them.
    fn run_first(self, ready: oneshot::Sender<bool>, told: &mpsc::Receiver<()>) -> Result<(), FilesError> {
        let (mut ready, stop) = (Some(ready), self.stop.clone());
        self.run(&mut |is_large| {
            if let Some(ready) = ready.take()
                && (ready.send(is_large).is_err() || (is_large && told.recv().is_err()))
            {
                stop.stop();
            }
        })
    }

    fn run(self, on_ready: &mut dyn FnMut(bool)) -> Result<(), FilesError> {
        let Self { request, pace, stop, stream, rendezvous, part, output, events } = self;
        let (mut reader, writer) = (MessageReader::new(stream.read), MessageWriter::new(stream.write));
        let asked = GetRequest { paths: request.paths.clone(), checksum: request.options.checksum, part };
        let Destination { directory, base, placed } = request.destination.clone();
        let receiver = Receiver {
            directory,
            base,
            placed,
            options: request.options.to_wire(),
            role: Role::Get,
            part,
            room: Arc::new(Unbounded),
            claims: request.claims.clone(),
            end: None,
            // A program that has ended holds no file, and one that runs is told of at once.
            patience: Duration::ZERO,
            owner: OWNER.into(),
            roots: request.roots.clone(),
            filter: Some(request.filter()),
            sink: output,
            rendezvous,
            only_made: false,
        };
        let result = get(&mut reader, &writer, &asked, receiver, on_ready, pace.as_ref(), &mut |event| {
            events.send(event);
        });
        end(result, reader, &writer, &request.address, &stop)
    }
}

/// Stands for this program in the names of unfinished files.
const OWNER: &[u8] = b"get";

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn get_of(sources: &[&str]) -> Result<Get, FilesError> {
        let sources: Vec<RemotePath> =
            sources.iter().map(|source| RemotePath::parse(OsStr::new(source)).unwrap()).collect();
        Get::paths(&sources, ".", Options::default())
    }

    #[test]
    fn sources_that_do_not_go_together_are_refused() {
        assert!(get_of(&["s:a", "s:b/c"]).is_ok());
        assert!(matches!(get_of(&["s:a", "t:b"]), Err(FilesError::SeveralShares)));
        assert!(matches!(get_of(&["s:a", "s:b/a"]), Err(FilesError::SameName { .. })));
        assert!(matches!(get_of(&["s:", "s:a"]), Err(FilesError::ContentsAndMore)));
        assert!(matches!(get_of(&["s:a", "s:"]), Err(FilesError::ContentsAndMore)));
        assert!(matches!(get_of(&["s:", "s:"]), Err(FilesError::ContentsAndMore)));
        let directory = RemotePath::parse(OsStr::new("s:a/")).unwrap();
        let output = Get::output(&directory, std::io::sink(), Options::default());
        assert!(matches!(output, Err(FilesError::StreamAlone { .. })));
    }

    #[test]
    fn a_list_chooses_what_it_names_and_what_is_in_it() {
        let list = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let only = get_of(&["s:x/a"]).unwrap().only(&list(&["s:x/a/b/c", "s:x/a/d"])).unwrap().only.unwrap();
        for (path, is_directory, is_wanted) in [
            ("a", true, true),
            ("a", false, false),
            ("a/b", true, true),
            ("a/b/c", false, true),
            ("a/b/cc", false, false),
            ("a/b/c/x", false, true),
            ("a/d/e/f", true, true),
            ("a/e", true, false),
            ("b", true, false),
        ] {
            assert_eq!(is_listed(&only, path.as_bytes(), is_directory), is_wanted, "{path}");
        }
        let get = get_of(&["s:"]).unwrap();
        assert!(get.only(&list(&["s:"])).unwrap().only.is_none());
        let other = get_of(&["s:x/a"]).unwrap().only(&list(&["s:x/b"]));
        assert!(matches!(other, Err(FilesError::NotNamed { .. })));
    }
}
