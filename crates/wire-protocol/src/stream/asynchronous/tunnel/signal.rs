//! A word from one direction of a relay to the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// That one direction has something to tell the other.
#[derive(Default)]
pub(super) struct Signal {
    raised: AtomicBool,
    /// The task of the other direction, where it has one of its own.
    task: Mutex<Option<Waker>>,
}

impl Signal {
    /// Raises it. A direction that listens is woken. One that shares this task is polled next, for which
    /// [`Signal::lower`] is asked: a task that woke itself would make the runtime wake another thread, to run it there.
    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
        if let Some(task) = self.task().take() {
            task.wake();
        }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Lowers it, and says whether it was raised.
    pub(super) fn lower(&self) -> bool {
        self.raised.swap(false, Ordering::Relaxed)
    }

    /// Has `task` woken when it is raised next. What was told before that can be seen from now on.
    pub(super) fn listen(&self, task: &Waker) {
        let mut listening = self.task();
        if !listening.as_ref().is_some_and(|listening| listening.will_wake(task)) {
            *listening = Some(task.clone());
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
