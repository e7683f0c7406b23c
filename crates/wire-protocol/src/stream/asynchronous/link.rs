//! What the two directions of a tunnel share: their sockets, a handful of flags, and a way to tell each other of them.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};

use tokio::sync::Notify;

use crate::message::ResetCode;

/// What the two directions share.
pub(super) struct Link<C, P> {
    pub(super) io: C,
    pub(super) plain: P,
    /// The sending direction has filled a batch, and is to have a task of its own.
    pub(super) sends_much: AtomicBool,
    /// Data has come.
    pub(super) has_heard: AtomicBool,
    /// Opened waits for what the plain connection says first.
    pub(super) holds_opened: AtomicBool,
    /// Our EndOfStream has left.
    pub(super) said_all: AtomicBool,
    /// The stream is to be given up, for this reason.
    pub(super) given_up: OnceLock<ResetCode>,
    /// One of the flags that the receiving direction sets has been set, or a Ping or the other side's EndOfStream has come.
    pub(super) for_sender: Signal,
    /// Our EndOfStream is on its way.
    pub(super) for_receiver: Signal,
}

impl<C, P> Link<C, P> {
    pub(super) fn new(io: C, plain: P) -> Self {
        Self {
            io,
            plain,
            sends_much: AtomicBool::new(false),
            has_heard: AtomicBool::new(false),
            holds_opened: AtomicBool::new(false),
            said_all: AtomicBool::new(false),
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
        self.for_sender.raise(self.sends_much.load(Ordering::Relaxed));
    }

    pub(super) fn tell_receiver(&self) {
        self.for_receiver.raise(self.sends_much.load(Ordering::Relaxed));
    }
}

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
