//! The queue for RSA, which threads of its own work off: in turn by source network and, within one, by source. What cannot be
//! done in time is not done, and its client is told to come back.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use wire_protocol::Error;
use wire_protocol::stream::Operation;

use super::SourceNetwork;

/// RSA operations at once at most, and no more than there are processors: more would only make each one slower.
const MAX_THREADS: usize = 4;
/// How long an operation waits: a client waits 10 seconds for its whole handshake, and can come back once or twice.
const MAX_WAIT: Duration = Duration::from_millis(2500);
/// Every so often the last class has its turn, so that it is slowed down and not shut out.
const LAST_CLASS_TURN: usize = 8;

/// How urgent an operation is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The second operation of a handshake.
    Begun,
    /// From a source that allowed clients are known to come from.
    Known,
    /// From any other source.
    Clean,
    /// From a source that has sent garbage a moment ago.
    Owing,
}

const CLASSES: usize = 4;

/// The queue and its threads, which end with it.
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
    classes: [Turns<IpAddr, Turns<IpAddr, VecDeque<Waiting>>>; CLASSES],
    len: usize,
    next: u64,
    taken: usize,
    threads: usize,
    resting: usize,
    is_closed: bool,
}

struct Waiting {
    number: u64,
    operation: Operation,
    done: oneshot::Sender<Done>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What has become of an operation.
#[derive(Debug, Clone, Copy)]
enum Done {
    Executed,
    /// Others are in greater need of the place.
    Displaced,
}

impl RsaQueue {
    /// At most `max_waiting` operations wait at once.
    pub(super) fn new(max_waiting: usize) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(max_waiting, processors.min(MAX_THREADS))
    }

    fn with_threads(max_waiting: usize, max_threads: usize) -> Self {
        let (state, added) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { state, added, max_threads, max_waiting }))
    }

    /// Has `operation` executed, and waits for that.
    ///
    /// # Errors
    /// [`Error::Busy`] where it waits for too long, or the queue is full of what is not less urgent.
    pub(super) async fn execute(
        &self,
        class: Class,
        source: Option<SourceNetwork>,
        operation: Operation,
    ) -> io::Result<()> {
        let nowhere = || SourceNetwork::from(IpAddr::from([0, 0, 0, 0]));
        let place = (class, source.unwrap_or_else(nowhere));
        let (number, mut done) = self.0.add(place, operation)?;
        let mut waiting = InQueue { shared: &self.0, place, number };
        let outcome = match timeout(MAX_WAIT, &mut done).await {
            Ok(outcome) => outcome,
            Err(_) if waiting.remove() => return Err(Error::Busy.into()),
            // It is being executed.
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

/// Somebody who waits: once it does not any more, there is nothing left to be executed.
struct InQueue<'a> {
    shared: &'a Shared,
    place: (Class, SourceNetwork),
    number: u64,
}

impl InQueue<'_> {
    /// Whether it was still there.
    fn remove(&mut self) -> bool {
        self.shared.state().remove(self.place, self.number).is_some()
    }
}

impl Drop for InQueue<'_> {
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
        place: (Class, SourceNetwork),
        operation: Operation,
    ) -> io::Result<(u64, oneshot::Receiver<Done>)> {
        let mut state = self.state();
        if state.len >= self.max_waiting {
            state.displace(place)?;
        }
        if state.resting == 0 && state.threads < self.max_threads {
            let shared = Arc::clone(self);
            thread::Builder::new().name("rsa".into()).spawn(move || shared.work())?;
            state.threads += 1;
        }
        let (done, executed) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.push(place, Waiting { number, operation, done });
        drop(state);
        self.added.notify_one();
        Ok((number, executed))
    }

    /// What a thread does.
    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(Waiting { operation, done, .. }) = state.pop() {
                // The connection may have been closed meanwhile: then nobody waits.
                if done.is_closed() {
                    continue;
                }
                drop(state);
                // A panic has been reported already, and must not cost a thread.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation)).is_ok() {
                    done.send(Done::Executed).ok();
                }
                state = self.state();
            } else if state.is_closed {
                return;
            } else {
                state.resting += 1;
                state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.resting -= 1;
            }
        }
    }
}

impl State {
    fn push(&mut self, (class, source): (Class, SourceNetwork), waiting: Waiting) {
        let Some(networks) = self.classes.get_mut(usize_of(class)) else { return };
        networks.entry(source.network).entry(source.host).push_back(waiting);
        self.len += 1;
    }

    /// The next operation: of the most urgent class, and now and then of the least urgent one.
    fn pop(&mut self) -> Option<Waiting> {
        self.taken = self.taken.wrapping_add(1);
        let is_turn_of_last = self.taken.is_multiple_of(LAST_CLASS_TURN);
        let found = if is_turn_of_last {
            self.classes.iter_mut().rev().find_map(pop_of)
        } else {
            self.classes.iter_mut().find_map(pop_of)
        };
        self.len -= usize::from(found.is_some());
        found
    }

    fn remove(&mut self, (class, source): (Class, SourceNetwork), number: u64) -> Option<Waiting> {
        let networks = self.classes.get_mut(usize_of(class))?;
        let hosts = networks.get_mut(source.network)?;
        let waiting = hosts.get_mut(source.host)?;
        let index = waiting.iter().position(|waiting| waiting.number == number)?;
        let removed = waiting.remove(index);
        if waiting.is_empty() {
            hosts.forget(source.host);
        }
        if hosts.is_empty() {
            networks.forget(source.network);
        }
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Makes room for somebody: the newest of the network that has most in the least urgent class gives way, unless that is
    /// more urgent, or has no more than the newcomer's own network.
    fn displace(&mut self, (class, source): (Class, SourceNetwork)) -> Result<(), Error> {
        let least =
            (0..CLASSES).rev().find(|index| self.classes.get(*index).is_some_and(|class| !class.is_empty()));
        let networks = least.and_then(|least| self.classes.get(least)).ok_or(Error::Busy)?;
        let count =
            |hosts: &Turns<IpAddr, VecDeque<Waiting>>| hosts.values().map(VecDeque::len).sum::<usize>();
        let own = networks.get(source.network).map_or(0, count);
        let (network, most) = networks
            .iter()
            .map(|(key, hosts)| (*key, count(hosts)))
            .max_by_key(|(_, count)| *count)
            .ok_or(Error::Busy)?;
        let is_more_urgent = least.is_some_and(|least| usize_of(class) < least);
        let is_as_urgent = least == Some(usize_of(class));
        if !(is_more_urgent || is_as_urgent && own < most) {
            return Err(Error::Busy);
        }
        let hosts = networks.get(network).ok_or(Error::Busy)?;
        let newest = hosts
            .iter()
            .flat_map(|(host, waiting)| waiting.back().map(|waiting| (*host, waiting.number)))
            .max_by_key(|(_, number)| *number);
        let (host, number) = newest.ok_or(Error::Busy)?;
        let class = CLASS_BY_INDEX.get(least.unwrap_or_default()).copied().ok_or(Error::Busy)?;
        let displaced = self.remove((class, SourceNetwork { host, network }), number).ok_or(Error::Busy)?;
        displaced.done.send(Done::Displaced).ok();
        Ok(())
    }
}

fn pop_of(networks: &mut Turns<IpAddr, Turns<IpAddr, VecDeque<Waiting>>>) -> Option<Waiting> {
    networks.next(|hosts| {
        let popped = hosts.next(|waiting| {
            let popped = waiting.pop_front();
            (popped, waiting.is_empty())
        });
        (popped, hosts.is_empty())
    })
}

const CLASS_BY_INDEX: [Class; CLASSES] = [Class::Begun, Class::Known, Class::Clean, Class::Owing];

fn usize_of(class: Class) -> usize {
    CLASS_BY_INDEX.iter().position(|other| *other == class).unwrap_or_default()
}

/// Round robin: each key has its turn, and stands behind all others then.
#[derive(Debug)]
struct Turns<K, V> {
    order: VecDeque<K>,
    queues: HashMap<K, V>,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash, V: Default> Turns<K, V> {
    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn entry(&mut self, key: K) -> &mut V {
        if !self.queues.contains_key(&key) {
            self.order.push_back(key);
        }
        self.queues.entry(key).or_default()
    }

    fn get(&self, key: K) -> Option<&V> {
        self.queues.get(&key)
    }

    fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.queues.get_mut(&key)
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.queues.iter()
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.queues.values()
    }

    fn forget(&mut self, key: K) {
        self.queues.remove(&key);
        self.order.retain(|other| *other != key);
    }

    /// What `take` gives of whoever has its turn; it also says whether nothing is left there.
    fn next<T>(&mut self, take: impl FnOnce(&mut V) -> (Option<T>, bool)) -> Option<T> {
        let key = self.order.pop_front()?;
        let (taken, is_done) = take(self.queues.get_mut(&key)?);
        if is_done {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        taken
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

    const MAX_WAITING: usize = 256;

    type Waits<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

    /// A queue whose one thread is held up until it is let go, and where what is executed is noted.
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

        /// Lets go of the thread.
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
    async fn networks_have_their_turn_and_sources_within_them() {
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
        for _ in 0..LAST_CLASS_TURN {
            waits.push(held.add(Class::Known, [10, 0, 2, 1], "known"));
        }
        held.release();
        for wait in waits {
            wait.await.unwrap();
        }
        let order = held.order();
        assert_eq!(order[..2], ["begun", "known"]);
        let owing = order.iter().position(|name| *name == "owing").unwrap();
        assert!(owing < LAST_CLASS_TURN, "{order:?}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_executed_and_holds_no_place() {
        let held = Held::new().await;
        let gone = held.add(Class::Clean, [10, 0, 0, 1], "gone");
        let stays = held.add(Class::Clean, [10, 0, 0, 1], "stays");
        drop(gone);
        assert_eq!(held.queue.0.state().len, 1);
        held.release();
        stays.await.unwrap();
        assert_eq!(held.order(), ["stays"]);
        let state = held.queue.0.state();
        assert!(state.len == 0 && state.classes.iter().all(Turns::is_empty));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_too_long_is_told_to_come_back() {
        let held = Held::new().await;
        let wait = held.add(Class::Clean, [10, 0, 0, 1], "late");
        assert!(is_busy(wait.await));
        assert_eq!(held.queue.0.state().len, 0);
    }

    #[tokio::test]
    async fn a_full_queue_takes_from_the_network_that_has_most() {
        let held = Held::new().await;
        let mut crowd: Vec<_> =
            (0..MAX_WAITING - 1).map(|_| held.add(Class::Clean, [10, 0, 0, 1], "crowd")).collect();
        let other = held.add(Class::Clean, [10, 0, 1, 1], "other");
        assert!(is_busy(held.add(Class::Clean, [10, 0, 0, 2], "crowd").await));
        assert!(is_busy(held.add(Class::Owing, [10, 0, 7, 1], "owing").await));

        let mut newcomer = held.add(Class::Clean, [10, 0, 2, 1], "newcomer");
        assert!(poll(newcomer.as_mut()).is_pending());
        assert!(is_busy(crowd.pop().unwrap().await));
        let mut known = held.add(Class::Known, [10, 0, 0, 9], "known");
        assert!(poll(known.as_mut()).is_pending());
        assert!(is_busy(crowd.pop().unwrap().await));
        assert_eq!(held.queue.0.state().len, MAX_WAITING);
        drop((other, newcomer, known, crowd));
        assert_eq!(held.queue.0.state().len, 0);
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
