//! Ingress: carries accepted connections and UDP sessions on channels of a pool, and retries on another if none opened.
//!
//! ```text
//! Listener, SOCKS client, UDP session -> channel of the pool -> Open, early data -> relay -> idle channel
//!                                             ^---- never stood ----'
//! ```
//!
//! Where the other side holds the channels, they come by themselves to what waits: see [`parked`](crate::parked).

mod attempts;
mod takeover;
mod takeover_error;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::{Channel, OpenedStream, RelayError};

use self::attempts::Attempts;
use self::takeover_error::TakeoverError;
use crate::counter::{Counted, Counter};
use crate::dial::in_time;
use crate::network_monitor::NetworkMonitor;
use crate::pending_stream::{Carried, Opened, PendingStream, TurnedAway, Unanswered};
use crate::pool::{Connect, Pool};
use crate::relay::relay;
use crate::resumptions::Resumptions;
use crate::socket::Socket;
use crate::terms::Unlimited;
use crate::traffic::Traffic;

/// Carries accepted connections and UDP sessions over the channels of a pool.
#[derive(Debug)]
pub struct Ingress<C: Connect> {
    /// The channels.
    pub pool: Arc<Pool<C>>,
    /// Counts streams that are open or opening.
    pub streams: Counter,
    /// Counts what they carry.
    pub traffic: Traffic,
    /// How long to wait for a channel on which the stream stands.
    pub wait: Duration,
    /// How long there may be no datagram until their stream ends.
    pub udp_timeout: Duration,
    /// How streams can be taken over.
    pub resumptions: Resumptions,
    /// Cancelled once the program waits no longer for what is open.
    pub ending: CancellationToken,
    /// What tells that channels are likely to be dead; `None` where nothing does.
    pub monitor: Option<Arc<NetworkMonitor>>,
}

/// The reason why a connection or UDP session was not carried to its end.
#[derive(Debug)]
pub enum IngressError<E> {
    /// There was no channel, or the other side did not answer.
    NoChannel(E),
    /// The stream was refused, or has ended early.
    Stream(RelayError),
}

impl<C: Connect<Socket = Socket>> Ingress<C> {
    /// Carries something to its end. Whatever goes wrong, a connection is reset, or its SOCKS client told.
    ///
    /// # Errors
    /// [`IngressError`]. A session of datagrams that has given way to another one is none.
    pub async fn carry(&self, pending: PendingStream) -> Result<(), IngressError<C::Error>> {
        // On the heap, so that the room for it is given back once a connection stands, of which there may be thousands.
        let Some(standing) = Box::pin(self.open(pending)).await? else { return Ok(()) };
        let terms = self.terms();
        match self.begin(standing, &terms) {
            Carrying::Plain(relay, _open) => {
                let channel = relay.await.map_err(IngressError::Stream)?;
                self.pool.put(channel);
                Ok(())
            }
            Carrying::Resumable(carrying, _open) => {
                if let Some(channel) = carrying.await? {
                    self.pool.put(channel);
                }
                Ok(())
            }
        }
    }

    /// Has the stream carried, each kind in its way. A function of its own, so that the one that waits has no room for what is moved.
    fn begin<'a>(
        &'a self,
        standing: Standing,
        terms: &'a Unlimited,
    ) -> Carrying<impl Future<Output = Relayed>, impl Future<Output = Ended<C::Error>>> {
        let Standing { stream, socket, open } = standing;
        match stream {
            OpenedStream::Plain(stream) => Carrying::Plain(Box::pin(relay(stream, socket, terms)), open),
            OpenedStream::Resumable(stream) => {
                Carrying::Resumable(Box::pin(self.carry_resumable(stream, socket, terms)), open)
            }
        }
    }

    /// Opens the stream, on one channel after the other. `None` where it has come to its end already.
    async fn open(&self, mut pending: PendingStream) -> Result<Option<Standing>, IngressError<C::Error>> {
        let terms = self.terms();
        let mut attempts = Attempts::until(Instant::now() + self.wait);
        loop {
            let channel = tokio::select! {
                channel = self.pool.get(attempts.deadline()) => channel,
                // What waits in it is too old for anybody.
                () = pending.given_up() => return Ok(None),
            };
            let channel = match channel {
                Ok(channel) => channel,
                Err(error) => {
                    pending.turn_away(TurnedAway::NoChannel).await;
                    return Err(IngressError::NoChannel(error));
                }
            };
            let open = self.streams.begin();
            let carried = match pending.open(channel, &terms).await {
                Opened::Connection(stream, socket) => {
                    return Ok(Some(Standing { stream, socket, open }));
                }
                Opened::Done(carried) => carried,
            };
            match carried {
                Carried::ToEnd(channel, more) => {
                    self.pool.put(channel);
                    let Some(more) = more else { return Ok(None) };
                    pending = more;
                    attempts = Attempts::until(Instant::now() + self.wait);
                }
                Carried::NotOpened(again, error) => {
                    tracing::debug!(%error, "the stream never stood: opening it again");
                    drop(open);
                    pending = again;
                    attempts.pause().await;
                }
                Carried::Unanswered(pending) => {
                    pending.turn_away(TurnedAway::Unanswered).await;
                    return Err(IngressError::NoChannel(self.pool.connector().no_channel()));
                }
                Carried::Refused(channel, pending, code) => {
                    self.pool.put(channel);
                    drop(open);
                    if let PendingStream::Datagrams { .. } = pending {
                        // What comes meanwhile is lost, and does not ask the other side again and again.
                        sleep(REFUSED_PAUSE).await;
                    }
                    pending.turn_away(TurnedAway::Refused(code)).await;
                    let error = ProtocolError::Refused(code).into();
                    return Err(IngressError::Stream(RelayError::Channel(error)));
                }
                Carried::Broken(error) => return Err(IngressError::Stream(error)),
                Carried::Interrupted(unanswered) => {
                    let Unanswered { stream, pending: waiting, error, is_retryable } = *unanswered;
                    match Box::pin(self.take_over(stream, &error, &terms)).await {
                        Ok(stream) => {
                            let stream = OpenedStream::Resumable(stream);
                            return match waiting.stand(&terms).await {
                                Ok(socket) => Ok(Some(Standing { stream, socket, open })),
                                Err(error) => {
                                    // The server would wait for this side otherwise.
                                    if let OpenedStream::Resumable(stream) = stream {
                                        in_time(stream.reset(ResetCode::Output)).await.ok();
                                    }
                                    Err(IngressError::Stream(RelayError::Output(error)))
                                }
                            };
                        }
                        // For how long the server remembers says nothing where another server with its key may have had the stream.
                        Err(TakeoverError::Gone) if is_retryable => {
                            drop(open);
                            pending = waiting;
                            attempts.pause().await;
                        }
                        Err(failed) => {
                            waiting.turn_away(TurnedAway::NoChannel).await;
                            return Err(failed.into());
                        }
                    }
                }
            }
        }
    }

    fn terms(&self) -> Unlimited {
        let resumptions = Some(self.resumptions.clone());
        let (traffic, ending, monitor) = (self.traffic.clone(), self.ending.clone(), self.monitor.clone());
        Unlimited { udp_timeout: self.udp_timeout, traffic, resumptions, ending, monitor }
    }
}

/// A connection whose stream stands.
struct Standing {
    stream: OpenedStream<Socket>,
    socket: Socket,
    /// Counts it.
    open: Counted,
}

/// A stream that is carried, and what counts it: on the heap, since a stream has room for one way of being carried, not for both.
enum Carrying<P, R> {
    /// It cannot be taken over.
    Plain(Pin<Box<P>>, Counted),
    /// It can.
    Resumable(Pin<Box<R>>, Counted),
}

/// What becomes of a stream that cannot be taken over.
type Relayed = Result<Channel<Socket>, RelayError>;
/// What becomes of one that can.
type Ended<E> = Result<Option<Channel<Socket>>, IngressError<E>>;

/// How long a session of datagrams that the other side has refused is not asked for again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
