//! A connection, or a session of datagrams, that is to be carried to the other side, and the attempt to do so on one channel.

use std::io;
use std::sync::Arc;

use tokio::time::timeout;
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::{RefusedCode, ResetCode, Target};
use wire_protocol::stream::{
    Channel, Connection, OpenError, OpenedStream, OpeningStream, RelayError, SILENCE, Suspended, error_in,
    is_loss, relay_datagrams,
};

use crate::closing::stop;
use crate::dial::in_time;
use crate::drops::DropReason;
use crate::limited_datagrams::LimitedDatagrams;
use crate::network_path::NetworkPath;
use crate::resumption::Resumption;
use crate::socket::Socket;
use crate::socks::{self, Dialect, NOWHERE, Reply};
use crate::terms::Terms;
use crate::udp_sessions::UdpSession;

/// A connection or UDP session that waits for a channel. Dropping it resets a connection.
#[derive(Debug)]
pub enum PendingStream {
    /// A connection.
    Connection {
        /// The connection.
        socket: Socket,
        /// What the other side is asked for.
        target: Arc<Target>,
        /// What was read of the connection and may not have arrived yet.
        early: Vec<u8>,
    },
    /// A connection of a SOCKS client, or one of HTTP's CONNECT, that is told whether it stands.
    Socks {
        /// The connection, whose request was read.
        socket: Socket,
        /// What the client speaks.
        dialect: Dialect,
        /// What the other side is asked for.
        target: Arc<Target>,
    },
    /// Datagrams.
    Datagrams {
        /// The session.
        session: Box<UdpSession>,
        /// What the other side is asked for.
        target: Arc<Target>,
    },
}

/// The outcome of an attempt to carry a connection or UDP session on one channel.
#[derive(Debug)]
pub enum Carried {
    /// The stream has come to its end, and the channel is idle. A session for which a datagram came while the end was said is
    /// still there.
    ToEnd(Channel<Socket>, Option<PendingStream>),
    /// No byte has reached the target, so that another channel may do.
    NotOpened(PendingStream, RelayError),
    /// The other side has not answered within [`SILENCE`].
    Unanswered(PendingStream),
    /// The other side does not want the stream, and the channel is idle.
    Refused(Channel<Socket>, PendingStream, RefusedCode),
    /// The stream is lost, and the channel with it.
    Broken(RelayError),
    /// The channel is lost, and the other side may have the stream: it is to be taken over on another one.
    Interrupted(Box<Unanswered>),
}

/// A stream that can be taken over, whose channel was lost before the other side had answered.
#[derive(Debug)]
pub struct Unanswered {
    /// The stream without a channel.
    pub stream: Box<Suspended>,
    /// The connection that it is for.
    pub pending: PendingStream,
    /// How the channel was lost.
    pub error: RelayError,
    /// Whether no byte has reached the target where the other side does not have the stream: another one can be opened then.
    pub is_retryable: bool,
}

/// The outcome of opening a stream: open for a connection, or already at its end.
#[derive(Debug)]
pub enum Opened {
    /// The stream stands, and is to be relayed with the connection.
    Connection(OpenedStream<Socket>, Socket),
    /// The stream was not opened, or was carried to its end.
    Done(Carried),
}

impl From<Carried> for Opened {
    fn from(carried: Carried) -> Self {
        Self::Done(carried)
    }
}

/// The reason why a connection or UDP session that has come in is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// No channel came about in time.
    NoChannel,
    /// The other side did not answer.
    Unanswered,
    /// The other side does not want it.
    Refused(RefusedCode),
}

impl PendingStream {
    /// A connection of which nothing has been read yet.
    #[must_use]
    pub fn connection(socket: Socket, target: Arc<Target>) -> Self {
        Self::Connection { socket, target, early: Vec::new() }
    }

    /// What the other side is asked for.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        match self {
            Self::Connection { target, .. } | Self::Socks { target, .. } | Self::Datagrams { target, .. } => {
                target
            }
        }
    }

    /// Whether nothing has been sent of it that could have arrived.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Connection { early, .. } => early.is_empty(),
            Self::Socks { .. } | Self::Datagrams { .. } => true,
        }
    }

    /// Waits until it is not to be carried any more: a session that has given way to another one.
    pub async fn given_up(&mut self) {
        match self {
            Self::Datagrams { session, .. } => session.ended().await,
            Self::Connection { .. } | Self::Socks { .. } => std::future::pending().await,
        }
    }

    /// Opens the stream on an idle channel. A session of datagrams is carried to its end.
    pub async fn open<T: Terms>(self, channel: Channel<Socket>, terms: &T) -> Opened {
        match self {
            Self::Connection { socket, target, early } => {
                open_connection(channel, socket, target, early, terms).await
            }
            // On the heap, so that a connection has no room for it.
            Self::Socks { socket, dialect, target } => {
                Box::pin(open_socks(channel, socket, dialect, target, terms)).await
            }
            Self::Datagrams { session, target } => {
                Box::pin(carry_datagrams(channel, session, target, terms)).await.into()
            }
        }
    }

    /// Its stream stands, though the other side's answer to the Open was lost: a client of SOCKS is told. Gives the connection.
    ///
    /// # Errors
    /// Those of the connection, and one where it is none.
    pub async fn stand<T: Terms>(self, terms: &T) -> io::Result<Socket> {
        match self {
            Self::Connection { socket, early, .. } => {
                terms.note_early(early.len());
                Ok(socket)
            }
            Self::Socks { mut socket, dialect, .. } => {
                socks::reply(&mut socket, dialect, Reply::Succeeded, NOWHERE).await?;
                Ok(socket)
            }
            Self::Datagrams { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Ends it, and tells why where there is a way to.
    pub async fn turn_away(self, reason: TurnedAway) {
        match self {
            Self::Connection { .. } => {}
            Self::Socks { socket, dialect, .. } => {
                let reply = match reason {
                    TurnedAway::NoChannel => Reply::GeneralFailure,
                    TurnedAway::Unanswered => Reply::TtlExpired,
                    TurnedAway::Refused(code) => code.into(),
                };
                socks::refuse(socket, dialect, reply).await;
            }
            Self::Datagrams { mut session, .. } => session.lose(match reason {
                TurnedAway::NoChannel | TurnedAway::Unanswered => DropReason::NoChannel,
                TurnedAway::Refused(_) => DropReason::Refused,
            }),
        }
    }
}

/// What the connection says is sent before the other side has answered.
async fn open_connection<T: Terms>(
    channel: Channel<Socket>,
    socket: Socket,
    target: Arc<Target>,
    mut early: Vec<u8>,
    terms: &T,
) -> Opened {
    let mut opening = match begin_open(channel, &target, terms) {
        Ok(opening) => opening,
        Err(error) => return Carried::Broken(RelayError::Channel(error.into())).into(),
    };
    let path = NetworkPath::of(opening.get_ref());
    let answered = tokio::select! {
        biased;
        code = terms.stopped() => return stopped(opening, code).await.into(),
        () = terms.outdated(path) => Ok(Err(RelayError::Channel(outdated()))),
        () = terms.taken_over() => Ok(Err(RelayError::Channel(taken_over()))),
        answered = timeout(SILENCE, opening.send_early(&socket, &mut early)) => answered,
    };
    let opened = match answered {
        Ok(Ok(())) => opening.confirm_stream().await.map_err(|error| error.map_failed(RelayError::Channel)),
        Ok(Err(error)) => match left_of(opening, &error) {
            Some(stream) => {
                let is_retryable = early.is_empty();
                let pending = PendingStream::Connection { socket, target, early };
                let unanswered = Unanswered { stream, pending, error, is_retryable };
                return Carried::Interrupted(Box::new(unanswered)).into();
            }
            None => Err(OpenError::Failed(error)),
        },
        Err(_) => return Carried::Unanswered(PendingStream::Connection { socket, target, early }).into(),
    };
    // What is sent again on another channel is counted there.
    if !early.is_empty() && matches!(opened, Ok(_) | Err(OpenError::Refused { .. })) {
        terms.note_early(early.len());
    }
    match opened {
        Ok(stream) => Opened::Connection(stream, socket),
        Err(error) => {
            let is_retryable = error.is_retryable(&early);
            let pending = PendingStream::Connection { socket, target, early };
            not_opened(pending, error, is_retryable).into()
        }
    }
}

/// A SOCKS client is told whether its connection stands, so that this waits for the answer of the other side.
async fn open_socks<T: Terms>(
    channel: Channel<Socket>,
    mut socket: Socket,
    dialect: Dialect,
    target: Arc<Target>,
    terms: &T,
) -> Opened {
    let mut opening = match begin_open(channel, &target, terms) {
        Ok(opening) => opening,
        Err(error) => return Carried::Broken(RelayError::Channel(error.into())).into(),
    };
    let path = NetworkPath::of(opening.get_ref());
    let answered = tokio::select! {
        biased;
        code = terms.stopped() => return stopped(opening, code).await.into(),
        () = terms.outdated(path) => Ok(Err(outdated())),
        () = terms.taken_over() => Ok(Err(taken_over())),
        answered = timeout(SILENCE, opening.answered()) => answered,
    };
    let opened = match answered {
        Ok(Ok(())) => opening.confirm_stream().await,
        Ok(Err(error)) => {
            let error = RelayError::Channel(error);
            if let Some(stream) = left_of(opening, &error) {
                let pending = PendingStream::Socks { socket, dialect, target };
                // Nothing was sent behind the Open.
                let unanswered = Unanswered { stream, pending, error, is_retryable: true };
                return Carried::Interrupted(Box::new(unanswered)).into();
            }
            let RelayError::Channel(error) = error else { return Carried::Broken(error).into() };
            Err(OpenError::Failed(error))
        }
        Err(_) => return Carried::Unanswered(PendingStream::Socks { socket, dialect, target }).into(),
    };
    let error = match opened {
        Ok(stream) => {
            if let Err(error) = socks::reply(&mut socket, dialect, Reply::Succeeded, NOWHERE).await {
                // It has left meanwhile. Whether the other side hears why changes nothing.
                match stream {
                    OpenedStream::Plain(stream) => in_time(stream.reset(ResetCode::Output)).await.ok(),
                    OpenedStream::Resumable(stream) => in_time(stream.reset(ResetCode::Output)).await.ok(),
                };
                return Carried::Broken(RelayError::Output(error)).into();
            }
            return Opened::Connection(stream, socket);
        }
        Err(error) => error.map_failed(RelayError::Channel),
    };
    let is_retryable = error.is_retryable(&[]);
    let pending = PendingStream::Socks { socket, dialect, target };
    match error {
        OpenError::Failed(error) if !is_retryable => {
            pending.turn_away(TurnedAway::NoChannel).await;
            Carried::Broken(error).into()
        }
        error => not_opened(pending, error, is_retryable).into(),
    }
}

/// Asks for the stream of a connection: for one that can be taken over, where the terms say so.
fn begin_open<T: Terms>(
    channel: Channel<Socket>,
    target: &Target,
    terms: &T,
) -> Result<OpeningStream<Socket>, ProtocolError> {
    match terms.resumption().filter(|_| target.may_be_resumable()) {
        Some(Resumption { retention, reservation }) => {
            let opening = channel.begin_open_resumable(target, retention, reservation)?;
            terms.note_asked(opening.asked_stream());
            Ok(opening)
        }
        None => channel.begin_open(target),
    }
}

async fn carry_datagrams<T: Terms>(
    channel: Channel<Socket>,
    mut session: Box<UdpSession>,
    target: Arc<Target>,
    terms: &T,
) -> Carried {
    let mut stream = match channel.begin_open(&target) {
        Ok(opening) => opening,
        Err(error) => return Carried::Broken(RelayError::Channel(error.into())),
    };
    let drops = session.drops().clone();
    let mut datagrams = LimitedDatagrams::new(&mut *session, terms, drops);
    let relayed = tokio::select! {
        relayed = relay_datagrams(&mut stream, &mut datagrams, terms.udp_timeout()) => relayed,
        code = terms.stopped() => return stopped(stream, code).await,
    };
    drop(datagrams);
    let error = match relayed {
        Ok(end) => {
            tracing::debug!(%target, ?end, "datagrams have ended");
            return match stream.finish().await {
                Ok(channel) => {
                    let more = session.has_waiting().then(|| PendingStream::Datagrams { session, target });
                    Carried::ToEnd(channel, more)
                }
                Err(error) => Carried::Broken(RelayError::Channel(error)),
            };
        }
        Err(error) => error,
    };
    match error_in(&error) {
        // A refusal counts even where the other side is gone by now.
        Some(ProtocolError::Refused(_)) => match stream.confirm().await {
            Ok(_) => Carried::Broken(RelayError::Channel(error)),
            Err(refusal) => {
                let is_retryable = matches!(refusal, OpenError::Refused { code: RefusedCode::Stopping, .. });
                let pending = PendingStream::Datagrams { session, target };
                not_opened(pending, refusal.map_failed(RelayError::Channel), is_retryable)
            }
        },
        // What was sent on it is lost, as datagrams may be.
        Some(ProtocolError::Closed) => {
            Carried::NotOpened(PendingStream::Datagrams { session, target }, RelayError::Channel(error))
        }
        _ => Carried::Broken(RelayError::Channel(error)),
    }
}

/// What is left of a resumable stream whose channel was lost before the other side has answered its Open; `None` where it is no
/// such stream, or the channel has ended in another way.
fn left_of(opening: OpeningStream<Socket>, error: &RelayError) -> Option<Box<Suspended>> {
    let RelayError::Channel(lost) = error else { return None };
    if !is_loss(lost) || matches!(error_in(lost), Some(ProtocolError::Closed)) {
        return None;
    }
    opening.into_suspended().map(Box::new)
}

/// The error of a channel whose stream goes on on another one.
fn taken_over() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was taken over on another channel")
}

/// What it comes to that a stream was not opened.
fn not_opened(
    pending: PendingStream,
    error: OpenError<Channel<Socket>, RelayError>,
    is_retryable: bool,
) -> Carried {
    match error {
        error if is_retryable => Carried::NotOpened(pending, error.into()),
        OpenError::Refused { code, channel } => Carried::Refused(channel, pending, code),
        error => Carried::Broken(error.into()),
    }
}

/// The error of a channel that this machine has left behind.
fn outdated() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the way to the other side has changed, or this machine has slept",
    )
}

async fn stopped<P>(channel: Connection<Socket, P>, code: ResetCode) -> Carried {
    stop(channel, code).await;
    Carried::Broken(RelayError::Stopped(code))
}
