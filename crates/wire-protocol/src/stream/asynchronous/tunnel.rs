//! The relay of a tunnel (section 7.1): a plain connection on one side, a channel on the other, and two directions
//! that share a task until the sending one has much to do.
//!
//! ```text
//!   plain -> vectored read straight into record slots -> seal in place -> one write -> channel
//!   plain <- vectored write from where it was opened  <- open in place <- one read  <- channel
//! ```
//!
//! The two directions share the two sockets, one timer and how far sending has come, no lock and no buffer; a direction holds
//! memory only while bytes are in it. Of a resumable stream (section 7.7) the sending one also keeps what is not acknowledged.

mod alarm;
mod apart;
mod backlog;
mod ending;
mod pace;
mod receive_direction;
mod send_direction;
mod shared_state;
mod signal;
mod stop;
mod together;

use std::boxed::Box;
use std::future::{Future, pending};
use std::io;
use std::pin::pin;

use self::ending::Sender;
use self::together::{Progress, Together};
use super::connection::{Channel, SecureStream};
use super::duplex::Duplex;
use super::resume::{Resumable, ResumableStream, is_loss, suspended};
use crate::message::ResetCode;
use crate::stream::parts::Parts;
use crate::stream::phase::Idle;
use crate::stream::relay_error::RelayError;
use crate::stream::resumable::Suspended;
use crate::stream::session::Session;

pub use self::pace::{Direction, Pace};
pub use self::stop::Stop;

/// Relays until both directions have ended, each by itself: half-close is honored. Closes the plain connection then, and
/// gives back the channel, which is idle.
///
/// # Errors
/// [`RelayError`]. Both sockets are gone then: where the plain one is set to reset when it is dropped, as it should
/// be, what was cut off does not look as if it had ended.
pub fn tunnel<C, P, Q>(
    stream: SecureStream<C>,
    plain: P,
    pace: Q,
) -> impl Future<Output = Result<Channel<C>, RelayError>>
where
    C: Duplex,
    P: Duplex,
    Q: Pace,
{
    tunnel_until(stream, plain, pace, pending())
}

/// As [`tunnel()`], but breaks the stream off once `stop` gives a reason, which the other side is told.
///
/// # Errors
/// [`RelayError`]; [`RelayError::Stopped`] once `stop` has given a reason.
pub fn tunnel_until<C, P, Q>(
    stream: SecureStream<C>,
    plain: P,
    pace: Q,
    stop: impl Future<Output = ResetCode>,
) -> impl Future<Output = Result<Channel<C>, RelayError>>
where
    C: Duplex,
    P: Duplex,
    Q: Pace,
{
    let (io, Parts { session, reading, writing }) = stream.into_parts();
    let mut together = Together::new(io, plain, pace, reading, writing);
    async move {
        let mut stop = pin!(stop);
        // What is seldom needed is on the heap, so that the many relays that never come there have no room for it.
        match together.run(stop.as_mut()).await {
            Ok(Progress::Ended) => {}
            Ok(Progress::Bulk) => {
                let (apart, ended) = Box::pin(apart::carry_on(together, stop)).await;
                ended?;
                // What has ended well was given back.
                together = apart.ok_or_else(|| RelayError::Channel(io::ErrorKind::Other.into()))?;
            }
            Err(failure) => {
                let Together { shared, sending, receiving } = &mut together;
                return Err(Box::pin(failure.conclude(shared, Sender::Here(sending), receiving)).await);
            }
        }
        Ok(finish(together, session))
    }
}

/// How the relay of a resumable stream has come to its end on this channel.
#[derive(Debug)]
pub enum TunnelEnd<C, P> {
    /// The stream is over: the channel is idle, and the plain connection closed.
    Over {
        /// The channel; see [`Channel::settle`].
        channel: Channel<C>,
        /// What is left of the stream, for a server to remember.
        stream: Box<Suspended>,
    },
    /// The channel is lost, and the stream may go on on another one.
    Interrupted(Box<Interrupted<P>>),
}

/// A stream that has lost its channel, and its plain connection.
#[derive(Debug)]
pub struct Interrupted<P> {
    /// The stream without a channel.
    pub stream: Box<Suspended>,
    /// The plain connection, from which nothing is read meanwhile.
    pub plain: P,
    /// How the channel was lost.
    pub error: io::Error,
}

/// Relays a resumable stream to the end of both directions, or of the channel.
///
/// # Errors
/// [`RelayError`], where the stream cannot go on on another channel either: this side or the other has given it up, or the other
/// has broken the protocol. Both sockets are gone then, as in [`tunnel()`].
pub fn tunnel_resumable<C, P, Q>(
    stream: ResumableStream<C>,
    plain: P,
    pace: Q,
    stop: impl Future<Output = Stop>,
) -> impl Future<Output = Result<TunnelEnd<C, P>, RelayError>>
where
    C: Duplex,
    P: Duplex,
    Q: Pace,
{
    let (io, Parts { session, reading, writing }, Resumable { identity, retention }) = stream.take_apart_in();
    let mut together = Together::new(io, plain, pace, reading, writing);
    // On the heap: a future that is captured, and then pinned, has room in this one twice.
    let mut stop = Box::pin(stop);
    async move {
        let ended = match together.run(stop.as_mut()).await {
            Ok(Progress::Ended) => Ok(()),
            Ok(Progress::Bulk) => {
                let (apart, ended) = Box::pin(apart::carry_on(together, stop.as_mut())).await;
                together = match apart {
                    Some(apart) => apart,
                    // A part of it did not end in time.
                    None => {
                        let error = ended.err();
                        return Err(error.unwrap_or_else(|| RelayError::Channel(io::ErrorKind::Other.into())));
                    }
                };
                ended
            }
            Err(failure) => {
                let Together { shared, sending, receiving } = &mut together;
                Err(Box::pin(failure.conclude(shared, Sender::Here(sending), receiving)).await)
            }
        };
        let loss = match ended {
            Ok(()) => None,
            Err(RelayError::Channel(error)) if is_loss(&error) => Some(error),
            Err(error) => return Err(error),
        };
        let receiver = &together.receiving.reading.receiver;
        let (received, has_end) = (receiver.received(), receiver.has_received_end());
        let retained = together.sending.writing.take_retained();
        let stream = Box::new(suspended(*identity, retention, retained, received, has_end));
        Ok(match loss {
            Some(error) => {
                TunnelEnd::Interrupted(Box::new(Interrupted { stream, plain: together.shared.plain, error }))
            }
            None => TunnelEnd::Over { channel: finish(together, session), stream },
        })
    }
}

/// Closes the plain connection, on which both sides have said all, and gives the channel, idle.
fn finish<C: Duplex, P: Duplex, Q: Pace>(together: Together<C, P, Q>, session: Box<Session>) -> Channel<C> {
    let Together { shared, sending, receiving } = together;
    shared.plain.finish();
    let parts = Parts { session, reading: receiving.reading, writing: sending.writing };
    Channel::new(shared.io, parts, Idle)
}
