//! The direction of a relay that sends: from the plain connection to the channel.

use std::boxed::Box;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::alarm::{alarm, poll_alarm, set_alarm};
use super::pace::{Hold, Pace};
use super::shared_state::{Sending, SharedState};
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
    hold: Hold,
}

/// Whether the plain connection may still say something, and in how many records that is expected to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open { slots: usize },
    Ended,
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
        Self { writing, input: Input::Open { slots: 1 }, hold: Hold::default() }
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
                    ready!(self.writing.poll_send(&mut Shared(&shared.io), cx))
                        .map_err(RelayError::Channel)?;
                }
            }
            if self.input == Input::Ended {
                shared.sending.set(shared.sending.get().ended());
                return if self.writing.sender.is_idle() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if is_held {
                return Poll::Pending;
            }
            match ready!(self.fill(shared.pace.records(), &shared.plain, cx))? {
                0 => {
                    self.input = Input::Ended;
                    self.writing.control(&ControlMessage::EndOfStream).map_err(channel)?;
                    shared.for_receiver.raise();
                }
                len => {
                    if self.input == (Input::Open { slots: batch() }) {
                        shared.sending.set(Sending::Apart);
                    }
                    // What was read goes out; nothing else is read before its time.
                    self.hold.until(shared.pace.note(len));
                }
            }
            shared.release_opened();
        }
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

    /// Reads from the plain connection straight into records and seals them. No record is held back for more to come.
    fn fill(
        &mut self,
        most: usize,
        plain: &impl Duplex,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, FillError>> {
        let Input::Open { slots } = self.input else { return Poll::Ready(Ok(0)) };
        let records = slots.min(most);
        loop {
            ready!(plain.poll_read_ready(cx)).map_err(FillError::Plain)?;
            let mut room = 0;
            let filled = self.writing.data_with(records, |places| {
                room = places.iter().map(|place| place.len()).sum();
                plain.try_read_vectored(places).map_err(FillError::Plain)
            });
            match filled {
                Ok(len) => {
                    // A connection that fills what it is given has more to say; one that does not gets less memory.
                    self.input = Input::Open {
                        slots: if len == room { batch() } else { len.div_ceil(room / records).max(1) },
                    };
                    return Poll::Ready(Ok(len));
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

    /// Until when it is held up.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.hold.end()
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

    /// Carries on in a task of its own, to its end, or until the stream is given up.
    pub(super) async fn run<C: Duplex, P: Duplex, Q: Pace>(
        mut self,
        shared: Arc<SharedState<C, P, Q>>,
    ) -> Result<Self, RelayError> {
        let mut alarm = pin!(alarm(self.poll_timeout()));
        let mut reset = None;
        let ended = poll_fn(|cx| {
            shared.for_sender.listen(cx.waker());
            if let Some(code) = shared.given_up.get() {
                return Poll::Ready(Ok(Some(*code)));
            }
            loop {
                if let Poll::Ready(sent) = self.poll(&shared, cx) {
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
            Ok(None) => {}
            Ok(Some(code)) => {
                self.give_up(&shared, code).await;
            }
            Err(error) => {
                if let RelayError::Input(_) = error {
                    self.give_up(&shared, ResetCode::Input).await;
                }
                return Err(error);
            }
        }
        Ok(self)
    }
}

/// How long the other side has for taking a Reset.
pub(super) const RESET_DEADLINE: Duration = Duration::from_secs(1);
