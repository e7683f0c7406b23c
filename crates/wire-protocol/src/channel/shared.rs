//! What the two directions of a channel tell each other: a state of each, what the stream is, and what became of Pings.
//!
//! A state changes before the record that it speaks of can have left, and is looked at when a record is processed.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::message::Target;

/// What both directions know.
#[derive(Debug)]
pub(super) struct Shared {
    /// How far what this side sends has come. The sender changes it, and the receiver where an Open comes.
    pub(super) sending: Cell<SendState>,
    /// How far what the other side sends has come. The receiver changes it, and the sender with Open and Refused.
    pub(super) receiving: Cell<ReceiveState>,
    /// What the stream that is open, or was last, is. It is set before the states say that one is open.
    pub(super) kind: Cell<StreamKind>,
    /// The client has parked the channel.
    parked: AtomicBool,
    /// Pings of this side for which no Pong has come.
    unanswered_pings: AtomicUsize,
    /// The other side's Ping that is to be answered.
    pub(super) owed_pong: OwedPong,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            sending: Cell::new(SendState::Idle),
            receiving: Cell::new(ReceiveState::Idle),
            kind: Cell::new(StreamKind::Pipe),
            parked: AtomicBool::new(false),
            unanswered_pings: AtomicUsize::new(0),
            owed_pong: OwedPong::default(),
        }
    }

    /// This side opens a stream to `target`, with the record that it seals next.
    pub(super) fn open(&self, target: &Target) {
        self.kind.set(StreamKind::of(target, Opener::ThisSide));
        self.receiving.set(ReceiveState::Opening);
        self.sending.set(SendState::Streaming);
    }

    /// The other side has opened a stream to `target`. `false` where that has crossed our Close.
    pub(super) fn opened_by_peer(&self, target: &Target) -> bool {
        self.kind.set(StreamKind::of(target, Opener::OtherSide));
        self.sending.replace(SendState::Idle, SendState::Asked)
    }

    /// A stream is open, or opening, in which this side has not said EndOfStream.
    pub(super) fn owes_end(&self) -> bool {
        matches!(self.sending.get(), SendState::Asked | SendState::Streaming)
    }

    /// A stream is open, or opening, in which the other side has not said EndOfStream.
    pub(super) fn awaits_end(&self) -> bool {
        !matches!(self.receiving.get(), ReceiveState::Idle | ReceiveState::Closed)
    }

    /// Whether a stream is open that both sides keep up with signs of life.
    pub(super) fn is_kept_up(&self) -> bool {
        self.kind.get().is_kept_up() && (self.owes_end() || self.awaits_end())
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
                Target::Tcp { .. } | Target::Unix { .. } | Target::Service { .. } | Target::Forwarded { .. },
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
        !matches!(self, Self::Pipe | Self::Refused)
    }
}

/// A state that both directions see. Of two that change it at once each changes it from a state of its own.
pub(super) struct Cell<T> {
    code: AtomicU8,
    state: PhantomData<fn() -> T>,
}

impl<T: State> Cell<T> {
    fn new(state: T) -> Self {
        Self { code: AtomicU8::new(state.code()), state: PhantomData }
    }

    pub(super) fn get(&self) -> T {
        T::ALL[usize::from(self.code.load(Ordering::Acquire))]
    }

    pub(super) fn set(&self, state: T) {
        self.code.store(state.code(), Ordering::Release);
    }

    /// Changes it from `old` to `new`. `false` where it was not `old`, and has not been changed.
    pub(super) fn replace(&self, old: T, new: T) -> bool {
        let replaced =
            self.code.compare_exchange(old.code(), new.code(), Ordering::AcqRel, Ordering::Acquire);
        replaced.is_ok()
    }
}

impl<T: State + fmt::Debug> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// What a [`Cell`] can hold.
pub(super) trait State: Copy + 'static {
    /// All of them, each where its code says.
    const ALL: &'static [Self];

    fn code(self) -> u8;
}

/// Implements [`State`] for an enum of which all variants are listed, in the order of their codes.
macro_rules! state {
    ($name:ident { $($variant:ident = $code:literal),+ }) => {
        impl State for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code),+
                }
            }
        }
    };
}

state!(SendState { Idle = 0, Asked = 1, Streaming = 2, Closed = 3 });
state!(ReceiveState { Idle = 0, Opening = 1, Streaming = 2, Discarding = 3, Closed = 4 });
state!(StreamKind {
    Pipe = 0,
    Tunnel = 1,
    Datagrams = 2,
    Message = 3,
    Listening = 4,
    ListeningForPeer = 5,
    Refused = 6
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
    use super::*;

    #[test]
    fn each_state_comes_back_as_it_went_in() {
        fn check<T: State + PartialEq + fmt::Debug>() {
            for (index, state) in T::ALL.iter().enumerate() {
                let cell = Cell::new(T::ALL[0]);
                cell.set(*state);
                assert_eq!((cell.get(), usize::from(state.code())), (*state, index));
            }
        }
        check::<SendState>();
        check::<ReceiveState>();
        check::<StreamKind>();
    }
}
