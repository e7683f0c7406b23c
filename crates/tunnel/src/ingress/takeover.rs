//! Takes a stream over that has lost its channel: on one new channel after the other, for as long as the other side holds it.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::Instant;
use wire_protocol::stream::{
    Channel, Interrupted, RelayError, ResumableStream, ResumeError, Suspended, TunnelEnd,
};

use super::takeover_error::TakeoverError;
use super::{Ingress, IngressError};
use crate::backoff::Backoff;
use crate::pool::Connect;
use crate::relay::relay_resumable;
use crate::socket::Socket;
use crate::terms::Terms;

impl<C: Connect<Socket = Socket>> Ingress<C> {
    /// Carries a stream that can be taken over to its end, on as many channels as that takes. Gives its channel back, idle, where it
    /// has come to its end on that; `None` where the last one was another one, of the pool, and is back there.
    ///
    /// # Errors
    /// [`IngressError`]: the connection was reset.
    pub fn carry_resumable<T: Terms>(
        &self,
        stream: ResumableStream<Socket>,
        socket: Socket,
        terms: &T,
    ) -> impl Future<Output = Result<Option<Channel<Socket>>, IngressError<C::Error>>> + Send {
        // On the heap, each: a stream that stands has no room for another channel, nor one that goes on for the first.
        let relay = Box::pin(relay_resumable(stream, socket, terms));
        async move {
            match relay.await.map_err(IngressError::Stream)? {
                TunnelEnd::Over { channel, .. } => Ok(Some(channel)),
                TunnelEnd::Interrupted(interrupted) => {
                    Box::pin(self.carry_interrupted(interrupted, terms)).await.map(|()| None)
                }
            }
        }
    }

    /// As [`Ingress::carry_resumable`], for a stream that has lost its channel: it goes on on those of the pool.
    ///
    /// # Errors
    /// [`IngressError`]: the connection was reset.
    pub async fn carry_interrupted<T: Terms>(
        &self,
        mut interrupted: Box<Interrupted<Socket>>,
        terms: &T,
    ) -> Result<(), IngressError<C::Error>> {
        loop {
            let Interrupted { stream, plain, error } = *interrupted;
            // On the heap, so that a stream that goes on has no room for it.
            let stream = Box::pin(self.take_over(stream, &RelayError::Channel(error), terms)).await?;
            interrupted = match relay_resumable(stream, plain, terms).await.map_err(IngressError::Stream)? {
                TunnelEnd::Over { channel, .. } => {
                    self.pool.put(channel);
                    return Ok(());
                }
                TunnelEnd::Interrupted(again) => again,
            };
        }
    }

    /// Waits for a channel on which the stream goes on that has lost its own with this error, or until its terms stop it.
    pub(super) async fn take_over<T: Terms>(
        &self,
        stream: Box<Suspended>,
        error: &RelayError,
        terms: &T,
    ) -> Result<ResumableStream<Socket>, TakeoverError<C::Error>> {
        let (id, since) = (stream.id(), Instant::now());
        let deadline = since + stream.hold();
        tracing::debug!(stream = %id, %error, "the channel of a stream is lost: taking the stream over");
        let waiting = self.resumptions.interrupted();
        // What has lain around may be as dead as this one was, and looks alive.
        self.pool.drop_idle();
        let taken = tokio::select! {
            biased;
            code = terms.stopped() => Err(TakeoverError::Stopped(code)),
            () = self.pool.denied() => Err(TakeoverError::Denied),
            taken = self.resume_until(stream, deadline) => taken,
        };
        let (paused, paused_ms) = (since.elapsed(), since.elapsed().as_millis());
        match &taken {
            Ok(_) => {
                waiting.resumed(paused);
                tracing::info!(stream = %id, paused_ms, "stream resumed");
            }
            Err(TakeoverError::NoChannel(_)) if Instant::now() >= deadline => {
                tracing::info!(stream = %id, paused_ms, "stream lost: no channel came about for as long as the server holds it");
            }
            Err(TakeoverError::NoChannel(_)) => {
                tracing::info!(stream = %id, paused_ms, "stream lost: the server lets no channel come about");
            }
            Err(TakeoverError::Denied) => {
                tracing::info!(stream = %id, paused_ms, "stream lost: the server does not let this client in any more");
            }
            Err(TakeoverError::Stopped(_) | TakeoverError::Gone | TakeoverError::Failed(_)) => {}
        }
        taken
    }

    /// Asks for the stream on one channel after the other.
    async fn resume_until(
        &self,
        mut stream: Box<Suspended>,
        deadline: Instant,
    ) -> Result<ResumableStream<Socket>, TakeoverError<C::Error>> {
        let id = stream.id();
        let mut pauses = Backoff::up_to(LONGEST_PAUSE);
        let mut is_first = true;
        loop {
            let channel = self.pool.get_for_takeover(deadline).await.map_err(TakeoverError::NoChannel)?;
            let limit = ANSWER_DEADLINE.min(deadline.saturating_duration_since(Instant::now()));
            match channel.resume(stream, limit).await {
                Ok(resumed) => return Ok(resumed),
                Err(ResumeError::Lost { stream: kept, error }) => {
                    tracing::debug!(stream = %id, %error, "the stream was not taken over: trying again");
                    stream = kept;
                }
                Err(ResumeError::Gone { channel, .. }) => {
                    self.pool.put(channel);
                    return Err(TakeoverError::Gone);
                }
                Err(ResumeError::Failed(error)) => return Err(TakeoverError::Failed(error)),
            }
            if Instant::now() >= deadline {
                return Err(TakeoverError::NoChannel(self.pool.connector().no_channel()));
            }
            if !std::mem::take(&mut is_first) {
                tokio::time::sleep_until(deadline.min(Instant::now() + pauses.next_pause())).await;
            }
        }
    }
}

impl<E> From<TakeoverError<E>> for IngressError<E> {
    fn from(error: TakeoverError<E>) -> Self {
        match error {
            TakeoverError::NoChannel(error) => Self::NoChannel(error),
            TakeoverError::Denied => Self::Stream(RelayError::Channel(denied())),
            TakeoverError::Stopped(code) => Self::Stream(RelayError::Stopped(code)),
            TakeoverError::Gone => Self::Stream(RelayError::Channel(gone())),
            TakeoverError::Failed(error) => Self::Stream(RelayError::Channel(error)),
        }
    }
}

/// The error of a stream that the server does not have any more: it has restarted, has waited for too long, or does not let the
/// client have the stream.
fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the server no longer has the stream: it was restarted, did not wait longer, or the client may not have it",
    )
}

fn denied() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the server does not let this client in any more")
}

/// How long the server may take for its answer on one channel.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
