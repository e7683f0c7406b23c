//! One stream of files, on threads of its own: from the stream that was opened to the Close of both sides.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Instant;

use files::claims::{Claims, End};
use files::control::{Room, Unbounded};
use files::directory::{Directory, code_of};
use files::error::Error;
use files::framing::{MessageReader, MessageWriter};
use files::serve::{Share, refuse, serve, serve_shares};
use tunnel::socket::BlockingSocket;
use wire_protocol::message::{FilesAccess, FilesCode, ResetCode, ShareAccess};
use wire_protocol::stream::Parts;
use wire_protocol::stream::blocking::{ReadHalf, SecureStream, WriteHalf};
use wire_protocol::stream::relay::STOP_DEADLINE;

use crate::file_share::FileShare;
use crate::log::FilesLogLimits;
use crate::services::files::halt::Terms;
use crate::services::files::slots::Slot;
use crate::services::files::socket::WatchedSocket;
use crate::services::files::tally::Tally;
use crate::services::files::usage::{Quota, Usage};

/// What is to be done on a stream.
#[derive(Debug)]
pub(super) enum Work {
    /// Telling which shares there are.
    Shares(Vec<(String, ShareAccess)>),
    /// Whatever the client asks for in a share.
    Share(SharedDirectory),
}

/// A share, and what a client may do with it.
#[derive(Debug)]
pub(super) struct SharedDirectory {
    pub(super) share: FileShare,
    /// What the stream was opened for.
    pub(super) access: FilesAccess,
    /// What the client may do.
    pub(super) granted: ShareAccess,
    pub(super) usage: Usage,
    pub(super) claims: Claims,
    pub(super) log_limits: Arc<FilesLogLimits>,
}

/// A stream of files, and whose it is.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) work: Work,
    /// Whose unfinished files are taken up again.
    pub(super) owner: Vec<u8>,
    /// The client's name.
    pub(super) client: String,
    pub(super) terms: Terms,
    /// The same socket, for what comes behind the last word.
    pub(super) last: BlockingSocket,
    pub(super) slot: Slot,
}

type Reader = MessageReader<ReadHalf<WatchedSocket>>;
type Writer = MessageWriter<WriteHalf<BlockingSocket>>;

impl Transfer {
    /// Serves the stream to the end of its channel, and says what it has come to, in any case.
    pub(super) fn run(self, socket: BlockingSocket, parts: Parts) -> (Tally, io::Result<()>) {
        let mut tally = Tally::default();
        let ended = self.serve(socket, parts, &mut tally);
        (tally, ended)
    }

    fn serve(self, socket: BlockingSocket, parts: Parts, tally: &mut Tally) -> io::Result<()> {
        let Self { work, owner, client, terms, last, slot } = self;
        let socket = WatchedSocket::new(socket, terms.halt.clone())?;
        let (read, write) = SecureStream::from_parts(socket, parts).into_split()?;
        let (mut reader, writer) = (MessageReader::new(read), MessageWriter::new(write));
        let (served, failing) = match &work {
            Work::Shares(shares) => (serve_shares(&mut reader, &writer, shares), ResetCode::Input),
            Work::Share(shared) => {
                let failing =
                    if shared.access == FilesAccess::Read { ResetCode::Input } else { ResetCode::Output };
                let served = shared.serve(&mut reader, &writer, &owner, &client, &terms, tally);
                (served, failing)
            }
        };
        let ended = match served {
            Ok(refused) => {
                tally.refused = refused;
                close(reader, &writer)
            }
            Err(Error::Refused(_)) => close(reader, &writer),
            Err(error) => {
                let reason = terms.halt.reason().unwrap_or(failing);
                // That the client is gone already is no matter.
                writer.with_output(|half| half.reset(reason)).ok();
                linger(last);
                Err(match error {
                    Error::Channel(error) => error,
                    error => io::Error::other(error),
                })
            }
        };
        drop(slot);
        ended
    }
}

impl SharedDirectory {
    fn serve(
        &self,
        reader: &mut Reader,
        writer: &Writer,
        owner: &[u8],
        client: &str,
        terms: &Terms,
        tally: &mut Tally,
    ) -> Result<Option<FilesCode>, Error> {
        let FileShare { name, dir, quota, .. } = &self.share;
        let directory = match Directory::open_trusted(dir) {
            Ok(directory) => directory,
            Err(error) => {
                if self.log_limits.share_failed.admits() {
                    tracing::warn!(share = name, dir = %dir.display(), %error, "a share cannot be opened");
                }
                let code = match code_of(&error) {
                    FilesCode::NotFound => FilesCode::NotFound,
                    _ => FilesCode::Io,
                };
                return refuse(reader, writer, code).map(|()| Some(code));
            }
        };
        let room: Arc<dyn Room> = match quota {
            Some(most) => {
                let (usage, halt) = (self.usage.clone(), terms.halt.clone());
                Arc::new(Quota::new(usage, most.as_u64(), directory.clone(), halt))
            }
            None => Arc::new(Unbounded),
        };
        let halt = terms.halt.clone();
        let end: End = Arc::new(move || halt.stop(ResetCode::Replaced));
        let share =
            Share { directory, access: self.granted, room, claims: self.claims.clone(), end: Some(end) };
        let limit = &self.log_limits.entry_failed;
        let mut note = |event| tally.note(&event, client, name, limit);
        serve(reader, writer, &share, self.access, owner, terms, &mut note)
    }
}

/// Says Close, and waits for the client's: all that was received has reached its place.
fn close(reader: Reader, writer: &Writer) -> io::Result<()> {
    writer.with_output(WriteHalf::close)?;
    reader.into_inner().expect_close()
}

/// Waits until the client has heard why the stream ends, and has left: a socket that is closed while the client still sends takes the
/// reason with it.
fn linger(mut socket: BlockingSocket) {
    let deadline = Instant::now() + STOP_DEADLINE;
    let mut unheard = [0; 16 * 1024];
    while Instant::now() < deadline {
        match socket.read(&mut unheard) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
}
