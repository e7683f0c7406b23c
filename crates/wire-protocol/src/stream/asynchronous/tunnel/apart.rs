//! A relay that has much to send: its sending direction has a task, and so a core, of its own.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use super::alarm::{alarm, poll_alarm, set_alarm};
use super::ending::{AbortOnDrop, Failure, Sender};
use super::pace::Pace;
use super::together::Together;
use crate::message::ResetCode;
use crate::stream::asynchronous::duplex::Duplex;
use crate::stream::relay_error::RelayError;

/// Gives the sending direction a task of its own, and carries on to the end of both.
pub(super) async fn carry_on<C: Duplex, P: Duplex, Q: Pace>(
    together: Together<C, P, Q>,
    mut stop: Pin<&mut impl Future<Output = ResetCode>>,
) -> Result<Together<C, P, Q>, RelayError> {
    let Together { shared, sending, mut receiving } = together;
    let shared = Arc::new(shared);
    let mut task = AbortOnDrop(tokio::spawn(sending.run(Arc::clone(&shared))));
    let mut sent = None;
    let ended = {
        let mut alarm = pin!(alarm(receiving.poll_timeout()));
        let mut has_received = false;
        poll_fn(|cx| {
            if let Poll::Ready(code) = stop.as_mut().poll(cx) {
                return Poll::Ready(Err(Failure::Stopped(code)));
            }
            shared.for_receiver.listen(cx.waker());
            loop {
                if !has_received && let Poll::Ready(received) = receiving.poll(&shared, cx) {
                    received.map_err(Failure::Receiving)?;
                    has_received = true;
                }
                if sent.is_none()
                    && let Poll::Ready(joined) = task.poll(cx)
                {
                    let joined = joined.map_err(RelayError::Channel).flatten();
                    sent = Some(joined.map_err(Failure::Sending)?);
                }
                if has_received && let Some(sending) = sent.take() {
                    return Poll::Ready(Ok(sending));
                }
                ready!(poll_alarm(alarm.as_mut(), receiving.held_until(), cx));
                receiving.handle_timeout().map_err(Failure::Receiving)?;
                set_alarm(alarm.as_mut(), receiving.poll_timeout());
            }
        })
        .await
    };
    match ended {
        Ok(sending) => {
            let shared = Arc::into_inner(shared).ok_or_else(still_held)?;
            Ok(Together { shared, sending, receiving })
        }
        Err(failure) => {
            // A task that has ended cannot be waited for again.
            let sender = sent.as_mut().map_or_else(|| Sender::Apart(&mut task), Sender::Here);
            Err(failure.conclude(&shared, sender, &mut receiving).await)
        }
    }
}

fn still_held() -> RelayError {
    RelayError::Channel(io::Error::other("a direction of the tunnel still holds its sockets"))
}
