//! The state that both directions of a channel share: the state of each, the kind of stream, and the Pings.
//!
//! A state changes before the record that it speaks of can have left, and is looked at when a record is processed.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use crypto_core::schedule::Side;

use super::offsets::{Offsets, Position, Resumability};
use super::time::{HEARTBEAT, RESUMABLE_HEARTBEAT, RESUMABLE_SILENCE, SILENCE, Timestamp};
use crate::message::{Retention, Target};
use crate::state::{StateCell, states};

/// What both directions know.
#[derive(Debug)]
pub(super) struct Shared {
    /// How far what this side sends has come. The sender changes it, and the receiver where an Open comes.
    pub(super) sending: StateCell<SendState>,
    /// How far what the other side sends has come. The receiver changes it, and the sender with Open and Refused.
    pub(super) receiving: StateCell<ReceiveState>,
    /// What the stream that is open, or was last, is. It is set before the states say that one is open.
    pub(super) kind: StateCell<StreamKind>,
    /// How far a resumable stream has come.
    pub(super) offsets: Offsets,
    /// This side is the client, which gives up early a channel with a resumable stream.
    is_client: bool,
    /// From when on the other side's silence counts, in nanoseconds.
    silence_from: AtomicU64,
    /// When this side has said EndOfStream last, in nanoseconds.
    ended_at: AtomicU64,
    /// The client has parked the channel.
    parked: AtomicBool,
    /// Pings of this side for which no Pong has come.
    unanswered_pings: AtomicUsize,
    /// The other side's Ping that is to be answered.
    pub(super) owed_pong: OwedPong,
}

impl Shared {
    pub(super) fn new(side: Side) -> Self {
        Self {
            offsets: Offsets::new(),
            is_client: side == Side::Client,
            sending: StateCell::new(SendState::Idle),
            receiving: StateCell::new(ReceiveState::Idle),
            kind: StateCell::new(StreamKind::Pipe),
            silence_from: AtomicU64::new(0),
            ended_at: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            unanswered_pings: AtomicUsize::new(0),
            owed_pong: OwedPong::default(),
        }
    }

    /// This side opens a stream to `target`, with the record that it seals next.
    pub(super) fn open(&self, target: &Target, retention: Option<Retention>, now: Timestamp) {
        self.count_silence_from(now);
        self.offsets.begin(retention);
        self.kind.set(StreamKind::of(target, Opener::ThisSide));
        self.receiving.set(ReceiveState::Opening);
        self.sending.set(SendState::Streaming);
    }

    /// This side asks to take a stream over, with the record that it seals next.
    pub(super) fn ask_to_resume(&self, now: Timestamp) {
        self.count_silence_from(now);
        self.offsets.decline();
        self.kind.set(StreamKind::Tunnel);
        self.receiving.set(ReceiveState::Resuming);
        self.sending.set(SendState::Resuming);
    }

    /// The other side asks to take a stream over. `false` where that has crossed our Close.
    pub(super) fn asked_to_resume(&self) -> bool {
        self.offsets.decline();
        self.kind.set(StreamKind::Resumed);
        self.sending.replace(SendState::Idle, SendState::Asked)
    }

    /// The stream goes on here, from where each side has come.
    pub(super) fn resume(&self, position: &Position) {
        self.offsets.resume(position);
        self.kind.set(StreamKind::Tunnel);
        let (sending, receiving) = match (position.end_sent, position.end_received) {
            (true, true) => (SendState::Idle, ReceiveState::Idle),
            (true, false) => (SendState::Finishing, ReceiveState::Streaming),
            (false, true) => (SendState::Streaming, ReceiveState::Ended),
            (false, false) => (SendState::Streaming, ReceiveState::Streaming),
        };
        self.receiving.set(receiving);
        self.sending.set(sending);
    }

    /// The stream cannot be taken over, or there is none: what has ended in a direction has ended for good.
    pub(super) fn decline_resumption(&self) {
        if self.offsets.resumability() != Resumability::None {
            self.offsets.decline();
            self.sending.replace(SendState::Finishing, SendState::Idle);
            self.receiving.replace(ReceiveState::Ended, ReceiveState::Idle);
        }
    }

    /// The other side has opened a stream to `target`. `false` where that has crossed our Close.
    pub(super) fn opened_by_peer(&self, target: &Target, retention: Option<Retention>) -> bool {
        self.offsets.begin(retention);
        self.kind.set(StreamKind::of(target, Opener::OtherSide));
        self.sending.replace(SendState::Idle, SendState::Asked)
    }

    /// A stream is open, or opening, in which this side has not said EndOfStream.
    pub(super) fn owes_end(&self) -> bool {
        !matches!(self.sending.get(), SendState::Idle | SendState::Closed)
    }

    /// A stream is open, or opening, in which the other side has not said EndOfStream.
    pub(super) fn awaits_end(&self) -> bool {
        !matches!(self.receiving.get(), ReceiveState::Idle | ReceiveState::Closed)
    }

    /// Whether a stream is open that both sides keep up with signs of life.
    pub(super) fn is_kept_up(&self) -> bool {
        let kind = self.kind.get();
        // Behind the end of a message this side waits for as long as it takes to hand it on.
        kind.is_kept_up() && (self.owes_end() || (self.awaits_end() && kind != StreamKind::Message))
    }

    /// This side has sent data. Of a message that needs no answer: only from then on signs of life are due both ways.
    pub(super) fn sent_data(&self, now: Timestamp) {
        if self.kind.get() == StreamKind::Message {
            self.count_silence_from(now);
        }
    }

    /// This side says EndOfStream.
    pub(super) fn say_end(&self, now: Timestamp) {
        self.ended_at.store(nanoseconds(now), Ordering::Relaxed);
        if self.offsets.resumability() == Resumability::None {
            self.sending.set(SendState::Idle);
            return;
        }
        self.offsets.count_sent(1);
        self.sending.set(SendState::Finishing);
        // The answer that there is no resuming may have come at this moment.
        if self.offsets.resumability() == Resumability::None {
            self.sending.replace(SendState::Finishing, SendState::Idle);
        }
        self.finish_sending();
    }

    /// Whether an Acknowledge is due whatever the time is. That of the other side's end is not before this side's own end, along with
    /// which it goes: until then the channel would not be idle in any case.
    pub(super) fn owes_acknowledge(&self) -> bool {
        let has_said_end = matches!(self.sending.get(), SendState::Finishing | SendState::Idle);
        let is_end_due = has_said_end && !self.may_defer_acknowledge();
        self.offsets.is_agreed() && self.offsets.owes_acknowledge(is_end_due)
    }

    /// Whether nothing is left of the stream but that this client acknowledges the server's end: nobody waits for that.
    pub(super) fn may_defer_acknowledge(&self) -> bool {
        self.is_client
            && self.sending.get() == SendState::Finishing
            && self.receiving.get() == ReceiveState::Idle
            && self.offsets.has_end()
    }

    /// This side has said all, where it has said its end and acknowledged the other's.
    pub(super) fn finish_sending(&self) {
        if self.offsets.has_told_end() {
            self.sending.replace(SendState::Finishing, SendState::Idle);
        }
    }

    /// The state of a direction whose end the other side has said: more is to come where it has not acknowledged all of ours.
    pub(super) fn received_end(&self) -> ReceiveState {
        let is_over = self.offsets.resumability() == Resumability::None || self.is_acknowledged_to_the_end();
        if is_over { ReceiveState::Idle } else { ReceiveState::Ended }
    }

    /// Whether this side has said its end, and the other has acknowledged it.
    pub(super) fn is_acknowledged_to_the_end(&self) -> bool {
        matches!(self.sending.get(), SendState::Finishing | SendState::Idle)
            && self.offsets.is_all_acknowledged()
    }

    /// How long this side may send nothing.
    pub(super) fn heartbeat(&self) -> Duration {
        if self.is_client && self.offsets.is_agreed() { RESUMABLE_HEARTBEAT } else { HEARTBEAT }
    }

    /// How long the other side may be silent.
    pub(super) fn silence(&self) -> Duration {
        if self.is_client && self.offsets.is_agreed() { RESUMABLE_SILENCE } else { SILENCE }
    }

    /// Until when the other side has to end a flow of datagrams that this side has ended; `None` where it need not. One that this
    /// side has refused it has not ended.
    pub(super) fn end_due(&self) -> Option<Timestamp> {
        let is_due = self.kind.get() == StreamKind::Datagrams
            && self.sending.get() == SendState::Idle
            && matches!(self.receiving.get(), ReceiveState::Opening | ReceiveState::Streaming);
        is_due.then(|| timestamp(self.ended_at.load(Ordering::Relaxed)).after(SILENCE))
    }

    fn count_silence_from(&self, now: Timestamp) {
        self.silence_from.store(nanoseconds(now), Ordering::Relaxed);
    }

    /// From when on the other side's silence counts, where it was silent before.
    pub(super) fn silence_from(&self) -> Timestamp {
        timestamp(self.silence_from.load(Ordering::Relaxed))
    }

    pub(super) fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }

    pub(super) fn park(&self) {
        self.parked.store(true, Ordering::Release);
    }

    pub(super) fn count_ping(&self) {
        self.unanswered_pings.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes note of a Pong. `false` where it answers nothing.
    pub(super) fn answer_ping(&self) -> bool {
        let fewer = |pings: usize| pings.checked_sub(1);
        self.unanswered_pings.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok()
    }
}

/// A moment as it is shared.
pub(super) fn nanoseconds(moment: Timestamp) -> u64 {
    u64::try_from(moment.0.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn timestamp(nanoseconds: u64) -> Timestamp {
    Timestamp(Duration::from_nanos(nanoseconds))
}

/// How far what this side sends has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendState {
    /// Nothing is open in this direction.
    Idle,
    /// The other side has opened a stream, and waits for Opened, Listening or Refused.
    Asked,
    /// Data can be sent.
    Streaming,
    /// This side has said Close or Reset: nothing can be sent.
    Closed,
    /// The end of a resumable stream was said: what is left is to acknowledge the other side's.
    Finishing,
    /// This side has asked to take a stream over.
    Resuming,
}

/// How far what the other side sends has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReceiveState {
    /// An Open may come.
    Idle,
    /// An Opened, a Listening or a Refused has to come.
    Opening,
    /// Data may come.
    Streaming,
    /// Data of a refused stream may come, and counts for nothing.
    Discarding,
    /// Nothing may come.
    Closed,
    /// The end of a resumable stream has come: what is left is that the other side acknowledges ours.
    Ended,
    /// A Resumed or a Gone has to come.
    Resuming,
}

/// What a stream is, as far as that decides what may come and whether it is kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// Bytes, for as long as it takes: a pipe, and a message that the other side sends.
    Pipe,
    /// Bytes, with signs of life both ways.
    Tunnel,
    /// Datagrams: each record that is not full ends one, so that an empty one counts.
    Datagrams,
    /// A message that this side sends: all that the other side has to say is that it has handed it on.
    Message,
    /// The other side listens, and says so with Listening.
    Listening,
    /// This side listens.
    ListeningForPeer,
    /// It was refused, and is none.
    Refused,
    /// The other side wants to take one over.
    Resumed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opener {
    ThisSide,
    OtherSide,
}

impl StreamKind {
    fn of(target: &Target, opener: Opener) -> Self {
        match (target, opener) {
            (Target::Pipe, _) | (Target::Message, Opener::OtherSide) => Self::Pipe,
            (Target::Message, Opener::ThisSide) => Self::Message,
            (Target::Udp { .. }, _) => Self::Datagrams,
            (Target::Listen { .. }, Opener::ThisSide) => Self::Listening,
            (Target::Listen { .. }, Opener::OtherSide) => Self::ListeningForPeer,
            (
                Target::Tcp { .. }
                | Target::Unix { .. }
                | Target::Service { .. }
                | Target::Forwarded { .. }
                | Target::Files { .. }
                | Target::Shares
                | Target::Diagnosis { .. },
                _,
            ) => Self::Tunnel,
        }
    }

    /// Whether the other side may send data, if only an empty record.
    pub(super) fn takes_data(self) -> bool {
        matches!(self, Self::Pipe | Self::Tunnel | Self::Datagrams)
    }

    /// Whether this side gives signs of life, and takes the other's silence for its end (section 7.1).
    fn is_kept_up(self) -> bool {
        !matches!(self, Self::Pipe | Self::Refused | Self::Resumed)
    }
}

states!(SendState { Idle = 0, Asked = 1, Streaming = 2, Closed = 3, Finishing = 4, Resuming = 5 });
states!(ReceiveState {
    Idle = 0,
    Opening = 1,
    Streaming = 2,
    Discarding = 3,
    Closed = 4,
    Ended = 5,
    Resuming = 6
});
states!(StreamKind {
    Pipe = 0,
    Tunnel = 1,
    Datagrams = 2,
    Message = 3,
    Listening = 4,
    ListeningForPeer = 5,
    Refused = 6,
    Resumed = 7
});

/// The other side's last Ping, for as long as it is not answered: where several wait only the last needs an answer, so that
/// there is nothing to queue and nothing to lock.
#[derive(Debug, Default)]
pub(super) struct OwedPong {
    is_owed: AtomicBool,
    nonce: AtomicU64,
}

impl OwedPong {
    pub(super) fn set(&self, nonce: u64) {
        self.nonce.store(nonce, Ordering::Relaxed);
        self.is_owed.store(true, Ordering::Release);
    }

    pub(super) fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Option<u64> {
        // The load alone spares a write to memory that both directions use, before each record.
        let is_owed = self.is_owed() && self.is_owed.swap(false, Ordering::Acquire);
        is_owed.then(|| self.nonce.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use core::fmt;

    use super::*;
    use crate::state::State;

    #[test]
    fn each_state_comes_back_as_it_went_in() {
        fn check<T: State + PartialEq + fmt::Debug>() {
            for (index, state) in T::ALL.iter().enumerate() {
                let cell = StateCell::new(T::ALL[0]);
                cell.set(*state);
                assert_eq!((cell.get(), usize::from(state.code())), (*state, index));
            }
        }
        check::<SendState>();
        check::<ReceiveState>();
        check::<StreamKind>();
    }
}
