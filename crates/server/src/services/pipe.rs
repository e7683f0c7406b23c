//! The service for a pipe: sends an input of the server to one client, and what the client sends to an output.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::sync::{Mutex, PoisonError};

use cli_support::wakeable::{WakeableInput, Waker};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tunnel::socket::{BlockingSocket, Socket};
use wire_protocol::message::{RefusedCode, ResetCode};
use wire_protocol::stream::RelayError;
use wire_protocol::stream::blocking::Split as _;
use wire_protocol::stream::relay::{Relay, STOP_DEADLINE, Stop};
use wire_protocol::stream::{Channel, Direction, blocking};

use crate::access::Permit;
use crate::error::Error;
use crate::meter::Meter;
use crate::revocation::Revocation;
use crate::services::handler::{Handler, Served};
use crate::services::request::RequestContext;

/// The input and output of the server that the first client to open the pipe is connected to.
#[derive(Debug)]
pub struct Pipe {
    /// `None` once somebody has opened it.
    ends: Mutex<Option<Ends>>,
}

/// What a pipe connects a client with.
struct Ends {
    input: File,
    output: Box<dyn Write + Send>,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("input", &self.input).finish_non_exhaustive()
    }
}

impl Pipe {
    /// A pipe that nobody has opened yet. Its output ends when it is dropped.
    #[must_use]
    pub fn new(input: File, output: impl Write + Send + 'static) -> Self {
        Self { ends: Mutex::new(Some(Ends { input, output: Box::new(output) })) }
    }

    /// What it connects with, for the client that asks first.
    fn claim(&self) -> Option<Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The pipe of a running server.
#[derive(Debug)]
pub(crate) struct ServedPipe {
    pipe: Pipe,
    /// Told how the pipe has ended, where that is the end of the server.
    done: Option<mpsc::Sender<Result<(), Error>>>,
}

impl ServedPipe {
    pub(crate) fn new(pipe: Pipe, done: Option<mpsc::Sender<Result<(), Error>>>) -> Self {
        Self { pipe, done }
    }

    /// Whether the server offers nothing else, and ends with it.
    pub(crate) fn is_alone(&self) -> bool {
        self.done.is_some()
    }

    /// Whether somebody has opened it.
    pub(crate) fn is_claimed(&self) -> bool {
        self.pipe.ends.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Handler for ServedPipe {
    async fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
        _permit: Permit,
    ) -> io::Result<Served> {
        let Some(ends) = self.pipe.claim() else {
            return request.refuse(channel, RefusedCode::Busy.into()).await.map(Served::Idle);
        };
        let served = ends.serve(channel, request.meter, request.revoked).await;
        match &self.done {
            // The server is ending already when nobody is there to be told.
            Some(done) => {
                done.send(served).await.ok();
                Ok(Served::Ended)
            }
            None => served.map(|()| Served::Ended).map_err(io::Error::other),
        }
    }
}

impl Ends {
    /// Relays to the end, or until the client has lost the right to it.
    async fn serve(self, channel: Channel<Socket>, meter: &Meter, revoked: &Revocation) -> Result<(), Error> {
        let broken = |error| Error::Pipe(RelayError::Channel(error));
        let stream = channel.answer_open().await.map_err(broken)?;
        let (socket, parts) = stream.into_parts();
        let (socket, ours) = socket.into_blocking().and_then(BlockingSocket::split).map_err(broken)?;
        let (read, write) = blocking::SecureStream::from_parts(socket, parts).into_split().map_err(broken)?;
        let Self { input, output } = self;
        let (input, waker) = WakeableInput::new(input).map_err(broken)?;
        let (input, output) = (Metered(input, meter.clone()), Metered(output, meter.clone()));
        let relay = Relay::new(input, output, read, write);
        let mut reins = Reins { stop: relay.stop_handle(), waker: Some(waker), socket: Some(ours) };
        let mut relaying = tokio::task::spawn_blocking(move || relay.run());
        let relayed = tokio::select! {
            relayed = &mut relaying => relayed,
            () = revoked.cancelled() => {
                reins.stop(revoked.code());
                // To tell the client, and for that to leave.
                match timeout(3 * STOP_DEADLINE, relaying).await {
                    Ok(relayed) => relayed,
                    Err(_) => return Err(Error::PipeRevoked),
                }
            }
        };
        match relayed.map_err(|error| broken(io::Error::other(error)))? {
            Ok(()) => {
                reins.socket = None;
                Ok(())
            }
            Err(RelayError::Stopped(ResetCode::NotAllowed | ResetCode::QuotaUsedUp)) => {
                Err(Error::PipeRevoked)
            }
            Err(error) => Err(Error::Pipe(error)),
        }
    }
}

/// An input or output whose bytes are counted.
struct Metered<T>(T, Meter);

impl<T: Read> Read for Metered<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).inspect(|read| self.1.add(*read, Direction::Sent))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(bufs).inspect(|read| self.1.add(*read, Direction::Sent))
    }
}

impl<T: Write> Write for Metered<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect(|written| self.1.add(*written, Direction::Received))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What stops the threads of a relay. Dropping a future stops none, so this does when it is dropped with one.
#[derive(Debug)]
struct Reins {
    stop: Stop<BlockingSocket>,
    waker: Option<Waker>,
    /// `None` once the relay has ended well.
    socket: Option<BlockingSocket>,
}

impl Reins {
    fn stop(&mut self, code: ResetCode) {
        self.stop.stop(code);
        self.waker = None;
    }
}

impl Drop for Reins {
    fn drop(&mut self) {
        self.stop(ResetCode::Output);
        if let Some(socket) = &self.socket {
            socket.shut_down();
        }
    }
}
