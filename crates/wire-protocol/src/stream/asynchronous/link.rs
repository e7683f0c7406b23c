//! What the two directions of a tunnel share: their sockets, how far sending has come, and a way to tell each other of it. What
//! has been sent and received of the stream the channel itself knows.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};

use tokio::sync::Notify;

use crate::message::ResetCode;
use crate::state::{StateCell, states};

/// What the two directions share.
pub(super) struct Link<C, P> {
    pub(super) io: C,
    pub(super) plain: P,
    /// How far the sending direction has come.
    pub(super) sending: StateCell<Sending>,
    /// The stream is to be given up, for this reason.
    pub(super) given_up: OnceLock<ResetCode>,
    /// A Ping or the other side's EndOfStream has come, or data while Opened is held back, or the stream is given up.
    pub(super) for_sender: Signal,
    /// Our EndOfStream is on its way.
    pub(super) for_receiver: Signal,
}

impl<C, P> Link<C, P> {
    pub(super) fn new(io: C, plain: P) -> Self {
        Self {
            io,
            plain,
            sending: StateCell::new(Sending::NotBegun),
            given_up: OnceLock::new(),
            for_sender: Signal::default(),
            for_receiver: Signal::default(),
        }
    }

    /// Has the sending direction say Reset and end. The first reason counts.
    pub(super) fn give_up(&self, code: ResetCode) {
        self.given_up.set(code).ok();
        self.tell_sender();
    }

    pub(super) fn tell_sender(&self) {
        self.for_sender.raise(self.sending.get().is_apart());
    }

    pub(super) fn tell_receiver(&self) {
        self.for_receiver.raise(self.sending.get().is_apart());
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
    /// It has much to send, for which it has a task of its own.
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

/// That one direction has something to tell the other.
#[derive(Default)]
pub(super) struct Signal {
    raised: AtomicBool,
    /// It was raised without a wake-up.
    news: AtomicBool,
    task: Notify,
}

impl Signal {
    /// Raises it. The other direction is woken where it is `elsewhere`, in a task of its own. Where it shares this task it is
    /// polled next: a task that woke itself would make the runtime wake another thread, to run it there.
    fn raise(&self, elsewhere: bool) {
        self.raised.store(true, Ordering::Release);
        if elsewhere {
            self.task.notify_one();
        } else {
            self.news.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was raised without a wake-up since this was last asked.
    pub(super) fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::Relaxed)
    }

    /// Waits until it is raised, and lowers it.
    pub(super) async fn lowered(&self) {
        let mut woken = pin!(self.task.notified());
        poll_fn(|cx| {
            while !self.raised.swap(false, Ordering::AcqRel) {
                ready!(woken.as_mut().poll(cx));
                woken.set(self.task.notified());
            }
            Poll::Ready(())
        })
        .await;
    }
}

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
