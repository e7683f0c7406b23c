//! The queue for RSA operations, which its own threads execute, round robin by source network and, within one, by
//! source. An operation that cannot be executed in time is dropped, and its client is told to come back.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use wire_protocol::Error;
use wire_protocol::stream::Operation;

use crate::admission::schedule::{Class, Done, Schedule};
use crate::admission::source::SourceNetwork;

/// Most RSA operations at once, within the number of processors: more would only make each one slower.
const MAX_THREADS: usize = 4;
/// Longest wait of an operation: a client waits 10 seconds for its whole handshake, and can come back once or
/// twice.
const MAX_WAIT: Duration = Duration::from_millis(2500);

/// The queue and its threads, which end when the queue is dropped.
#[derive(Debug)]
pub(super) struct RsaQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    added: Condvar,
    max_threads: usize,
    max_waiting: usize,
}

#[derive(Debug, Default)]
struct State {
    schedule: Schedule,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

impl RsaQueue {
    /// Creates a queue in which at most `max_waiting` operations wait.
    pub(super) fn new(max_waiting: usize) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(max_waiting, processors.min(MAX_THREADS))
    }

    fn with_threads(max_waiting: usize, max_threads: usize) -> Self {
        let (state, added) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { state, added, max_threads, max_waiting }))
    }

    /// How many operations wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.state().schedule.len()
    }

    /// Executes `operation` on a thread of the queue, and waits for its end.
    ///
    /// # Errors
    /// [`Error::Busy`] where the operation waits for too long, or the queue is full of operations that are no less
    /// urgent.
    pub(super) async fn execute(
        &self,
        class: Class,
        source: Option<SourceNetwork>,
        operation: Operation,
    ) -> io::Result<()> {
        let unspecified = || SourceNetwork::from(IpAddr::from([0, 0, 0, 0]));
        let key = (class, source.unwrap_or_else(unspecified));
        let (number, mut done) = self.0.add(key, operation)?;
        let mut waiting = QueueEntry { shared: &self.0, key, number };
        let outcome = match timeout(MAX_WAIT, &mut done).await {
            Ok(outcome) => outcome,
            Err(_) if waiting.remove() => return Err(Error::Busy.into()),
            // The operation is being executed.
            Err(_) => done.await,
        };
        match outcome {
            Ok(Done::Executed) => Ok(()),
            Ok(Done::Displaced) => Err(Error::Busy.into()),
            Err(_) => Err(io::Error::other("an RSA operation came to no end")),
        }
    }
}

impl Drop for RsaQueue {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.added.notify_all();
    }
}

/// The entry of a waiting operation. Dropping it removes the operation, since no task waits for it any more.
struct QueueEntry<'a> {
    shared: &'a Shared,
    key: (Class, SourceNetwork),
    number: u64,
}

impl QueueEntry<'_> {
    /// Removes the operation, and returns whether it was still waiting.
    fn remove(&mut self) -> bool {
        self.shared.state().schedule.remove(self.key, self.number).is_some()
    }
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        self: &Arc<Self>,
        key: (Class, SourceNetwork),
        operation: Operation,
    ) -> io::Result<(u64, oneshot::Receiver<Done>)> {
        let mut state = self.state();
        if state.schedule.len() >= self.max_waiting {
            state.schedule.displace(key)?;
        }
        if state.idle == 0 && state.threads < self.max_threads {
            let shared = Arc::clone(self);
            thread::Builder::new().name("rsa".into()).spawn(move || shared.run())?;
            state.threads += 1;
        }
        let (done, executed) = oneshot::channel();
        let number = state.schedule.push(key, operation, done);
        drop(state);
        self.added.notify_one();
        Ok((number, executed))
    }

    /// The loop of a thread.
    fn run(&self) {
        let mut state = self.state();
        loop {
            if let Some((operation, done)) = state.schedule.pop() {
                // The connection may have been closed, so that no task waits for the operation.
                if done.is_closed() {
                    continue;
                }
                drop(state);
                // The panic has been reported already, and must not end the thread.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation)).is_ok() {
                    done.send(Done::Executed).ok();
                }
                state = self.state();
            } else if state.is_closed {
                return;
            } else {
                state.idle += 1;
                state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::admission::schedule::LAST_CLASS_INTERVAL;

    const MAX_WAITING: usize = 256;

    type Waits<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

    /// A queue whose single thread blocks until it is released, and that records the order of execution.
    struct Held {
        queue: RsaQueue,
        release: RefCell<Option<mpsc::Sender<()>>>,
        executed: mpsc::Receiver<&'static str>,
        note: mpsc::Sender<&'static str>,
    }

    impl Held {
        async fn new() -> Self {
            let queue = RsaQueue::with_threads(MAX_WAITING, 1);
            let (release, held) = mpsc::channel::<()>();
            let (begun, has_begun) = oneshot::channel();
            let operation = Box::new(move || {
                begun.send(()).unwrap();
                held.recv().ok();
            });
            {
                let mut first = pin!(queue.execute(Class::Begun, None, operation));
                assert!(poll(first.as_mut()).is_pending());
                has_begun.await.unwrap();
            }
            let (note, executed) = mpsc::channel();
            Self { queue, release: RefCell::new(Some(release)), executed, note }
        }

        fn add(&self, class: Class, address: [u8; 4], name: &'static str) -> Waits<'_> {
            let note = self.note.clone();
            let source = Some(IpAddr::from(address).into());
            let operation = Box::new(move || note.send(name).unwrap());
            let mut waits: Waits<'_> = Box::pin(self.queue.execute(class, source, operation));
            match poll(waits.as_mut()) {
                Poll::Pending => waits,
                Poll::Ready(result) => Box::pin(std::future::ready(result)),
            }
        }

        /// Releases the thread.
        fn release(&self) {
            self.release.take();
        }

        fn order(&self) -> Vec<&'static str> {
            self.executed.try_iter().collect()
        }
    }

    fn poll(future: Pin<&mut (impl Future<Output = io::Result<()>> + ?Sized)>) -> Poll<io::Result<()>> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_busy(result: io::Result<()>) -> bool {
        result.is_err_and(|error| wire_protocol::stream::error_in(&error) == Some(&Error::Busy))
    }

    #[tokio::test]
    async fn networks_are_served_round_robin_and_sources_within_them() {
        let held = Held::new().await;
        let mut waits = Vec::new();
        for (address, name) in [
            ([10, 0, 0, 1], "a1"),
            ([10, 0, 0, 1], "a1"),
            ([10, 0, 0, 1], "a1"),
            ([10, 0, 0, 2], "a2"),
            ([10, 0, 1, 1], "b"),
        ] {
            waits.push(held.add(Class::Clean, address, name));
        }
        held.release();
        for wait in waits {
            wait.await.unwrap();
        }
        assert_eq!(held.order(), ["a1", "b", "a2", "a1", "a1"]);
    }

    #[tokio::test]
    async fn the_more_urgent_comes_first_and_the_last_class_is_not_shut_out() {
        let held = Held::new().await;
        let mut waits = vec![
            held.add(Class::Owing, [10, 0, 0, 1], "owing"),
            held.add(Class::Clean, [10, 0, 1, 1], "clean"),
            held.add(Class::Known, [10, 0, 2, 1], "known"),
            held.add(Class::Begun, [10, 0, 3, 1], "begun"),
        ];
        for _ in 0..LAST_CLASS_INTERVAL {
            waits.push(held.add(Class::Known, [10, 0, 2, 1], "known"));
        }
        held.release();
        for wait in waits {
            wait.await.unwrap();
        }
        let order = held.order();
        assert_eq!(order[..2], ["begun", "known"]);
        let owing = order.iter().position(|name| *name == "owing").unwrap();
        assert!(owing < LAST_CLASS_INTERVAL, "{order:?}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_executed_and_holds_no_place() {
        let held = Held::new().await;
        let gone = held.add(Class::Clean, [10, 0, 0, 1], "gone");
        let stays = held.add(Class::Clean, [10, 0, 0, 1], "stays");
        drop(gone);
        assert_eq!(held.queue.0.state().schedule.len(), 1);
        held.release();
        stays.await.unwrap();
        assert_eq!(held.order(), ["stays"]);
        let state = held.queue.0.state();
        assert!(state.schedule.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_too_long_is_told_to_come_back() {
        let held = Held::new().await;
        let wait = held.add(Class::Clean, [10, 0, 0, 1], "late");
        assert!(is_busy(wait.await));
        assert_eq!(held.queue.0.state().schedule.len(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_takes_from_the_network_that_has_most() {
        let held = Held::new().await;
        let mut waiting: Vec<_> =
            (0..MAX_WAITING - 1).map(|_| held.add(Class::Clean, [10, 0, 0, 1], "many")).collect();
        let other = held.add(Class::Clean, [10, 0, 1, 1], "other");
        assert!(is_busy(held.add(Class::Clean, [10, 0, 0, 2], "many").await));
        assert!(is_busy(held.add(Class::Owing, [10, 0, 7, 1], "owing").await));

        let mut newcomer = held.add(Class::Clean, [10, 0, 2, 1], "newcomer");
        assert!(poll(newcomer.as_mut()).is_pending());
        assert!(is_busy(waiting.pop().unwrap().await));
        let mut known = held.add(Class::Known, [10, 0, 0, 9], "known");
        assert!(poll(known.as_mut()).is_pending());
        assert!(is_busy(waiting.pop().unwrap().await));
        assert_eq!(held.queue.0.state().schedule.len(), MAX_WAITING);
        drop((other, newcomer, known, waiting));
        assert_eq!(held.queue.0.state().schedule.len(), 0);
    }

    #[tokio::test]
    async fn a_panic_costs_its_operation_alone() {
        let queue = RsaQueue::with_threads(MAX_WAITING, 1);
        let panics = Box::new(|| panic!("as it should"));
        assert!(queue.execute(Class::Clean, None, panics).await.is_err());
        queue.execute(Class::Clean, None, Box::new(|| ())).await.unwrap();
        assert_eq!(queue.0.state().threads, 1);
    }
}
