//! What the two directions of a relay share: their sockets, their pace, how far sending has come, and a way to tell each
//! other of it. What has been sent and received of the stream the channel itself knows.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::signal::Signal;
use super::stop::Stop;
use crate::state::{StateCell, states};

/// What the two directions share.
pub(super) struct SharedState<C, P, Q> {
    pub(super) io: C,
    pub(super) plain: P,
    pub(super) pace: Q,
    /// How far the sending direction has come.
    pub(super) sending: StateCell<Sending>,
    /// The sending direction reads nothing of the plain connection, since no more of a resumable stream can be kept.
    pub(super) is_stalled: AtomicBool,
    /// The sending direction is to end, in this way.
    pub(super) given_up: OnceLock<Stop>,
    /// A Ping, an Acknowledge or the other side's EndOfStream has come, or data while Opened is held back, or there is something to
    /// acknowledge, or the stream is given up.
    pub(super) for_sender: Signal,
    /// Our EndOfStream is on its way, the sending direction has stalled, or it has nothing left to say.
    pub(super) for_receiver: Signal,
}

impl<C, P, Q> SharedState<C, P, Q> {
    pub(super) fn new(io: C, plain: P, pace: Q) -> Self {
        Self {
            io,
            plain,
            pace,
            sending: StateCell::new(Sending::NotBegun),
            is_stalled: AtomicBool::new(false),
            given_up: OnceLock::new(),
            for_sender: Signal::default(),
            for_receiver: Signal::default(),
        }
    }

    /// Notes whether the sending direction has room, and tells the receiving one where it has none any more.
    pub(super) fn set_stalled(&self, is_stalled: bool) {
        if self.is_stalled.swap(is_stalled, Ordering::AcqRel) != is_stalled && is_stalled {
            self.for_receiver.raise();
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Acquire)
    }

    /// Has the sending direction, which has a task of its own, end, and say Reset where there is a reason. The first one counts.
    pub(super) fn give_up(&self, stop: Stop) {
        self.given_up.set(stop).ok();
        self.for_sender.raise();
    }

    /// Tells the sending direction that there is something to say. Opened is held back no longer.
    pub(super) fn tell_sender(&self) {
        self.release_opened();
        self.for_sender.raise();
    }

    /// Has Opened sent, where it was held back.
    pub(super) fn release_opened(&self) {
        self.sending.replace(Sending::HoldsOpened, Sending::Here);
    }
}

/// How far the sending direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// It has not begun.
    NotBegun,
    /// It has not begun, and data has come.
    NotBegunButHeard,
    /// Opened waits for what the plain connection says first.
    HoldsOpened,
    /// It sends in the task of the receiving direction.
    Here,
    /// It has much to send, for which it has a task of its own, or is about to get one.
    Apart,
    /// All that it has to send has left, EndOfStream included.
    EndedHere,
    /// The same, in a task of its own.
    EndedApart,
}

impl Sending {
    /// Whether it has a task of its own, or is about to get one.
    pub(super) fn is_apart(self) -> bool {
        matches!(self, Self::Apart | Self::EndedApart)
    }

    pub(super) fn has_begun(self) -> bool {
        !matches!(self, Self::NotBegun | Self::NotBegunButHeard)
    }

    pub(super) fn has_ended(self) -> bool {
        matches!(self, Self::EndedHere | Self::EndedApart)
    }

    pub(super) fn ended(self) -> Self {
        if self.is_apart() { Self::EndedApart } else { Self::EndedHere }
    }
}

states!(Sending {
    NotBegun = 0,
    NotBegunButHeard = 1,
    HoldsOpened = 2,
    Here = 3,
    Apart = 4,
    EndedHere = 5,
    EndedApart = 6
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State as _;

    #[test]
    fn the_states_are_listed_in_the_order_of_their_codes() {
        for (index, state) in Sending::ALL.iter().enumerate() {
            assert_eq!(usize::from(state.code()), index);
            assert_eq!(state.ended().is_apart(), state.is_apart(), "{state:?} ends where it is");
            assert!(state.ended().has_ended(), "{state:?}");
        }
    }
}
