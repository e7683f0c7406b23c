//! A relay whose two directions share a task, which is all that a short exchange needs: one task that is made, and woken.

use std::boxed::Box;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep};

use super::alarm::{alarm, poll_alarm, set_alarm};
use super::ending::Failure;
use super::pace::Pace;
use super::receive_direction::ReceiveDirection;
use super::send_direction::SendDirection;
use super::shared_state::SharedState;
use super::stop::Stop;
use crate::stream::asynchronous::duplex::Duplex;
use crate::stream::half::{ReceiveHalf, SendHalf};
use crate::stream::relay_error::RelayError;

/// Both directions, and what they share.
pub(super) struct Together<C, P, Q> {
    pub(super) shared: SharedState<C, P, Q>,
    pub(super) sending: SendDirection,
    pub(super) receiving: ReceiveDirection,
}

/// How far two directions that share a task have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Both have ended well.
    Ended,
    /// There is much to send, which a task of its own is for.
    Bulk,
}

impl<C: Duplex, P: Duplex, Q: Pace> Together<C, P, Q> {
    pub(super) fn new(io: C, plain: P, pace: Q, reading: Box<ReceiveHalf>, writing: Box<SendHalf>) -> Self {
        let receiving = ReceiveDirection::new(reading, writing.reservation_beside());
        Self { shared: SharedState::new(io, plain, pace), sending: SendDirection::new(writing), receiving }
    }

    /// Carries on until there is much to send, or to the end.
    pub(super) async fn run(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = impl Into<Stop>>>,
    ) -> Result<Progress, Failure> {
        let Self { shared, sending, receiving } = self;
        let mut alarm = pin!(alarm(earliest(sending.poll_timeout(), receiving.poll_timeout())));
        // On the heap, so that the many relays that never come there have no room for it.
        let mut reset = None;
        let mut sends_first = false;
        poll_fn(|cx| {
            if let Poll::Ready(code) = stop.as_mut().poll(cx) {
                return Poll::Ready(Err(Failure::Stopped(code.into())));
            }
            if sends_first && let Poll::Ready(Err(error)) = sending.poll(shared, cx) {
                return Poll::Ready(Err(Failure::Sending(error)));
            }
            loop {
                if let Poll::Ready(progress) = advance(shared, sending, receiving, cx) {
                    return Poll::Ready(progress);
                }
                // A peer that always has more to say uses up the turns of the task: each second one is sending's then.
                sends_first = !sends_first && !has_budget_remaining();
                if sending.input_has_ended() {
                    let reset = reset.get_or_insert_with(|| Box::pin(shared.plain.reset()));
                    if let Poll::Ready(error) = reset.as_mut().poll(cx) {
                        return Poll::Ready(Err(Failure::Sending(RelayError::Input(error))));
                    }
                }
                let held_until = earliest(sending.held_until(), receiving.held_until());
                if poll_alarm(alarm.as_mut(), held_until, cx).is_pending() {
                    return Poll::Pending;
                }
                ring(shared, sending, receiving, alarm.as_mut())?;
            }
        })
        .await
    }
}

/// Has both directions carry on as far as they can without waiting.
fn advance<C: Duplex, P: Duplex, Q: Pace>(
    shared: &SharedState<C, P, Q>,
    sending: &mut SendDirection,
    receiving: &mut ReceiveDirection,
    cx: &mut Context<'_>,
) -> Poll<Result<Progress, Failure>> {
    loop {
        // What came with the Open first: its target begins to work on it.
        let received = receiving.poll(shared, cx).map_err(Failure::Receiving)?;
        let sent = sending.poll(shared, cx).map_err(Failure::Sending)?;
        if received.is_ready() && sent.is_ready() {
            return Poll::Ready(Ok(Progress::Ended));
        }
        if shared.sending.get().is_apart() {
            return Poll::Ready(Ok(Progress::Bulk));
        }
        // Both are asked, so that neither is left raised.
        let has_news = [shared.for_receiver.lower(), shared.for_sender.lower()];
        if has_news == [false; 2] {
            return Poll::Pending;
        }
    }
}

/// Has both directions look at their timers, and sets the alarm again.
fn ring<C, P, Q>(
    shared: &SharedState<C, P, Q>,
    sending: &mut SendDirection,
    receiving: &mut ReceiveDirection,
    alarm: Pin<&mut Sleep>,
) -> Result<(), Failure> {
    receiving.handle_timeout().map_err(Failure::Receiving)?;
    sending.handle_timeout().map_err(Failure::Sending)?;
    shared.release_opened();
    set_alarm(alarm, earliest(sending.poll_timeout(), receiving.poll_timeout()));
    Ok(())
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
