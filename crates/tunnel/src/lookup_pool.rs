//! Threads on which names are looked up: the system's resolver blocks, and a name whose servers do not answer holds its
//! thread for half a minute. Everybody for whom names are looked up has a share of them, so that nobody can take all.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// Lookups at once: each has a thread, which does nothing but wait.
const MAX_THREADS: usize = 64;
/// Lookups at once for one asker.
const MAX_PER_ASKER: usize = 8;
/// The last threads are for askers for whom nothing else is being looked up.
const SHARED_THREADS: usize = MAX_THREADS / 4 * 3;
/// Lookups of one asker that wait.
const MAX_WAITING_PER_ASKER: usize = 64;
/// How long a lookup may wait and take.
const DEADLINE: Duration = Duration::from_secs(10);
/// A thread that has had nothing to do for so long ends.
const REST: Duration = Duration::from_secs(30);
/// The system's resolver, and what it may load, needs some room.
const STACK_SIZE: usize = 1024 * 1024;

/// The addresses of a name in the system's order, with port 0. Lookups for one `asker` go at the expense of others for it:
/// above all it is a client whose channel is to lead to this name. What the program itself needs is asked for by "".
///
/// # Errors
/// What the system says; `TimedOut` after 10 seconds, `ResourceBusy` where too many lookups of this asker wait.
pub async fn look_up(asker: &str, host: String) -> io::Result<Vec<SocketAddr>> {
    static POOL: Pool = Pool::new();
    POOL.run(asker, Box::new(move || Ok((host.as_str(), 0).to_socket_addrs()?.collect()))).await
}

type Lookup = Box<dyn FnOnce() -> io::Result<Vec<SocketAddr>> + Send>;

#[derive(Debug)]
struct Pool {
    state: Mutex<Option<State>>,
    added: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// Lookups under way by asker.
    running: HashMap<Arc<str>, usize>,
    threads: usize,
    resting: usize,
}

struct Waiting {
    asker: Arc<str>,
    lookup: Lookup,
    done: oneshot::Sender<io::Result<Vec<SocketAddr>>>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("asker", &self.asker).finish_non_exhaustive()
    }
}

impl Pool {
    const fn new() -> Self {
        Self { state: Mutex::new(None), added: Condvar::new() }
    }

    async fn run(&'static self, asker: &str, lookup: Lookup) -> io::Result<Vec<SocketAddr>> {
        let found = self.add(asker, lookup)?;
        match timeout(DEADLINE, found).await {
            Ok(found) => found.map_err(io::Error::other)?,
            Err(_) => {
                let message = format!("no answer within {} seconds", DEADLINE.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    fn add(
        &'static self,
        asker: &str,
        lookup: Lookup,
    ) -> io::Result<oneshot::Receiver<io::Result<Vec<SocketAddr>>>> {
        let (done, found) = oneshot::channel();
        let mut state = self.state();
        let State { waiting, threads, resting, .. } = state.get_or_insert_default();
        waiting.retain(|waiting| !waiting.done.is_closed());
        if waiting.iter().filter(|waiting| *waiting.asker == *asker).count() >= MAX_WAITING_PER_ASKER {
            let message = "too many names are being looked up for this client";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        // Of those that rest, each that waits already has one that was woken for it and may not have come to take it.
        if waiting.len() >= *resting && *threads < MAX_THREADS {
            let builder = thread::Builder::new().name("lookup".into()).stack_size(STACK_SIZE);
            match builder.spawn(move || self.work()) {
                Ok(_) => *threads += 1,
                Err(error) if *threads == 0 => return Err(error),
                // One of those that there are comes to it.
                Err(_) => {}
            }
        }
        waiting.push(Waiting { asker: asker.into(), lookup, done });
        drop(state);
        self.added.notify_one();
        Ok(found)
    }

    /// What a thread does.
    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(Waiting { asker, lookup, done }) = state.get_or_insert_default().take() {
                drop(state);
                // A panic must not cost a thread, or a place of the asker. The caller learns of it as an error.
                if let Ok(found) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(lookup)) {
                    done.send(found).ok();
                }
                state = self.state();
                state.get_or_insert_default().end(&asker);
                continue;
            }
            state.get_or_insert_default().resting += 1;
            let (woken, rested) =
                self.added.wait_timeout(state, REST).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            let counts = state.get_or_insert_default();
            counts.resting -= 1;
            if rested.timed_out() && counts.waiting.is_empty() {
                counts.threads -= 1;
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next lookup that may begin: of the asker for whom the fewest are under way, the first that came.
    fn take(&mut self) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.done.is_closed());
        let is_crowded = self.running.values().sum::<usize>() >= SHARED_THREADS;
        let running = |asker: &Arc<str>| self.running.get(asker).copied().unwrap_or_default();
        let may_begin = |waiting: &Waiting| match running(&waiting.asker) {
            0 => true,
            count => !is_crowded && count < MAX_PER_ASKER,
        };
        let waiting = self.waiting.iter().enumerate().filter(|(_, waiting)| may_begin(waiting));
        let (index, _) = waiting.min_by_key(|(_, waiting)| running(&waiting.asker))?;
        let taken = self.waiting.remove(index);
        *self.running.entry(Arc::clone(&taken.asker)).or_default() += 1;
        Some(taken)
    }

    fn end(&mut self, asker: &Arc<str>) {
        if let Some(count) = self.running.get_mut(asker) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(asker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    /// One client asks for many names whose servers do not answer.
    #[tokio::test]
    async fn names_that_do_not_answer_hold_up_nobody_else() {
        static POOL: Pool = Pool::new();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let silent = || -> Lookup {
            let held = Arc::clone(&held);
            Box::new(move || {
                drop(held.lock().map(|held| held.recv()));
                Ok(Vec::new())
            })
        };
        let mut refused = 0;
        let mut waiting = Vec::new();
        for _ in 0..640 {
            match POOL.add("mallory", silent()) {
                Ok(found) => waiting.push(found),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
                    refused += 1;
                }
            }
        }
        assert!(refused >= 640 - MAX_PER_ASKER - MAX_WAITING_PER_ASKER, "{refused}");
        let answer = [SocketAddr::from(([192, 0, 2, 1], 0))];
        for asker in ["alice", "bob", ""] {
            let found = POOL.run(asker, Box::new(move || Ok(answer.to_vec()))).await.unwrap();
            assert_eq!(found, answer);
        }
        let running = || POOL.state().as_ref().unwrap().running["mallory"];
        while running() < MAX_PER_ASKER {
            tokio::task::yield_now().await;
        }
        assert_eq!(running(), MAX_PER_ASKER);
        drop(release);
        for found in waiting {
            found.await.unwrap().unwrap();
        }
    }

    /// A thread that rests is there for the first of two: the second waited behind it, whoever asked for it.
    #[tokio::test]
    async fn lookups_that_come_at_once_do_not_wait_for_one_another() {
        // The thread that is woken for the first may be quicker than we are, but not each time.
        for _ in 0..8 {
            let pool: &'static Pool = Box::leak(Box::new(Pool::new()));
            pool.run("", Box::new(|| Ok(Vec::new()))).await.unwrap();
            while pool.state().as_ref().unwrap().resting == 0 {
                tokio::task::yield_now().await;
            }
            let (release, held) = mpsc::channel::<()>();
            let silent: Lookup = Box::new(move || {
                held.recv().ok();
                Ok(Vec::new())
            });
            let first = pool.add("mallory", silent).unwrap();
            let second = pool.run("alice", Box::new(|| Ok(Vec::new())));
            timeout(DEADLINE / 2, second).await.expect("it waited for the other one").unwrap();
            drop(release);
            first.await.unwrap().unwrap();
        }
    }

    #[test]
    fn the_last_threads_are_for_those_who_have_none() {
        let mut state = State::default();
        let mut found = Vec::new();
        let mut add = |state: &mut State, asker: &str| {
            let (done, waits) = oneshot::channel();
            found.push(waits);
            state.waiting.push(Waiting { asker: asker.into(), lookup: Box::new(|| Ok(Vec::new())), done });
        };
        for asker in 0..20 {
            for _ in 0..MAX_PER_ASKER {
                add(&mut state, &format!("asker {asker}"));
            }
        }
        let first: Vec<_> = std::iter::from_fn(|| state.take()).collect();
        assert_eq!(first.len(), SHARED_THREADS);
        add(&mut state, "late");
        assert_eq!(&*state.take().unwrap().asker, "late");
        assert!(state.take().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_has_a_deadline_and_what_nobody_waits_for_is_not_begun() {
        static POOL: Pool = Pool::new();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let silent = || -> Lookup {
            let held = Arc::clone(&held);
            Box::new(move || {
                drop(held.lock().map(|held| held.recv()));
                Ok(Vec::new())
            })
        };
        let _running: Vec<_> = (0..MAX_PER_ASKER).map(|_| POOL.add("a", silent()).unwrap()).collect();
        while !POOL.state().as_ref().unwrap().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        {
            let mut given_up = pin!(POOL.run("a", silent()));
            assert!(given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let error = POOL.run("a", silent()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut state = POOL.state();
        let state = state.as_mut().unwrap();
        assert!(state.take().is_none() && state.waiting.is_empty());
        drop(release);
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let found = look_up("", "127.0.0.1".into()).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 0))]);
        assert!(look_up("", "no such name.invalid".into()).await.is_err());
    }
}
