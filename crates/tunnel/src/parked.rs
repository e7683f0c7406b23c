//! A channel that the other side has parked for a lease: it carries one stream after another that has come in by the lease.
//!
//! ```text
//! acceptor -> PendingQueue -> whichever parked channel of the lease is free -> Open, relay -> parked again
//!                  ^---------------------- never stood ----------------------'
//! ```
//!
//! A stream that can be taken over, and has lost its channel, waits for the other side, which alone can make another one.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use wire_protocol::message::RefusedCode;
use wire_protocol::stream::{Channel, Incoming, Interrupted, OpenedStream, ResumableStream};

use crate::closing::{into_io, stop};
use crate::counter::Counter;
use crate::dial::in_time;
use crate::pending_queue::{Pending, PendingQueue};
use crate::pending_stream::{Carried, Opened, TurnedAway, Unanswered};
use crate::relay::relay;
use crate::socket::Socket;
use crate::terms::Terms;

/// Is told of each stream that a parked channel carries.
pub trait StreamObserver: fmt::Debug + Send + Sync {
    /// One has begun.
    fn begun(&self);

    /// One that had begun has ended.
    fn ended(&self, end: StreamEnd);
}

/// Nobody looks.
impl StreamObserver for () {
    fn begun(&self) {}

    fn ended(&self, _: StreamEnd) {}
}

/// How a stream of a parked channel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Both sides have said that there is no more.
    Completed,
    /// The other side did not want it.
    Refused(RefusedCode),
    /// It was not opened, or broke off.
    Failed,
}

/// Carries the streams of a parked channel that the other side can take over, and keeps those that have lost the channel. It has
/// heard of each, before it stands, by [`Terms::note_asked`].
pub trait StreamHolder: Send + Sync {
    /// Carries the stream, which stands now, to its end, and gives the channel back, idle.
    ///
    /// # Errors
    /// Whatever ends the channel before that.
    fn carry(
        &self,
        stream: ResumableStream<Socket>,
        socket: Socket,
    ) -> impl Future<Output = io::Result<Channel<Socket>>> + Send;

    /// The stream has lost its channel before the other side has answered, which may have it all the same: it waits for that side.
    fn hold(&self, interrupted: Box<Interrupted<Socket>>);

    /// Whether the other side has asked to take the stream over.
    fn is_asked_for(&self) -> bool;

    /// There is no such stream, or it cannot be taken over.
    fn forget(&self);
}

/// No stream can be taken over.
impl StreamHolder for () {
    async fn carry(&self, _: ResumableStream<Socket>, _: Socket) -> io::Result<Channel<Socket>> {
        Err(io::Error::other("nobody is there to take the stream over"))
    }

    fn hold(&self, _: Box<Interrupted<Socket>>) {}

    fn is_asked_for(&self) -> bool {
        false
    }

    fn forget(&self) {}
}

/// A stream that has begun. Dropped without a word, it has failed.
struct Observed<'a> {
    observer: &'a dyn StreamObserver,
    end: StreamEnd,
}

impl<'a> Observed<'a> {
    fn begin(observer: &'a dyn StreamObserver) -> Self {
        observer.begun();
        Self { observer, end: StreamEnd::Failed }
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        self.observer.ended(self.end);
    }
}

/// The queue that a parked channel takes its streams from, and the conditions under which it stops.
#[derive(Debug)]
pub struct Parked<'a, H> {
    /// What has come in by the lease.
    pub queue: &'a PendingQueue,
    /// The lease has ended.
    pub ended: &'a CancellationToken,
    /// The program takes nothing new any more.
    pub stopping: &'a CancellationToken,
    /// How long there may be no sign of life.
    pub idle_timeout: Duration,
    /// Counts streams.
    pub streams: &'a Counter,
    /// Is told of each.
    pub observer: &'a dyn StreamObserver,
    /// Has those that can be taken over.
    pub holder: &'a H,
}

impl<H: StreamHolder> Parked<'_, H> {
    /// Serves the channel until either side closes it, the lease ends, or `terms` stop it.
    ///
    /// # Errors
    /// Whatever ends the channel before its end.
    pub async fn serve<T: Terms>(&self, mut channel: Channel<Socket>, terms: &T) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                code = terms.stopped() => return Err(stop(channel, code).await),
                () = self.stopping.cancelled() => return in_time(channel.close()).await,
                () = self.ended.cancelled() => return in_time(channel.close()).await,
                incoming = timeout(self.idle_timeout, channel.next_incoming()) => {
                    let Ok(incoming) = incoming else { return in_time(channel.close()).await };
                    match incoming? {
                        Incoming::SignOfLife => {}
                        Incoming::Close => return in_time(channel.close()).await,
                        // The channel takes neither any more.
                        Incoming::Open(_)
                        | Incoming::OpenResumable(..)
                        | Incoming::Resume(_)
                        | Incoming::Park(_) => {
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                    }
                }
                pending = self.queue.take() => {
                    let _open = self.streams.begin();
                    channel = self.carry(channel, pending, terms).await?;
                }
            }
        }
    }

    async fn carry<T: Terms>(
        &self,
        channel: Channel<Socket>,
        pending: Pending,
        terms: &T,
    ) -> io::Result<Channel<Socket>> {
        let Pending { since, stream } = pending;
        let mut observed = Observed::begin(self.observer);
        // On the heap, so that the room for it is given back once a connection stands.
        let carried = match Box::pin(stream.open(channel, terms)).await {
            Opened::Connection(OpenedStream::Plain(stream), socket) => {
                self.holder.forget();
                let channel = relay(stream, socket, terms).await.map_err(into_io)?;
                observed.end = StreamEnd::Completed;
                return Ok(channel);
            }
            Opened::Connection(OpenedStream::Resumable(stream), socket) => {
                let channel = Box::pin(self.holder.carry(stream, socket)).await?;
                observed.end = StreamEnd::Completed;
                return Ok(channel);
            }
            Opened::Done(Carried::Interrupted(unanswered)) => {
                return Err(self.lose(*unanswered, since, terms).await);
            }
            Opened::Done(carried) => carried,
        };
        self.holder.forget();
        match carried {
            Carried::ToEnd(channel, more) => {
                observed.end = StreamEnd::Completed;
                if let Some(stream) = more.filter(|_| !self.ended.is_cancelled()) {
                    self.queue.put_back(Pending { since: Instant::now(), stream });
                }
                Ok(channel)
            }
            Carried::Refused(channel, stream, code) => {
                observed.end = StreamEnd::Refused(code);
                stream.turn_away(TurnedAway::Refused(code)).await;
                Ok(channel)
            }
            Carried::NotOpened(stream, error) => {
                self.queue.put_back(Pending { since, stream });
                Err(into_io(error))
            }
            Carried::Unanswered(stream) => {
                if stream.is_unsent() {
                    self.queue.put_back(Pending { since, stream });
                }
                Err(io::ErrorKind::TimedOut.into())
            }
            Carried::Broken(error) => Err(into_io(error)),
            // It was told apart above.
            Carried::Interrupted(unanswered) => Err(into_io(unanswered.error)),
        }
    }

    /// The channel of a stream was lost before the other side has answered. Where nothing was sent of it, and the other side has not
    /// asked for it, another channel takes it, if one can: whatever the other side may have of it then is another stream, which it does not get.
    async fn lose<T: Terms>(&self, unanswered: Unanswered, since: Instant, terms: &T) -> io::Error {
        let Unanswered { stream, pending, error, is_retryable, .. } = unanswered;
        let error = into_io(error);
        if is_retryable && !self.holder.is_asked_for() && !self.ended.is_cancelled() {
            self.holder.forget();
            self.queue.put_back(Pending { since, stream: pending });
            return error;
        }
        let told = io::Error::new(error.kind(), error.to_string());
        match pending.stand(terms).await {
            Ok(plain) => self.holder.hold(Box::new(Interrupted { stream, plain, error })),
            // It has left meanwhile.
            Err(_) => self.holder.forget(),
        }
        told
    }
}
