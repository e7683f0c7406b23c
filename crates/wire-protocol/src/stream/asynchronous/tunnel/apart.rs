//! A relay that has much to send: its sending direction has a task, and so a core, of its own.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use super::alarm::{alarm, poll_alarm, set_alarm};
use super::ending::{AbortOnDrop, Failure, Sender};
use super::pace::Pace;
use super::stop::Stop;
use super::together::Together;
use crate::stream::asynchronous::duplex::Duplex;
use crate::stream::relay_error::RelayError;

/// Gives the sending direction a task of its own, and carries on to the end of both. Gives back what the relay was made of,
/// where the sending direction has come to its end in time.
pub(super) async fn carry_on<C: Duplex, P: Duplex, Q: Pace>(
    together: Together<C, P, Q>,
    mut stop: Pin<&mut impl Future<Output = impl Into<Stop>>>,
) -> (Option<Together<C, P, Q>>, Result<(), RelayError>) {
    let Together { shared, sending, mut receiving } = together;
    let shared = Arc::new(shared);
    let mut task = AbortOnDrop::new(tokio::spawn(sending.run(Arc::clone(&shared))));
    let ended = {
        let mut alarm = pin!(alarm(receiving.poll_timeout()));
        let (mut has_received, mut has_sent) = (false, false);
        poll_fn(|cx| {
            if let Poll::Ready(stop) = stop.as_mut().poll(cx) {
                return Poll::Ready(Err(Failure::Stopped(stop.into())));
            }
            shared.for_receiver.listen(cx.waker());
            loop {
                if !has_received && let Poll::Ready(received) = receiving.poll(&shared, cx) {
                    received.map_err(Failure::Receiving)?;
                    has_received = true;
                }
                if !has_sent && let Poll::Ready(sent) = task.poll(cx) {
                    sent.map_err(Failure::Sending)?;
                    has_sent = true;
                }
                if has_received && has_sent {
                    return Poll::Ready(Ok(()));
                }
                ready!(poll_alarm(alarm.as_mut(), receiving.held_until(), cx));
                receiving.handle_timeout().map_err(Failure::Receiving)?;
                set_alarm(alarm.as_mut(), receiving.poll_timeout());
            }
        })
        .await
    };
    let ended = match ended {
        Ok(()) => Ok(()),
        Err(failure) => Err(failure.conclude(&shared, Sender::Apart(&mut task), &mut receiving).await),
    };
    let Some(sending) = task.into_output() else { return (None, ended.and(Err(still_held()))) };
    match Arc::into_inner(shared) {
        Some(shared) => (Some(Together { shared, sending, receiving }), ended),
        None => (None, ended.and(Err(still_held()))),
    }
}

fn still_held() -> RelayError {
    RelayError::Channel(io::Error::other("a direction of the tunnel still holds its sockets"))
}
