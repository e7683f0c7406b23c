//! The relay of a tunnel (section 7.1): a plain connection on one side, a channel on the other, and two directions
//! that share a task until the sending one has much to do.
//!
//! ```text
//!   plain -> vectored read straight into record slots -> seal in place -> one write -> channel
//!   plain <- vectored write from where it was opened  <- open in place <- one read  <- channel
//! ```
//!
//! The two directions share the two sockets, one timer and how far sending has come, no lock and no buffer; a direction holds
//! memory only while bytes are in it.

mod alarm;
mod apart;
mod ending;
mod pace;
mod receive_direction;
mod send_direction;
mod shared_state;
mod signal;
mod together;

use std::boxed::Box;
use std::future::{Future, pending};
use std::pin::pin;

use self::ending::Sender;
use self::together::{Progress, Together};
use super::connection::{Channel, SecureStream};
use super::duplex::Duplex;
use crate::message::ResetCode;
use crate::stream::parts::Parts;
use crate::stream::phase::Idle;
use crate::stream::relay_error::RelayError;

pub use self::pace::Pace;

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
            Ok(Progress::Bulk) => together = Box::pin(apart::carry_on(together, stop)).await?,
            Err(failure) => {
                let Together { shared, sending, receiving } = &mut together;
                return Err(Box::pin(failure.conclude(shared, Sender::Here(sending), receiving)).await);
            }
        }
        let Together { shared, sending, receiving } = together;
        shared.plain.finish();
        let parts = Parts { session, reading: receiving.reading, writing: sending.writing };
        Ok(Channel::new(shared.io, parts, Idle))
    }
}
