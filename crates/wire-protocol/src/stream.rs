//! A secure stream over a socket.
//!
//! [`connect`] and [`accept`] do it over any `AsyncRead + AsyncWrite` (feature `tokio`), [`blocking::connect`]
//! and [`blocking::accept`] over any `std::io::Read + Write` (feature `std-io`).
//!
//! A stream ends well only when the other side has said so: reading gives an end of file after the other side's
//! EndOfStream, and an error of the kind `UnexpectedEof` where the connection was cut, with
//! [`Error::Truncated`] inside. [`error_in`] finds the protocol's error in an
//! `std::io::Error`.
//!
//! Randomness comes from the operating system here.

#[cfg(feature = "tokio")]
mod asynchronous;

#[cfg(feature = "std-io")]
pub mod blocking;
mod clock;
mod memory;
mod open_error;
mod phase;
#[cfg(feature = "std-io")]
pub mod relay;

use std::boxed::Box;
use std::io::{self, IoSliceMut};
use std::time::{Duration, SystemTime};
use std::vec::Vec;

use arrayvec::ArrayVec;
use crypto_core::identity::PublicKey;
use crypto_core::schedule::Side;

use crate::Error;
use crate::channel::{Event, Receiver, Sender};
use crate::frame::{self, FrameKind};
use crate::handshake::client::{self, ClientConfig, ResumptionTicket};
use crate::handshake::server;
use crate::message::{
    Abort, AbortCode, ClientIdentity, ControlMessage, Mode, ResetCode, ServerLimits, Target,
};
use crate::record::{MAX_BATCH, SendBuffer, batch};
use clock::Clock;

pub use crate::channel::{HEARTBEAT, MAX_KEY_AGE, SILENCE};
#[cfg(feature = "tokio")]
pub use asynchronous::{
    ANSWERED_IDLE, Admission, Channel, Connection, DatagramSocket, DatagramsEnd, Dropped, Duplex, Incoming,
    OpeningStream, Operation, Pace, Progress, ReadHalf, RsaPool, SecureStream, Split, WriteHalf, accept,
    accept_channel, connect, connect_channel, connect_open, fetch_server_key, open_early, relay_datagrams,
    send_past_earlier_errors, tunnel, tunnel_until,
};
pub use open_error::OpenError;
pub use phase::{Idle, Open, Opening, Streaming};

/// How long a handshake may take, from the connection to Welcome (section 8).
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for the other side's Close (section 8).
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// What a handshake has settled about a channel.
#[derive(Debug)]
pub struct Session {
    /// How the two authenticated each other.
    pub mode: Mode,
    /// Who is at the other end.
    pub peer: Peer,
    /// What the server will put up with.
    pub limits: ServerLimits,
    /// For the client's next connection: to be taken out and kept.
    pub ticket: Option<ResumptionTicket>,
}

/// Who is at the other end of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The server with this key: known whole after a handshake in RSA mode.
    Server(Option<PublicKey>),
    /// This client.
    Client(ClientIdentity),
}

/// How a relay between a channel and something plain ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The channel failed: data may be missing on either side.
    #[error(transparent)]
    Channel(io::Error),
    /// The input could not be read. The other side has been told.
    #[error("the input could not be read: {0}")]
    Input(#[source] io::Error),
    /// The output could not be written. The other side has been told, or learns of it as a cut connection.
    #[error("the output could not be written: {0}")]
    Output(#[source] io::Error),
    /// This side has stopped the relay before its end. The other side has been told, where it still listened.
    #[error("{0}")]
    Stopped(ResetCode),
}

/// The protocol's error in an `io::Error`, where there is one.
#[must_use]
pub fn error_in(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Silent => return silent(),
            Error::EndTimedOut => return end_timed_out(),
            Error::Truncated => io::ErrorKind::UnexpectedEof,
            Error::Closed => io::ErrorKind::NotConnected,
            Error::Denied(_) | Error::Refused(_) => io::ErrorKind::PermissionDenied,
            Error::Aborted(_) => io::ErrorKind::ConnectionRefused,
            Error::Reset(_) => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// A channel without its socket, between the two kinds of stream: see `SecureStream::into_parts`.
///
/// Its two directions, and what the handshake has settled, stay where they are as it is moved: keys leave no copies behind,
/// and what holds a stream across an `await` is small.
#[derive(Debug)]
pub struct Parts {
    /// What the handshake has settled.
    pub session: Box<Session>,
    pub(crate) reading: Box<Reading>,
    pub(crate) writing: Box<Writing>,
}

impl Parts {
    fn new(
        side: Side,
        keys: crate::handshake::ChannelKeys,
        session: Session,
        early: &[u8],
        opening: Option<&Target>,
    ) -> Self {
        let clock = Clock::start();
        let sender = Sender::new(side, keys.sealer, opening, clock.now());
        Self {
            session: Box::new(session),
            reading: Box::new(Reading { receiver: Receiver::new(&sender, keys.opener, early), clock }),
            writing: Box::new(Writing { sender, out: SendBuffer::default(), written: 0, clock }),
        }
    }

    fn of_client(established: client::Established, early: &[u8]) -> Self {
        let session = Session {
            mode: established.mode,
            peer: Peer::Server(established.server_key),
            limits: established.limits,
            ticket: established.ticket,
        };
        Self::new(Side::Client, established.keys, session, early, established.opening.as_ref())
    }

    fn of_server(established: server::Established, early: &[u8]) -> Self {
        let session = Session {
            mode: established.mode,
            peer: Peer::Client(established.client),
            limits: established.limits,
            ticket: None,
        };
        Self::new(Side::Server, established.keys, session, early, None)
    }
}

/// The reading direction, without its socket.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) receiver: Receiver,
    clock: Clock,
}

impl Reading {
    /// The next event of what has arrived, or `None` when more bytes are needed for one.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, Error> {
        self.receiver.poll_event_at(|| self.clock.now())
    }

    /// Ends the channel where the other side has been silent for too long.
    pub(crate) fn handle_timeout(&mut self) -> Result<(), Error> {
        self.receiver.handle_timeout(self.clock.now())
    }

    /// When [`Reading::handle_timeout`] is due, if that can be said.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_timeout(&self) -> Option<tokio::time::Instant> {
        self.due().map(tokio::time::Instant::from_std)
    }

    /// When [`Reading::handle_timeout`] is due, on the clock of threads.
    pub(crate) fn due(&self) -> Option<std::time::Instant> {
        self.receiver.poll_timeout().map(|due| self.clock.instant(due))
    }
}

/// The writing direction, without its socket.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) sender: Sender,
    /// Sealed records, of which `written` bytes have gone out.
    out: SendBuffer,
    written: usize,
    clock: Clock,
}

impl Writing {
    /// Seals a control message into the output.
    pub(crate) fn control(&mut self, message: &ControlMessage) -> Result<(), Error> {
        self.out.lend(memory::take);
        self.sender.send_control(message, self.clock.now(), &mut self.out)
    }

    /// Seals data into the output, a batch at most. Gives the bytes that it took.
    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> Result<usize, Error> {
        let records = bytes.len().div_ceil(crypto_core::record::MAX_PAYLOAD_LEN).min(batch());
        self.data_with(records, |places| {
            let mut taken = 0;
            for place in places {
                let (now, later) = bytes.split_at(bytes.len().min(place.len()));
                place[..now.len()].copy_from_slice(now);
                taken += now.len();
                bytes = later;
            }
            Ok(taken)
        })
    }

    /// Seals what `fill` puts into the places of so many records, a batch at most, each but the last to its end; it says
    /// how many bytes that is. Where it fails nothing has happened.
    pub(crate) fn data_with<E: From<Error>>(
        &mut self,
        records: usize,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.out.lend(memory::take);
        let slots = self.sender.begin_data(records, self.clock.now(), &mut self.out)?;
        let filled = {
            let places = slots.payloads(&mut self.out).map(IoSliceMut::new);
            fill(&mut places.collect::<ArrayVec<_, MAX_BATCH>>())
        };
        match filled {
            Ok(len) => self.sender.finish_data(slots, len, &mut self.out)?,
            Err(_) => {
                slots.cancel(&mut self.out);
                self.give_back();
            }
        }
        filled
    }

    /// Seals a datagram into the output.
    #[cfg(feature = "tokio")]
    pub(crate) fn datagram(&mut self, datagram: &[u8]) -> Result<(), Error> {
        self.out.lend(memory::take);
        self.sender.send_datagram(datagram, self.clock.now(), &mut self.out)
    }

    /// Seals what this side owes to what has come.
    pub(crate) fn answer(&mut self) -> Result<(), Error> {
        if !self.sender.owes_answer() {
            return Ok(());
        }
        self.out.lend(memory::take);
        let answered = self.sender.answer(self.clock.now(), &mut self.out);
        self.give_back();
        answered
    }

    /// Seals the Ping that is due, if one is, unless other bytes wait to go out.
    pub(crate) fn handle_timeout(&mut self) -> Result<(), Error> {
        if !self.unsent().is_empty() {
            return Ok(());
        }
        self.out.lend(memory::take);
        let handled = self.sender.handle_timeout(self.clock.now(), &mut self.out);
        self.give_back();
        handled
    }

    /// When [`Writing::handle_timeout`] is due, if that can be said.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_timeout(&self) -> Option<tokio::time::Instant> {
        self.due().map(tokio::time::Instant::from_std)
    }

    /// When [`Writing::handle_timeout`] is due, on the clock of threads.
    pub(crate) fn due(&self) -> Option<std::time::Instant> {
        self.sender.poll_timeout().map(|due| self.clock.instant(due))
    }

    /// What has to go out before anything else.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// `len` bytes of [`Writing::unsent`] have gone out. Once all have, the memory goes back.
    pub(crate) fn sent(&mut self, len: usize) {
        self.written += len;
        self.give_back();
    }

    fn give_back(&mut self) {
        if self.written == self.out.len() {
            memory::give_back(self.out.release());
            self.written = 0;
        }
    }
}

/// The frame that tells a client why there will be no channel.
#[must_use]
pub fn abort_frame(code: AbortCode) -> Vec<u8> {
    frame::write(FrameKind::Abort, &Abort { code })
}

/// Time since the Unix epoch; a clock that stands before it counts as standing at it, which no ticket survives.
fn unix_time() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// The peer has left in the middle of a handshake; `ConnectionAborted` where it did nothing wrong with that.
fn closed_during_handshake(peer_may_leave: bool) -> io::Error {
    if peer_may_leave {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the client left without a hello")
    } else {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection during the handshake")
    }
}

/// A handshake has taken longer than it may.
fn handshake_timed_out() -> io::Error {
    let message = std::format!("the handshake took longer than {} seconds", HANDSHAKE_DEADLINE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// The other side has not been heard of for too long.
fn silent() -> io::Error {
    let message = std::format!("the other side has not been heard of for {} seconds", SILENCE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// The other side has not answered the end of a flow of datagrams, or not taken our answer to its own.
fn end_timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, std::format!("{}", Error::EndTimedOut))
}

/// The channel was left idle for longer than `limit`.
fn idle_for(limit: Duration) -> io::Error {
    let message = std::format!("the channel was idle for longer than {} seconds", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// The other side has not answered our Close.
fn not_closed() -> io::Error {
    let message =
        std::format!("the other side has not closed the channel within {} seconds", CLOSE_DEADLINE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// How long a client may leave the channel of `session` idle.
fn idle_timeout(session: &Session) -> Duration {
    Duration::from_secs(session.limits.idle_timeout_seconds.into())
}

/// The target that `connect` opens.
fn target_of(config: &mut ClientConfig) -> Result<Target, Error> {
    match config.open.get_or_insert(Target::Pipe) {
        Target::Listen { .. } => {
            Err(Error::ApiMisuse("a listen target has no data: connect_channel, then open_listen"))
        }
        target => Ok(target.clone()),
    }
}

/// A connection that was reset has lost its end like one that was cut.
fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Error::Truncated.into()
        }
        _ => error,
    }
}

/// What is read at once while a handshake goes on.
const HANDSHAKE_CHUNK: usize = 4096;
