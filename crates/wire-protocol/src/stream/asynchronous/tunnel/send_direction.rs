//! The direction of a relay that sends: from the plain connection to the channel.

use std::boxed::Box;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crypto_core::record::MAX_PAYLOAD_LEN;
use tokio::time::{Instant, timeout};

use super::alarm::{alarm, poll_alarm, set_alarm};
use super::pace::{Direction, Hold, Pace};
use super::shared_state::{Sending, SharedState};
use super::stop::Stop;
use crate::Error;
use crate::channel::HEARTBEAT;
use crate::message::{ControlMessage, ResetCode};
use crate::record::batch;
use crate::stream::asynchronous::duplex::{Duplex, Shared, is_transient};
use crate::stream::half::SendHalf;
use crate::stream::relay_error::RelayError;

/// Seals what the plain connection says, and sends it. It holds memory only while bytes are in it.
pub(super) struct SendDirection {
    pub(super) writing: Box<SendHalf>,
    input: Input,
    /// Whether EndOfStream was said on this channel, or need not be.
    has_said_end: bool,
    /// Whether the other side was asked to acknowledge what there is no more room for.
    has_asked: bool,
    hold: Hold,
}

/// Whether the plain connection may still say something, and in how many records that is expected to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open { slots: usize },
    Ended,
}

/// What came of reading from the plain connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// So many bytes; none at its end.
    Bytes(usize),
    /// Nothing was read, since no more of the stream can be kept.
    NoRoom,
}

enum FillError {
    Channel(Error),
    Plain(io::Error),
}

impl From<Error> for FillError {
    fn from(error: Error) -> Self {
        Self::Channel(error)
    }
}

impl From<FillError> for RelayError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Channel(error) => Self::Channel(error.into()),
            FillError::Plain(error) => Self::Input(error),
        }
    }
}

impl SendDirection {
    pub(super) fn new(writing: Box<SendHalf>) -> Self {
        // A stream that was taken over may have ended in this direction.
        let input = if writing.has_ended() { Input::Ended } else { Input::Open { slots: 1 } };
        let has_said_end = !writing.sender.is_streaming();
        Self { writing, input, has_said_end, has_asked: false, hold: Hold::default() }
    }

    /// Carries on as far as it can without waiting. Ready once both sides have ended the stream. Where the plain connection
    /// fails, the other side has to be told: see [`SendDirection::give_up`].
    pub(super) fn poll<C: Duplex, P: Duplex, Q: Pace>(
        &mut self,
        shared: &SharedState<C, P, Q>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RelayError>> {
        let channel = |error: Error| RelayError::Channel(error.into());
        self.begin(shared);
        self.writing.let_go();
        loop {
            // Asked first: a moment that has passed is not waited for again, whatever else this waits for.
            let is_held = self.hold.lasts();
            if shared.sending.get() != Sending::HoldsOpened {
                // Again behind what was under way, for which a Pong has to wait.
                loop {
                    self.writing.answer().map_err(channel)?;
                    if self.writing.unsent().is_empty() {
                        break;
                    }
                    match self.writing.poll_send(&mut Shared(&shared.io), cx) {
                        Poll::Ready(sent) => sent.map_err(RelayError::Channel)?,
                        Poll::Pending => {
                            // The other side may not read before this one does.
                            let is_full = self.writing.has_to_resend() || self.writing.room(1) == 0;
                            shared.set_stalled(is_full || shared.is_stalled());
                            return Poll::Pending;
                        }
                    }
                }
            }
            // What was lost with another channel goes first, at the same pace.
            if self.writing.has_to_resend() {
                self.writing.resend().map_err(channel)?;
                continue;
            }
            if self.input == Input::Ended && !self.has_said_end {
                self.end(shared).map_err(channel)?;
                continue;
            }
            if self.input == Input::Ended {
                shared.sending.set(shared.sending.get().ended());
                if self.writing.sender.defer_last_acknowledge() {
                    shared.for_receiver.raise();
                }
                return if self.writing.sender.is_idle() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if is_held {
                return Poll::Pending;
            }
            match ready!(self.fill(shared.pace.records(), &shared.plain, cx))? {
                // Where a stream keeps all that it can it goes on with the next Acknowledge, which comes along with a Pong.
                Filled::NoRoom if self.has_asked => return Poll::Pending,
                Filled::NoRoom => {
                    self.has_asked = true;
                    shared.set_stalled(true);
                    self.writing.control(&ControlMessage::Ping { nonce: 0 }).map_err(channel)?;
                }
                Filled::Bytes(0) => {
                    self.has_room(shared);
                    self.input = Input::Ended;
                    self.end(shared).map_err(channel)?;
                }
                Filled::Bytes(len) => {
                    self.has_room(shared);
                    if self.input == (Input::Open { slots: batch() }) {
                        shared.sending.set(Sending::Apart);
                    }
                    // What was read goes out; nothing else is read before its time.
                    self.hold.until(shared.pace.note(len, Direction::Sent));
                }
            }
            shared.release_opened();
        }
    }

    /// Notes that the plain connection is read again.
    fn has_room<C, P, Q>(&mut self, shared: &SharedState<C, P, Q>) {
        self.has_asked = false;
        shared.set_stalled(false);
    }

    /// Where the other side has spoken first, an answer is likely to follow at once: Opened goes along with it, or with the
    /// first heartbeat. A timer of its own would cost each short stream more than it saves.
    fn begin<C, P, Q>(&self, shared: &SharedState<C, P, Q>) {
        let state = shared.sending.get();
        if !state.has_begun() {
            let holds_opened = state == Sending::NotBegunButHeard
                && !self.writing.unsent().is_empty()
                && !shared.for_sender.is_raised();
            shared.sending.set(if holds_opened { Sending::HoldsOpened } else { Sending::Here });
        }
    }

    fn end<C, P, Q>(&mut self, shared: &SharedState<C, P, Q>) -> Result<(), Error> {
        self.has_said_end = true;
        self.writing.control(&ControlMessage::EndOfStream)?;
        shared.for_receiver.raise();
        Ok(())
    }

    /// Reads from the plain connection straight into records and seals them. No record is held back for more to come.
    fn fill(
        &mut self,
        most: usize,
        plain: &impl Duplex,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Filled, FillError>> {
        let Input::Open { slots } = self.input else { return Poll::Ready(Ok(Filled::Bytes(0))) };
        let records = slots.min(most);
        loop {
            ready!(plain.poll_read_ready(cx)).map_err(FillError::Plain)?;
            let allowed = self.writing.room(records * MAX_PAYLOAD_LEN);
            if allowed == 0 {
                return Poll::Ready(Ok(Filled::NoRoom));
            }
            let mut room = 0;
            let filled = self.writing.data_within(records, allowed, |places| {
                room = places.iter().map(|place| place.len()).sum();
                plain.try_read_vectored(places).map_err(FillError::Plain)
            });
            match filled {
                Ok(len) => {
                    // A connection that fills what it is given has more to say; one that does not gets less memory.
                    self.input = Input::Open {
                        slots: if len == room { batch() } else { len.div_ceil(room / records).max(1) },
                    };
                    return Poll::Ready(Ok(Filled::Bytes(len)));
                }
                Err(FillError::Plain(error)) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Whether the plain connection has said all. What breaks it from then on nothing that is read tells.
    pub(super) fn input_has_ended(&self) -> bool {
        self.input == Input::Ended
    }

    /// Says Ping where one is due.
    pub(super) fn handle_timeout(&mut self) -> Result<(), RelayError> {
        self.writing.handle_timeout().map_err(|error| RelayError::Channel(error.into()))
    }

    /// When [`SendDirection::handle_timeout`] is due, if that can be said. It does nothing while bytes wait to go out, which may
    /// be for longer than that takes: so it is due later then.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.writing.poll_timeout()?;
        Some(if self.writing.unsent().is_empty() { due } else { due.max(Instant::now() + HEARTBEAT) })
    }

    /// Until when it is held up, or when it has to acknowledge what was taken, whichever comes first.
    pub(super) fn held_until(&self) -> Option<Instant> {
        let acknowledge = self.writing.acknowledge_due().filter(|_| self.writing.unsent().is_empty());
        self.hold.end().into_iter().chain(acknowledge).min()
    }

    /// Says Reset, and ends the channel. `false` where the other side has not taken it in time: it learns of it from the cut.
    pub(super) async fn give_up<C: Duplex, P, Q>(
        &mut self,
        shared: &SharedState<C, P, Q>,
        code: ResetCode,
    ) -> bool {
        if self.writing.control(&ControlMessage::Reset { code }).is_err() {
            return false;
        }
        let sent = poll_fn(|cx| self.writing.poll_send(&mut Shared(&shared.io), cx));
        let is_sent = matches!(timeout(RESET_DEADLINE, sent).await, Ok(Ok(())));
        if is_sent {
            // Closing while the other side still sends makes it likely that the reason never arrives.
            shared.io.shutdown_write().ok();
        }
        is_sent
    }

    /// Carries on in a task of its own, to its end, or until the stream is given up. Gives itself back in any case.
    pub(super) async fn run<C: Duplex, P: Duplex, Q: Pace>(
        mut self,
        shared: Arc<SharedState<C, P, Q>>,
    ) -> (Self, Result<(), RelayError>) {
        let ended = self.run_to_end(&shared).await;
        (self, ended)
    }

    async fn run_to_end<C: Duplex, P: Duplex, Q: Pace>(
        &mut self,
        shared: &SharedState<C, P, Q>,
    ) -> Result<(), RelayError> {
        let mut alarm = pin!(alarm(self.poll_timeout()));
        let mut reset = None;
        let ended = poll_fn(|cx| {
            shared.for_sender.listen(cx.waker());
            if let Some(stop) = shared.given_up.get() {
                return Poll::Ready(Ok(Some(*stop)));
            }
            loop {
                if let Poll::Ready(sent) = self.poll(shared, cx) {
                    return Poll::Ready(sent.map(|()| None));
                }
                if self.input_has_ended() {
                    let reset = reset.get_or_insert_with(|| Box::pin(shared.plain.reset()));
                    if let Poll::Ready(error) = reset.as_mut().poll(cx) {
                        return Poll::Ready(Err(RelayError::Input(error)));
                    }
                }
                ready!(poll_alarm(alarm.as_mut(), self.held_until(), cx));
                self.handle_timeout()?;
                set_alarm(alarm.as_mut(), self.poll_timeout());
            }
        })
        .await;
        match ended {
            Ok(None | Some(Stop::Suspend)) => {}
            Ok(Some(Stop::Reset(code))) => {
                self.give_up(shared, code).await;
            }
            Err(error) => {
                if let RelayError::Input(_) = error {
                    self.give_up(shared, ResetCode::Input).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// How long the other side has for taking a Reset.
pub(super) const RESET_DEADLINE: Duration = Duration::from_secs(1);
