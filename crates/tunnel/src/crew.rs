//! A crew: few tasks that do many jobs, each of which takes microseconds at a time.
//!
//! The runtime wakes another thread as soon as two tasks are ready. Where both are done before that thread is awake, its way
//! there and back is all that comes of it, and costs as much as the work. A crew shares out its jobs itself: one hand
//! does what is ready, and another one is called once more has piled up than the first will soon have done, or once the first
//! turns out to be held up.
//!
//! A job that turns out to have much to do leaves the crew for a task of its own, see [`Unlimited`] and [`leave`], and may
//! [`come_back`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::coop;

use self::away::{Away, Place};

pub use self::away::{Unlimited, come_back, leave, note};

mod away;

/// Does jobs, on as many tasks at most as the runtime has threads. Clones are one crew, which is there for as long as the
/// runtime is.
#[derive(Debug, Clone)]
pub struct Crew(Arc<Shared>);

impl Crew {
    /// Gathers the crew.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn gather() -> Self {
        let hands = Handle::current().metrics().num_workers();
        let hand = |_| HandState::AtWork { since: Instant::now() };
        let state = State { ready: VecDeque::new(), hands: (0..hands).map(hand).collect(), left: 0 };
        let shared = Arc::new(Shared(Mutex::new(state)));
        for number in 0..hands {
            tokio::spawn(Hand { shared: Arc::clone(&shared), number });
        }
        Self(shared)
    }

    /// Has `work` done. As with a task, a panic in it ends nothing else. What nothing can wake any more is dropped.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        Job::begin(&self.0, Box::pin(work));
    }
}

/// Goes on behind the jobs that are ready now; outside a crew, behind other tasks. Unlike tokio's `yield_now`, it does
/// not ask the system for news first.
pub async fn give_way() {
    let mut has_given_way = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given_way, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Jobs that can go on, in the order in which they were woken.
    ready: VecDeque<Arc<Job>>,
    hands: Vec<HandState>,
    /// How many hands have left: all of them once the runtime has ended.
    left: usize,
}

#[derive(Debug)]
enum HandState {
    /// How to call it.
    Resting(Waker),
    /// Does a job, or has been called.
    AtWork { since: Instant },
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_on(&self, job: Arc<Job>) {
        let mut state = self.state();
        if state.left == state.hands.len() {
            drop(state);
            job.give_up();
            return;
        }
        state.ready.push_back(job);
        let called = state.call();
        drop(state);
        if let Some(hand) = called {
            hand.wake();
        }
    }

    /// The next job for a hand, which rests if there is none.
    fn next(&self, hand: usize, waker: &Waker) -> Option<Arc<Job>> {
        let mut state = self.state();
        let job = state.ready.pop_front();
        if let Some(place) = state.hands.get_mut(hand) {
            *place = match job {
                Some(_) => HandState::AtWork { since: Instant::now() },
                None => HandState::Resting(waker.clone()),
            };
        }
        job
    }
}

impl State {
    /// A hand that is to be woken, if more is ready than those that are at work will soon have done. One that is held up,
    /// as by somebody who does not read what is logged, is not counted on.
    fn call(&mut self) -> Option<Waker> {
        let now = Instant::now();
        let soon_free =
            |hand: &&HandState| matches!(hand, HandState::AtWork { since } if now - *since < HELD_UP);
        if self.ready.len() <= self.hands.iter().filter(soon_free).count() * PATIENCE {
            return None;
        }
        let resting = self.hands.iter_mut().find(|hand| matches!(hand, HandState::Resting(_)))?;
        match std::mem::replace(resting, HandState::AtWork { since: now }) {
            HandState::Resting(waker) => Some(waker),
            HandState::AtWork { .. } => None,
        }
    }
}

/// A task that does whatever job is ready.
struct Hand {
    shared: Arc<Shared>,
    number: usize,
}

impl Future for Hand {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURN {
            // What a task may do in one turn is counted over all the jobs that it does.
            if !coop::has_budget_remaining() {
                break;
            }
            let Some(job) = self.shared.next(self.number, cx.waker()) else { return Poll::Pending };
            job.go_on();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.left += 1;
        let ready =
            if state.left == state.hands.len() { std::mem::take(&mut state.ready) } else { VecDeque::new() };
        drop(state);
        for job in ready {
            job.give_up();
        }
    }
}

/// A piece of work. It is ready exactly while [`WOKEN`] alone is set.
struct Job {
    crew: Arc<Shared>,
    status: AtomicU8,
    /// `None` once it is done, or has left.
    work: Mutex<Option<Work>>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Job {
    fn begin(crew: &Arc<Shared>, work: Work) {
        let (crew_of_job, status) = (Arc::clone(crew), AtomicU8::new(WOKEN));
        crew.take_on(Arc::new(Self { crew: crew_of_job, status, work: Mutex::new(Some(work)) }));
    }

    /// Drops the work. What it waits for may hold the job, and the job holds its crew: nothing else would ever drop it.
    fn give_up(&self) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(work);
    }

    fn go_on(self: Arc<Self>) {
        // From here on it is woken for what happens next. What has woken it before is to be seen: hence a swap, no store.
        self.status.swap(AT_WORK, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self));
        let mut place = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = &mut *place else { return };
        // The panic has been reported already.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            Place::InCrew.poll(work.as_mut(), &mut Context::from_waker(&waker))
        }));
        match polled {
            Ok((Poll::Pending, true)) => {
                // It stays at work to whoever still wakes it here, and is polled there at once.
                if let Some(work) = place.take() {
                    tokio::spawn(Away::new(Arc::clone(&self.crew), work));
                }
            }
            Ok((Poll::Pending, false)) => {
                drop(place);
                if self.status.fetch_and(!AT_WORK, Ordering::SeqCst) & WOKEN != 0 {
                    let crew = Arc::clone(&self.crew);
                    crew.take_on(self);
                }
            }
            // What is dropped here may panic too.
            Ok((Poll::Ready(()), _)) | Err(_) => drop(catch_unwind(AssertUnwindSafe(|| *place = None))),
        }
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        if self.status.fetch_or(WOKEN, Ordering::SeqCst) == 0 {
            let crew = Arc::clone(&self.crew);
            crew.take_on(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.status.fetch_or(WOKEN, Ordering::SeqCst) == 0 {
            self.crew.take_on(Arc::clone(self));
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Has been woken since its turn began.
const WOKEN: u8 = 1;
/// Has its turn now.
const AT_WORK: u8 = 2;
/// Jobs that a hand does before it lets other tasks have their turn.
const TURN: usize = 64;
/// A job that takes longer than this is an exception, or its thread is held up.
const HELD_UP: Duration = Duration::from_micros(200);
/// So many ready jobs for each hand at work are no reason to call another one.
const PATIENCE: usize = 2;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{Notify, mpsc};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    /// What arrives until nobody can send any more, within a time that no run takes.
    pub(super) async fn all<T>(mut receiver: mpsc::UnboundedReceiver<T>) -> Vec<T> {
        timeout(Duration::from_secs(60), async {
            let mut received = Vec::new();
            while let Some(next) = receiver.recv().await {
                received.push(next);
            }
            received
        })
        .await
        .expect("a job was not done to its end")
    }

    #[tokio::test]
    async fn what_gives_way_goes_on_behind_what_is_ready() {
        let crew = Crew::gather();
        let (said, sayings) = mpsc::unbounded_channel();
        let (crew_of_job, said_by_other) = (crew.clone(), said.clone());
        crew.spawn(async move {
            crew_of_job.spawn(async move { said_by_other.send("the other").unwrap() });
            said.send("before").unwrap();
            give_way().await;
            said.send("behind").unwrap();
        });
        assert_eq!(all(sayings).await, ["before", "the other", "behind"]);
    }

    /// Each hands a number on to the next one, from hand to hand and from threads outside the crew.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost() {
        let crew = Crew::gather();
        let (done, results) = mpsc::unbounded_channel();
        for _ in 0..16 {
            let (first, mut before) = mpsc::unbounded_channel();
            for place in 0..64 {
                let (behind, next) = mpsc::unbounded_channel();
                let mut from = std::mem::replace(&mut before, next);
                let job = async move {
                    while let Some(number) = from.recv().await {
                        if number % 7 == 0 {
                            yield_now().await;
                        }
                        behind.send(number + 1).ok();
                    }
                };
                if place % 8 == 0 {
                    tokio::spawn(job);
                } else {
                    crew.spawn(job);
                }
            }
            let done = done.clone();
            crew.spawn(async move {
                let mut sum = 0;
                while let Some(number) = before.recv().await {
                    sum += number;
                }
                done.send(sum).ok();
            });
            tokio::spawn(async move {
                for number in 0..100_u64 {
                    first.send(number).ok();
                    yield_now().await;
                }
            });
        }
        drop(done);
        assert_eq!(all(results).await, [(0..100).map(|number| number + 64).sum::<u64>(); 16]);
    }

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("as it should");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_ends_its_job_alone() {
        let crew = Crew::gather();
        let (done, results) = mpsc::unbounded_channel();
        for number in 0..20 {
            let done = done.clone();
            crew.spawn(async move {
                yield_now().await;
                assert!(number % 2 == 0, "as it should");
                done.send(number).ok();
            });
            let late = PanicsWhenDropped;
            crew.spawn(poll_fn(move |_| {
                let _kept = &late;
                Poll::Ready(())
            }));
        }
        drop(done);
        let mut results = all(results).await;
        results.sort_unstable();
        assert_eq!(results, (0..20).step_by(2).collect::<Vec<_>>());
        assert_eq!(crew.0.state().left, 0);
    }

    #[test]
    fn a_hand_is_called_where_jobs_pile_up_and_not_before() {
        let mut state = resting(3);
        let called = (0..4 * PATIENCE).filter_map(|_| {
            state.ready.push_back(nothing());
            state.call().map(|_| state.ready.len())
        });
        assert_eq!(called.collect::<Vec<_>>(), [1, PATIENCE + 1, 2 * PATIENCE + 1]);
    }

    #[test]
    fn a_hand_that_is_held_up_is_not_counted_on() {
        let mut state = resting(2);
        state.hands[0] = HandState::AtWork { since: Instant::now() };
        state.ready.push_back(nothing());
        assert!(state.call().is_none());
        state.hands[0] = HandState::AtWork { since: Instant::now() - HELD_UP };
        assert!(state.call().is_some());
    }

    fn resting(hands: usize) -> State {
        let hand = |_| HandState::Resting(Waker::noop().clone());
        State { ready: VecDeque::new(), hands: (0..hands).map(hand).collect(), left: 0 }
    }

    fn nothing() -> Arc<Job> {
        let crew = Arc::new(Shared(Mutex::new(resting(0))));
        Arc::new(Job { crew, status: AtomicU8::new(WOKEN), work: Mutex::new(None) })
    }

    /// Two jobs wait for each other and hold up whoever does them, as many more as are no reason to call another hand are
    /// ready before the second one, and all become ready at once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn jobs_that_pile_up_are_done_side_by_side() {
        let crew = Crew::gather();
        let (done, results) = mpsc::unbounded_channel();
        let (go, meet) = (Arc::new(Notify::new()), Arc::new(Barrier::new(2)));
        let (begun, mut has_begun) = mpsc::unbounded_channel();
        let count = PATIENCE + 2;
        for number in 0..count {
            let (done, begun, go, meet) = (done.clone(), begun.clone(), Arc::clone(&go), Arc::clone(&meet));
            crew.spawn(async move {
                let notified = go.notified();
                begun.send(()).ok();
                notified.await;
                if number == 0 || number + 1 == count {
                    meet.wait();
                }
                done.send(()).ok();
            });
        }
        drop(done);
        for _ in 0..count {
            has_begun.recv().await;
        }
        go.notify_waiters();
        assert_eq!(all(results).await.len(), count);
    }

    #[test]
    fn jobs_end_with_the_runtime() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let held = Arc::new(());
        let in_job = Arc::clone(&held);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let peer = runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            Crew::gather().spawn(async move {
                // Something of the job's own that keeps a waker of it.
                let ended = Notify::new();
                begun.send(()).unwrap();
                tokio::select! {
                    read = stream.read_u8() => drop(read),
                    () = ended.notified() => {}
                }
                drop(in_job);
            });
            peer
        });
        has_begun.recv().unwrap();
        drop(runtime);
        assert_eq!(Arc::strong_count(&held), 1);
        drop(peer);
    }
}
